"""X's OAuth 1.0a: signed requests, and the walk through the PIN flow that gives the access pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, quote

from oauthlib.oauth1 import Client as Signer

from training.bot.errors import AuthFailed
from training.bot.http import Exchange, Reply


@dataclass(frozen=True, repr=False)
class Pair:
    """A key or token with its secret; the representation shows neither."""

    key: str
    secret: str

    def __repr__(self) -> str:
        return "Pair(…)"


@dataclass(frozen=True)
class Access:
    """What the PIN flow gives: the account's token pair, and whose it is."""

    pair: Pair
    screen_name: str | None
    user_id: str | None


def authorization(
    method: Literal["GET", "POST"],
    url: str,
    consumer: Pair,
    token: Pair | None = None,
    *,
    callback: str | None = None,
    verifier: str | None = None,
) -> Mapping[str, str]:
    """The header that signs a request without form parameters (RFC 5849, HMAC-SHA1), new for each call."""
    signer = Signer(
        consumer.key,
        client_secret=consumer.secret,
        resource_owner_key=None if token is None else token.key,
        resource_owner_secret=None if token is None else token.secret,
        callback_uri=callback,
        verifier=verifier,
    )
    _, headers, _ = signer.sign(url, http_method=method)
    return {"authorization": str(headers["Authorization"])}


class PinFlow:
    """`begin` gives the address to open; `finish` turns the PIN shown there into an access pair."""

    def __init__(self, url: str, consumer: Pair, deadline: float) -> None:
        self._url = url
        self._consumer = consumer
        self._exchange = Exchange("X", url, deadline)
        self._temporary: Pair | None = None

    def begin(self) -> str:
        """Ask for a request token; returns the address where the account's owner allows the app."""
        values = self._call("/oauth/request_token", None, callback="oob")
        if values.get("oauth_callback_confirmed") != "true":
            raise AuthFailed("X did not confirm the PIN flow for this app; allow OAuth 1.0a in its settings")
        self._temporary = Pair(values["oauth_token"], values["oauth_token_secret"])
        return f"{self._url}/oauth/authorize?oauth_token={quote(self._temporary.key, safe='')}"

    def finish(self, pin: str) -> Access:
        """Raises AuthFailed for a PIN that X does not take."""
        if self._temporary is None:
            raise RuntimeError("begin comes before finish")
        values = self._call("/oauth/access_token", self._temporary, verifier=pin.strip())
        pair = Pair(values["oauth_token"], values["oauth_token_secret"])
        return Access(pair, values.get("screen_name"), values.get("user_id"))

    def close(self) -> None:
        self._exchange.close()

    def _call(
        self, path: str, token: Pair | None, *, callback: str | None = None, verifier: str | None = None
    ) -> dict[str, str]:
        def headers() -> Mapping[str, str]:
            address = f"{self._url}{path}"
            return authorization("POST", address, self._consumer, token, callback=callback, verifier=verifier)

        # A verifier is used up by its first use; a request token that is lost harms nobody.
        reply = self._exchange.send("POST", path, repeatable=verifier is None, headers=headers)
        values = {name: found[0] for name, found in parse_qs(reply.text).items()}
        if reply.status != 200 or not {"oauth_token", "oauth_token_secret"} <= set(values):
            raise AuthFailed(f"X refuses at {path}: {_reason(reply)}")
        return values


def _reason(reply: Reply) -> str:
    return reply.why() if reply.value else f"status {reply.status}"
