"""Responses whose work stops when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.errors import Cancelled
from api.jobs import Job

T = TypeVar("T")

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Await `work`; cancel it and raise `Cancelled` when the client closes the connection first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request.receive))
    gone.add_done_callback(lambda _: task.cancel())
    try:
        return await task
    except asyncio.CancelledError:
        if gone.done() and not gone.cancelled():
            raise Cancelled("the client closed the connection") from None
        raise
    finally:
        gone.cancel()


class EventStream(Response):
    """Server-sent events from `events`. When they end, or the client leaves, `jobs` are cancelled and `held`
    is released; a job that is done already does not notice."""

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        jobs: list[Job],
        held: AbstractContextManager[None],
        headers: Mapping[str, str],
    ) -> None:
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self._events = events
        self._jobs = jobs
        self._held = held
        self.init_headers({**_HEADERS, **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        pump = asyncio.ensure_future(self._pump(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
        finally:
            gone.cancel()
            pump.cancel()
            await asyncio.wait({pump})
            await self._events.aclose()
            for job in self._jobs:
                job.cancel()
            self._held.__exit__(None, None, None)

    async def _pump(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def begin_all(request: Request, jobs: list[Job]) -> None:
    """Wait until every job has begun, so that refusals are still statuses; raises the first error."""

    async def begun() -> None:
        for job in jobs:
            await job.begun()

    await unless_gone(request, begun())


async def merged(streams: Mapping[int, AsyncIterator[T]]) -> AsyncIterator[tuple[int, T]]:
    """Items of all streams as they come, each with its stream's number. The first error ends it."""
    queue: asyncio.Queue[tuple[int, T] | BaseException | None] = asyncio.Queue()

    async def pump(number: int, stream: AsyncIterator[T]) -> None:
        try:
            async for item in stream:
                queue.put_nowait((number, item))
            queue.put_nowait(None)
        except Exception as error:
            queue.put_nowait(error)

    tasks = [asyncio.ensure_future(pump(number, stream)) for number, stream in streams.items()]
    try:
        left = len(tasks)
        while left:
            item = await queue.get()
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()


async def _disconnected(receive: Callable[[], Awaitable[object]]) -> None:
    while True:
        message = await receive()
        if isinstance(message, dict) and message["type"] == "http.disconnect":
            return
