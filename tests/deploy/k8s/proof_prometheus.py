"""Debian's Prometheus over a real gateway and a real TorchServe, in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.ports import free_run
from deploy.settings import child_environment
from training.archive import archive

PATIENCE_S = 180.0
MODELS = """
[models.prose]
family = "prose"
default = true
[models.names]
family = "names"
max_new_tokens = 64
"""
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: inkwell
    static_configs: [{{targets: ["127.0.0.1:{gateway}"]}}]
  - job_name: torchserve
    static_configs: [{{targets: ["127.0.0.1:{torchserve}"]}}]
"""


def until(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` returns once that is true; a failure that says `what` was waited for in vain."""
    give_up = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < give_up, f"waited in vain: {what}"
        time.sleep(0.2)
    return found


@dataclass
class Served:
    """`inkwell serve` with tiny models."""

    port: int
    metrics_port: int

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{self.port}{path}", json=body, timeout=PATIENCE_S, trust_env=False
        )


@contextmanager
def served(folder: Path, bundles: tuple[Path, ...]) -> Iterator[Served]:
    """The stack in `folder`, until the end."""
    with warnings.catch_warnings():
        # torch-model-archiver leaves a file of its own open when it is imported.
        warnings.simplefilter("ignore", ResourceWarning)
        for bundle in bundles:
            archive(bundle, folder / "model_store")
    (folder / "models.toml").write_text(MODELS, encoding="utf-8")
    port = free_run(6)
    worker_port = port + 1
    program = [sys.executable, "-m", "training"]
    where = ["--run-dir", str(folder / "run")]
    words = [
        "--detach",
        "--port",
        str(port),
        "--worker-port",
        str(worker_port),
        "--log-dir",
        str(folder / "logs"),
    ]
    words += ["--models-file", str(folder / "models.toml"), "--model-store", str(folder / "model_store")]
    environment = child_environment(OMP_NUM_THREADS="1")
    root = Path(__file__).resolve().parents[3]
    answer = subprocess.run(
        [*program, "serve", *where, *words], env=environment, cwd=root, capture_output=True, text=True
    )
    try:
        assert answer.returncode == 0, answer.stdout + answer.stderr
        yield Served(port, worker_port + 2)
    finally:
        subprocess.run([*program, "stop", *where], env=environment, cwd=root, capture_output=True)


class Prometheus:
    """A running Prometheus, and questions to it."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer; a failure with Prometheus' own words when it refuses."""
        answer = httpx.get(f"{self._url}{path}", params=query, timeout=30, trust_env=False)
        assert answer.status_code == 200, f"{query}: {answer.text}"
        return answer.json()["data"]

    def query(self, expression: str) -> list[Any]:
        """The samples of an instant query."""
        data = self.get("/api/v1/query", query=expression)
        return [data["result"]] if data["resultType"] == "scalar" else list(data["result"])

    def is_up(self) -> bool:
        try:
            return httpx.get(f"{self._url}/-/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def prometheus(programs: Path, folder: Path, gateway: int, torchserve: int) -> Iterator[Prometheus]:
    """Prometheus in `folder`, scraping both ports each second, with the shipped alert rules."""
    rules = Path(__file__).resolve().parents[3] / "deploy/monitoring/alerts.yml"
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG.format(rules=rules, gateway=gateway, torchserve=torchserve)
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    port = free_run(1)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(programs / "prometheus", f"--config.file={folder / 'prometheus.yml'}"),
                *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        running = Prometheus(port)
        until(lambda: process.poll() is not None or running.is_up(), "Prometheus is up")
        assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
        yield running
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
