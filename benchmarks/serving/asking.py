"""Two ways to ask a served model for text: through the gateway, and straight at TorchServe as people do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Asked:
    """What is the same in all requests."""

    model: str
    prompt: str
    temperature: float
    top_k: int

    def parameters(self, tokens: int, seed: int) -> dict[str, Any]:
        """For exactly so many tokens."""
        shape = {"max_new_tokens": tokens, "min_new_tokens": tokens, "seed": seed}
        return {**shape, "temperature": self.temperature, "top_k": self.top_k}


class Way(ABC):
    """A way to ask. Every call raises RuntimeError when it is not answered in full."""

    name: str

    def __init__(self, session: aiohttp.ClientSession, url: str, asked: Asked) -> None:
        self._session, self._url, self._asked = session, url, asked

    @abstractmethod
    async def whole(self, tokens: int, seed: int) -> None:
        """One answer of `tokens` tokens."""

    @abstractmethod
    async def stream(self, tokens: int, seed: int, started: asyncio.Event | None = None) -> float:
        """One stream to its end; seconds to its first token. `started` is set then."""

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        async with self._session.post(self._url + path, json=body) as response:
            answer = await response.read()
            if response.status != 200:
                raise RuntimeError(f"{self._url + path} answered {response.status}: {answer[:200]!r}")
            return answer

    async def _stream(
        self, path: str, body: dict[str, Any], token: bytes, end: bytes, started: asyncio.Event | None
    ) -> float:
        """Seconds to the first line that holds `token`; the rest has to hold `end`."""
        asked_at, first, rest = time.perf_counter(), None, b""
        async with self._session.post(self._url + path, json=body) as response:
            async for line in response.content:
                rest = line
                if token in line:
                    first = time.perf_counter() - asked_at
                    if started is not None:
                        started.set()
                    break
            rest += await response.content.read()
            if first is None or end not in rest:
                raise RuntimeError(f"{self._url + path} answered {response.status}: {rest[-200:]!r}")
        return first


class Gateway(Way):
    """As clients ask the gateway."""

    name = "gateway"

    async def whole(self, tokens: int, seed: int) -> None:
        await self._post("/generate", self._body(tokens, seed))

    async def stream(self, tokens: int, seed: int, started: asyncio.Event | None = None) -> float:
        body = self._body(tokens, seed)
        return await self._stream("/generate_stream", body, b"data:", b'"generated_text":"', started)

    def _body(self, tokens: int, seed: int) -> dict[str, Any]:
        asked = self._asked
        return {"model": asked.model, "inputs": asked.prompt, "parameters": asked.parameters(tokens, seed)}


class Direct(Way):
    """One POST for each request at TorchServe's predictions port."""

    name = "TorchServe"

    async def whole(self, tokens: int, seed: int) -> None:
        answer = json.loads(await self._post(self._path, self._job(tokens, seed)))
        if answer.get("generated_tokens") != tokens:
            raise RuntimeError(f"{self._url + self._path} answered {answer!r:.200}")

    async def stream(self, tokens: int, seed: int, started: asyncio.Event | None = None) -> float:
        body = {"jobs": [{"id": "0", **self._job(tokens, seed)}]}
        return await self._stream(self._path, body, b'"tokens"', b'"end"', started)

    @property
    def _path(self) -> str:
        return f"/predictions/{self._asked.model}"

    def _job(self, tokens: int, seed: int) -> dict[str, Any]:
        return {"prompt": self._asked.prompt, **self._asked.parameters(tokens, seed)}


async def crowd(count: int, in_flight: int, one: Callable[[int], Awaitable[None]]) -> list[float]:
    """Run `one(0) … one(count − 1)`, `in_flight` at a time; seconds of each."""
    latencies: list[float] = []
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            started = time.perf_counter()
            await one(number)
            latencies.append(time.perf_counter() - started)

    await asyncio.gather(*(client() for _ in range(in_flight)))
    return latencies


@contextlib.asynccontextmanager
async def busy(way: Way, count: int, tokens: int) -> AsyncIterator[None]:
    """`count` streams of `tokens` tokens are running all the time: each has begun, and begins again at its end."""

    async def endless(number: int, started: asyncio.Event) -> None:
        seed = number
        while True:
            await way.stream(tokens, seed, started)
            seed += count

    begun = [asyncio.Event() for _ in range(count)]
    streams = [asyncio.create_task(endless(number, event)) for number, event in enumerate(begun)]
    waiting = asyncio.gather(*(event.wait() for event in begun))
    try:
        either: list[asyncio.Future[Any]] = [waiting, *streams]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        yield
        for stream in streams:
            if stream.done():
                stream.result()  # only an error ends it
    finally:
        waiting.cancel()
        for stream in streams:
            stream.cancel()
        await asyncio.gather(waiting, *streams, return_exceptions=True)
