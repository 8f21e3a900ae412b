"""A whole run: one text goes out, exactly once, whatever breaks on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from training.bot.candidates import GatewaySource
from training.bot.choosing import Rules
from training.bot.errors import AuthFailed, NoText, NothingSuitable, PlatformDown, RateLimited
from training.bot.history import History
from training.bot.platforms import open_platform
from training.bot.posting import Plan, run
from training.errors import UserError

ONE = "The harbour lay quiet under the lantern."
TWO = "A grey ship stood in the bay and asked for bread."
THREE = "Nobody knows who carved the twelfth stair."


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def history(tmp_path, clock):
    with History.open(tmp_path / "posts.sqlite", clock) as history:
        yield history


@pytest.fixture
def post(settings, texts, history):
    """`post("x", server, [texts…], count=…)`: one run against the fakes."""

    def post(name, server, told, dry_run=False, **changes):
        texts.texts.extend(told)
        known = settings(**{name: server})
        platform = open_platform(name, known)
        source = GatewaySource(texts.url, "souls", None, {}, api_key=None, deadline=known.deadline)
        options = {"count": 1, "rounds": len(told) or 1} | changes
        notes = []
        try:
            plan = Plan(Rules(platform.limit(), platform.length), **options)
            return run(platform, source, history, plan, dry_run=dry_run, say=notes.append)
        finally:
            source.close()
            platform.close()

    return post


def states(history):
    return [(row.text, row.state) for row in reversed(history.latest(20))]


def test_the_first_suitable_text_is_posted_and_remembered(post, x, history):
    outcome = post("x", x, ["y" * 300, {"text": ONE, "novelty": {"verdict": "copy"}}, TWO], count=3, rounds=1)
    assert x.tweets == [TWO]
    assert (outcome.text, outcome.posted.remote_id) == (TWO, "1001")
    [row] = history.latest(5)
    assert (row.state, row.url, row.model, row.seed) == ("posted", outcome.posted.url, "souls", 2)


def test_the_gateway_is_asked_for_all_candidates_at_once(post, x, texts):
    post("x", x, [ONE, TWO, THREE], count=3, rounds=1)
    [request] = texts.requests
    assert request.json["parameters"] == {"n": 3, "novelty": "mark", "return_full_text": True}
    assert request.json["model"] == "souls"


def test_nothing_is_posted_twice(post, x):
    post("x", x, [ONE])
    post("x", x, [ONE.upper(), TWO])
    assert x.tweets == [ONE, TWO]
    with pytest.raises(NothingSuitable, match="1 posted before"):
        post("x", x, [TWO])
    assert x.tweets == [ONE, TWO]


def test_nearly_the_same_is_not_posted_either(post, x):
    post("x", x, ["The harbour lay quiet under the lantern, and nobody asked who had lit it."])
    with pytest.raises(NothingSuitable, match="1 much like an earlier post"):
        post("x", x, ["The harbour lay quiet under the lantern, and nobody asked who lit it."])


def test_nothing_suitable_counts_the_reasons(post, x):
    with pytest.raises(NothingSuitable) as caught:
        post("x", x, ["y" * 300, "z" * 300, "", "y" * 300], count=2, rounds=2)
    assert str(caught.value) == "none of 4 candidates may be posted: 3 too long, 1 empty"
    assert caught.value.exit_code == 10
    assert x.requests == []


def test_a_dry_run_sends_and_remembers_nothing(post, x, history):
    outcome = post("x", x, ["y" * 300, ONE], dry_run=True)
    assert (outcome.text, outcome.posted) == (ONE, None)
    assert x.requests == []
    assert history.latest(5) == []


def test_a_text_that_is_refused_gives_way_to_the_next(post, mastodon, history):
    outcome = post("mastodon", mastodon, ["forbidden words", TWO])
    assert outcome.text == TWO
    assert states(history) == [("forbidden words", "refused"), (TWO, "posted")]
    with pytest.raises(NothingSuitable, match="1 refused before"):
        post("mastodon", mastodon, ["forbidden words"])


def test_a_rate_limit_leaves_the_text_free_for_the_next_run(post, x, history, response):
    x.trouble.append(response(429, {}, {"retry-after": "900"}))
    with pytest.raises(RateLimited):
        post("x", x, [ONE])
    assert states(history) == [(ONE, "failed")]
    assert post("x", x, [ONE]).posted.remote_id == "1001"


def test_refused_credentials_leave_the_text_free(post, mastodon, history):
    mastodon.token = "another"
    with pytest.raises(AuthFailed):
        post("mastodon", mastodon, [ONE])
    assert states(history) == [(ONE, "failed")]


def test_a_failing_platform_leaves_the_post_to_be_settled(post, x, history, response):
    x.trouble.extend([response(503, {})] * 50)
    with pytest.raises(PlatformDown):
        post("x", x, [ONE])
    assert states(history) == [(ONE, "reserved")]
    x.trouble.clear()
    outcome = post("x", x, [TWO])
    assert (outcome.text, outcome.candidate) == (ONE, None)
    assert x.tweets == [ONE]


def test_without_any_text_nothing_is_posted(post, x, texts, response):
    texts.trouble.append(response(424, {"error": "the workers failed", "error_type": "generation"}))
    with pytest.raises(NoText, match="the workers failed"):
        post("x", x, [ONE])
    assert x.requests == []


def test_a_parameter_that_the_gateway_refuses_is_a_bad_option(post, x, texts, response):
    texts.trouble.append(response(422, {"error": "category must be one of elf", "error_type": "validation"}))
    with pytest.raises(UserError, match="category must be one of elf"):
        post("x", x, [ONE])


@pytest.mark.parametrize("name", ["x", "mastodon", "bluesky"])
@pytest.mark.parametrize("arrived", [True, False])
def test_what_a_dead_run_left_is_posted_exactly_once(post, history, request, settings, name, arrived):
    server = request.getfixturevalue(name)
    platform = open_platform(name, settings(**{name: server}))
    row = history.reserve(platform.name, platform.account, platform.new_key(), ONE, model="souls", seed=1)
    if arrived:
        platform.send(ONE, row.key, again=False)
    platform.close()
    outcome = post(name, server, [TWO])
    assert (outcome.text, outcome.row.state) == (ONE, "posted")
    assert out(server) == [ONE]
    assert states(history) == [(ONE, "posted")]


@pytest.mark.parametrize(
    ("name", "seconds"), [("x", 901), ("mastodon", 3301), ("bluesky", 3601), ("discord", 1)]
)
def test_what_cannot_be_recognised_any_more_is_never_sent_again(
    post, history, clock, request, settings, name, seconds
):
    server = request.getfixturevalue(name)
    platform = open_platform(name, settings(**{name: server}))
    history.reserve(platform.name, platform.account, platform.new_key(), ONE, model="souls", seed=1)
    platform.close()
    clock.now += seconds
    outcome = post(name, server, [ONE, TWO])
    assert outcome.text == TWO
    assert out(server) == [TWO]
    assert states(history) == [(ONE, "unknown"), (TWO, "posted")]


@pytest.mark.parametrize("name", ["x", "mastodon", "bluesky", "discord"])
def test_a_run_killed_while_sending_never_posts_twice(name, request, environment, tmp_path, texts):
    """The platform has the post, the process dies before it hears of it, and the next run begins."""
    server = request.getfixturevalue(name)
    texts.texts.extend([ONE, ONE, TWO])
    script = f"""
        from training.bot.candidates import GatewaySource
        from training.bot.choosing import Rules
        from training.bot.history import History
        from training.bot.platforms import open_platform
        from training.bot.posting import Plan, run
        from training.bot.settings import BotSettings
        settings = BotSettings.from_env()
        platform = open_platform({name!r}, settings)
        source = GatewaySource(settings.url, None, None, {{}}, api_key=None, deadline=5)
        plan = Plan(Rules(platform.limit(), platform.length), count=1)
        print(run(platform, source, History.open(settings.history), plan).text)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    env = os.environ | environment(texts=texts, **{name: server})
    ordinary = {"mastodon": 1, "bluesky": 1}.get(name, 0)  # what is asked before the post itself
    server.trouble.extend([None] * ordinary + ["hang"])
    first = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert server.hanging.wait(30)
        first.send_signal(signal.SIGKILL)
    finally:
        first.kill()
        first.communicate()
    server.gate.set()
    assert out(server) == [ONE]
    second = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    # Where the platform can tell, the run finishes the first post; a webhook cannot, so another text goes out.
    assert second.stdout.strip() == (TWO if name == "discord" else ONE)
    assert out(server) == ([ONE, TWO] if name == "discord" else [ONE])
    with History.open(tmp_path / "posts.sqlite") as history:
        assert states(history)[0] == (ONE, "unknown" if name == "discord" else "posted")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"count": 0}, "--candidates 0"), ({"rounds": 0}, "--rounds 0"), ({"similarity": 0}, "--similarity 0")],
)
def test_a_plan_that_cannot_be_followed_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Plan(Rules(280, len), **changes)


def out(server):
    """What the platform has."""
    kind = type(server).__name__
    if kind == "FakeX":
        return server.tweets
    if kind == "FakeMastodon":
        return [status["status"] for status in server.statuses.values()]
    if kind == "FakeBluesky":
        return [record["text"] for record in server.records.values()]
    return [message["content"] for message in server.messages]
