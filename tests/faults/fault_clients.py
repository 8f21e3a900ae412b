"""Clients that check what they get: every request ends in an `Outcome`, and every text has a reference."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

Kind = Literal["completed", "refused", "failed", "lost"]
PATIENCE_S = 150.0
_BROKEN = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


@dataclass(frozen=True)
class Ask:
    """A request and the text that its seed promises; None where any honest error will do."""

    parameters: dict[str, Any]
    expected: str | None
    inputs: str = "The"
    model: str = "prose"
    stream: bool = True

    @property
    def body(self) -> dict[str, Any]:
        return {"model": self.model, "inputs": self.inputs, "parameters": self.parameters}


@dataclass
class Outcome:
    """How one request ended. `times` are monotonic seconds: when it was sent, each sign of life, its end."""

    kind: Kind
    sent: float
    ended: float
    signs: list[float] = field(default_factory=list)
    detail: str = ""
    retry_after: str | None = None

    @property
    def seconds(self) -> float:
        return self.ended - self.sent

    @property
    def longest_silence(self) -> float:
        """The longest wait between two signs of life, the beginning and the end among them."""
        marks = [self.sent, *self.signs, self.ended]
        return max(later - earlier for earlier, later in itertools.pairwise(marks))


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client without a limit on connections, which opens a new one for each request."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as made:
        yield made


async def ask(
    client: aiohttp.ClientSession,
    url: str,
    request: Ask,
    begun: Callable[[], None] | None = None,
    headers: dict[str, str] | None = None,
) -> Outcome:
    """Send one request and judge what comes back. `begun` is called at the fifth event of a stream."""
    sent = time.monotonic()
    signs: list[float] = []
    path = "generate_stream" if request.stream else "generate"
    events: list[dict[str, Any]] = []
    try:
        async with client.post(f"{url}/{path}", json=request.body, headers=headers) as answer:
            if answer.status != 200:
                return _not_ok(answer.status, await answer.json(), answer.headers, sent)
            if not request.stream:
                text = (await answer.json())["generated_text"]
                return _judged(text, text, request, sent, signs)
            async for line in answer.content:
                if line.startswith(b"data:"):
                    signs.append(time.monotonic())
                    events.append(json.loads(line[5:]))
                    if len(events) == 5 and begun is not None:
                        begun()
    except _BROKEN as error:
        refused = isinstance(error, aiohttp.ClientConnectorError)
        return Outcome("refused" if refused else "lost", sent, time.monotonic(), signs, repr(error))
    except ValueError as error:
        return Outcome("lost", sent, time.monotonic(), signs, f"not JSON: {error}")
    return _judged_stream(events, request, sent, signs)


def _not_ok(status: int, body: dict[str, Any], headers: Any, sent: float) -> Outcome:
    now, detail = time.monotonic(), f"{status} {body}"
    if status == 429:
        wait = headers.get("Retry-After")
        return Outcome("refused", sent, now, detail=detail, retry_after=wait)
    honest = status in (422, 424, 500) and isinstance(body.get("error"), str) and body.get("error_type")
    return Outcome("failed" if honest else "lost", sent, now, detail=detail)


def _judged_stream(events: list[dict[str, Any]], request: Ask, sent: float, signs: list[float]) -> Outcome:
    now = time.monotonic()
    if not events:
        return Outcome("lost", sent, now, signs, "an empty stream")
    if "error" in events[-1]:
        return Outcome("failed", sent, now, signs, str(events[-1]))
    whole = events[-1]["generated_text"]
    if whole is None:
        return Outcome("lost", sent, now, signs, f"no last event after {len(events)}")
    if [event["index"] for event in events] != list(range(1, len(events) + 1)):
        return Outcome("lost", sent, now, signs, "events out of order")
    pieces = "".join(event["token"]["text"] for event in events if not event["token"]["special"])
    return _judged(whole, pieces, request, sent, signs)


def _judged(whole: str, pieces: str, request: Ask, sent: float, signs: list[float]) -> Outcome:
    now = time.monotonic()
    if whole != pieces:
        return Outcome("lost", sent, now, signs, f"the pieces make {pieces!r}, the end says {whole!r}")
    if request.expected is not None and whole != request.expected:
        return Outcome("lost", sent, now, signs, f"got {whole!r}, the seed promises {request.expected!r}")
    return Outcome("completed", sent, now, signs)


async def all_at_once(
    url: str,
    requests: Sequence[Ask],
    when_begun: Callable[[], object] | None = None,
    headers: dict[str, str] | None = None,
) -> list[Outcome]:
    """Send all requests together; `when_begun` is called once every stream has had five events."""
    left = sum(request.stream for request in requests)

    def begun() -> None:
        nonlocal left
        left -= 1
        if left == 0 and when_begun is not None:
            when_begun()

    async with session() as client:
        return list(
            await asyncio.gather(*(ask(client, url, request, begun, headers) for request in requests))
        )


class Load:
    """`clients` that ask one request after another until told to stop. Requests come from `requests`, in turn.

    A client that is refused waits as it is told, at most `patience_s`; one that cannot connect tries the next
    of `urls`, as it would behind a balancer.
    """

    def __init__(
        self, urls: Sequence[str], requests: Iterable[Ask], clients: int, patience_s: float = 0.25
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._urls = itertools.cycle(urls)
        self._requests = itertools.cycle(requests)
        self._clients = clients
        self._patience_s = patience_s
        self._stop = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Load:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.finish()

    async def finish(self) -> list[Outcome]:
        """Send nothing more, and wait for the answers that are due."""
        self._stop = True
        if self._task is not None:
            await self._task
        return self.outcomes

    async def completed(self, more: int, since: float | None = None) -> None:
        """Wait until `more` requests that were sent after `since` have been completed."""
        begun = time.monotonic() if since is None else since
        give_up = time.monotonic() + PATIENCE_S
        while sum(o.kind == "completed" and o.sent >= begun for o in self.outcomes) < more:
            assert time.monotonic() < give_up, "the load must get answers"
            await asyncio.sleep(0.02)

    def recovery_s(self, fault_at: float) -> float:
        """From the fault to the first answer of a request that was sent after it."""
        ends = [o.ended for o in self.outcomes if o.kind == "completed" and o.sent >= fault_at]
        return min(ends) - fault_at

    async def _run(self) -> None:
        async with session() as client:
            await asyncio.gather(*(self._client(client) for _ in range(self._clients)))

    async def _client(self, client: aiohttp.ClientSession) -> None:
        while not self._stop:
            outcome = await ask(client, next(self._urls), next(self._requests))
            self.outcomes.append(outcome)
            if outcome.kind == "refused":
                told = float(outcome.retry_after or 0.0)
                await asyncio.sleep(min(told, self._patience_s) or 0.02)
