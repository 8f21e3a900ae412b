"""Workers that are killed or frozen while they write: the work goes on elsewhere, to the byte."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import psutil
import pytest
from fault_clients import Load, Outcome, all_at_once
from fault_stack import until

pytestmark = pytest.mark.faults

STREAMS = 64
TOKENS = 6000


def lost(outcomes: list[Outcome]) -> list[str]:
    return [outcome.detail for outcome in outcomes if outcome.kind == "lost"]


def longest_silence(outcomes: list[Outcome]) -> float:
    return max(outcome.longest_silence for outcome in outcomes)


async def test_64_streams_outlive_the_only_worker(single, fault):
    row = fault("kill -9 of the only worker, 64 streams")
    requests = single.asks(range(STREAMS), TOKENS)
    before, victim = single.retries(), single.worker_pid()
    outcomes = await all_at_once(single.url, requests, lambda: single.kill(victim))
    row.count(outcomes).retried = single.retries() - before
    row.recovery_s = longest_silence(outcomes)
    assert not lost(outcomes)
    assert row.completed == STREAMS
    assert row.retried > 0, "the kill came in the middle"
    assert until(single.worker_pid, "a new worker is ready") != victim


async def test_64_whole_answers_outlive_the_only_worker(single, fault):
    row = fault("kill -9 of the only worker, 64 whole answers")
    requests = single.asks(range(100, 100 + STREAMS), 2 * TOKENS, stream=False)
    before, victim = single.retries(), single.worker_pid()
    asked = asyncio.create_task(all_at_once(single.url, requests))
    await asyncio.to_thread(until, lambda: single.engine()["active"] == STREAMS, "all are being written")
    killed = single.kill(victim)
    await asyncio.to_thread(until, lambda: single.worker_pid() not in (0, victim), "a new worker is ready")
    await asyncio.to_thread(until, lambda: single.engine()["active"] == STREAMS, "it has taken them all up")
    row.recovery_s = time.monotonic() - killed
    outcomes = await asked
    row.count(outcomes).retried = single.retries() - before
    assert not lost(outcomes)
    assert row.completed == STREAMS
    assert row.retried > 0, "the kill came in the middle"
    assert until(single.worker_pid, "a new worker is ready") != victim


async def test_64_streams_go_on_with_the_other_worker(double, fault):
    row = fault("kill -9 of one of two workers, 64 streams")
    workers = until(lambda: (lambda w: w if len(w) == 2 else None)(double.workers()), "both are ready")
    requests = double.asks(range(200, 200 + STREAMS), TOKENS)
    before = double.retries()
    outcomes = await all_at_once(double.url, requests, lambda: double.kill(workers["1.0"]))
    row.count(outcomes).retried = double.retries() - before
    row.recovery_s = longest_silence(outcomes)
    assert not lost(outcomes)
    assert row.completed == STREAMS
    assert row.retried > 0, "the kill came in the middle"
    until(lambda: len(double.workers()) == 2, "both are ready again")


async def test_the_work_of_a_frozen_worker_moves_on_and_its_late_answer_is_dropped(double, fault):
    row = fault("SIGSTOP of one of two workers")
    workers = until(lambda: (lambda w: w if len(w) == 2 else None)(double.workers()), "both are ready")
    victim = workers["1.0-w2"]
    requests = double.asks(range(300, 300 + STREAMS), TOKENS)
    before = double.retries()
    frozen_at = 0.0

    def freeze() -> None:
        nonlocal frozen_at
        os.kill(victim, signal.SIGSTOP)
        frozen_at = time.monotonic()

    try:
        # Short requests all the time: they must never wait for the frozen one much longer than its liveness.
        async with Load([double.url], double.asks(range(400, 408), 20), clients=2) as load:
            streams = asyncio.create_task(all_at_once(double.url, requests, freeze))
            outcomes = await streams
            await load.completed(4, since=frozen_at)
            # The frozen worker wakes while others write: what it still has to say belongs to nobody now.
            os.kill(victim, signal.SIGCONT)
            outcomes += await all_at_once(double.url, double.asks(range(500, 500 + STREAMS), TOKENS))
            await load.completed(4)
        outcomes += load.outcomes
    finally:
        os.kill(victim, signal.SIGCONT)
    row.count(outcomes).retried = double.retries() - before
    row.recovery_s = longest_silence(outcomes)
    assert not lost(outcomes)
    assert row.completed == row.accepted
    assert row.retried > 0, "the worker froze in the middle"
    until(lambda: len(double.workers()) == 2, "both are ready")
    until(double.is_idle, "nothing is left with any worker")


async def test_a_frozen_only_worker_is_replaced_before_the_deadline(single, fault):
    row = fault("SIGSTOP of the only worker")
    victim = single.worker_pid()
    requests = single.asks(range(600, 616), 3 * TOKENS)
    before = single.retries()
    try:
        outcomes = await all_at_once(single.url, requests, lambda: os.kill(victim, signal.SIGSTOP))
    finally:
        if psutil.pid_exists(victim):
            os.kill(victim, signal.SIGCONT)
    row.count(outcomes).retried = single.retries() - before
    row.recovery_s = longest_silence(outcomes)
    assert not lost(outcomes)
    assert row.completed == row.accepted == 16
    assert until(single.worker_pid, "a new worker is ready") != victim
