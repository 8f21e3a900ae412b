"""A small real HTTP server that answers as told, and the gateway with its fake worker."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

# The gateway's fixtures belong to its own tests; loaded from there, there is one fake worker for all.
_spec = importlib.util.spec_from_file_location(
    "gateway_fixtures", Path(__file__).resolve().parents[2] / "api" / "conftest.py"
)
gateway_fixtures = importlib.util.module_from_spec(_spec)
sys.modules["gateway_fixtures"] = gateway_fixtures
_spec.loader.exec_module(gateway_fixtures)
for _name in (
    "_worker_servers",
    "_plain_logs",
    "_shared_gateway",
    "base",
    "expected",
    "make_settings",
    "serve",
    "worker",
):
    globals()[_name] = getattr(gateway_fixtures, _name)


@dataclass
class Reply:
    """`body` as JSON, or raw bytes; `cut` closes the connection without the end of the body; the answer
    waits for `gate`."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    gate: threading.Event | None = None


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


class ScriptedServer:
    """Gives its `replies` one after the other, the last one for ever; None drops the connection."""

    def __init__(self) -> None:
        self.replies: deque[Reply | None] = deque()
        self.seen: list[Seen] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.seen.append(Seen(self.command, self.path, headers, json.loads(raw) if raw else None))
                reply = outer.replies.popleft() if len(outer.replies) > 1 else outer.replies[0]
                if reply is None:
                    self.close_connection = True
                    return
                if reply.gate is not None:
                    reply.gate.wait(10)
                    self.close_connection = True
                    return
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content) + (10 if reply.cut else 0)))
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = reply.cut

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def will(self, *replies: Reply | None) -> None:
        self.replies.extend(replies)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


@pytest.fixture
def reply() -> type[Reply]:
    return Reply
