"""Ten times what can be sustained: what is admitted is served as well as ever, the rest is refused at once.

A machine that others share gives the same work more or less time from one minute to the next, by more than the few
per cent in question. What a second of the worker's processor time is worth is therefore measured in every load, by
the row steps that the worker makes in it, and goodput is compared as if it had been worth the same. What is left is
what an overload could take: rows that stand empty, and time that the worker does not get.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fault_stack import FaultStack, until

pytestmark = pytest.mark.faults

TOKENS = 400  # of a request, in the mean
SLOTS = 32
# A quarter of what is being written may wait, so that nobody who is admitted waits long.
MODELS = f"""
[models.prose]
family = "prose"
default = true
slots = {SLOTS}
max_new_tokens = 800
queue_tokens = {SLOTS * TOKENS // 4}

[models.names]
family = "names"
max_new_tokens = 64
"""
PROBE = {"inputs": "The", "parameters": {"seed": 1, "max_new_tokens": 20}}
LADDER = (SLOTS // 2, SLOTS, SLOTS + SLOTS // 2)
RUNG_S = 24
FACTOR = 10
# All rows have been filled twice by then.
SETTLE_S = 6


def load(stack: FaultStack, kind: str, seconds: float, **options: float) -> dict[str, Any]:
    """What the generator reports, and of the worker once all rows are in use: `speed`, row steps per second of its
    processor time, the share of a processor that it had, and the share of its rows that were in use."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words += ["--seconds", str(seconds), "--tokens", str(TOKENS), "--url", stack.url]
    command = [sys.executable, str(Path(__file__).with_name("overload_load.py")), kind, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as generator:
        try:
            time.sleep(SETTLE_S)
            first = spent(stack)
            time.sleep(seconds - SETTLE_S)
            last = spent(stack)
            said, complaint = generator.communicate(timeout=120)
        finally:
            generator.kill()
    assert generator.returncode == 0, complaint
    at, busy, steps, row_steps = (after - before for after, before in zip(last, first, strict=True))
    shares = {"speed": row_steps / busy, "processor": busy / at, "rows": row_steps / steps / SLOTS}
    return dict(json.loads(said)) | shares


def spent(stack: FaultStack) -> tuple[float, float, int, int]:
    """The time, and so far the worker's seconds of processor time, steps, and row steps."""
    (pid,) = stack.workers().values()
    (engine,) = stack.engines()
    times = psutil.Process(pid).cpu_times()
    return time.monotonic(), times.user + times.system, engine["steps_total"], engine["row_steps_total"]


def goodput(report: dict[str, Any]) -> float:
    """Completed requests a second once all rows are in use: counted by their tokens, since short ones are admitted
    more easily."""
    end = float(report["seconds"])
    assert 2 * statistics.median(report["admitted"]) <= SETTLE_S < end / 2, "the load lasted long enough"
    done = sum(tokens for at, tokens in report["ends"] if SETTLE_S <= at <= end)
    return done / (end - SETTLE_S) / TOKENS


def steady(report: dict[str, Any]) -> float:
    """Goodput for what the worker's processor time was worth."""
    return goodput(report) / float(report["speed"])


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


def rss(stack: FaultStack) -> float:
    """MiB of the gateway."""
    return float(stack.gateway().memory_info().rss / 2**20)


def test_ten_times_the_sustainable_load_harms_nobody(stacks, larger_prose, fault, request):
    seconds = request.config.getoption("overload_seconds", default=60.0)
    row = fault(f"{FACTOR} times the sustainable load for {seconds:g} s")
    stack: FaultStack = stacks(MODELS, max_streams_per_key=10_000)
    stack.start()
    rungs = {
        clients: load(stack, "closed", clients=clients, seconds=RUNG_S, first_seed=1000) for clients in LADDER
    }
    clients = max(rungs, key=lambda rung: goodput(rungs[rung]))
    before = rss(stack)
    rate = FACTOR * goodput(rungs[clients])
    report = load(stack, "open", rate=rate, seconds=seconds, first_seed=100_000)
    ended = time.monotonic()
    assert set(report["outcomes"]) <= {"sent", "completed", "refused"}, report["outcomes"]
    until(
        lambda: httpx.post(f"{stack.url}/generate", json=PROBE, timeout=30).status_code == 200,
        "normal service",
    )
    recovery = time.monotonic() - ended
    grown = rss(stack) - before
    behind = load(stack, "closed", clients=clients, seconds=RUNG_S, first_seed=1000)
    peaks = [rungs[clients], behind]
    peak = statistics.mean(map(goodput, peaks))
    peak_p99 = statistics.mean(p99(one["admitted"]) for one in peaks)
    outcomes = report["outcomes"]
    sent = outcomes.pop("sent")
    row.completed, row.refused = outcomes.pop("completed", 0), outcomes.pop("refused", 0)
    row.lost = sum(outcomes.values())
    row.accepted = row.completed + row.lost
    row.recovery_s = recovery
    share = steady(report) / statistics.mean(map(steady, peaks))
    slower = p99(report["admitted"]) / peak_p99
    median_refusal_ms = statistics.median(report["refused"]) * 1000
    row.notes |= {
        "peak requests/s": round(peak, 1),
        "before and after": " and ".join(f"{goodput(one):.1f}" for one in peaks),
        "clients at peak": clients,
        "p99 at peak s": round(peak_p99, 3),
        "offered/peak": round(sent / seconds / peak, 1),
        "goodput/peak on the clock": round(goodput(report) / peak, 3),
        **{
            f"worker's {what} before, meanwhile, behind": ", ".join(
                f"{one[what]:.4g}" for one in (peaks[0], report, behind)
            )
            for what in ("speed", "processor", "rows")
        },
        "goodput/peak": round(share, 3),
        "p99/p99 at peak": round(slower, 2),
        "median refusal ms": round(median_refusal_ms, 1),
        "gateway grew by MiB": round(grown, 1),
    }
    assert outcomes == {}, "every request was completed or refused"
    assert report["without_retry_after"] == 0
    assert sent / seconds >= 0.9 * rate, "the load was as high as it says"
    assert share >= 0.95
    assert report["rows"] >= 0.95 * statistics.mean(one["rows"] for one in peaks)
    assert slower <= 2
    assert median_refusal_ms < 10
    assert grown < 64
    assert recovery < 2
