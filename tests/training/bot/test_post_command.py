"""`inkwell post` as a CronJob runs it: what it prints, and its exit codes."""

from __future__ import annotations

import json
import stat

import pytest
from typer.testing import CliRunner

from training.commands.post import app

ONE = "The harbour lay quiet under the lantern."
TWO = "A grey ship stood in the bay and asked for bread."


@pytest.fixture
def inkwell(environment, monkeypatch):
    """`inkwell("--to", …, x=server, status=0)`: runs the verb; returns what it printed."""

    def invoke(*words, status=0, without=(), input=None, **servers):
        for name, value in environment(**servers).items():
            if name not in without:
                monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, [str(word) for word in words], input=input)
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return invoke


def test_a_post_prints_its_link(inkwell, x, texts):
    texts.texts.append(ONE)
    assert inkwell("--to", "x", "-n", 1, x=x, texts=texts).stdout == "https://x.com/i/web/status/1001\n"
    assert x.tweets == [ONE]


def test_the_outcome_can_be_had_as_json(inkwell, mastodon, texts):
    texts.texts.append(ONE)
    found = json.loads(inkwell("--to", "mastodon", "-n", 1, "--json", mastodon=mastodon, texts=texts).stdout)
    assert (found["posted"], found["text"], found["id"], found["model"]) == (True, ONE, "1", "souls")


def test_a_dry_run_prints_the_text(inkwell, discord, texts):
    texts.texts.append(ONE)
    result = inkwell("--to", "discord", "-n", 1, "--dry-run", discord=discord, texts=texts)
    assert result.stdout == f"{ONE}\n"
    assert discord.requests == []


def test_standard_output_is_a_platform_too(inkwell, texts):
    texts.texts.extend([ONE, ONE, TWO])
    assert inkwell("-n", 1, texts=texts).stdout == f"{ONE}\n"
    assert inkwell("-n", 2, texts=texts).stdout == f"{TWO}\n"


def test_nothing_suitable_is_ten(inkwell, x, texts):
    texts.texts.extend(["y" * 300] * 2)
    result = inkwell("--to", "x", "-n", 1, "--rounds", 2, status=10, x=x, texts=texts)
    assert "none of 2 candidates" in result.stderr


def test_a_rate_limit_is_eleven(inkwell, x, texts, response):
    texts.texts.append(ONE)
    x.trouble.append(response(429, {}, {"retry-after": "900"}))
    assert "try again in 900 s" in inkwell("--to", "x", "-n", 1, status=11, x=x, texts=texts).stderr


def test_credentials_are_twelve(inkwell, x, texts):
    result = inkwell("--to", "x", status=12, without=("INKWELL_X_ACCESS_TOKEN",), x=x, texts=texts)
    assert "INKWELL_X_ACCESS_TOKEN is not set" in result.stderr


def test_a_platform_that_is_down_is_thirteen(inkwell, mastodon, texts):
    mastodon.close()
    assert (
        "cannot be reached" in inkwell("--to", "mastodon", status=13, mastodon=mastodon, texts=texts).stderr
    )


def test_no_gateway_is_fourteen(inkwell, x, texts):
    texts.close()
    assert "no text from" in inkwell("--to", "x", status=14, x=x, texts=texts).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "myspace"], "--to 'myspace' must be one of"),
        (["--novelty", "some"], "--novelty 'some' must be"),
        (["--candidates", "0"], "--candidates 0 must be"),
        (["--similarity", "2"], "--similarity 2.0 must be"),
        (["--set", "min_p"], "must look like min_p=0.05"),
        (["--set", "n=3"], "--set n: the bot chooses that itself"),
        (["--set", "temprature=1"], "did you mean temperature"),
        (["--local"], "--model is needed"),
        (["--local", "--url", "http://127.0.0.1:1"], "contradict each other"),
        (["--local", "--model", "no-such-model"], "no model 'no-such-model'"),
    ],
)
def test_a_bad_option_is_two(inkwell, texts, words, message):
    assert message in inkwell(*words, status=2, texts=texts).stderr


def test_a_broken_block_list_is_three(inkwell, texts, tmp_path):
    assert "cannot be read" in inkwell("--block-list", tmp_path / "none", status=3, texts=texts).stderr


def test_credentials_are_never_shown(inkwell, x, texts, response):
    texts.texts.append(ONE)
    x.trouble.append(response(403, {"detail": "not allowed"}))
    shown = inkwell("--to", "x", "-n", 1, status=12, x=x, texts=texts).output
    assert not any(secret in shown for secret in (x.consumer[1], x.access[1], x.access[0]))


def test_a_bundle_on_this_machine_will_do(inkwell, char_bundle):
    words = (
        "--local",
        "--model",
        char_bundle,
        "--prompt",
        "The harbour",
        "--unfinished",
        "-l",
        30,
        "--seed",
        5,
    )
    dry = inkwell(*words, "-n", 2, "--dry-run").stdout
    assert dry.startswith("The harbour")
    assert inkwell(*words, "-n", 2).stdout == dry
    # The same seed again: the first is out, so the second goes.
    assert inkwell(*words, "-n", 2).stdout != dry


def test_a_bad_parameter_of_a_bundle_names_its_field(inkwell, char_bundle):
    words = ("--local", "--model", char_bundle, "--set", "temperature=-1")
    assert "temperature" in inkwell(*words, status=3).stderr


def test_the_pin_flow_prints_the_tokens_as_an_environment_file(inkwell, x):
    result = inkwell("auth", x=x, input=f"{x.pin}\n")
    lines = f"INKWELL_X_ACCESS_TOKEN={x.access[0]}\nINKWELL_X_ACCESS_TOKEN_SECRET={x.access[1]}\n"
    # The PIN itself is the runner's echo of what was typed.
    assert result.stdout == f" {x.pin}\n{lines}"
    assert f"{x.url}/oauth/authorize?oauth_token=request-token%2F%2B" in result.stderr
    assert "@inkwell_bot" in result.stderr


def test_the_tokens_can_be_kept_in_a_file_for_the_owner_only(inkwell, x, tmp_path):
    file = tmp_path / "x.env"
    result = inkwell("auth", "--save", file, x=x, input=f"{x.pin}\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"INKWELL_X_ACCESS_TOKEN={x.access[0]}\n" in file.read_text()
    assert x.access[1] not in result.output
    assert "is there already" in inkwell("auth", "--save", file, status=2, x=x).stderr


def test_a_wrong_pin_is_twelve(inkwell, x):
    assert "refuses" in inkwell("auth", status=12, x=x, input="999\n").stderr


def test_the_history_shows_what_was_posted(inkwell, discord, texts):
    assert "nothing was posted yet" in inkwell("history").stderr
    texts.texts.extend([ONE, TWO])
    inkwell("--to", "discord", "-n", 1, discord=discord, texts=texts)
    inkwell("-n", 1, texts=texts)
    rows = [json.loads(line) for line in inkwell("history", "--json").stdout.splitlines()]
    assert [(row["platform"], row["state"], row["text"]) for row in rows] == [
        ("stdout", "posted", TWO),
        ("discord", "posted", ONE),
    ]
    assert TWO not in inkwell("history", "--to", "discord", "--json").stdout
    assert "posted" in inkwell("history").stdout
    assert "must be one of" in inkwell("history", "--to", "myspace", status=2).stderr
