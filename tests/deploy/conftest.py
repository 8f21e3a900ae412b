"""A tiny real archive and free ports, for tests that start the real servers."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.archives import sha256_of
from deploy.ports import free_run
from deploy.settings import Options

ROOT = Path(__file__).resolve().parents[2]

ECHO = '''
"""Answers each request in three chunks, by continuous batching."""
import json, os, time


class Echo:
    def initialize(self, context):
        self.left = {}
        self.settings = context.model_yaml_config["handler"]

    def handle(self, rows, context):
        replies, criteria = [], []
        for index, _row in enumerate(rows):
            request = context.request_ids[index]
            left = self.left.pop(request, 3) - 1
            if left:
                self.left[request] = left
            replies.append(json.dumps({"left": left, "pid": os.getpid(), "settings": self.settings}) + "\\n")
            criteria.append(lambda _reply, last=left == 0: last)
        time.sleep(0.005)
        context.stopping_criteria = criteria
        return replies
'''

# A gateway of a few lines: ready at once, and slow to end, so that draining shows.
GATEWAY = """
import asyncio, os
import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.get("/ready")
async def ready():
    return {"inference": os.environ["INKWELL_INFERENCE"], "models": os.environ["INKWELL_MODELS_FILE"]}


@app.get("/slow")
async def slow():
    await asyncio.sleep(2)
    return {"finished": True}


uvicorn.run(app, host=os.environ["INKWELL_HOST"], port=int(os.environ["INKWELL_PORT"]), log_level="warning")
"""


class Archives:
    """Builds real archives in `folder` / model_store, and their index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "model_store"

    def build(self, model: str, source: str = ECHO, version: str = "1.0") -> Path:
        """A `.mar` by the real archiver, in a process with scratch space of its own."""
        for path in (self.store, self.folder / "scratch"):
            path.mkdir(exist_ok=True)
        handler = self.folder / f"{model}_handler.py"
        handler.write_text(source, encoding="utf-8")
        subprocess.run(
            [
                *(sys.executable, "-m", "model_archiver.model_packaging", "--force"),
                *("--model-name", model, "--version", version),
                *("--handler", str(handler), "--export-path", str(self.store)),
            ],
            check=True,
            capture_output=True,
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(self.folder / "scratch")},
        )
        return self.store / f"{model}.mar"

    def index(self, **changes: str) -> None:
        """List every archive by its present hash; `changes` replace fields of every entry."""
        listed = {
            path.name: {"sha256": sha256_of(path), "model": path.stem, "version": "1.0", "memory_mb": 20}
            | changes
            for path in self.store.glob("*.mar")
        }
        (self.store / "index.json").write_text(json.dumps({"archives": listed}), encoding="utf-8")

    def add_member(self, path: Path, name: str | zipfile.ZipInfo, content: str = "x = 1") -> None:
        """Put one more member into an archive, whatever its name."""
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, content)


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    return Archives(tmp_path)


@pytest.fixture
def make_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Options]:
    """Options on free ports in a folder of the test's own, with the stand-in gateway."""
    (tmp_path / "stand_in_gateway.py").write_text(GATEWAY, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")

    def make(models: str, **changes: object) -> Options:
        (tmp_path / "models.toml").write_text(models, encoding="utf-8")
        port = free_run(6)
        worker_port = port + 1
        standard: dict[str, object] = {
            "models_file": tmp_path / "models.toml",
            "model_store": tmp_path / "model_store",
            "run_dir": tmp_path / "run",
            "log_dir": tmp_path / "logs",
            "port": port,
            "worker_port": worker_port,
            "startup_s": 120.0,
            "drain_s": 10.0,
            "gateway_module": "stand_in_gateway",
        }
        return Options(**standard | changes)  # type: ignore[arg-type]

    return make
