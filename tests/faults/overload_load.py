"""A load generator in a process of its own, so that it does not use up the time of what it measures.

    python overload_load.py closed --url URL --clients 64 --seconds 5 --tokens 200
    python overload_load.py open   --url URL --rate 400 --seconds 60 --tokens 200

`closed`: clients that ask again as soon as they are answered. `open`: requests at a fixed rate, whatever comes
of the earlier ones. Each asks for half to one and a half times `--tokens`, as people do: texts of one length
would all end, and begin, at the same moment. Prints one JSON object: counts by outcome, and in seconds the
latencies; for completed answers the time since the beginning, with the tokens.

It speaks HTTP itself. A client library takes about as long for a request as the gateway for a refusal, on the
same processor.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import gc
import itertools
import json
import random
import re
import sys
import time
import urllib.parse
from typing import cast

import uvloop

_PATIENCE_S = 120.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *([0-9.]+)", re.IGNORECASE)

Reply = tuple[int, bytes, bytes]  # status, head, body


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._reply: asyncio.Future[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class does not derive from it

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error or ConnectionResetError("closed before the answer"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end])
        length = _LENGTH.search(head)
        begin = end + 4
        stop = begin + (0 if length is None else int(length[1]))
        if len(self._received) >= stop and self._reply is not None and not self._reply.done():
            body = bytes(self._received[begin:stop])
            del self._received[:stop]
            self._reply.set_result((int(head[9:12]), head, body))

    def ask(self, request: bytes) -> asyncio.Future[Reply]:
        assert self.transport is not None
        self._reply = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._reply


class Tally:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.address = urllib.parse.urlsplit(options.url)
        self.seeds = itertools.count(options.first_seed)
        self.lengths = random.Random(options.first_seed)
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.admitted: list[float] = []
        self.refused: list[float] = []
        self.without_retry_after = 0
        self.ends: list[tuple[float, int]] = []
        self.begun = self.end = 0.0
        self.idle: list[Connection] = []

    async def ask(self) -> float:
        """One request; the seconds for which a refusal asks the caller to wait."""
        tokens = self.lengths.randint(self.options.tokens // 2, self.options.tokens * 3 // 2)
        request = self._request(tokens)
        begun = time.perf_counter()
        try:
            connection = await self._connection()
            status, head, body = await asyncio.wait_for(connection.ask(request), _PATIENCE_S)
        except (OSError, asyncio.TimeoutError) as error:
            self.outcomes[type(error).__name__] += 1
            return 0.0
        taken = time.perf_counter() - begun
        self.idle.append(connection)
        if status == 200:
            whole = json.loads(body)["details"]["generated_tokens"] == tokens
            self.outcomes["completed" if whole else "cut"] += 1
            self.admitted.append(taken)
            self.ends.append((time.perf_counter() - self.begun, tokens))
        elif status == 429:
            self.outcomes["refused"] += 1
            self.refused.append(taken)
            wait = _RETRY_AFTER.search(head)
            if wait is None:
                self.without_retry_after += 1
                return 0.0
            return float(wait[1])
        else:
            self.outcomes[f"status {status}"] += 1
        return 0.0

    def report(self, seconds: float) -> dict[str, object]:
        return {
            "seconds": seconds,
            "outcomes": dict(self.outcomes),
            "ends": sorted(self.ends),
            "admitted": sorted(self.admitted),
            "refused": sorted(self.refused),
            "without_retry_after": self.without_retry_after,
        }

    def _request(self, tokens: int) -> bytes:
        parameters = {"seed": next(self.seeds), "max_new_tokens": tokens}
        body = json.dumps({"model": self.options.model, "inputs": "The", "parameters": parameters}).encode()
        head = (
            f"POST /generate HTTP/1.1\r\nhost: {self.address.netloc}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _connection(self) -> Connection:
        while self.idle:
            connection = self.idle.pop()
            if connection.transport is not None:
                return connection
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(Connection, self.address.hostname, self.address.port)
        return made


async def closed(tally: Tally) -> float:
    options = tally.options
    tally.begun = time.perf_counter()
    tally.end = tally.begun + options.seconds

    async def client() -> None:
        while time.perf_counter() < tally.end:
            wait = await tally.ask()
            if wait:
                await asyncio.sleep(min(wait, 0.1))

    await asyncio.gather(*(client() for _ in range(options.clients)))
    return float(options.seconds)


async def open_(tally: Tally) -> float:
    options = tally.options
    begun = tally.begun = time.perf_counter()
    tally.end = begun + options.seconds
    tasks: set[asyncio.Task[float]] = set()
    count = 0
    while (now := time.perf_counter()) < tally.end:
        due = int((now - begun) * options.rate)
        for _ in range(due - count):
            task = asyncio.create_task(tally.ask())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        count = max(count, due)
        await asyncio.sleep(max(0.0, begun + (count + 1) / options.rate - time.perf_counter()))
    await asyncio.gather(*tasks)
    tally.outcomes["sent"] = count
    return float(options.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["closed", "open"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", default="prose")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--tokens", type=int, default=200, help="of a request, in the mean")
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    tally = Tally(options)
    gc.freeze()
    gc.disable()  # a pause here would be measured as the server's
    seconds = uvloop.run(closed(tally) if options.kind == "closed" else open_(tally))
    json.dump(tally.report(seconds), sys.stdout)


if __name__ == "__main__":
    main()
