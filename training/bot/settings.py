"""The only file of the bot that reads the environment: credentials, addresses, patience.

Every variable may also be given as `NAME_FILE`, a file that holds the value, as mounted secrets are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from training.bot.errors import AuthFailed
from training.errors import UserError

VISIBILITIES = ("public", "unlisted", "private", "direct")


class Secret:
    """A credential that does not show itself in logs, tracebacks or representations."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The credential itself, to be put into a request and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True)
class XSettings:
    """OAuth 1.0a user context: the app's consumer pair and the account's access pair."""

    url: str = "https://api.x.com"
    consumer_key: Secret | None = None
    consumer_secret: Secret | None = None
    access_token: Secret | None = None
    access_token_secret: Secret | None = None


@dataclass(frozen=True)
class MastodonSettings:
    """`url` is the instance; `token` needs the scope write:statuses."""

    url: str | None = None
    token: Secret | None = None
    visibility: str = "public"


@dataclass(frozen=True)
class BlueskySettings:
    """`password` is an app password."""

    url: str = "https://bsky.social"
    handle: str | None = None
    password: Secret | None = None


@dataclass(frozen=True)
class DiscordSettings:
    """`webhook` is the whole URL, which is a credential itself."""

    webhook: Secret | None = None


@dataclass(frozen=True)
class BotSettings:
    """Everything. Times are in seconds; `deadline` covers one exchange with its repetitions."""

    url: str | None
    api_key: Secret | None
    history: Path
    deadline: float
    x: XSettings
    mastodon: MastodonSettings
    bluesky: BlueskySettings
    discord: DiscordSettings

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> BotSettings:
        """Read `env` (the process environment when None). Raises UserError naming a variable that is wrong.

        Missing credentials are no error here: only the platform that is used needs its own.
        """
        values = _Values(os.environ if env is None else env)
        return cls(
            url=values.url("INKWELL_URL"),
            api_key=values.secret("INKWELL_API_KEY"),
            history=Path(values.text("INKWELL_POST_HISTORY") or _default_history()),
            deadline=values.seconds("INKWELL_POST_DEADLINE_S", 120.0),
            x=XSettings(
                values.url("INKWELL_X_URL") or XSettings.url,
                values.secret("INKWELL_X_CONSUMER_KEY"),
                values.secret("INKWELL_X_CONSUMER_SECRET"),
                values.secret("INKWELL_X_ACCESS_TOKEN"),
                values.secret("INKWELL_X_ACCESS_TOKEN_SECRET"),
            ),
            mastodon=MastodonSettings(
                values.url("INKWELL_MASTODON_URL"),
                values.secret("INKWELL_MASTODON_TOKEN"),
                values.choice("INKWELL_MASTODON_VISIBILITY", VISIBILITIES),
            ),
            bluesky=BlueskySettings(
                values.url("INKWELL_BLUESKY_URL") or BlueskySettings.url,
                values.text("INKWELL_BLUESKY_HANDLE"),
                values.secret("INKWELL_BLUESKY_PASSWORD"),
            ),
            discord=DiscordSettings(values.secret("INKWELL_DISCORD_WEBHOOK")),
        )


def needed(value: Secret | None, variable: str) -> str:
    """The credential itself. Raises AuthFailed that names the variable when it is not set."""
    if value is None:
        raise AuthFailed(f"{variable} is not set")
    return value.reveal()


class _Values:
    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str) -> str | None:
        value = self._env.get(name, "").strip()
        file = self._env.get(f"{name}_FILE", "").strip()
        if not file:
            return value or None
        if value:
            raise UserError(f"both {name} and {name}_FILE are set; one is enough")
        try:
            return Path(file).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UserError(f"{name}_FILE={file!r} cannot be read: {reason}") from None

    def secret(self, name: str) -> Secret | None:
        value = self.text(name)
        if value is not None and any(sign.isspace() or not sign.isprintable() for sign in value):
            raise UserError(f"{name} holds white space or control characters; check how it was copied")
        return None if value is None else Secret(value)

    def url(self, name: str) -> str | None:
        value = self.text(name)
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise UserError(f"{name}={value!r} must look like https://example.org")
        return value.rstrip("/")

    def seconds(self, name: str, default: float) -> float:
        value = self.text(name)
        try:
            seconds = default if value is None else float(value)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < 86_400:
            raise UserError(f"{name}={value!r} must be a number of seconds, more than 0 and less than a day")
        return seconds

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name) or allowed[0]
        if value not in allowed:
            raise UserError(f"{name}={value!r} must be one of {', '.join(allowed)}")
        return value


def _default_history() -> Path:
    return Path(platformdirs.user_state_dir("inkwell")) / "posts.sqlite"
