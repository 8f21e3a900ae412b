"""The state file `run/inkwell.json`: what runs now, for `inkwell stop` and `inkwell status`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

FILE = "inkwell.json"


@dataclass(frozen=True)
class State:
    """`pid` and `created` name the supervisor; `run_id` marks all its processes.

    `phase` is one of starting, ready, degraded, stopping, failed. `ready` maps a model to [ready workers,
    wanted workers].
    """

    run_id: str
    pid: int
    created: float
    url: str
    phase: str = "starting"
    message: str = ""
    scratch: str = ""
    ready: dict[str, list[int]] = field(default_factory=dict)

    def save(self, run_dir: Path) -> None:
        """Write the file in one step, so that a reader never sees half of it."""
        path = run_dir / FILE
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        draft.replace(path)

    def with_phase(self, phase: str, message: str = "") -> State:
        """The same run, further on."""
        return replace(self, phase=phase, message=message)

    def alive(self) -> bool:
        """Whether the supervisor that wrote this still runs (and is not a stranger with the same id)."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def load(run_dir: Path) -> State | None:
    """The state of `run_dir`; None when there is none or it cannot be read as one."""
    try:
        return State(**json.loads((run_dir / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def remove(run_dir: Path) -> None:
    """Forget the run."""
    (run_dir / FILE).unlink(missing_ok=True)
