"""The gateway's way to its workers, without TorchServe: the real handler and engine in the gateway's own loop."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator

import httpx

from handlers.posts import Desk, Reply


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, transport: DeskTransport, name: str) -> None:
        self._transport, self._name = transport, name

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            reply = await self._transport.replies[self._name].get()
            yield reply.chunk
            if reply.last is not False:
                return

    async def aclose(self) -> None:
        self._transport.leave(self._name)


class DeskTransport(httpx.AsyncBaseTransport):
    """Calls a desk as TorchServe does: with all live requests, again and again, as long as there are any."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._names = map(str, itertools.count())
        self._bodies: dict[str, bytes] = {}
        self.replies: dict[str, asyncio.Queue[Reply]] = {}
        self._turning: asyncio.Task[None] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.startswith("/predictions/"):
            return self._management(request)
        name = next(self._names)
        self._bodies[name] = await request.aread()
        self.replies[name] = asyncio.Queue()
        if self._turning is None or self._turning.done():
            self._turning = asyncio.create_task(self._turn())
        return httpx.Response(200, stream=_Chunks(self, name))

    def leave(self, name: str) -> None:
        """The client has its whole reply, or has left."""
        self._bodies.pop(name, None)
        self.replies.pop(name, None)

    @staticmethod
    def _management(request: httpx.Request) -> httpx.Response:
        if not request.url.path.startswith("/models/prose"):
            return httpx.Response(404, content=b'{"code": 404, "message": "Model not found"}')
        worker = {"id": "9000", "status": "READY", "memoryUsage": 1, "gpu": False}
        described = {"modelName": "prose", "modelVersion": "1.0", "minWorkers": 1, "workers": [worker]}
        return httpx.Response(200, content=json.dumps([described]).encode())

    async def _turn(self) -> None:
        while self._bodies:
            names = list(self._bodies)
            for name, reply in zip(
                names, self._desk.call(names, [self._bodies[name] for name in names]), strict=True
            ):
                if reply.last is not False:
                    del self._bodies[name]
                self.replies[name].put_nowait(reply)
            await asyncio.sleep(0)
        self._desk.call([], [])  # those who have left give their rows back
