"""One POST of jobs and its reply: lines in, events to their jobs, and what is left when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import orjson

from api.failures import Failure, Kind
from api.jobs import Job

_MAX_LINE_BYTES = 32_000_000
# Of these a job is not told: it stays open and goes out again with the next attempt.
_AGAIN = ("overloaded", "interrupted")


class Broken(Exception):  # noqa: N818 - a signal, not an error that anybody sees
    """The reply did not bring every job to its end."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Exchange:
    """The jobs of one POST that still wait for their end. `release` is what answers them; `started` is called once
    all of them have begun, `moved` whenever one has got something beyond its start."""

    def __init__(
        self,
        jobs: Sequence[Job],
        release: str | None,
        started: Callable[[], None],
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.open = {job.id: job for job in jobs}
        self.task: asyncio.Future[None] | None = None
        self._release = release
        self._unstarted = set(self.open)
        self._started = started
        self._moved = moved
        self._refused: set[str] = set()
        self._interrupted: set[str] = set()

    def line(self, line: bytes) -> None:
        """Take one line of the reply. Raises `Broken` when it is not an event."""
        try:
            event = orjson.loads(line)
            job = self.open.get(event["job"])
            kind = event["event"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise Broken(Failure(Kind.BROKEN, "garbled", f"not an event: {line[:200]!r}")) from error
        if job is None:
            return
        if kind == "error" and event.get("error_type") in _AGAIN:
            (self._refused if event["error_type"] == "overloaded" else self._interrupted).add(job.id)
        else:
            try:
                job.event(event)
            except (KeyError, TypeError) as error:
                raise Broken(Failure(Kind.BROKEN, "garbled", f"bad event: {line[:200]!r}")) from error
            if kind == "start":
                # What has begun with one release cannot go on with another.
                job.release = self._release
            else:
                self._moved()
        if job.done:
            del self.open[job.id]
        self._mark_started(job.id)

    def dropped(self, job: Job) -> None:
        """The job was cancelled here. Without any other job left the POST itself is given up."""
        self.open.pop(job.id, None)
        self._mark_started(job.id)
        if not self.open and self.task is not None:
            self.task.cancel()

    def shortfall(self) -> Failure:
        """Why jobs are open although the reply is over."""
        if self._refused.issuperset(self.open):
            return Failure(Kind.BUSY, "overloaded", "the engine's queue is full")
        if self._interrupted.intersection(self.open):
            return Failure(Kind.BROKEN, "interrupted", "the worker's engine lost its place")
        return Failure(Kind.BROKEN, "incomplete", f"the reply ended with {len(self.open)} jobs unanswered")

    def _mark_started(self, job_id: str) -> None:
        self._unstarted.discard(job_id)
        if not self._unstarted:
            self._started()


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines of a chunked NDJSON reply, blank heartbeats left out."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line and not line.isspace():
                yield line
        if len(rest) > _MAX_LINE_BYTES:
            raise Broken(Failure(Kind.BROKEN, "garbled", f"a line of more than {_MAX_LINE_BYTES} bytes"))
    if rest and not rest.isspace():
        yield rest
