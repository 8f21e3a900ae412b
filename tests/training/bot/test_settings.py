"""Credentials and addresses of the environment."""

from __future__ import annotations

import pytest

from training.bot.settings import BotSettings, Secret
from training.errors import UserError


def test_the_platforms_own_addresses_are_the_defaults():
    settings = BotSettings.from_env({})
    assert settings.x.url == "https://api.x.com"
    assert settings.bluesky.url == "https://bsky.social"
    assert (settings.url, settings.api_key, settings.deadline) == (None, None, 120.0)
    assert settings.history.name == "posts.sqlite"


def test_secrets_do_not_show_themselves():
    settings = BotSettings.from_env({"INKWELL_X_ACCESS_TOKEN": "hidden", "INKWELL_DISCORD_WEBHOOK": "hidden"})
    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings.x.access_token)
    assert settings.x.access_token == Secret("hidden")
    assert settings.x.access_token.reveal() == "hidden"


def test_a_secret_may_be_in_a_file(tmp_path):
    (tmp_path / "token").write_text("from a file\n".replace(" ", "-"))
    settings = BotSettings.from_env({"INKWELL_MASTODON_TOKEN_FILE": str(tmp_path / "token")})
    assert settings.mastodon.token.reveal() == "from-a-file"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {"INKWELL_MASTODON_URL": "mastodon.social"},
            "INKWELL_MASTODON_URL='mastodon.social' must look like",
        ),
        ({"INKWELL_POST_DEADLINE_S": "soon"}, "INKWELL_POST_DEADLINE_S='soon' must be a number"),
        ({"INKWELL_POST_DEADLINE_S": "0"}, "INKWELL_POST_DEADLINE_S='0' must be"),
        ({"INKWELL_POST_DEADLINE_S": "nan"}, "INKWELL_POST_DEADLINE_S='nan' must be"),
        ({"INKWELL_MASTODON_VISIBILITY": "loud"}, "must be one of public, unlisted, private, direct"),
        (
            {"INKWELL_X_ACCESS_TOKEN_FILE": "/nowhere/at/all"},
            "INKWELL_X_ACCESS_TOKEN_FILE='/nowhere/at/all' cannot",
        ),
        (
            {"INKWELL_API_KEY": "a", "INKWELL_API_KEY_FILE": "b"},
            "both INKWELL_API_KEY and INKWELL_API_KEY_FILE",
        ),
    ],
)
def test_a_wrong_variable_is_named(env, message):
    with pytest.raises(UserError) as caught:
        BotSettings.from_env(env)
    assert message in str(caught.value)


def test_a_badly_copied_secret_is_named_and_not_shown():
    with pytest.raises(UserError, match="INKWELL_X_ACCESS_TOKEN holds white space") as caught:
        BotSettings.from_env({"INKWELL_X_ACCESS_TOKEN": "hid den"})
    assert "hid" not in str(caught.value)
