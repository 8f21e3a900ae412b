"""Start, find and end processes, so that none is left behind.

Every process that Inkwell starts carries the run's mark in its environment, and so do its children. The mark
finds them all, also after the supervisor itself was killed and whatever the process ids have become.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

MARK = "INKWELL_RUN_ID"
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_HEALTHY_S = 120.0
# A killed process is gone in moments, unless it hangs in the kernel or nobody collects it.
_KILL_S = 2.0


@dataclass
class Child:
    """One long-lived process in a group of its own, its output going to `log`."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    _not_before: float = field(default=0.0, repr=False)

    def start(self) -> None:
        """Start the process. Raises `OSError` when it cannot be started."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                list(self.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=dict(self.environment),
                start_new_session=True,
            )
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        """The process id, which is also its group's; 0 before the first start."""
        return self.process.pid if self.process else 0

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll() if self.process else None

    def revive(self, now: float | None = None) -> bool:
        """Start it again if it has died and its back-off is over; True when it was started just now."""
        now = time.monotonic() if now is None else now
        if self.exit_code() is None:
            return False
        if not self._not_before:
            if now - self.started > _HEALTHY_S:
                self.failures = 0
            self._not_before = now + _BACKOFF_S[min(self.failures, len(_BACKOFF_S) - 1)]
            self.failures += 1
        if now < self._not_before:
            return False
        self._not_before = 0.0
        end_group(self.pid, 0.0)
        self.start()
        return True

    def end(self, grace_s: float, hurry: Callable[[], bool] = lambda: False) -> None:
        """SIGTERM, `grace_s` to end, then SIGKILL to the whole group; `hurry` cuts the wait short."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            until = time.monotonic() + grace_s
            while self.process.poll() is None and time.monotonic() < until and not hurry():
                time.sleep(0.05)
        end_group(self.pid, 0.0 if self.process.poll() is None else 2.0)
        self.process.wait()


def end_group(group: int, grace_s: float) -> None:
    """Wait `grace_s` for a process group to empty by itself, then kill what is left and see it gone."""
    if _empties(group, grace_s):
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    _empties(group, _KILL_S)


def _empties(group: int, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while _group_lives(group):
        if time.monotonic() >= until:
            return False
        time.sleep(0.02)
    return True


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def marked(run_id: str) -> list[psutil.Process]:
    """Every living process of the run `run_id`, except this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == run_id:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, OSError):
            # Gone meanwhile, or another user's: in neither case ours.
            continue
    return found


def end_marked(run_id: str, grace_s: float = 5.0) -> list[int]:
    """Kill every process of a run; the ids of those that would not go within `grace_s`."""
    until = time.monotonic() + grace_s
    while processes := marked(run_id):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if time.monotonic() > until:
            return [process.pid for process in processes]
        time.sleep(0.05)
    return []
