"""The real stack: `inkwell serve` with two tiny models, on free ports, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch

from deploy import models_file, processes, state
from deploy.ports import free_run
from deploy.state import State
from inkwell.bundle import load_bundle
from inkwell.errors import RuntimeUnavailable
from inkwell.native.library import open_library
from inkwell.session import TextEngine

PATIENCE_S = 120.0
MODELS = """
[models.prose]
family = "prose"
default = true
runtime = "{runtime}"
slots = 64
max_new_tokens = 1000000
queue_tokens = 1000000000

[models.names]
family = "names"
slots = 64
max_new_tokens = 64
"""


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """What `condition` returns once that is true; a failure that says `what` was waited for in vain."""
    give_up = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < give_up, f"waited in vain: {what}"
        time.sleep(0.02)
    return found


def prose_runtime() -> str:
    try:
        open_library()
    except RuntimeUnavailable:
        return "torch"
    return "native"


class Stack:
    """`inkwell serve` in `folder`, which holds `bundles`, `model_store` and `models.toml`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("INKWELL_")
        }
        self.environment |= {
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "INKWELL_MODELS_FILE": str(folder / "models.toml"),
            # Nothing is worth waiting for when a test ends the stack.
            "INKWELL_DRAIN_S": "2",
            "INKWELL_MAX_REQUEST_TOKENS": "2000000",
            **{name: os.environ[name] for name in ("INKWELL_NATIVE_CACHE",) if name in os.environ},
        }
        self.process: subprocess.Popen[str] | None = None
        self.port, self.worker_port = 0, 0
        self.family: list[psutil.Process] = []
        self.run_id = ""
        self.oracles: dict[str, TextEngine] = {}

    # The program

    def inkwell(self, *words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A verb of the program, run to its end."""
        return subprocess.run(
            [sys.executable, "-m", "training", *map(str, words)],
            input=stdin,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def start(self) -> State:
        """Serve in the foreground of a process of its own, and wait until every model is ready."""
        self.port = free_run(6)
        self.worker_port = self.port + 1
        ports = ("--port", str(self.port), "--worker-port", str(self.worker_port))
        with (self.folder / "serve.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "training", "serve", *ports],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        until(self.is_ready, "every model is ready")
        found = state.load(self.folder / "run")
        assert found is not None
        self.run_id = found.run_id
        self.family = [psutil.Process(found.pid), *psutil.Process(found.pid).children(recursive=True)]
        assert len(self.family) >= 5, "supervisor, gateway, TorchServe and two workers"
        return found

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.printed
        found = state.load(self.folder / "run")
        return found is not None and found.pid == self.process.pid and found.phase == "ready"

    @property
    def printed(self) -> str:
        return (self.folder / "serve.log").read_text()

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        """Whatever a test has left running."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)
        processes.end_marked(self.run_id or "none")

    def remains(self) -> list[psutil.Process]:
        """Processes of the last start that still run."""
        alive = [p for p in self.family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        return [*alive, *processes.marked(self.run_id)]

    # Its HTTP side

    wait = staticmethod(until)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def worker_url(self) -> str:
        return f"http://127.0.0.1:{self.worker_port}"

    def generate(self, inputs: str | None, model: str = "prose", **parameters: Any) -> dict[str, Any]:
        body = {"model": model, "inputs": inputs, "parameters": parameters}
        answer = httpx.post(f"{self.url}/generate", json=body, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stream(self, inputs: str, model: str = "prose", **parameters: Any) -> Iterator[dict[str, Any]]:
        """The events of a streamed request, as they come."""
        body = {"model": model, "inputs": inputs, "parameters": parameters}
        with httpx.stream("POST", f"{self.url}/generate_stream", json=body, timeout=PATIENCE_S) as answer:
            assert answer.status_code == 200, answer.read()
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def predict(self, body: Any, model: str = "prose") -> dict[str, Any]:
        """One request to TorchServe itself."""
        answer = httpx.post(f"{self.worker_url}/predictions/{model}", json=body, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def engine(self, model: str = "prose") -> dict[str, Any]:
        """The worker's own figures."""
        return self.predict({"describe": True}, model)["engine"]

    def metric(self, name: str, **labels: str) -> float:
        """One value of the gateway's metrics page; 0 for what has not been counted yet."""
        wanted = name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "} "
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            if line.startswith(wanted):
                return float(line.removeprefix(wanted))
        return 0.0

    def worker_pid(self, model: str = "prose") -> int:
        """The process that computes the model, by TorchServe's own word; 0 while there is none."""
        answer = httpx.get(f"http://127.0.0.1:{self.worker_port + 1}/models/{model}")
        ready = [w["pid"] for v in answer.json() for w in v["workers"] if w["status"] == "READY"]
        return int(ready[0]) if ready else 0

    # The oracle

    def local(self, prompt: str, model: str = "prose", **values: Any) -> str:
        """The text that this process generates from the same bundle."""
        if model not in self.oracles:
            entry = models_file.load(self.folder / "models.toml").models[model]
            bundle = load_bundle(self.folder / "bundles" / model)
            self.oracles[model] = TextEngine(bundle, slots=1, runtime=entry.runtime)
        events = self.oracles[model].generate({"prompt": prompt, **values})
        return next(event["text"] for event in events if event["event"] == "end")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """The oracle's model is tiny, and the servers share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def served_folder(
    char_bundle: Path, gpt_bundle: Path, native_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Path]:
    """Makes a folder that can be served from: names by torch, prose by the C++ core where one can be compiled."""
    from training.archive import archive

    first = tmp_path_factory.mktemp("served")
    (first / "models.toml").write_text(MODELS.replace("{runtime}", prose_runtime()))
    for bundle in (char_bundle, gpt_bundle):
        copy = Path(shutil.copytree(bundle, first / "bundles" / bundle.name))
        if bundle is char_bundle:
            # Some tests need generations that outlast what happens meanwhile.
            config = json.loads((copy / "config.json").read_text())
            config["limits"]["max_new_tokens"] = 1_000_000
            (copy / "config.json").write_text(json.dumps(config))
        with warnings.catch_warnings():
            # torch-model-archiver leaves a file of its own open when it is imported.
            warnings.simplefilter("ignore", ResourceWarning)
            archive(copy, first / "model_store")

    def make() -> Path:
        return Path(shutil.copytree(first, tmp_path_factory.mktemp("stack") / "inkwell"))

    return make


@pytest.fixture(scope="session")
def stack(served_folder: Callable[[], Path]) -> Iterator[Stack]:
    """One stack for all tests that leave it as they found it."""
    running = Stack(served_folder())
    try:
        running.start()
        yield running
    finally:
        running.end()


@pytest.fixture
def idle(stack: Stack) -> Stack:
    """The stack once nothing of an earlier test is in its engines."""
    until(lambda: all(stack.engine(model)["active"] == 0 for model in ("prose", "names")), "idle engines")
    return stack


@pytest.fixture
def own_stack(served_folder: Callable[[], Path]) -> Iterator[Stack]:
    """A folder to serve from, and the end of whatever runs there."""
    stack = Stack(served_folder())
    yield stack
    stack.end()
