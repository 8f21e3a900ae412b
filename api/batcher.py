"""A bounded queue with one owner: requests gather while dispatches are on their way and leave together.

It knows neither HTTP nor models. A dispatch is "starting" until the other side has taken up its jobs; few may
start at once, so what arrives meanwhile shares the next one. A started dispatch no longer holds anybody back,
however long its longest job takes.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from api.errors import GatewayError, GenerationFailed, Overloaded
from api.jobs import Job

log = structlog.get_logger("api.batcher")

Send = Callable[[list[Job], Callable[[], None]], Awaitable[None]]

_RATE_HORIZON_S = 5.0


@dataclass(frozen=True)
class Limits:
    """`queue_cost` counts estimated tokens that wait; `spread` is how many workers share the work."""

    queue_cost: int
    starting: int
    open: int
    batch: int
    inflight: int
    spread: int = 1


class Batcher:
    """`send(jobs, started)` carries one dispatch and returns when it is over; it calls `started` once the
    jobs have been taken up. A job that is still open when `send` returns or raises is failed here."""

    def __init__(self, send: Send, limits: Limits, on_dispatch: Callable[[int], None] | None = None) -> None:
        self.limits = limits
        self.waiting_cost = 0
        self.waiting = 0
        self.inflight = 0
        self._send = send
        self._on_dispatch = on_dispatch
        self._lanes: OrderedDict[str, deque[Job]] = OrderedDict()
        self._starting = 0
        self._dispatches: dict[asyncio.Task[None], list[Job]] = {}
        self._wake = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self._closed: GatewayError | None = None
        self._drained = 0.0
        self._drained_at = time.monotonic()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Accept all jobs or none. Raises `Overloaded` with the time after which there should be room."""
        if self._closed is not None:
            raise self._closed
        cost = sum(job.cost for job in jobs)
        excess = self.waiting_cost + cost - self.limits.queue_cost
        if excess > 0 and self.waiting_cost > 0:
            raise Overloaded(
                f"queue full: {self.waiting_cost} of {self.limits.queue_cost} tokens wait, {cost} asked",
                retry_after_s=self._time_to_drain(excess),
            )
        for job in jobs:
            self._lanes.setdefault(job.lane, deque()).append(job)
            job.on_done.append(self._left_queue)
        self.waiting_cost += cost
        self.waiting += len(jobs)
        self._wake.set()
        if self._owner is None:
            # A context of its own: the first caller's request id is not the owner's.
            self._owner = contextvars.Context().run(asyncio.create_task, self._own(), name="batcher")

    async def close(self, error: GatewayError, *, drain_s: float = 0.0) -> None:
        """Refuse new jobs, give those in hand `drain_s` to end, then fail the rest with `error`."""
        self._closed = error
        await self._settle(drain_s)
        if self._owner is not None:
            self._owner.cancel()
        for job in self._jobs():
            job.fail(error)
        dispatches = list(self._dispatches)
        for task in dispatches:
            task.cancel()
        await asyncio.gather(*dispatches, return_exceptions=True)

    def _jobs(self) -> list[Job]:
        queued = [job for lane in self._lanes.values() for job in lane]
        sent = [job for jobs in self._dispatches.values() for job in jobs if not job.done]
        return queued + sent

    async def _settle(self, timeout_s: float) -> None:
        jobs = self._jobs()
        left = len(jobs)
        settled = asyncio.Event()

        def ended(_: Job) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                settled.set()

        for job in jobs:
            job.on_done.append(ended)
        if jobs and timeout_s > 0:
            await asyncio.wait({asyncio.ensure_future(settled.wait())}, timeout=timeout_s)

    async def _own(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._take():
                self._starting += 1
                self.inflight += len(batch)
                task = asyncio.create_task(self._dispatch(batch), name="dispatch")
                self._dispatches[task] = batch
                task.add_done_callback(self._dispatches.pop)
                # Let requests that are ready to run join before the next one is cut.
                await asyncio.sleep(0)

    def _take(self) -> list[Job]:
        """The next batch, one job from each lane in turn; empty when nothing may leave now."""
        limits = self.limits
        if self._starting >= limits.starting or len(self._dispatches) >= limits.open:
            return []
        size = min(limits.batch, limits.inflight - self.inflight, math.ceil(self.waiting / limits.spread))
        batch: list[Job] = []
        while len(batch) < size and self._lanes:
            lane, jobs = self._lanes.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._lanes[lane] = jobs
            job.on_done.remove(self._left_queue)
            job.on_done.append(self._left_dispatch)
            self.waiting_cost -= job.cost
            self.waiting -= 1
            batch.append(job)
        return batch

    async def _dispatch(self, batch: list[Job]) -> None:
        starting = True

        def started() -> None:
            nonlocal starting
            if starting:
                starting = False
                self._starting -= 1
                self._wake.set()

        if self._on_dispatch is not None:
            self._on_dispatch(len(batch))
        now = time.monotonic()
        for job in batch:
            job.sent_at = now
        try:
            await self._send(batch, started)
        except Exception:
            # The jobs are failed below; the cause is for the log.
            log.exception("dispatch_failed")
        finally:
            started()
            for job in batch:
                job.fail(GenerationFailed("the dispatch ended without an answer to this job"))
            self._wake.set()

    def _left_queue(self, job: Job) -> None:
        lane = self._lanes[job.lane]
        lane.remove(job)
        if not lane:
            del self._lanes[job.lane]
        self.waiting_cost -= job.cost
        self.waiting -= 1

    def _left_dispatch(self, job: Job) -> None:
        self.inflight -= 1
        now = time.monotonic()
        # An exponential window: the rate is what drained in about the last few seconds.
        self._drained *= math.exp((self._drained_at - now) / _RATE_HORIZON_S)
        self._drained += job.cost
        self._drained_at = now
        self._wake.set()

    def _time_to_drain(self, cost: int) -> float:
        age = time.monotonic() - self._drained_at
        rate = self._drained * math.exp(-age / _RATE_HORIZON_S) / _RATE_HORIZON_S
        return min(60.0, max(0.05, cost / rate)) if rate > 0 else 1.0
