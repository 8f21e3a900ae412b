from __future__ import annotations

import os
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from deploy import processes
from deploy.processes import MARK, Child, end_marked, marked

# A parent with a child that ignores SIGTERM and a grandchild in a session of its own.
FAMILY = """
import os, signal, subprocess, sys, time
sleeper = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print('up', flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", sleeper])
subprocess.Popen([sys.executable, "-c", sleeper], start_new_session=True)
time.sleep(600)
"""


def family(tmp_path: Path) -> tuple[Child, str]:
    run_id = uuid.uuid4().hex
    log = tmp_path / "log"
    child = Child(
        "a family", [sys.executable, "-c", FAMILY], dict(os.environ) | {MARK: run_id}, tmp_path, log
    )
    child.start()
    until = time.monotonic() + 30
    while log.read_text().count("up") < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    return child, run_id


def test_mark_finds_the_whole_family_and_end_leaves_nobody(tmp_path: Path) -> None:
    child, run_id = family(tmp_path)
    try:
        assert len(marked(run_id)) == 3
        child.end(grace_s=5.0)
        left = marked(run_id)
        assert len(left) == 1  # the one that left the group
        assert os.getpgid(left[0].pid) != child.pid
    finally:
        assert end_marked(run_id) == []
    assert marked(run_id) == []


def test_process_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\n"
    log = tmp_path / "log"
    child = Child(
        "stubborn", [sys.executable, "-c", stubborn + "time.sleep(600)"], dict(os.environ), tmp_path, log
    )
    child.start()
    while "up" not in log.read_text():
        time.sleep(0.02)
    asked = []
    child.end(grace_s=60.0, hurry=lambda: len(asked) > 3 or bool(asked.append(1)))
    assert child.exit_code() == -9


def test_ending_twice_or_before_the_start_is_harmless(tmp_path: Path) -> None:
    child = Child("true", ["true"], dict(os.environ), tmp_path, tmp_path / "log")
    child.end(grace_s=1.0)
    assert child.exit_code() is None
    child.start()
    child.end(grace_s=1.0)
    child.end(grace_s=1.0)
    assert child.exit_code() is not None


def test_dead_process_comes_back_later_each_time(tmp_path: Path) -> None:
    child = Child("false", ["false"], dict(os.environ), tmp_path, tmp_path / "log")
    child.start()
    waits = []
    for _ in range(9):
        assert child.process is not None
        child.process.wait()
        now = child.started + 0.5
        assert not child.revive(now)
        wait = 0.0
        while not child.revive(now + wait):
            wait += 0.5
        waits.append(wait)
    child.end(0)
    assert waits == [1, 2, 4, 8, 15, 30, 60, 60, 60]


def test_back_off_starts_again_after_a_healthy_time(tmp_path: Path) -> None:
    child = Child("false", ["false"], dict(os.environ), tmp_path, tmp_path / "log", failures=5)
    child.start()
    assert child.process is not None
    child.process.wait()
    later = child.started + processes._HEALTHY_S + 1
    assert not child.revive(later)
    assert child.revive(later + 1.0)
    child.end(0)


def test_living_process_is_left_alone(tmp_path: Path) -> None:
    child = Child("sleep", ["sleep", "600"], dict(os.environ), tmp_path, tmp_path / "log")
    child.start()
    try:
        assert not child.revive()
        assert psutil.pid_exists(child.pid)
    finally:
        child.end(5.0)


def test_missing_program_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-program"):
        Child("x", ["/no-such-program"], dict(os.environ), tmp_path, tmp_path / "log").start()
