"""X: `POST /2/tweets` in OAuth 1.0a user context."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from training.bot.errors import AuthFailed, RateLimited, Refused
from training.bot.http import Exchange, Reply
from training.bot.length import x_length
from training.bot.oauth import Pair, authorization
from training.bot.platforms.base import Posted
from training.bot.settings import XSettings, needed


def consumer_of(settings: XSettings) -> Pair:
    """The app's pair. Raises AuthFailed naming the variable that is not set."""
    return Pair(
        needed(settings.consumer_key, "INKWELL_X_CONSUMER_KEY"),
        needed(settings.consumer_secret, "INKWELL_X_CONSUMER_SECRET"),
    )


class X:
    """There are no idempotency keys. What stands in for them: X refuses a text that the account has just
    posted with a 403 that says so, which means that the post is out."""

    name = "x"
    resend_s = 900.0

    def __init__(self, settings: XSettings, deadline: float) -> None:
        self._url = settings.url
        self._consumer = consumer_of(settings)
        self._token = Pair(
            needed(settings.access_token, "INKWELL_X_ACCESS_TOKEN"),
            needed(settings.access_token_secret, "INKWELL_X_ACCESS_TOKEN_SECRET"),
        )
        # An access token begins with the public number of its account.
        owner = self._token.key.partition("-")[0]
        self.account = owner if owner.isdigit() else ""
        self._exchange = Exchange("X", settings.url, deadline)

    def limit(self) -> int:
        return 280

    def length(self, text: str) -> int:
        return x_length(text)

    def new_key(self) -> str:
        return uuid.uuid4().hex

    def send(self, text: str, key: str, *, again: bool) -> Posted:  # noqa: ARG002 - X knows no keys
        reply = self._exchange.send(
            "POST", "/2/tweets", repeatable=True, headers=self._signature, json={"text": text}
        )
        if reply.status in (200, 201):
            data = reply.value.get("data")
            remote_id = str(data["id"]) if isinstance(data, dict) and "id" in data else None
            return Posted(remote_id, remote_id and f"https://x.com/i/web/status/{remote_id}")
        if _is_duplicate(reply):
            return Posted(again=True)
        if reply.status == 402:
            raise RateLimited(f"X takes no more for now: {reply.why()}")
        if reply.status == 403:
            raise AuthFailed(f"X does not let this app post: {reply.why()}")
        raise Refused(f"X refuses the text: {reply.why()}")

    def close(self) -> None:
        self._exchange.close()

    def _signature(self) -> Mapping[str, str]:
        return authorization("POST", f"{self._url}/2/tweets", self._consumer, self._token)


def _is_duplicate(reply: Reply) -> bool:
    return reply.status == 403 and "duplicate" in reply.text.lower()
