"""The stack of the end-to-end tests, with other models files, and ways to harm it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import psutil
import torch
from fault_clients import Ask

from deploy import models_file
from inkwell.bundle import load_bundle, open_bundle
from inkwell.session import TextEngine

_spec = importlib.util.spec_from_file_location(
    "inkwell_e2e_conftest", Path(__file__).parents[1] / "e2e" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
e2e = importlib.util.module_from_spec(_spec)
# Its dataclasses and annotations look their module up by name.
sys.modules[_spec.name] = e2e
_spec.loader.exec_module(e2e)

until = e2e.until
RETRY_REASONS = (
    "broken_off", "incomplete", "silent", "unreachable", "worker_died", "no_worker", "queue_full",
    "interrupted", "not_registered", "overloaded", "garbled", "out_of_memory",
    "status_500", "status_503", "status_408",
)  # fmt: skip


class FaultStack(e2e.Stack):  # type: ignore[name-defined,misc]
    """`inkwell serve` in a folder of its own, with `models` as its models file and settings of the gateway."""

    def __init__(self, folder: Path, models: str | None = None, **settings: object) -> None:
        super().__init__(folder)
        if models is not None:
            (folder / "models.toml").write_text(models, encoding="utf-8")
        self.environment |= {"INKWELL_" + name.upper(): str(value) for name, value in settings.items()}

    def start(self) -> Any:
        """Serve, and wait until every model is ready. A port that another took in the meantime is given up."""
        try:
            return super().start()
        except AssertionError:
            if "Address already in use" not in self.printed:
                raise
            return super().start()

    # Processes

    def process_of(self, word: str) -> psutil.Process:
        """The process of this run whose command line holds `word`."""
        for process in e2e.processes.marked(self.run_id):
            try:
                if word in " ".join(process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        raise AssertionError(f"no process of {word}")

    def jvm(self) -> psutil.Process:
        return self.process_of("org.pytorch.serve.ModelServer")

    def gateway(self) -> psutil.Process:
        return self.process_of("-m api")

    def workers(self, model: str = "prose") -> dict[str, int]:
        """Version -> process id of its READY worker, by TorchServe's own word; empty when it is silent."""
        try:
            answer = httpx.get(f"{self.management_url}/models/{model}/all", timeout=5)
        except httpx.TransportError:
            return {}
        if answer.status_code != 200:
            return {}
        return {
            version["modelVersion"]: int(worker["pid"])
            for version in answer.json()
            for worker in version["workers"]
            if worker["status"] == "READY"
        }

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.worker_port + 1}"

    def kill(self, pid: int) -> float:
        """SIGKILL; the time at which it was sent."""
        os.kill(pid, signal.SIGKILL)
        return time.monotonic()

    # What it says of itself

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def tasks(self) -> float:
        """Asyncio tasks of the gateway."""
        lines = httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return float(next(line for line in lines if line.startswith("inkwell_tasks ")).split()[1])

    def retries(self, model: str = "prose") -> int:
        """Jobs that the gateway has sent again, for whatever reason."""
        return int(sum(self.metric("inkwell_retries_total", model=model, reason=r) for r in RETRY_REASONS))

    def is_idle(self, model: str = "prose") -> bool:
        """Nothing of `model` is with the gateway or its workers."""
        inflight = self.metric("inkwell_inflight_jobs", model=model)
        waiting = self.metric("inkwell_queue_jobs", model=model)
        return inflight == waiting == 0 and all(engine["active"] == 0 for engine in self.engines(model))

    def engines(self, model: str = "prose") -> list[dict[str, Any]]:
        """The figures of every worker of `model`."""
        found = []
        for version in self.workers(model):
            url = f"{self.worker_url}/predictions/{model}/{version}"
            answer = httpx.post(url, json={"describe": True}, timeout=30)
            found.append(answer.json()["engine"])
        return found

    # References

    def asks(
        self, seeds: Iterable[int], tokens: int | Callable[[int], int], *, model: str = "prose", **more: Any
    ) -> list[Ask]:
        """A request for each seed, with the text that it must give: generated here, from the same archive."""
        wanted: list[dict[str, Any]] = []
        for seed in seeds:
            length = tokens(seed) if callable(tokens) else tokens
            wanted.append({"seed": seed, "max_new_tokens": length})
        stream = more.pop("stream", True)
        inputs = more.pop("inputs", "The")
        texts = self.references([{"prompt": inputs, **one, **more} for one in wanted], model)
        return [
            Ask({**one, **more}, text, inputs=inputs, model=model, stream=stream)
            for one, text in zip(wanted, texts, strict=True)
        ]

    def references(self, jobs: list[dict[str, Any]], model: str = "prose") -> list[str]:
        """The texts of `jobs`, from an engine of the same archive in this process."""
        key = f"{model} of 64"
        if key not in self.oracles:
            entry = models_file.load(self.folder / "models.toml").models[model]
            archive = self.folder / "model_store" / f"{model}.mar"
            # A seed gives one text per runtime.
            self.oracles[key] = TextEngine(open_bundle(archive), slots=64, runtime=entry.runtime)
        engine: TextEngine = self.oracles[key]
        sinks: list[list[dict[str, Any]]] = [[] for _ in jobs]
        for number, (job, sink) in enumerate(zip(jobs, sinks, strict=True)):
            engine.submit({"id": str(number), **job}, sink)
        while not engine.idle:
            engine.advance()
        return [next(event["text"] for event in sink if event["event"] == "end") for sink in sinks]


# Archives


def change_archive(folder: Path, model: str, change: Callable[[dict[str, bytes]], None]) -> None:
    """Rewrite the files of an archive in `folder/model_store`, and list it with the hash that it has now."""
    path = folder / "model_store" / f"{model}.mar"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    index = path.parent / "index.json"
    listed = json.loads(index.read_text(encoding="utf-8"))
    listed["archives"][path.name]["sha256"] = sha256(path.read_bytes()).hexdigest()
    index.write_text(json.dumps(listed), encoding="utf-8")


def add_to_handler(folder: Path, model: str, code: str) -> None:
    """Append `code` to the handler of an archive: it runs when a worker loads the model."""

    def change(files: dict[str, bytes]) -> None:
        files["continuous.py"] += b"\n\n" + code.encode()

    change_archive(folder, model, change)


def write_prose(folder: Path, hidden: int) -> None:
    """Put an untrained LSTM with `hidden` units in the place of `prose`, its archive included."""
    from inkwell.bundle import Bundle
    from inkwell.models import build_model, model_settings
    from training.archive import archive

    path = folder / "bundles" / "prose"
    old = load_bundle(path)
    torch.manual_seed(7)
    shape = {"architecture": "recurrent", "cell": "lstm", "hidden": hidden, "layers": 2, "embedding": 0}
    model = build_model({**shape, "vocabulary": old.tokenizer.size})
    config = replace(old.config, model=model_settings(model))
    Bundle(config, model, old.tokenizer, old.words, (), {"training": {}}, "# A card\n").save(path)
    with warnings.catch_warnings():
        # torch-model-archiver leaves a file of its own open when it is imported.
        warnings.simplefilter("ignore", ResourceWarning)
        archive(path, folder / "model_store")
