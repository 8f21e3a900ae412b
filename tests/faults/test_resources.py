"""Memory and disks that run out: a clear message, no half-written file, and everybody else is served."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fault_clients import Ask, all_at_once
from fault_stack import FaultStack, add_to_handler, e2e, until, write_prose

pytestmark = pytest.mark.faults

# The prompt of a job says how much memory its worker tries to take; the process may have 1 GiB more than it has.
HUNGRY = """
import resource as _resource

import torch as _torch
from inkwell.session import TextEngine as _TextEngine

_start = _TextEngine._start


def _hungry(self, job, sink):
    if job.prompt == "The mate":
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * _resource.getpagesize()
        _resource.setrlimit(_resource.RLIMIT_AS, (used + 2**30, used + 2**30))
        _torch.zeros(2**31, dtype=_torch.float64)
    return _start(self, job, sink)


_TextEngine._start = _hungry
"""
# A worker that may not take the memory that its model needs.
STARVED = """
import resource as _resource

with open("/proc/self/statm") as _file:
    _used = int(_file.read().split()[0]) * _resource.getpagesize()
_resource.setrlimit(_resource.RLIMIT_AS, (_used + 2**27, _used + 2**27))
"""


async def test_a_job_for_which_there_is_no_memory_fails_alone(stacks, folder, fault):
    row = fault("out of memory over one job")
    add_to_handler(folder, "prose", HUNGRY)
    stack: FaultStack = stacks()
    stack.start()
    good = stack.asks(range(16), 200)
    bad = Ask({"seed": 1, "max_new_tokens": 20}, None, inputs="The mate", stream=False)
    outcomes = await all_at_once(stack.url, [*good, bad])
    row.count(outcomes).retried = stack.retries()
    assert [o.detail for o in outcomes[:-1] if o.kind != "completed"] == []
    assert outcomes[-1].kind == "failed"
    assert "memory" in outcomes[-1].detail
    log = (folder / "logs" / "model_log.log").read_text(encoding="utf-8")
    assert "a job could not be started" in log
    assert "memory" in log
    after = await all_at_once(stack.url, stack.asks(range(4), 20))
    assert [o.kind for o in after] == ["completed"] * 4


def test_a_model_for_which_there_is_no_memory_is_named_with_the_cause(stacks, folder, fault):
    row = fault("out of memory while a model loads")
    write_prose(folder, hidden=2500)
    add_to_handler(folder, "prose", STARVED)
    stack: FaultStack = stacks()
    with pytest.raises(AssertionError, match="does not load"):
        stack.start()
    assert stack.process is not None
    assert stack.process.wait(60) != 0
    assert "the model 'prose' does not load" in stack.printed
    assert "memory" in stack.printed.lower()
    assert "Traceback" not in stack.printed
    assert stack.remains() == []
    row.notes["said"] = next(line for line in stack.printed.splitlines() if "memory" in line.lower())[:150]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"this machine cannot mount: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def archive_in(
    folder: Path, store: Path, *, most_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """`inkwell archive prose`, in a process whose files may not exceed `most_bytes`."""

    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    command = [sys.executable, "-m", "training", "archive", "bundles/prose", "--store", str(store)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, preexec_fn=limit, timeout=120
    )


def test_a_full_disk_leaves_no_half_written_archive(folder: Path, small_disk: Path, fault):
    row = fault("a full disk while archiving")
    (small_disk / "taken").write_bytes(b"x" * 200_000)
    done = archive_in(folder, small_disk)
    assert done.returncode != 0
    assert "full" in done.stderr
    assert "Nothing was changed" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in small_disk.iterdir()] == ["taken"]
    row.notes["said"] = " ".join(done.stderr.split())[:150]


def test_a_full_disk_leaves_the_old_archive_as_it_was(folder: Path, fault):
    row = fault("a file that may not grow, while archiving anew")
    store = folder / "model_store"
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    done = archive_in(folder, store, most_bytes=50_000)
    assert done.returncode != 0
    assert "Nothing was changed" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in store.iterdir()} == before
    row.notes["said"] = " ".join(done.stderr.split())[:150]


def fill(disk: Path) -> None:
    """Take every byte that is left."""
    with contextlib.suppress(OSError), (disk / "taken").open("wb", buffering=0) as file:
        while file.write(b"x" * 512):
            pass


async def test_a_full_disk_for_logs_does_not_stop_the_service(stacks, folder: Path, small_disk: Path, fault):
    row = fault("a full disk for the logs, while serving")
    logs = small_disk / "logs"
    stack: FaultStack = stacks(log_dir=logs)
    stack.start()
    fill(small_disk)
    assert shutil.disk_usage(small_disk).free == 0
    requests = stack.asks(range(48), 100)
    requests += [replace(one, stream=False) for one in stack.asks(range(50, 66), 100)]
    outcomes = await all_at_once(stack.url, requests)
    outcomes += await all_at_once(stack.url, [Ask({"temperature": -1}, None, stream=False)])
    assert [o.detail for o in outcomes[:-1] if o.kind != "completed"] == []
    assert outcomes[-1].kind == "failed", "a refusal is told although it cannot be logged"
    assert outcomes[-1].detail.startswith("422")
    # A restart must not need the disk either.
    victim = stack.worker_pid()
    again = stack.asks(range(70, 86), 1500)
    outcomes += await all_at_once(stack.url, again, lambda: stack.kill(victim))
    assert [o.detail for o in outcomes[-16:] if o.kind != "completed"] == []
    until(lambda: stack.worker_pid() not in (0, victim), "a new worker is ready")
    row.count(outcomes).retried = stack.retries()
    assert stack.interrupt() == 0
    assert e2e.processes.marked(stack.run_id) == []
