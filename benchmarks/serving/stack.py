"""One bundle behind a real gateway and TorchServe, on free ports, with an archive and a models file of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deploy.ports import free_run
from inkwell.bundle import Bundle, BundleConfig, open_bundle
from inkwell.models import build_model, model_settings
from inkwell.tokenizer import CharTokenizer
from inkwell.words import SeedWords
from training.archive import archive

MODELS = """
[models.{name}]
family = "{family}"
default = true
runtime = "{runtime}"
threads = {threads}
slots = {slots}
max_new_tokens = 100000
queue_tokens = 100000000
"""


@dataclass
class Stack:
    """The addresses of gateway and TorchServe, and their processes."""

    gateway: str
    worker: str
    gateway_process: psutil.Process
    worker_process: psutil.Process
    sizes: list[int] = field(default_factory=list)  # of the dispatches made here

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far of the gateway, and of TorchServe with its workers."""
        workers = [self.worker_process, *self.worker_process.children(recursive=True)]
        return _seconds(self.gateway_process), sum(map(_seconds, workers))


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def free_ports() -> tuple[int, int]:
    """A port for the gateway, and the first of the five for TorchServe."""
    first = free_run(6)
    return first, first + 1


@contextlib.contextmanager
def installed(*models: str) -> Iterator[Stack]:
    """Gateway and TorchServe with these models, without keys; ended afterwards."""
    port, worker_port = free_ports()
    # What is set for the gateway that people run must not change what is measured.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("INKWELL_")}
    with tempfile.TemporaryDirectory(prefix="inkwell-bench-") as folder:
        base = [sys.executable, "-m", "training"]
        where = ["--run-dir", f"{folder}/run"]
        start = [*base, "serve", "--detach", "--models", ",".join(models), "--port", str(port), *where]
        start += ["--worker-port", str(worker_port), "--log-dir", f"{folder}/logs"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, env=plain)
        try:
            yield Stack(
                f"http://127.0.0.1:{port}",
                f"http://127.0.0.1:{worker_port}",
                listening(port),
                listening(worker_port),
            )
        finally:
            subprocess.run([*base, "stop", *where], check=True, stdout=subprocess.DEVNULL, env=plain)


def random_bundle(settings: dict[str, object], path: Path) -> Path:
    """An untrained model of this shape as a bundle of single characters: speed does not depend on weights."""
    model = build_model(settings).eval()
    first = 32 if model.vocabulary <= 95 else 0x4E00  # printable ASCII, or as many Chinese characters
    tokenizer = CharTokenizer("".join(map(chr, range(first, first + model.vocabulary - 1))))
    names = tuple(f"category {index}" for index in range(1, int(str(settings.get("categories", 1)))))
    config = BundleConfig(
        name="random",
        family="prose",
        model=model_settings(model),
        kind="stream",
        seed_words=False,
        limits={"max_new_tokens": 100_000},
    )
    Bundle(config, model, tokenizer, SeedWords((), ()), names, card="# Random weights\n").save(path)
    return path


@contextlib.contextmanager
def served(path: Path, runtime: str, threads: int, slots: int) -> Iterator[tuple[Bundle, Stack]]:
    """The bundle at `path`, and the gateway and TorchServe that serve it; both are ended afterwards."""
    bundle = open_bundle(path)
    port, worker_port = free_ports()
    # What is set for the gateway that people run must not change what is measured.
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("INKWELL_") or name.startswith("INKWELL_NATIVE_")
    }
    with tempfile.TemporaryDirectory(prefix="inkwell-bench-") as folder:
        archive(path, Path(folder, "store"), slots)
        text = MODELS.format(
            name=bundle.config.name,
            family=bundle.config.family,
            runtime=runtime,
            threads=threads,
            slots=slots,
        )
        Path(folder, "models.toml").write_text(text, encoding="utf-8")
        base = [sys.executable, "-m", "training"]
        where = ["--run-dir", f"{folder}/run"]
        start = [*base, "serve", "--detach", "--port", str(port), "--worker-port", str(worker_port), *where]
        start += ["--models-file", f"{folder}/models.toml", "--model-store", f"{folder}/store"]
        start += ["--log-dir", f"{folder}/logs"]
        try:
            subprocess.run(start, check=True, stdout=subprocess.DEVNULL, env=plain)
            yield (
                bundle,
                Stack(
                    f"http://127.0.0.1:{port}",
                    f"http://127.0.0.1:{worker_port}",
                    listening(port),
                    listening(worker_port),
                ),
            )
        except subprocess.CalledProcessError as error:
            raise SystemExit(
                f"`inkwell serve` ended with {error.returncode}; what it said stands above"
            ) from error
        finally:
            # Nothing to stop where nothing has come up: its exit code does not matter then.
            subprocess.run([*base, "stop", *where], check=False, stdout=subprocess.DEVNULL, env=plain)


def listening(port: int) -> psutil.Process:
    """The process that listens on `port`."""
    found = psutil.net_connections("tcp")
    return psutil.Process(next(c.pid for c in found if c.laddr.port == port and c.status == "LISTEN"))
