"""The queue by itself: no HTTP, no models."""

from __future__ import annotations

import asyncio

import pytest

from api.batcher import Batcher, Limits
from api.errors import GatewayError, GenerationFailed, Overloaded
from api.jobs import Job

LIMITS = Limits(queue_cost=1000, starting=1, open=8, batch=8, inflight=100)


def job(name="j", cost=10, lane="", deadline_s=30.0):
    return Job(name, {}, cost=cost, deadline_s=deadline_s, lane=lane)


def end(job):
    job.event({"event": "end", "finish_reason": "length", "text": "", "generated_tokens": 0})


class Line:
    """A `send` that tells what left and lets the test decide when it starts and ends."""

    def __init__(self):
        self.batches = []
        self.starts = []
        self.left = asyncio.Event()

    async def send(self, jobs, started):
        self.batches.append([job.id for job in jobs])
        self.starts.append(started)
        self.left.set()
        for job in jobs:
            while not job.done:
                await job.news()

    async def dispatches(self, count):
        while len(self.batches) < count:
            self.left.clear()
            await asyncio.wait_for(self.left.wait(), 5)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_lone_request_leaves_at_once():
    line = Line()
    batcher = Batcher(line.send, LIMITS)
    batcher.submit([job("a")])
    await line.dispatches(1)
    assert line.batches == [["a"]]
    assert (batcher.waiting, batcher.waiting_cost, batcher.inflight) == (0, 0, 1)
    await batcher.close(GenerationFailed("over"))


async def test_requests_gather_while_a_dispatch_starts_and_leave_together():
    line = Line()
    batcher = Batcher(line.send, LIMITS)
    batcher.submit([job("a")])
    await line.dispatches(1)
    for name in "bcd":
        batcher.submit([job(name)])
    await settle()
    assert line.batches == [["a"]]
    line.starts[0]()
    await line.dispatches(2)
    assert line.batches == [["a"], ["b", "c", "d"]]
    await batcher.close(GenerationFailed("over"))


async def test_a_long_dispatch_that_has_started_holds_nobody_back():
    line = Line()
    batcher = Batcher(line.send, LIMITS)
    long, short = job("long"), job("short")
    batcher.submit([long])
    await line.dispatches(1)
    line.starts[0]()
    batcher.submit([short])
    await line.dispatches(2)
    assert not long.done
    await batcher.close(GenerationFailed("over"))


async def test_no_batch_is_larger_than_its_limit_or_what_may_be_in_flight():
    line = Line()
    batcher = Batcher(line.send, Limits(queue_cost=1000, starting=9, open=9, batch=4, inflight=6))
    jobs = [job(str(number)) for number in range(9)]
    batcher.submit(jobs)
    await line.dispatches(2)
    await settle()
    assert list(map(len, line.batches)) == [4, 2]
    end(jobs[0])
    await line.dispatches(3)
    assert list(map(len, line.batches)) == [4, 2, 1]
    await batcher.close(GenerationFailed("over"))


async def test_several_workers_get_a_share_each():
    line = Line()
    batcher = Batcher(line.send, Limits(queue_cost=1000, starting=4, open=8, batch=64, inflight=99, spread=2))
    batcher.submit([job(str(number)) for number in range(8)])
    await line.dispatches(4)
    assert list(map(len, line.batches)) == [4, 2, 1, 1]
    await batcher.close(GenerationFailed("over"))


async def test_a_full_queue_refuses_with_a_time_and_takes_nothing():
    line = Line()
    batcher = Batcher(line.send, Limits(queue_cost=100, starting=1, open=1, batch=8, inflight=8))
    batcher.submit([job("first")])
    await line.dispatches(1)
    batcher.submit([job("a", cost=60)])
    with pytest.raises(Overloaded) as refusal:
        batcher.submit([job("b", cost=20), job("c", cost=21)])
    assert refusal.value.status == 429
    assert float(refusal.value.headers()["retry-after-ms"]) > 0
    assert (batcher.waiting, batcher.waiting_cost) == (1, 60)
    batcher.submit([job("d", cost=40)])
    await batcher.close(GenerationFailed("over"))


async def test_the_time_to_come_back_follows_the_measured_drain():
    line = Line()
    batcher = Batcher(line.send, Limits(queue_cost=100, starting=1, open=1, batch=8, inflight=8))

    async def refusal_after(drained):
        first = job("first", cost=drained)
        batcher.submit([first])
        await line.dispatches(len(line.batches) + 1)
        waiting = job("waiting", cost=100)
        end(first)
        await settle()
        blocker = job("blocker", cost=1)
        batcher.submit([blocker])
        await line.dispatches(len(line.batches) + 1)
        batcher.submit([waiting])
        with pytest.raises(Overloaded) as refusal:
            batcher.submit([job("more", cost=100)])
        waiting.cancel()
        end(blocker)
        await settle()
        return refusal.value.retry_after_s

    slow = await refusal_after(50)
    fast = await refusal_after(5000)
    assert fast < slow / 10
    await batcher.close(GenerationFailed("over"))


async def test_a_cancelled_request_leaves_the_queue_and_frees_its_room():
    line = Line()
    batcher = Batcher(line.send, LIMITS)
    batcher.submit([job("first")])
    await line.dispatches(1)
    gone, stays = job("gone", cost=70), job("stays")
    batcher.submit([gone, stays])
    gone.cancel()
    assert (batcher.waiting, batcher.waiting_cost) == (1, 10)
    line.starts[0]()
    await line.dispatches(2)
    assert line.batches[1] == ["stays"]
    await batcher.close(GenerationFailed("over"))


async def test_callers_take_turns():
    line = Line()
    batcher = Batcher(line.send, Limits(queue_cost=1000, starting=1, open=9, batch=4, inflight=99))
    batcher.submit([job("x")])
    await line.dispatches(1)
    batcher.submit([job(f"greedy{number}", lane="greedy") for number in range(9)])
    batcher.submit([job("modest", lane="modest")])
    line.starts[0]()
    await line.dispatches(2)
    assert "modest" in line.batches[1]
    await batcher.close(GenerationFailed("over"))


@pytest.mark.parametrize("error", [None, ValueError("send broke")])
async def test_a_job_that_send_leaves_open_is_failed(error):
    async def send(jobs, started):
        if error is not None:
            raise error

    batcher = Batcher(send, LIMITS)
    lost = job()
    batcher.submit([lost])
    with pytest.raises(GenerationFailed):
        await asyncio.wait_for(lost.result(), 5)
    assert batcher.inflight == 0
    after = job("after")
    batcher.submit([after])
    with pytest.raises(GenerationFailed):
        await asyncio.wait_for(after.result(), 5)
    results = await asyncio.gather(*batcher._dispatches, return_exceptions=True)
    assert all(result is error for result in results)


async def test_closing_answers_every_job_once_and_refuses_new_ones():
    line = Line()
    batcher = Batcher(line.send, LIMITS)
    ends = []
    sent, queued = job("sent"), job("queued")
    for one in (sent, queued):
        one.on_done.append(lambda done: ends.append(done.id))
        batcher.submit([one])
    await line.dispatches(1)
    error = GenerationFailed("over")
    await batcher.close(error)
    assert sorted(ends) == ["queued", "sent"]
    assert sent.error is error
    assert queued.error is error
    with pytest.raises(GatewayError):
        batcher.submit([job("late")])


async def test_closing_waits_for_what_can_still_end():
    line = Line()
    batcher = Batcher(line.send, LIMITS)
    one = job()
    batcher.submit([one])
    await line.dispatches(1)
    closing = asyncio.create_task(batcher.close(GenerationFailed("over"), drain_s=30))
    await settle()
    end(one)
    await asyncio.wait_for(closing, 5)
    assert one.error is None


async def test_a_job_whose_time_is_over_in_the_queue_is_answered():
    line = Line()
    batcher = Batcher(line.send, LIMITS)
    batcher.submit([job("first")])
    await line.dispatches(1)
    late = job("late", deadline_s=-0.99)
    batcher.submit([late])
    with pytest.raises(Overloaded):
        await asyncio.wait_for(late.result(), 5)
    assert batcher.waiting == 0
    await batcher.close(GenerationFailed("over"))
