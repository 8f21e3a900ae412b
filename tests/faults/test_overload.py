"""Ten times what can be sustained: what is admitted is served as well as ever, the rest is refused at once."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
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
RUNG_S = 20
FACTOR = 10
# A peak before and one behind have to agree, else the machine has changed its speed and nothing can be compared.
STEADY = 0.07
ATTEMPTS = 3


def load(stack: FaultStack, kind: str, **options: float) -> dict[str, Any]:
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("overload_load.py")), kind, "--url", stack.url, *words],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def goodput(report: dict[str, Any]) -> float:
    """Completed requests a second, from when all slots have been filled twice until the load ended: counted by
    their tokens, since short ones are admitted more easily."""
    begin, end = 2 * statistics.median(report["admitted"]), float(report["seconds"])
    assert end > 2 * begin, "the load lasted long enough to be measured"
    return sum(tokens for at, tokens in report["ends"] if begin <= at <= end) / (end - begin) / TOKENS


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
    load(stack, "closed", clients=SLOTS, seconds=3, tokens=TOKENS)  # warm
    rungs = {
        clients: load(stack, "closed", clients=clients, seconds=RUNG_S, tokens=TOKENS, first_seed=1000)
        for clients in LADDER
    }
    clients = max(rungs, key=lambda rung: goodput(rungs[rung]))
    peaks = [rungs[clients]]
    for _ in range(ATTEMPTS):
        before = rss(stack)
        rate = FACTOR * goodput(peaks[-1])
        report = load(stack, "open", rate=rate, seconds=seconds, tokens=TOKENS, first_seed=100_000)
        ended = time.monotonic()
        assert set(report["outcomes"]) <= {"sent", "completed", "refused"}, report["outcomes"]
        until(
            lambda: httpx.post(f"{stack.url}/generate", json=PROBE, timeout=30).status_code == 200,
            "normal service",
        )
        recovery = time.monotonic() - ended
        grown = rss(stack) - before
        peaks.append(load(stack, "closed", clients=clients, seconds=RUNG_S, tokens=TOKENS, first_seed=1000))
        rates = sorted(map(goodput, peaks[-2:]))
        if rates[1] <= (1 + STEADY) * rates[0]:
            break
    else:
        raise AssertionError(
            f"the machine is not steady: peaks of {', '.join(f'{goodput(p):.1f}' for p in peaks)}"
        )
    peaks = peaks[-2:]
    peak = statistics.mean(map(goodput, peaks))
    peak_p99 = statistics.mean(p99(one["admitted"]) for one in peaks)
    outcomes = report["outcomes"]
    sent = outcomes.pop("sent")
    row.completed, row.refused = outcomes.pop("completed", 0), outcomes.pop("refused", 0)
    row.lost = sum(outcomes.values())
    row.accepted = row.completed + row.lost
    row.recovery_s = recovery
    share = goodput(report) / peak
    slower = p99(report["admitted"]) / peak_p99
    median_refusal_ms = statistics.median(report["refused"]) * 1000
    row.notes |= {
        "peak requests/s": round(peak, 1),
        "before and after": " and ".join(f"{goodput(one):.1f}" for one in peaks),
        "clients at peak": clients,
        "p99 at peak s": round(peak_p99, 3),
        "offered/peak": round(sent / seconds / peak, 1),
        "goodput/peak": round(share, 3),
        "p99/p99 at peak": round(slower, 2),
        "median refusal ms": round(median_refusal_ms, 1),
        "gateway grew by MiB": round(grown, 1),
    }
    assert outcomes == {}, "every request was completed or refused"
    assert report["without_retry_after"] == 0
    assert sent / seconds >= 0.9 * rate, "the load was as high as it says"
    assert share >= 0.95
    assert slower <= 2
    assert median_refusal_ms < 10
    assert grown < 64
    assert recovery < 2
