"""A load generator in a process of its own, so that it does not use up the time of what it measures.

    python overload_load.py closed --url URL --clients 64 --seconds 5 --tokens 200
    python overload_load.py open   --url URL --rate 400 --seconds 60 --tokens 200

`closed`: clients that ask again as soon as they are answered. `open`: requests at a fixed rate, whatever comes
of the earlier ones. Prints one JSON object: counts by outcome, and in seconds the latencies and the times of
completed answers since the beginning.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import sys
import time
from collections import Counter

import aiohttp
import uvloop

_PATIENCE_S = 120.0


class Tally:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.seeds = itertools.count(options.first_seed)
        self.outcomes: Counter[str] = Counter()
        self.admitted: list[float] = []
        self.refused: list[float] = []
        self.without_retry_after = 0
        self.ends: list[float] = []
        self.begun = self.end = 0.0

    async def ask(self, client: aiohttp.ClientSession) -> float:
        """One request; the seconds for which a refusal asks the caller to wait."""
        options = self.options
        parameters = {"seed": next(self.seeds), "max_new_tokens": options.tokens}
        body = {"model": options.model, "inputs": "The", "parameters": parameters}
        begun = time.perf_counter()
        try:
            async with client.post(f"{options.url}/generate", json=body) as answer:
                text = await answer.read()
                taken = time.perf_counter() - begun
                if answer.status == 200:
                    whole = json.loads(text)["details"]["generated_tokens"] == options.tokens
                    self.outcomes["completed" if whole else "cut"] += 1
                    self.admitted.append(taken)
                    self.ends.append(time.perf_counter() - self.begun)
                elif answer.status == 429:
                    self.outcomes["refused"] += 1
                    self.refused.append(taken)
                    wait = answer.headers.get("Retry-After")
                    if wait is None:
                        self.without_retry_after += 1
                    return float(wait or 0.0)
                else:
                    self.outcomes[f"status {answer.status}"] += 1
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            self.outcomes[type(error).__name__] += 1
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


async def closed(tally: Tally) -> float:
    options = tally.options
    tally.begun = time.perf_counter()
    tally.end = tally.begun + options.seconds

    async def client(session: aiohttp.ClientSession) -> None:
        while time.perf_counter() < tally.end:
            wait = await tally.ask(session)
            if wait:
                await asyncio.sleep(min(wait, 0.1))

    async with _session(options.clients) as session:
        await asyncio.gather(*(client(session) for _ in range(options.clients)))
    return float(options.seconds)


async def open_(tally: Tally) -> float:
    options = tally.options
    async with _session(0) as session:
        begun = tally.begun = time.perf_counter()
        tally.end = begun + options.seconds
        tasks: set[asyncio.Task[float]] = set()
        count = 0
        while (now := time.perf_counter()) < tally.end:
            due = int((now - begun) * options.rate)
            for _ in range(due - count):
                task = asyncio.create_task(tally.ask(session))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            count = max(count, due)
            await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)
    tally.outcomes["sent"] = count
    return float(options.seconds)


def _session(limit: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=limit, keepalive_timeout=60)
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)


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
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    tally = Tally(options)
    gc.freeze()
    gc.disable()  # a pause here would be measured as the server's
    seconds = uvloop.run(closed(tally) if options.kind == "closed" else open_(tally))
    json.dump(tally.report(seconds), sys.stdout)


if __name__ == "__main__":
    main()
