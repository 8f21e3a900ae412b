"""A small real worker that speaks docs/protocol.md over HTTP, and a real gateway in front of it.

The worker's text is a pure function of prompt, seed and position, so every answer has an oracle, also one
that was broken off and resumed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from api.gateway import Gateway
from api.keys import make_key
from api.main import create_app
from api.settings import Settings

VOCABULARY = ["<end>", "a", "b", "c", "d", "e", "f", "g", " ", "h", "io", "ü"]
END = 0

MODELS = """
[defaults]
slots = 8
queue_tokens = 2000
max_new_tokens = 200
[models.prose]
family = "prose"
default = true
[models.names]
family = "names"
max_new_tokens = 64
"""


class ConnectionBrokenError(Exception):
    """Raised inside a reply: the server drops the connection without the final chunk."""


def token_at(prompt: str, seed: int, position: int, release: str = "1.0") -> int:
    digest = hashlib.sha256(f"{release}|{prompt}|{seed}|{position}".encode()).digest()
    return 1 + digest[0] % (len(VOCABULARY) - 1)


def oracle(prompt: str, seed: int, tokens: int, stop: tuple[str, ...] = (), release: str = "1.0") -> str:
    """The whole text for a prompt and seed, as an unbroken worker gives it."""
    text = "".join(VOCABULARY[token_at(prompt, seed, at, release)] for at in range(tokens))
    cuts = [text.index(mark) for mark in stop if mark in text]
    return text[: min(cuts)] if cuts else text


@dataclass
class FakeWorker:
    """Behaviour is set by its fields; what arrived can be read from them."""

    url: str = ""
    step_s: float = 0.0
    # One entry per POST of jobs, used up from the left; None is an ordinary reply.
    replies: deque[tuple[int, dict[str, Any]] | None] = field(default_factory=deque)
    break_after: deque[int | None] = field(default_factory=deque)  # tokens of a POST before it breaks off
    silent: deque[bool] = field(default_factory=deque)  # the POST begins and then says nothing
    poison: str | None = None  # a prompt that breaks every reply it takes part in
    overloaded: deque[bool] = field(default_factory=deque)  # each job of the POST is refused
    interrupt_after: deque[int | None] = field(default_factory=deque)  # tokens before the engine is reset
    copies: Callable[[str], dict[str, Any]] | None = None  # text -> what is found in the training corpus
    end_at: int | None = None  # the position at which the end mark is drawn
    engine: Any = None  # a real `inkwell.session.TextEngine`, which does all jobs instead
    ready: bool = True
    registered: tuple[str, ...] = ("prose", "names")
    # The management side: model -> version -> least workers; the first version is the default at first.
    versions: dict[str, dict[str, int]] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    model_api: bool = True
    store: Path | None = None  # the folder that POST /models loads from
    refuse_folder: str | None = None  # a folder whose worker dies while it starts
    dead: set[str] = field(default_factory=set)  # versions without a READY worker
    revives: bool = True  # whether scaling brings a dead version back
    management_calls: list[str] = field(default_factory=list)
    posts: list[list[dict[str, Any]]] = field(default_factory=list)
    post_headers: list[dict[str, str]] = field(default_factory=list)
    served: list[tuple[str, str]] = field(default_factory=list)  # (job id, version) of every job
    cancelled: list[str] = field(default_factory=list)
    closed: list[list[str]] = field(default_factory=list)
    active: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        for model in ("prose", "names"):
            self.versions[model] = {"1.0": 1}
            self.defaults[model] = "1.0"

    async def predictions(self, request: Request) -> Response:
        model = request.path_params["model"]
        body = json.loads(await request.body())
        if model not in self.registered:
            return _failure(404, "ModelNotFoundException", f"Model not found: {model}")
        version = request.path_params.get("version") or self.defaults[model]
        if version not in self.versions[model]:
            message = f"Model version: {version} does not exist for model: {model}"
            return _failure(404, "ModelVersionNotFoundException", message)
        if version in self.dead:
            message = (
                f'Model "{model}" has no worker to serve inference request. Please use scale workers API'
            )
            return _failure(503, "ServiceUnavailableException", message)
        if "describe" in body:
            return JSONResponse({**self._card(model), "version": version.split("-w")[0]})
        if "tokenize" in body:
            return JSONResponse({"tokens": _tokenize(body["tokenize"])})
        if "cancel" in body:
            known = [job for job in body["cancel"] if job in self.active]
            self.cancelled += known
            return JSONResponse(
                {"cancelled": known, "unknown": [job for job in body["cancel"] if job not in known]}
            )
        self.posts.append(body["jobs"])
        self.post_headers.append(dict(request.headers))
        self.served += [(job["id"], version) for job in body["jobs"]]
        reply = self.replies.popleft() if self.replies else None
        if reply is not None:
            return JSONResponse(reply[1], reply[0])
        return StreamingResponse(
            self._lines(body["jobs"], model, version), headers={"connection": "keep-alive"}
        )

    async def management(self, request: Request) -> Response:
        """The management API as TorchServe 0.12 behaves."""
        model, version = request.path_params.get("model"), request.path_params.get("version")
        self.management_calls.append(f"{request.method} {request.url.path}?{request.url.query}")
        if request.method == "POST":
            return self._register(request.query_params)
        if model not in self.registered:
            return _failure(404, "ModelNotFoundException", f"Model not found: {model}")
        held = self.versions[model]
        if version not in (None, "all") and version not in held:
            message = f"Model version: {version} does not exist for model: {model}"
            return _failure(404, "ModelVersionNotFoundException", message)
        if request.method == "DELETE":
            return self._unregister(model, version)
        if request.url.path.endswith("/set-default"):
            self.defaults[model] = version
            return JSONResponse({"status": "Default version successfully updated"})
        if request.method == "PUT":
            changed = version or self.defaults[model]
            held[changed] = int(request.query_params["min_worker"])
            if self.revives:
                self.dead.discard(changed)
            return JSONResponse({"status": "Processing worker updates..."}, 202)
        shown = list(held) if version == "all" else [version or self.defaults[model]]
        return JSONResponse([self._describe(model, one) for one in shown])

    def _register(self, query: Any) -> Response:
        if not self.model_api:
            return _failure(405, "MethodNotAllowedException", "Requested method is not allowed")
        folder = query["url"]
        if self.store is None or "/" in folder or not (self.store / folder).is_dir():
            return _failure(404, "ModelNotFoundException", f"Model not found in model store: {folder}")
        described = json.loads((self.store / folder / "MAR-INF" / "MANIFEST.json").read_text())["model"]
        held = self.versions[described["modelName"]]
        if described["modelVersion"] in held:
            message = f"Model version {described['modelVersion']} is already registered"
            return _failure(409, "ConflictStatusException", message)
        held[described["modelVersion"]] = int(query["initial_workers"])
        if folder == self.refuse_folder:
            self.dead.add(described["modelVersion"])
        return JSONResponse({"status": "Processing worker updates..."}, 202)

    def _unregister(self, model: str, version: str) -> Response:
        if not self.model_api:
            return _failure(405, "MethodNotAllowedException", "Requested method is not allowed")
        if version == self.defaults[model] and len(self.versions[model]) > 1:
            return _failure(403, "InvalidModelVersionException", f"Cannot remove default version: {version}")
        del self.versions[model][version]
        self.dead.discard(version)
        return JSONResponse({"status": f'Model "{model}" unregistered'})

    def _describe(self, model: str, version: str) -> dict[str, Any]:
        status = "READY" if self.ready and version not in self.dead else "UNLOADING"
        worker = {"id": "9000", "status": status, "memoryUsage": 1000, "pid": 1, "gpu": False}
        return {
            "modelName": model,
            "modelVersion": version,
            "minWorkers": self.versions[model][version],
            "workers": [worker] if version not in self.dead else [],
        }

    def _card(self, model: str) -> dict[str, Any]:
        return {
            "name": model,
            "version": "1.0",
            "family": model,
            "parameters": 123,
            "vocabulary": len(VOCABULARY),
            "context": None,
            "tokenizer": "chars",
            "categories": ["elf", "bear"],
            "seed_words": 1200,
            "seed_word_sample": ["lantern", "harbour", "moor"],
            "limits": {"max_new_tokens": 200, "max_prompt_tokens": 2000},
            "defaults": {"temperature": 0.8},
            "metrics": {"val_nats_per_token": 1.3},
            "device": "cpu",
            "runtime": "torch",
            "slots": 8,
            "engine": {"active": 0, "queued": 0, "tokens_total": 0, "steps_total": 0},
        }

    async def _lines(self, jobs: list[dict[str, Any]], model: str, version: str) -> Any:
        if self.engine is not None:
            sink: list[dict[str, Any]] = []
            for job in jobs:
                self.engine.submit(job, sink)
            while not self.engine.idle:
                self.engine.advance()
            for event in sink:
                yield _line(**event)
            return
        interrupt = self.interrupt_after.popleft() if self.interrupt_after else None
        budget = self.break_after.popleft() if self.break_after else None
        silent = self.silent.popleft() if self.silent else False
        overloaded = self.overloaded.popleft() if self.overloaded else False
        ids = [job["id"] for job in jobs]
        self.active.update(ids)
        try:
            while not self.gate.is_set():
                yield b"\n"
                await asyncio.sleep(0.005)
            running = []
            for job in jobs:
                if overloaded:
                    error = {"error": "engine queue full", "error_type": "overloaded"}
                    yield _line(job=job["id"], event="error", **error)
                elif (refusal := _refusal(job)) is not None:
                    yield _line(job=job["id"], event="error", **refusal)
                else:
                    running.append(_Run(job, self.end_at, version.split("-w")[0], self.copies))
                    yield _line(job=job["id"], **running[-1].start())
            if silent:
                await asyncio.sleep(30)
            if self.poison is not None and any(run.prompt == self.poison for run in running):
                raise ConnectionBrokenError
            while running:
                if version not in self.versions[model]:
                    # There is no drain: what a version has in hand goes with it.
                    raise ConnectionBrokenError
                if interrupt is not None and all(len(run.ids) >= interrupt for run in running):
                    for run in running:
                        error = {"error": "send it again", "error_type": "interrupted"}
                        yield _line(job=run.id, event="error", **error)
                    return
                for run in list(running):
                    if run.id in self.cancelled:
                        run.finish_reason = "cancelled"
                    elif not run.done:
                        if budget is not None:
                            if budget == 0:
                                raise ConnectionBrokenError
                            budget -= 1
                        # Split over two chunks: lines carry no framing.
                        line = _line(job=run.id, **run.step())
                        yield line[:7]
                        yield line[7:]
                    if run.done or run.finish_reason == "cancelled":
                        yield _line(job=run.id, **run.end())
                        running.remove(run)
                        self.active.discard(run.id)
                yield b"\n"
                await asyncio.sleep(self.step_s)
        except asyncio.CancelledError:
            self.closed.append([job for job in ids if job in self.active])
            raise
        finally:
            self.active.difference_update(ids)


class _Run:
    def __init__(
        self,
        job: dict[str, Any],
        end_at: int | None,
        release: str,
        copies: Callable[[str], dict[str, Any]] | None,
    ) -> None:
        self.job, self.id = job, job["id"]
        self.release, self.copies = release, copies
        self.prompt = job.get("prompt") or "lantern"
        if isinstance(self.prompt, list):
            self.prompt = "".join(VOCABULARY[i] for i in self.prompt)
        self.seed = job["seed"]
        self.limit = job.get("max_new_tokens") or 100
        self.ids: list[int] = list(job.get("resume_ids") or [])
        self.end_at = end_at
        self.finish_reason: str | None = None
        self._judge()

    @property
    def done(self) -> bool:
        return self.finish_reason is not None

    def text(self) -> str:
        text = "".join(VOCABULARY[i] for i in self.ids if i != END)
        cuts = [text.index(mark) for mark in self.job.get("stop") or () if mark in text]
        return text[: min(cuts)] if cuts else text

    def start(self) -> dict[str, Any]:
        event = {
            "event": "start",
            "seed": self.seed,
            "prompt": self.prompt,
            "prompt_ids": [VOCABULARY.index(c) for c in self.prompt if c in VOCABULARY],
            "seed_word": None if self.job.get("prompt") else self.prompt,
            "category": self.job.get("category"),
            "prompt_tokens": len(self.prompt),
        }
        if unknown := dict.fromkeys(c for c in self.prompt if ord(c) > 127 and c not in VOCABULARY):
            event["dropped_characters"] = "".join(unknown)
        if self.job.get("prefill_details"):
            event["prefill"] = [
                {"id": 1, "text": c, "logprob": None if at == 0 else -1.5} for at, c in enumerate(self.prompt)
            ]
        return event

    def step(self) -> dict[str, Any]:
        before = self.text()
        position = len(self.ids)
        token = END if position == self.end_at else token_at(self.prompt, self.seed, position, self.release)
        self.ids.append(token)
        self._judge()
        after = self.text()
        text = after[len(before) :] if len(after) >= len(before) else ""
        event: dict[str, Any] = {
            "event": "tokens", "ids": [token], "texts": [text], "special": [token == END]
        }  # fmt: skip
        if self.job.get("logprobs"):
            event["logprobs"] = [-float(token)]
        if count := self.job.get("top_n_tokens"):
            event["top"] = [
                [{"id": i, "text": VOCABULARY[i], "logprob": -float(i)} for i in range(1, count + 1)]
            ]
        if self.job.get("trace"):
            event["trace"] = [{"probability": 0.5, "rank": 0, "entropy": 1.0, "kept": 3, "cut": {}}]
        return event

    def end(self) -> dict[str, Any]:
        event = self._end()
        if self.job.get("novelty") is not None:
            found = {"verdict": "unknown"} if self.copies is None else self.copies(self.text())
            event["novelty"] = found
        return event

    def _end(self) -> dict[str, Any]:
        return {
            "event": "end",
            "finish_reason": self.finish_reason,
            "text": self.text(),
            "generated_tokens": len(self.ids),
            "queue_ms": 0.5,
            "inference_ms": 2.0,
        }

    def _judge(self) -> None:
        raw = "".join(VOCABULARY[i] for i in self.ids if i != END)
        if self.ids and self.ids[-1] == END:
            self.finish_reason = "eos_token"
        elif any(mark in raw for mark in self.job.get("stop") or ()):
            self.finish_reason = "stop_sequence"
        elif len(self.ids) >= self.limit:
            self.finish_reason = "length"


def _refusal(job: dict[str, Any]) -> dict[str, Any] | None:
    if isinstance(job.get("category"), str) and job["category"] not in ("elf", "bear"):
        message = f"category must be one of elf, bear; got {job['category']!r}"
        return {"error": message, "error_type": "validation", "field": "category"}
    if job.get("prompt") == "explode":
        return {"error": "this job failed", "error_type": "generation"}
    return None


def _tokenize(text: str) -> list[dict[str, Any]]:
    return [{"id": 1, "text": c, "start": at, "stop": at + 1} for at, c in enumerate(text)]


def _line(**event: Any) -> bytes:
    return json.dumps(event).encode() + b"\n"


def _failure(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"code": status, "type": kind, "message": message}, status)


class _Server:
    """uvicorn in a thread, on a port of the system's choice."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        # The protocol is named so that asyncio turns Nagle off on what is accepted.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._socket]))

    def __enter__(self) -> _Server:
        self._thread.start()
        until = time.monotonic() + 10
        while not self._server.started:
            if time.monotonic() > until or not self._thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
        if self._thread.is_alive():
            raise RuntimeError("the server did not stop")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _WorkerServer(_Server):
    """Serves whichever fake worker is in place: a fresh one for each test, behind the same port."""

    def __init__(self) -> None:
        self.worker = FakeWorker()

        async def predictions(request: Request) -> Response:
            return await self.worker.predictions(request)

        async def management(request: Request) -> Response:
            return await self.worker.management(request)

        super().__init__(
            Starlette(
                routes=[
                    Route("/predictions/{model}", predictions, methods=["POST"]),
                    Route("/predictions/{model}/{version}", predictions, methods=["POST"]),
                    Route("/models", management, methods=["POST"]),
                    Route("/models/{model}", management, methods=["GET", "PUT", "DELETE"]),
                    Route("/models/{model}/{version}", management, methods=["GET", "PUT", "DELETE"]),
                    Route("/models/{model}/{version}/set-default", management, methods=["PUT"]),
                ]
            )
        )

    def fresh(self) -> FakeWorker:
        self.worker.gate.set()
        self.worker = FakeWorker(url=self.url)
        return self.worker


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "npm: installs clients with npm; run with `make test-clients`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # They need npm and its registry: only who names them runs them.
    if "npm" not in config.getoption("markexpr"):
        left_out = [item for item in items if item.get_closest_marker("npm")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    # Connections that break on purpose are logged by the fake worker's server as errors.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
        ]
    )


@pytest.fixture(scope="session")
def _worker_servers() -> Iterator[list[_WorkerServer]]:
    servers = [_WorkerServer(), _WorkerServer()]
    for server in servers:
        server.__enter__()
    yield servers
    for server in servers:
        server.fresh()
        server.__exit__()


@pytest.fixture
def worker(_worker_servers: list[_WorkerServer]) -> Iterator[FakeWorker]:
    """A fake worker; the gateways of a test lead to it unless told otherwise."""
    yield _worker_servers[0].fresh()
    _worker_servers[0].fresh()


@pytest.fixture
def second_worker(_worker_servers: list[_WorkerServer]) -> Iterator[FakeWorker]:
    """Another one, for tests of several endpoints."""
    yield _worker_servers[1].fresh()
    _worker_servers[1].fresh()


@pytest.fixture(scope="session")
def make_settings(
    tmp_path_factory: pytest.TempPathFactory, _worker_servers: list[_WorkerServer]
) -> Callable[..., Settings]:
    """Settings that lead to the fake worker, quick to retry."""
    models = tmp_path_factory.mktemp("gateway") / "models.toml"
    models.write_text(MODELS)

    def make(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "models_file": models,
            "inference": [_worker_servers[0].url],
            "management": [_worker_servers[0].url],
            "retry_base_s": 0.01,
            "retry_max_s": 0.05,
            "eject_s": 0.05,
            "deadline_s": 10.0,
            "drain_s": 2.0,
            "ready_cache_s": 0.0,
        }
        return Settings(**(values | changes))

    return make


class Gateways:
    """Calling it starts a gateway with changed settings and gives its base URL."""

    def __init__(self, make_settings: Callable[..., Settings]) -> None:
        self._make_settings = make_settings
        self._servers: dict[str, tuple[_Server, Any]] = {}

    def __call__(self, **changes: Any) -> str:
        app = create_app(self._make_settings(**changes))
        server = _Server(app).__enter__()
        self._servers[server.url] = server, app
        return server.url

    def gateway(self, url: str) -> Gateway:
        """What works behind `url`."""
        gateway: Gateway = self._servers[url][1].state.gateway
        return gateway

    def stop(self) -> None:
        for server, _ in self._servers.values():
            server.__exit__()


@pytest.fixture
def serve(make_settings: Callable[..., Settings], worker: FakeWorker) -> Iterator[Gateways]:
    """Start gateways of the test's own."""
    gateways = Gateways(make_settings)
    yield gateways
    gateways.stop()


@pytest.fixture(scope="session")
def _shared_gateway(make_settings: Callable[..., Settings]) -> Iterator[str]:
    gateways = Gateways(make_settings)
    yield gateways()
    gateways.stop()


@pytest.fixture(scope="session")
def _keyed_gateway(
    make_settings: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("keyed")
    token, line = make_key("root", admin=True)
    (folder / "keys").write_text(line)
    (folder / "index.json").write_text('{"archives": {}}')
    gateways = Gateways(make_settings)
    yield gateways(key_file=folder / "keys", model_store=folder, worker_store=folder / "served"), token
    gateways.stop()


@pytest.fixture
def keyed(_keyed_gateway: tuple[str, str], worker: FakeWorker) -> tuple[str, str]:
    """The base URL of a gateway that asks for keys, and an admin's key; shared like `base`."""
    return _keyed_gateway


@pytest.fixture
def base(_shared_gateway: str, worker: FakeWorker) -> str:
    """The base URL of a gateway with default settings, shared by all tests; the worker behind is fresh."""
    return _shared_gateway


@pytest.fixture(scope="session")
def expected() -> Callable[..., str]:
    """`expected(prompt, seed, tokens, stop=())`: the text an unbroken worker gives."""
    return oracle
