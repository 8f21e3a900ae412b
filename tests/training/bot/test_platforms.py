"""Each platform against a server that checks what it gets and fails as the real ones do."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta, timezone

import pytest

from training.bot.errors import AuthFailed, PlatformDown, RateLimited, Refused
from training.bot.platforms import NAMES, open_platform
from training.bot.platforms.bluesky import record
from training.errors import UserError


@pytest.fixture
def connect(settings):
    """`connect("x", server, deadline=4)`: the platform, led to its fake."""
    opened = []

    def connect(name, server):
        opened.append(open_platform(name, settings(**{name: server})))
        return opened[-1]

    yield connect
    for platform in opened:
        platform.close()


def test_a_post_on_x_is_signed_and_comes_through(connect, x):
    posted = connect("x", x).send("The lantern — “ünïcödé” & 100%", "k", again=False)
    assert x.tweets == ["The lantern — “ünïcödé” & 100%"]
    assert (posted.remote_id, posted.url) == ("1001", "https://x.com/i/web/status/1001")
    assert not posted.again


def test_the_account_on_x_is_that_of_its_token(connect, x):
    assert connect("x", x).account == "4711"


def test_a_wrong_token_on_x_is_a_matter_of_credentials(x, environment):
    from training.bot.settings import BotSettings

    env = environment(x=x) | {"INKWELL_X_ACCESS_TOKEN_SECRET": "wrong"}
    platform = open_platform("x", BotSettings.from_env(env))
    with pytest.raises(AuthFailed, match="wrong signature"):
        platform.send("text", "k", again=False)
    platform.close()
    assert len(x.requests) == 1


def test_a_lost_answer_on_x_ends_in_one_post(connect, x):
    x.trouble.append("lose")
    posted = connect("x", x).send("text", "k", again=False)
    assert x.tweets == ["text"]
    assert posted.again


def test_a_dropped_request_on_x_is_sent_again(connect, x):
    x.trouble.append("refuse")
    assert connect("x", x).send("text", "k", again=False).remote_id == "1001"
    assert len(x.requests) == 2


def test_a_failing_x_is_asked_again(connect, x, response):
    x.trouble.extend([response(503, {"title": "Service Unavailable"}), response(500, "oops")])
    assert connect("x", x).send("text", "k", again=False).remote_id == "1001"


def test_a_lasting_failure_of_x_is_uncertain(connect, x, response):
    x.trouble.extend([response(503, {"title": "Service Unavailable"})] * 50)
    with pytest.raises(PlatformDown, match="Service Unavailable") as caught:
        connect("x", x).send("text", "k", again=False)
    assert caught.value.uncertain


def test_an_app_that_may_only_read_is_a_matter_of_credentials(connect, x, response):
    x.trouble.append(
        response(403, {"detail": "Your client app is not configured with the right permissions"})
    )
    with pytest.raises(AuthFailed, match="right permissions"):
        connect("x", x).send("text", "k", again=False)


def test_spent_credits_on_x_are_a_rate_limit(connect, x, response):
    x.trouble.append(response(402, {"title": "CreditsDepleted", "detail": "no credits"}))
    with pytest.raises(RateLimited, match="no credits"):
        connect("x", x).send("text", "k", again=False)


def test_a_text_that_x_will_not_have_is_refused(connect, x, response):
    x.trouble.append(response(400, {"detail": "Your Tweet text is too long."}))
    with pytest.raises(Refused, match="too long"):
        connect("x", x).send("text", "k", again=False)


def test_a_short_rate_limit_is_waited_for(connect, x, mastodon, discord, response):
    x.trouble.append(
        response(429, {"title": "Too Many Requests"}, {"x-rate-limit-reset": str(int(time.time()) + 1)})
    )
    assert connect("x", x).send("text", "k", again=False).remote_id == "1001"
    soon = (datetime.now(timezone.utc) + timedelta(seconds=0.2)).isoformat().replace("+00:00", "Z")
    mastodon.trouble.append(response(429, {"error": "Too many requests"}, {"x-ratelimit-reset": soon}))
    assert connect("mastodon", mastodon).send("text", "k", again=False).remote_id == "1"
    discord.trouble.append(response(429, {"message": "You are being rate limited.", "retry_after": 0.05}))
    assert connect("discord", discord).send("text", "k", again=False).remote_id == "1"


@pytest.mark.parametrize("name", ["x", "mastodon", "discord"])
def test_a_long_rate_limit_is_told_and_certain(name, connect, request, response):
    server = request.getfixturevalue(name)
    server.trouble.append(response(429, {}, {"retry-after": "900"}))
    with pytest.raises(RateLimited, match="try again in 900 s") as caught:
        connect(name, server).send("text", "k", again=False)
    assert not caught.value.uncertain
    assert len(server.requests) == 1


def test_a_rate_limit_after_a_lost_answer_is_uncertain(connect, x, response):
    x.trouble.extend(["lose", response(429, {}, {"retry-after": "900"})])
    with pytest.raises(RateLimited) as caught:
        connect("x", x).send("text", "k", again=False)
    assert caught.value.uncertain


@pytest.mark.parametrize("name", ["x", "mastodon", "bluesky", "discord"])
def test_a_platform_that_is_not_there_is_certain_not_to_have_the_post(name, connect, request):
    server = request.getfixturevalue(name)
    platform = connect(name, server)
    server.close()
    with pytest.raises(PlatformDown, match="cannot be reached") as caught:
        platform.send("text", platform.new_key(), again=False)
    assert not caught.value.uncertain


def test_mastodon_takes_the_same_key_for_one_post(connect, mastodon):
    platform = connect("mastodon", mastodon)
    mastodon.trouble.append("lose")
    posted = platform.send("text", "key-1", again=False)
    assert platform.send("text", "key-1", again=True).remote_id == posted.remote_id == "1"
    [status] = mastodon.statuses.values()
    assert (status["status"], status["visibility"]) == ("text", "public")


def test_mastodons_limits_are_those_of_the_instance(connect, mastodon):
    platform = connect("mastodon", mastodon)
    assert platform.limit() == 120
    assert platform.length("https://example.org/a/very/long/path/that/goes/on") == 23


def test_an_instance_that_does_not_say_has_mastodons_own_limits(connect, mastodon):
    mastodon.limits = {}
    assert connect("mastodon", mastodon).limit() == 500


def test_a_text_that_mastodon_will_not_have_is_refused(connect, mastodon):
    with pytest.raises(Refused, match="Text is forbidden"):
        connect("mastodon", mastodon).send("forbidden", "k", again=False)


def test_a_wrong_mastodon_token_is_a_matter_of_credentials(connect, mastodon):
    mastodon.token = "another"
    with pytest.raises(AuthFailed, match="access token is invalid"):
        connect("mastodon", mastodon).send("text", "k", again=False)


def test_a_post_on_bluesky_is_a_record_under_its_key(connect, bluesky):
    platform = connect("bluesky", bluesky)
    key = platform.new_key()
    posted = platform.send("The lantern", key, again=False)
    assert bluesky.records[key]["text"] == "The lantern"
    assert bluesky.records[key]["$type"] == "app.bsky.feed.post"
    assert datetime.fromisoformat(bluesky.records[key]["createdAt"].replace("Z", "+00:00")).tzinfo
    assert posted.remote_id == f"at://did:plc:bot/app.bsky.feed.post/{key}"
    assert posted.url == f"https://bsky.app/profile/bot.example.social/post/{key}"


def test_keys_on_bluesky_are_sortable_ids(connect, bluesky):
    platform = connect("bluesky", bluesky)
    keys = []
    for _ in range(20):
        keys.append(platform.new_key())
        time.sleep(0.001)
    assert all(len(key) == 13 and key[0] in "234567abcdefghij" for key in keys)
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("trouble", ["lose", "refuse"])
def test_a_broken_answer_on_bluesky_ends_in_one_record(connect, bluesky, trouble):
    platform = connect("bluesky", bluesky)
    bluesky.trouble.extend([None, trouble])
    posted = platform.send("text", platform.new_key(), again=False)
    assert len(bluesky.records) == 1
    assert posted.again == (trouble == "lose")


def test_a_post_of_an_earlier_run_is_found_on_bluesky(connect, bluesky):
    platform = connect("bluesky", bluesky)
    key = platform.new_key()
    platform.send("text", key, again=False)
    before = len(bluesky.requests)
    assert platform.send("text", key, again=True).again
    assert [request.method for request in bluesky.requests[before:]] == ["GET"]


def test_a_wrong_password_on_bluesky_is_a_matter_of_credentials(connect, bluesky):
    bluesky.password = "another"
    with pytest.raises(AuthFailed, match="Invalid identifier or password"):
        connect("bluesky", bluesky).send("text", "k", again=False)


def test_links_on_bluesky_are_facets_that_count_bytes():
    text = "Über → https://example.org/ä and example.com."
    facets = record(text)["facets"]
    whole = text.encode()
    found = [whole[f["index"]["byteStart"] : f["index"]["byteEnd"]].decode() for f in facets]
    assert found == ["https://example.org/ä", "example.com"]
    assert [f["features"][0]["uri"] for f in facets] == ["https://example.org/ä", "https://example.com"]
    assert "facets" not in record("no links here")


def test_bluesky_counts_graphemes_and_bytes(connect, bluesky):
    platform = connect("bluesky", bluesky)
    assert platform.length("👨‍👩‍👧‍👦" * 3) == 3
    # 300 families are 7,500 bytes, more than a record may hold.
    assert platform.length("👨‍👩‍👧‍👦" * 300) > platform.limit()


def test_a_message_on_discord_calls_nobody(connect, discord):
    posted = connect("discord", discord).send("hello @everyone", "k", again=False)
    assert discord.messages == [{"content": "hello @everyone", "allowed_mentions": {"parse": []}}]
    assert posted.remote_id == "1"


@pytest.mark.parametrize("trouble", ["lose", 502])
def test_a_message_on_discord_is_never_sent_twice(connect, discord, response, trouble):
    discord.trouble.append("lose" if trouble == "lose" else response(trouble, "bad gateway"))
    with pytest.raises(PlatformDown) as caught:
        connect("discord", discord).send("text", "k", again=False)
    assert caught.value.uncertain
    assert len(discord.requests) == 1


def test_an_unknown_webhook_is_a_matter_of_credentials(connect, discord):
    discord.path = "/api/webhooks/9/gone"
    with pytest.raises(AuthFailed, match="Unknown Webhook") as caught:
        connect("discord", discord).send("text", "k", again=False)
    assert "secret-token" not in str(caught.value)


def test_the_webhook_does_not_reach_the_log(connect, discord, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    connect("discord", discord).send("text", "k", again=False)
    connect("discord", discord).close()
    assert "secret-token" not in " ".join(
        record.getMessage() for record in caplog.records if record.name == "httpx"
    )


def test_standard_output_gets_the_text(connect, capsys):
    posted = open_platform("stdout", _settings()).send("The lantern", "k", again=False)
    assert capsys.readouterr().out == "The lantern\n"
    assert posted.remote_id is None


@pytest.mark.parametrize("name", [name for name in NAMES if name != "stdout"])
def test_missing_credentials_are_named_by_their_variable(name):
    with pytest.raises(AuthFailed, match=rf"INKWELL_{name.upper()}_\w+ is not set"):
        open_platform(name, _settings())


def test_an_unknown_platform_is_told_with_the_known_ones():
    with pytest.raises(UserError, match="must be one of x, mastodon, bluesky, discord, stdout"):
        open_platform("myspace", _settings())


def _settings():
    from training.bot.settings import BotSettings

    return BotSettings.from_env({})
