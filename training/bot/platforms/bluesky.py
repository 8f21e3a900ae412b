"""Bluesky: a session with an app password, then `com.atproto.repo.createRecord` under a key of our own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from training.bot.errors import AuthFailed, PlatformDown, Refused
from training.bot.http import Exchange
from training.bot.length import graphemes
from training.bot.links import links, target
from training.bot.platforms.base import Posted
from training.bot.settings import BlueskySettings, needed

_COLLECTION = "app.bsky.feed.post"
_SORTABLE = "234567abcdefghijklmnopqrstuvwxyz"
_MOST_BYTES = 3000
_ATTEMPTS = 3
_NOT_SIGNED_IN = ("ExpiredToken", "InvalidToken", "AuthMissing")


class Bluesky:
    """Every post is written under a record key chosen beforehand, so that it can be looked up."""

    name = "bluesky"
    resend_s = 3600.0

    def __init__(self, settings: BlueskySettings, deadline: float) -> None:
        if settings.handle is None:
            raise AuthFailed("INKWELL_BLUESKY_HANDLE is not set")
        self.account = settings.handle
        self._password = needed(settings.password, "INKWELL_BLUESKY_PASSWORD")
        self._exchange = Exchange("Bluesky", settings.url, deadline)
        self._session: tuple[str, str] | None = None

    def limit(self) -> int:
        return 300

    def length(self, text: str) -> int:
        # The second limit is one of bytes; a text beyond it is too long whatever its graphemes.
        return (
            graphemes(text) if len(text.encode()) <= _MOST_BYTES else max(graphemes(text), self.limit() + 1)
        )

    def new_key(self) -> str:
        """A TID: 53 bits of microseconds and 10 of chance, in base 32 that sorts by time."""
        number = (time.time_ns() // 1000) << 10 | secrets.randbits(10)
        return "".join(_SORTABLE[number >> shift & 31] for shift in range(60, -1, -5))

    def send(self, text: str, key: str, *, again: bool) -> Posted:
        did, token = self._signed_in()
        if again and (found := self._existing(did, key)) is not None:
            return found
        body = {"repo": did, "collection": _COLLECTION, "rkey": key, "record": record(text)}
        for left in range(_ATTEMPTS - 1, -1, -1):
            try:
                reply = self._exchange.send(
                    "POST",
                    "/xrpc/com.atproto.repo.createRecord",
                    repeatable=False,
                    headers=lambda: _bearer(token),
                    json=body,
                )
                break
            except PlatformDown as error:
                # The key tells whether the lost answer was a yes, and keeps a second record from being made.
                if error.uncertain and (found := self._existing(did, key)) is not None:
                    return found
                if not error.uncertain or not left:
                    raise
        if reply.status == 200 and "uri" in reply.value:
            return Posted(str(reply.value["uri"]), self._link(key))
        if (found := self._existing(did, key)) is not None:
            return found
        if reply.status == 403 or reply.value.get("error") in _NOT_SIGNED_IN:
            raise AuthFailed(f"Bluesky does not let this account post: {reply.why()}")
        raise Refused(f"Bluesky refuses the text: {reply.why()}")

    def close(self) -> None:
        self._exchange.close()

    def _signed_in(self) -> tuple[str, str]:
        if self._session is None:
            reply = self._exchange.send(
                "POST",
                "/xrpc/com.atproto.server.createSession",
                repeatable=True,
                json={"identifier": self.account, "password": self._password},
            )
            if reply.status != 200 or not {"did", "accessJwt"} <= set(reply.value):
                raise AuthFailed(f"Bluesky does not sign {self.account} in: {reply.why()}")
            self._session = str(reply.value["did"]), str(reply.value["accessJwt"])
        return self._session

    def _existing(self, did: str, key: str) -> Posted | None:
        reply = self._exchange.send(
            "GET",
            "/xrpc/com.atproto.repo.getRecord",
            repeatable=True,
            params={"repo": did, "collection": _COLLECTION, "rkey": key},
        )
        if reply.status != 200 or "uri" not in reply.value:
            return None
        return Posted(str(reply.value["uri"]), self._link(key), again=True)

    def _link(self, key: str) -> str:
        return f"https://bsky.app/profile/{self.account}/post/{key}"


def record(text: str) -> dict[str, Any]:
    """The post's record; links become facets, whose places count bytes of UTF-8."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    value: dict[str, Any] = {"$type": _COLLECTION, "text": text, "createdAt": now}
    facets = [
        {
            "index": {
                "byteStart": len(text[: link.start].encode()),
                "byteEnd": len(text[: link.end].encode()),
            },
            "features": [{"$type": "app.bsky.richtext.facet#link", "uri": target(text, link)}],
        }
        for link in links(text)
    ]
    if facets:
        value["facets"] = facets
    return value


def _bearer(token: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {token}"}
