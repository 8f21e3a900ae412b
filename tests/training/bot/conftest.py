"""The platforms as small real servers. Each checks what it is sent, and can fail in the ways platforms do."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest

from training.bot.settings import BotSettings


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Response:
    status: int = 200
    value: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class LocalServer:
    """Answers with `answer(request)`, but first uses up `trouble`, one entry per request:

    a Response is given instead, `refuse` drops the connection unread, `lose` does the work and then drops the
    connection without a word, `hang` does the work and says nothing until `gate` opens, None is an ordinary
    answer.
    """

    def __init__(self) -> None:
        self.trouble: deque[Response | str | None] = deque()
        self.requests: list[Request] = []
        self.hanging = threading.Event()
        self.gate = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                request = Request(
                    self.command,
                    parts.path,
                    dict(parse_qsl(parts.query)),
                    {name.lower(): value for name, value in self.headers.items()},
                    body,
                )
                outer.requests.append(request)
                trouble = outer.trouble.popleft() if outer.trouble else None
                if trouble == "refuse":
                    self.close_connection = True
                    return
                response = trouble if isinstance(trouble, Response) else outer.answer(request)
                if trouble == "hang":
                    outer.hanging.set()
                    outer.gate.wait(30)
                if trouble in ("lose", "hang"):
                    self.close_connection = True
                    return
                value = response.value
                content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
                self.send_response(response.status)
                for name, text in response.headers.items():
                    self.send_header(name, text)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, request: Request) -> Response:
        raise NotImplementedError

    def close(self) -> None:
        self.gate.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(10)


def signature_of(
    method: str, url: str, parameters: list[tuple[str, str]], consumer_secret: str, token_secret: str
) -> str:
    """RFC 5849, section 3.4: the HMAC-SHA1 signature, independent of the library that signs."""

    def escaped(text: str) -> str:
        return quote(text, safe="-._~")

    pairs = sorted((escaped(name), escaped(value)) for name, value in parameters)
    normal = "&".join(f"{name}={value}" for name, value in pairs)
    base = "&".join((method.upper(), escaped(url), escaped(normal)))
    key = f"{escaped(consumer_secret)}&{escaped(token_secret)}"
    return base64.b64encode(hmac.new(key.encode(), base.encode(), hashlib.sha1).digest()).decode()


class FakeX(LocalServer):
    """Checks each signature itself, knows a nonce again, and refuses a text it has."""

    consumer = ("consumer-key", "consumer_secret/+=&")
    access = ("4711-access", "access_secret~%ü")
    pin = "0123456"

    def __init__(self) -> None:
        super().__init__()
        self.tweets: list[str] = []
        self.nonces: set[str] = set()
        self.temporary = ("request-token/+", "request-secret")

    def answer(self, request: Request) -> Response:
        secrets = {"": "", self.access[0]: self.access[1], self.temporary[0]: self.temporary[1]}
        oauth = _oauth(request)
        problem = self._problem(request, oauth, secrets)
        if problem is not None:
            return Response(401, {"title": "Unauthorized", "detail": problem, "status": 401})
        if request.path == "/oauth/request_token":
            if oauth.get("oauth_callback") != "oob":
                return Response(403, {"errors": [{"code": 415, "message": "Callback URL not approved"}]})
            return Response(200, _form(self.temporary) + "&oauth_callback_confirmed=true")
        if request.path == "/oauth/access_token":
            if oauth.get("oauth_token") != self.temporary[0] or oauth.get("oauth_verifier") != self.pin:
                return Response(401, "Error processing your OAuth request: Invalid oauth_verifier parameter")
            return Response(200, _form(self.access) + "&user_id=4711&screen_name=inkwell_bot")
        if request.path == "/2/tweets" and oauth.get("oauth_token") == self.access[0]:
            text = request.json["text"]
            if text in self.tweets:
                detail = "You are not allowed to create a Tweet with duplicate content."
                return Response(403, {"detail": detail, "title": "Forbidden", "status": 403})
            self.tweets.append(text)
            return Response(201, {"data": {"id": str(1000 + len(self.tweets)), "text": text}})
        return Response(404, {"title": "Not Found"})

    def _problem(self, request: Request, oauth: dict[str, str], secrets: dict[str, str]) -> str | None:
        if oauth.get("oauth_consumer_key") != self.consumer[0] or oauth.get("oauth_version") != "1.0":
            return "unknown consumer"
        if oauth["oauth_nonce"] in self.nonces:
            return "nonce used twice"
        self.nonces.add(oauth["oauth_nonce"])
        if abs(int(oauth["oauth_timestamp"]) - time.time()) > 300:
            return "timestamp out of bounds"
        token_secret = secrets.get(oauth.get("oauth_token", ""))
        if token_secret is None:
            return "unknown token"
        signed = [(name, value) for name, value in oauth.items() if name != "oauth_signature"]
        signed += list(request.query.items())
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            signed += parse_qsl(request.body.decode())
        url = f"{self.url}{request.path}"
        wanted = signature_of(request.method, url, signed, self.consumer[1], token_secret)
        return None if hmac.compare_digest(wanted, oauth["oauth_signature"]) else "wrong signature"


class FakeMastodon(LocalServer):
    """Keeps statuses by idempotency key; says its own limits."""

    token = "mastodon-token"

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[str, dict[str, Any]] = {}
        self.limits: dict[str, Any] = {"max_characters": 120, "characters_reserved_per_url": 23}

    def answer(self, request: Request) -> Response:
        if request.path == "/api/v2/instance":
            return Response(200, {"configuration": {"statuses": self.limits}})
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Response(401, {"error": "The access token is invalid"})
        if request.path != "/api/v1/statuses" or request.method != "POST":
            return Response(404, {"error": "Record not found"})
        key = request.headers["idempotency-key"]
        if "forbidden" in request.json["status"]:
            return Response(422, {"error": "Validation failed: Text is forbidden"})
        if key not in self.statuses:
            number = str(len(self.statuses) + 1)
            self.statuses[key] = {"id": number, "url": f"{self.url}/@bot/{number}", **request.json}
        return Response(200, self.statuses[key])


class FakeBluesky(LocalServer):
    """A personal data server: sessions and records; a record's key can be used once."""

    handle, password, did = "bot.example.social", "app-pass-word", "did:plc:bot"

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, dict[str, Any]] = {}

    def answer(self, request: Request) -> Response:
        if request.path == "/xrpc/com.atproto.server.createSession":
            if request.json != {"identifier": self.handle, "password": self.password}:
                text = {"error": "AuthenticationRequired", "message": "Invalid identifier or password"}
                return Response(401, text)
            return Response(200, {"did": self.did, "handle": self.handle, "accessJwt": "jwt"})
        if request.path == "/xrpc/com.atproto.repo.getRecord":
            found = self.records.get(request.query["rkey"])
            if found is None or request.query["repo"] != self.did:
                return Response(400, {"error": "RecordNotFound", "message": "Could not locate record"})
            return Response(200, {"uri": self._uri(request.query["rkey"]), "value": found})
        if request.headers.get("authorization") != "Bearer jwt":
            return Response(401, {"error": "AuthMissing"})
        body = request.json
        if body["rkey"] in self.records:
            return Response(400, {"error": "InvalidRequest", "message": "record exists"})
        self.records[body["rkey"]] = body["record"]
        return Response(200, {"uri": self._uri(body["rkey"]), "cid": "bafy"})

    def _uri(self, key: str) -> str:
        return f"at://{self.did}/app.bsky.feed.post/{key}"


class FakeDiscord(LocalServer):
    """One webhook."""

    path = "/api/webhooks/123/secret-token"

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []

    def answer(self, request: Request) -> Response:
        if request.path != self.path:
            return Response(404, {"message": "Unknown Webhook", "code": 10015})
        if request.query != {"wait": "true"}:
            return Response(204, "")
        if len(request.json["content"]) > 2000:
            return Response(400, {"message": "Invalid Form Body", "code": 50035})
        self.messages.append(request.json)
        return Response(200, {"id": str(len(self.messages)), "content": request.json["content"]})


class FakeGateway(LocalServer):
    """Gives the texts it was told, n at a time, as the gateway writes answers."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: deque[str | dict[str, Any]] = deque()

    def answer(self, request: Request) -> Response:
        count = request.json["parameters"].get("n", 1)
        answers = []
        for seed in range(count):
            told = self.texts.popleft()
            known = told if isinstance(told, dict) else {"text": told}
            details = {"finish_reason": "eos_token", "generated_tokens": 9, "seed": seed, "model": "souls"}
            details["novelty"] = {"verdict": "novel", "longest": 3, "ratio": 0.0}
            text = known["text"]
            details |= {name: value for name, value in known.items() if name != "text"}
            answers.append({"generated_text": text, "details": details})
        return Response(200, answers if count > 1 else answers[0])


def _oauth(request: Request) -> dict[str, str]:
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme != "OAuth":
        return {}
    pairs = (part.strip().split("=", 1) for part in rest.split(","))
    return {unquote(name): unquote(value.strip('"')) for name, value in pairs}


def _form(pair: tuple[str, str]) -> str:
    return f"oauth_token={quote(pair[0], safe='')}&oauth_token_secret={quote(pair[1], safe='')}"


def _served(kind: type[LocalServer]) -> Iterator[Any]:
    server = kind()
    yield server
    server.close()


@pytest.fixture
def x() -> Iterator[FakeX]:
    yield from _served(FakeX)


@pytest.fixture
def mastodon() -> Iterator[FakeMastodon]:
    yield from _served(FakeMastodon)


@pytest.fixture
def bluesky() -> Iterator[FakeBluesky]:
    yield from _served(FakeBluesky)


@pytest.fixture
def discord() -> Iterator[FakeDiscord]:
    yield from _served(FakeDiscord)


@pytest.fixture
def texts() -> Iterator[FakeGateway]:
    yield from _served(FakeGateway)


@pytest.fixture
def response() -> type[Response]:
    return Response


@pytest.fixture
def sign() -> Callable[..., str]:
    return signature_of


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """`environment(x=server, …)`: the variables that lead to the fake servers, with right credentials."""

    def make(**servers: Any) -> dict[str, str]:
        values = {"INKWELL_POST_HISTORY": str(tmp_path / "posts.sqlite"), "INKWELL_POST_DEADLINE_S": "4"}
        if "x" in servers:
            values["INKWELL_X_URL"] = servers["x"].url
            values["INKWELL_X_CONSUMER_KEY"], values["INKWELL_X_CONSUMER_SECRET"] = FakeX.consumer
            values["INKWELL_X_ACCESS_TOKEN"], values["INKWELL_X_ACCESS_TOKEN_SECRET"] = FakeX.access
        if "mastodon" in servers:
            values["INKWELL_MASTODON_URL"] = servers["mastodon"].url
            values["INKWELL_MASTODON_TOKEN"] = FakeMastodon.token
        if "bluesky" in servers:
            values["INKWELL_BLUESKY_URL"] = servers["bluesky"].url
            values["INKWELL_BLUESKY_HANDLE"] = FakeBluesky.handle
            values["INKWELL_BLUESKY_PASSWORD"] = FakeBluesky.password
        if "discord" in servers:
            values["INKWELL_DISCORD_WEBHOOK"] = servers["discord"].url + FakeDiscord.path
        if "texts" in servers:
            values["INKWELL_URL"] = servers["texts"].url
        return values

    return make


@pytest.fixture
def settings(environment: Callable[..., dict[str, str]]) -> Callable[..., BotSettings]:
    return lambda **servers: BotSettings.from_env(environment(**servers))
