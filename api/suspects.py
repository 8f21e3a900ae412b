"""Jobs that were at a worker when it broke: which of them breaks workers, and which only met it there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from api.endpoints import Pool, Target
from api.errors import GenerationFailed, IncompleteGeneration
from api.failures import Failure, Kind
from api.jobs import Job
from api.questions import Questions

# A job that breaks its reply this often in a row, alone and without one new token, is given up.
_MAX_STRIKES = 3

Attempt = Callable[..., Awaitable[Failure | None]]


class Suspects:
    """Suspects of a model begin one at a time, each at a worker that has just answered. With its first token a job
    is cleared and goes on beside the others; one whose reply breaks again and again before it is given up.

    `attempt(model, target, release, jobs, started, moved)` is one exchange; `back_off(n)` is the pause
    in seconds after n failures.
    """

    def __init__(
        self,
        pool: Callable[[str], Pool],
        questions: Questions,
        attempt: Attempt,
        back_off: Callable[[int], float],
    ) -> None:
        self._pool = pool
        self._questions = questions
        self._attempt = attempt
        self._back_off = back_off
        self._turns: dict[str, asyncio.Lock] = {}

    async def clear(self, model: str, release: str | None, job: Job, started: Callable[[], None]) -> None:
        """Return when the job is done, or is to go on like any other."""
        async with self._turns.setdefault(model, asyncio.Lock()):
            going_on = await self._begin(model, release, job, started)
        if going_on is not None:
            await going_on

    async def _begin(
        self, model: str, release: str | None, job: Job, started: Callable[[], None]
    ) -> asyncio.Future[Any] | None:
        """The exchange in which the job has got a token; None when it has ended."""
        failures = 0
        while not job.done:
            try:
                target = self._pool(model).pick(release)
                # Without this a worker that is down, or frozen, would be held against whoever asks it next.
                await self._questions.describe(target, model)
            except LookupError:
                return None
            except GenerationFailed:
                failures += 1
                await asyncio.sleep(self._back_off(failures))
                continue
            exchange, moved = await self._watched(model, target, release, job, started)
            if not exchange.done():
                return exchange
            failure = exchange.result()
            if failure is None or moved:
                return None
            if failure.kind is Kind.BROKEN:
                _strike(job)
            failures += 1
            await asyncio.sleep(self._back_off(failures))
        return None

    async def _watched(
        self, model: str, target: Target, release: str | None, job: Job, started: Callable[[], None]
    ) -> tuple[asyncio.Future[Any], bool]:
        """An exchange once it has ended or brought a token, and whether it has brought one."""
        moved = asyncio.Event()
        exchange = asyncio.ensure_future(self._attempt(model, target, release, [job], started, moved.set))
        waiting = asyncio.ensure_future(moved.wait())
        try:
            await asyncio.wait({exchange, waiting}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            exchange.cancel()
            raise
        finally:
            waiting.cancel()
        return exchange, moved.is_set()


def _strike(job: Job) -> None:
    """Count a broken reply against a job that was alone."""
    job.strikes += 1
    if job.strikes >= _MAX_STRIKES:
        message = f"the worker failed {job.strikes} times on this request"
        job.fail(IncompleteGeneration(message) if job.ids else GenerationFailed(message))
