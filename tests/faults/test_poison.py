"""A job that its worker cannot survive fails alone. The archive's handler is changed so that such jobs exist."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fault_clients import Ask, all_at_once
from fault_stack import FaultStack, add_to_handler, until

pytestmark = pytest.mark.faults

# The prompt of a job says what happens to the worker that takes it up, or writes its fourth token.
HOOK = """
import os as _os

from inkwell.session import TextEngine as _TextEngine

_start, _advance = _TextEngine._start, _TextEngine.advance


def _poisoned_start(self, job, sink):
    if job.prompt == "The mate":
        raise RuntimeError("this job cannot be begun")
    if job.prompt == "The ship":
        _os._exit(9)
    return _start(self, job, sink)


def _poisoned_advance(self, seconds=0.02, least=0.002):
    for live in self._live.values():
        if live.prompt == "The rope" and live.tokens >= 3:
            raise RuntimeError("this job breaks the engine")
        if live.prompt == "The bread" and live.tokens >= 3:
            _os._exit(9)
    # Short slices, so that no poisoned job is done before it has been seen.
    return _advance(self, 0.001, 0.0)


_TextEngine._start = _poisoned_start
_TextEngine.advance = _poisoned_advance
"""
POISONS = {
    "an exception when the job is begun": "The mate",
    "an exception in every step": "The rope",
    "the worker dies in a step": "The bread",
    "the worker dies when the job is begun": "The ship",
}


@pytest.fixture(scope="module")
def poisonable(served_folder):
    folder = served_folder()
    add_to_handler(folder, "prose", HOOK)
    stack = FaultStack(folder, deadline_s=120, retry_max_s=1)
    try:
        stack.start()
        yield stack
    finally:
        stack.end()


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.replace(" ", "-"))
async def test_a_poisoned_job_fails_alone(poisonable: FaultStack, fault, poison: str):
    row = fault(f"poison: {poison}")
    before = poisonable.retries()
    good = poisonable.asks(range(800, 815), 120)
    good += [replace(request, stream=False) for request in poisonable.asks(range(820, 828), 120)]
    bad = Ask({"seed": 1, "max_new_tokens": 50}, None, inputs=POISONS[poison], stream=False)
    outcomes = await all_at_once(poisonable.url, [*good, bad])
    row.count(outcomes).retried = poisonable.retries() - before
    row.recovery_s = max(outcome.seconds for outcome in outcomes[:-1])
    assert [o.detail for o in outcomes[:-1] if o.kind != "completed"] == []
    assert outcomes[-1].kind == "failed", outcomes[-1].detail
    until(lambda: poisonable.worker_pid() != 0, "the worker is ready")
    until(poisonable.is_idle, "nothing is left with the worker")
    after = await all_at_once(poisonable.url, poisonable.asks(range(830, 834), 20))
    assert [o.kind for o in after] == ["completed"] * 4
