"""Discord: a webhook, which answers with the message when asked to wait."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

from training.bot.errors import AuthFailed, Refused
from training.bot.http import Exchange
from training.bot.length import utf16_length
from training.bot.platforms.base import Posted
from training.bot.settings import DiscordSettings, needed


class Discord:
    """A webhook has no idempotency and cannot be read: a message whose answer is lost is never sent again."""

    name = "discord"
    resend_s = 0.0

    def __init__(self, settings: DiscordSettings, deadline: float) -> None:
        parts = urlsplit(needed(settings.webhook, "INKWELL_DISCORD_WEBHOOK"))
        words = parts.path.rstrip("/").split("/")
        if (
            parts.scheme not in ("http", "https")
            or not parts.netloc
            or len(words) < 4
            or words[-3] != "webhooks"
        ):
            raise AuthFailed(
                "INKWELL_DISCORD_WEBHOOK must look like https://discord.com/api/webhooks/ID/TOKEN"
            )
        self.account = words[-2]
        self._path = parts.path.rstrip("/")
        self._exchange = Exchange("Discord", f"{parts.scheme}://{parts.netloc}", deadline)

    def limit(self) -> int:
        return 2000

    def length(self, text: str) -> int:
        return utf16_length(text)

    def new_key(self) -> str:
        return uuid.uuid4().hex

    def send(self, text: str, key: str, *, again: bool) -> Posted:  # noqa: ARG002 - webhooks know no keys
        # A generated text shall not call anybody.
        body = {"content": text, "allowed_mentions": {"parse": []}}
        reply = self._exchange.send("POST", self._path, repeatable=False, json=body, params={"wait": "true"})
        if reply.status in (200, 204):
            remote_id = reply.value.get("id")
            return Posted(None if remote_id is None else str(remote_id))
        if reply.status in (403, 404):
            raise AuthFailed(f"Discord does not know this webhook: {reply.why()}")
        raise Refused(f"Discord refuses the text: {reply.why()}")

    def close(self) -> None:
        self._exchange.close()
