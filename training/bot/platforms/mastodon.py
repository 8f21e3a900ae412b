"""Mastodon: `POST /api/v1/statuses` with an `Idempotency-Key`, which an instance remembers for an hour."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from training.bot.errors import AuthFailed, PlatformDown, Refused
from training.bot.http import Exchange
from training.bot.length import mastodon_length
from training.bot.platforms.base import Posted
from training.bot.settings import MastodonSettings, needed


class Mastodon:
    """An account on one instance; the instance says how long a post may be."""

    name = "mastodon"
    resend_s = 3300.0

    def __init__(self, settings: MastodonSettings, deadline: float) -> None:
        if settings.url is None:
            raise AuthFailed("INKWELL_MASTODON_URL is not set")
        self._token = needed(settings.token, "INKWELL_MASTODON_TOKEN")
        self._visibility = settings.visibility
        self.account = urlsplit(settings.url).netloc
        self._exchange = Exchange("Mastodon", settings.url, deadline)
        self._limits: tuple[int, int] | None = None

    def limit(self) -> int:
        return self._instance()[0]

    def length(self, text: str) -> int:
        return mastodon_length(text, self._instance()[1])

    def new_key(self) -> str:
        return uuid.uuid4().hex

    def send(self, text: str, key: str, *, again: bool) -> Posted:
        def headers() -> Mapping[str, str]:
            return {"authorization": f"Bearer {self._token}", "idempotency-key": key}

        body = {"status": text, "visibility": self._visibility}
        reply = self._exchange.send("POST", "/api/v1/statuses", repeatable=True, headers=headers, json=body)
        if reply.status == 200 and "id" in reply.value:
            return Posted(str(reply.value["id"]), reply.value.get("url"), again=again)
        if reply.status == 403:
            raise AuthFailed(f"Mastodon does not let this token post: {reply.why()}")
        if reply.status in (400, 413, 422):
            raise Refused(f"Mastodon refuses the text: {reply.why()}")
        raise PlatformDown(f"{self.account} does not answer as a Mastodon instance: {reply.why()}")

    def close(self) -> None:
        self._exchange.close()

    def _instance(self) -> tuple[int, int]:
        """Longest post and what a link counts, as the instance says; Mastodon's own figures if it does not."""
        if self._limits is None:
            reply = self._exchange.send("GET", "/api/v2/instance", repeatable=True)
            statuses: Any = reply.value
            for name in ("configuration", "statuses"):
                statuses = statuses.get(name) if isinstance(statuses, dict) else None
            said = statuses if isinstance(statuses, dict) else {}
            self._limits = (
                _positive(said.get("max_characters"), 500),
                _positive(said.get("characters_reserved_per_url"), 23),
            )
        return self._limits


def _positive(value: object, default: int) -> int:
    return value if isinstance(value, int) and value > 0 else default
