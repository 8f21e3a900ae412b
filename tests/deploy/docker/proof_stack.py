"""The shipped compose project on an engine of the tests' own, and requests to it."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import proof_torch
from proof_engine import Engine

from deploy.ports import free_run
from training.archive import archive

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 180.0
MODELS = """
[models.prose]
family = "prose"
default = true
slots = 4
max_new_tokens = 400
queue_tokens = 1000000

[models.names]
family = "names"
max_new_tokens = 64
"""
# Built with the machine's network, since the engine has no bridge of its own; everything else is as shipped.
BESIDE = """
services:
  worker:
    build:
      network: host
    volumes: ["STORE:/models:ro"]
  gateway:
    build: {network: host}
"""


def until(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` returns once that is true; a failure that says `what` was waited for in vain."""
    give_up = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < give_up, f"waited in vain: {what}"
        time.sleep(0.05)
    return found


class Load:
    """A request that takes seconds, sent from a thread of its own."""

    def __init__(self, stack: Stack, body: dict[str, Any]) -> None:
        self.answer: httpx.Response | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._send, args=(stack, body))
        before = stack.metric("inkwell_dispatch_jobs_count")
        self._thread.start()
        until(lambda: stack.metric("inkwell_dispatch_jobs_count") > before, "the request reached a worker")

    def _send(self, stack: Stack, body: dict[str, Any]) -> None:
        try:
            self.answer = stack.post(body)
        except httpx.HTTPError as error:
            self.error = error

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def texts(self) -> list[str]:
        """The texts, once all are there."""
        self._thread.join(PATIENCE_S)
        assert not self.runs
        assert self.error is None, self.error
        assert self.answer is not None
        assert self.answer.status_code == 200, self.answer.text
        return [
            text["generated_text"]
            for item in self.answer.json()
            for text in (item, *item["details"].get("best_of_sequences", ()))
        ]


class Stack:
    """The compose project; its models are archives of the tests' tiny bundles, in `folder`."""

    def __init__(
        self, engine: Engine, folder: Path, bundles: tuple[Path, ...], figures: dict[str, str]
    ) -> None:
        self.engine, self.folder, self.figures = engine, folder, figures
        self.port = free_run(1)
        self.store = folder / "model_store"
        with warnings.catch_warnings():
            # torch-model-archiver leaves a file of its own open when it is imported.
            warnings.simplefilter("ignore", ResourceWarning)
            for bundle in bundles:
                archive(bundle, self.store)
        # The containers' user is not the one who runs the tests.
        self.store.chmod(0o755)
        (folder / "models.toml").write_text(MODELS, encoding="utf-8")
        self.environment = engine.environment | {
            "COMPOSE_FILE": f"{ROOT / 'docker-compose.yml'}:{folder / 'beside.yaml'}",
            "COMPOSE": "docker compose",
            "INKWELL_MODELS_FILE": str(folder / "models.toml"),
            "INKWELL_PORT": str(self.port),
        }

    def up(self) -> None:
        """`make up`, as a user calls it."""
        (self.folder / "beside.yaml").write_text(BESIDE.replace("STORE", str(self.store)), encoding="utf-8")
        with proof_torch.index(self.folder) as torch_index:
            begun = time.monotonic()
            self.make("up", f"TORCH_INDEX={torch_index}")
            self.figures["make up (build, start, healthy)"] = f"{time.monotonic() - begun:.0f} s"

    def down(self) -> None:
        """`make down`."""
        self.make("down")

    def make(self, *words: str) -> None:
        self.engine.run("make", *words, cwd=ROOT, env=self.environment)

    def compose(self, *words: str, check: bool = True) -> str:
        """What `docker compose` prints."""
        answer = self.engine.run("docker", "compose", *words, cwd=ROOT, env=self.environment, check=check)
        return answer.stdout + ("" if check else answer.stderr)

    def inside(self, service: str, *command: str) -> str:
        """What a command within a container prints, whether it succeeds or not."""
        return self.compose("exec", "--no-TTY", service, *command, check=False)

    def container(self, service: str) -> dict[str, Any]:
        """What the engine says of a service's container."""
        name = self.compose("ps", "--all", "--quiet", service).strip()
        return dict(self.engine.inspect("container", name))

    def is_healthy(self, service: str) -> bool:
        state = self.container(service)["State"]
        return bool(state["Running"]) and state["Health"]["Status"] == "healthy"

    def kill(self, service: str, program: str) -> int:
        """Kill, as a crash would, the process of a container whose command line holds `program`; its id."""
        name = self.compose("ps", "--quiet", service).strip()
        lines = self.engine.run("docker", "top", name, "-eo", "pid,args").stdout.splitlines()[1:]
        found = [int(line.split()[0]) for line in lines if program in line and "tini" not in line]
        assert len(found) == 1, lines
        os.kill(found[0], signal.SIGKILL)
        return found[0]

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "60", check=False)

    # Requests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"{self.url}/generate", json=body, timeout=PATIENCE_S, trust_env=False)

    def text(self, **body: Any) -> str:
        """One generated text."""
        answer = self.post(body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["generated_text"])

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        page = httpx.get(f"{self.url}/metrics", timeout=PATIENCE_S, trust_env=False).text
        lines = [line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
