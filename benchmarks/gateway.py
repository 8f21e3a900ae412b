"""The cost of the gateway: the same jobs through it and straight to TorchServe, in one run.

Starts the stack itself on free ports with one model, then asks in turn, round after round, with N requests in
flight:

* the gateway, as clients do;
* TorchServe with the same dispatches: this process gathers jobs and sends as many in a POST as the gateway's had
  on average just before, with nothing in between;
* TorchServe with one job in each POST, as without any batching;
* TorchServe with N jobs in each POST, one POST at a time.

What the gateway costs is the first against the second, round by round: p50 as clients see it, and the CPU time of
the servers (the gateway's, and TorchServe's with its workers) per request. The engine in process is the ceiling.

    inkwell bench gateway [--model names] [--in-flight 64] [--tokens 16] [--requests 512] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import torch
from measure import console, machine, show
from serving.asking import crowd
from serving.stack import Stack, installed

from api.exchange import Exchange, lines_of
from api.jobs import Job
from inkwell.bundle import open_bundle
from inkwell.session import TextEngine

GATEWAY, SAME = "gateway", "TorchServe, same dispatches"


@dataclass
class Round:
    """One way to ask, for one round: seconds of each request, requests a second, CPU seconds per request of the
    gateway and of TorchServe, and the mean number of jobs in a POST."""

    latencies: list[float]
    rate: float
    gateway_cpu: float
    worker_cpu: float
    dispatch: float

    @property
    def p50(self) -> float:
        return statistics.median(self.latencies)

    @property
    def cpu(self) -> float:
        return self.gateway_cpu + self.worker_cpu


class Ways:
    """The ways to ask for one text, or for a bunch of them."""

    def __init__(self, options: argparse.Namespace, servers: Stack, session: aiohttp.ClientSession) -> None:
        self._options = options
        self._servers = servers
        self._session = session
        self._url = f"{servers.worker}/predictions/{options.model}"
        # Jobs of the way with the same dispatches: those that gather, and how many POSTs are on their way.
        self._waiting: list[Job] = []
        self._open = 0
        self._size = 1
        self._posts: set[asyncio.Task[None]] = set()

    async def gateway(self, number: int) -> None:
        size = self._options.tokens
        parameters = {"max_new_tokens": size, "min_new_tokens": size, "seed": number}
        body = {"model": self._options.model, "inputs": self._options.prompt, "parameters": parameters}
        await self._post(f"{self._servers.gateway}/generate", body)

    async def same(self, number: int) -> None:
        fields = self._job(number)
        job = Job(str(fields.pop("id")), fields, cost=1, deadline_s=120.0)
        self._waiting.append(job)
        self._leave()
        await job.result()

    def gather(self, size: float) -> None:
        """Let so many jobs leave in one POST: as many as the gateway's had on average just now."""
        self._size = max(1, round(size))

    def _leave(self) -> None:
        """Send off what has gathered; fewer than that only when nothing is on its way that could add to it."""
        while len(self._waiting) >= self._size or (self._waiting and not self._open):
            jobs, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            self._open += 1
            self._servers.sizes.append(len(jobs))
            post = asyncio.create_task(self._dispatch(jobs))
            self._posts.add(post)
            post.add_done_callback(self._landed)

    def _landed(self, post: asyncio.Task[None]) -> None:
        self._posts.discard(post)
        self._open -= 1
        post.result()
        self._leave()

    async def single(self, number: int) -> None:
        await self._post(self._url, {"jobs": [self._job(number)]})

    async def bunch(self, number: int) -> None:
        size = self._options.in_flight
        answer = await self._post(self._url, {"jobs": [self._job(number * size + at) for at in range(size)]})
        ends = sum(json.loads(line)["event"] == "end" for line in answer.splitlines() if line.strip())
        if ends != size:
            raise RuntimeError(f"{ends} of {size} jobs ended")

    def _job(self, number: int) -> dict[str, object]:
        size = self._options.tokens
        shape = {"max_new_tokens": size, "min_new_tokens": size, "seed": number}
        return {"id": str(number), "prompt": self._options.prompt, **shape}

    async def _post(self, url: str, body: object) -> bytes:
        async with self._session.post(url, json=body) as response:
            answer = await response.read()
            if response.status != 200:
                raise RuntimeError(f"{url} answered {response.status}: {answer[:200]!r}")
            return answer

    async def _dispatch(self, jobs: list[Job]) -> None:
        """One POST as the gateway sends it, and its reply read as the gateway reads it."""
        exchange = Exchange(jobs, None, lambda: None)
        async with self._session.post(self._url, json={"jobs": [job.wire() for job in jobs]}) as response:
            if response.status != 200:
                raise RuntimeError(f"{self._url} answered {response.status}")
            async for line in lines_of(response.content.iter_any()):
                exchange.line(line)


async def _dispatches(session: aiohttp.ClientSession, servers: Stack) -> tuple[float, float]:
    """POSTs that the gateway has made, and the jobs in them, by its own metrics."""
    async with session.get(f"{servers.gateway}/metrics") as response:
        page = await response.text()
    found = dict(re.findall(r"^inkwell_dispatch_jobs_(sum|count)\{[^}]*\} (\S+)$", page, re.MULTILINE))
    return float(found.get("count", 0)), float(found.get("sum", 0))


async def compare(options: argparse.Namespace, servers: Stack) -> dict[str, list[Round]]:
    """All ways in turn, `options.rounds` times after one to warm up."""
    count, in_flight = options.requests, options.in_flight
    connector = aiohttp.TCPConnector(limit=in_flight + 8)
    async with aiohttp.ClientSession(connector=connector) as session:
        ways = Ways(options, servers, session)
        plan = {
            GATEWAY: (count, in_flight, ways.gateway, 1),
            SAME: (count, in_flight, ways.same, 1),
            "TorchServe, one job per POST": (count, in_flight, ways.single, 1),
            f"TorchServe, {in_flight} jobs per POST": (count // in_flight, 1, ways.bunch, in_flight),
        }
        rounds: dict[str, list[Round]] = {name: [] for name in plan}
        for number in range(options.rounds + 1):
            for name, (times, wide, one, jobs) in plan.items():
                posts, sent = await _dispatches(session, servers)
                servers.sizes.clear()
                before, started = servers.cpu(), time.perf_counter()
                latencies = await crowd(times, wide, one)
                seconds = time.perf_counter() - started
                cpu = [(now - then) / (times * jobs) for now, then in zip(servers.cpu(), before, strict=True)]
                if name == GATEWAY:
                    after = await _dispatches(session, servers)
                    size = (after[1] - sent) / max(1.0, after[0] - posts)
                    ways.gather(size)
                else:
                    size = statistics.mean(servers.sizes) if servers.sizes else float(jobs)
                if number:
                    rounds[name].append(Round(latencies, times * jobs / seconds, cpu[0], cpu[1], size))
    return rounds


def ceiling(options: argparse.Namespace) -> float:
    """Requests per second of the engine in this process, with one thread as a CPU worker has."""
    torch.set_num_threads(1)
    engine = TextEngine(open_bundle(Path("model_store") / f"{options.model}.mar"))
    engine.warm_up()
    started, count = time.perf_counter(), options.requests
    for number in range(count):
        size = options.tokens
        job = {"id": str(number), "prompt": options.prompt, "seed": number, "max_new_tokens": size}
        engine.submit({**job, "min_new_tokens": size}, [])
    while not engine.idle:
        engine.advance()
    return float(count / (time.perf_counter() - started))


def ratio(ours: list[Round], theirs: list[Round], of: Callable[[Round], float]) -> str:
    """Round by round, since a machine's speed drifts: the median, and the lowest and highest."""
    found = sorted(of(one) / of(other) for one, other in zip(ours, theirs, strict=True))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="names")
    parser.add_argument("--prompt", default="A")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with installed(options.model) as servers:
        rounds = asyncio.run(compare(options, servers))
    most = ceiling(options)
    rows: list[tuple[object, ...]] = []
    for name, seen in rounds.items():
        cuts = statistics.quantiles([latency for one in seen for latency in one.latencies], n=100)
        rate = statistics.median(one.rate for one in seen)
        gateway_ms = statistics.median(one.gateway_cpu for one in seen) * 1000
        worker_ms = statistics.median(one.worker_cpu for one in seen) * 1000
        rows.append(
            (
                name,
                f"{rate:,.0f}",
                f"{cuts[49] * 1000:.1f}",
                f"{cuts[98] * 1000:.1f}",
                f"{gateway_ms:.2f}" if name == GATEWAY else "",
                f"{worker_ms:.2f}",
                f"{statistics.median(one.dispatch for one in seen):.1f}",
            )
        )
    rows.append(("engine in process", f"{most:,.0f}", "", "", "", "", ""))
    console.print(machine(), highlight=False)
    console.print(f"load average before the last minute: {os.getloadavg()[0]:.1f}", highlight=False)
    title = f"{options.model}: {options.in_flight} in flight, {options.tokens} tokens each"
    headings = (
        "way",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "gateway CPU ms",
        "TorchServe CPU ms",
        "jobs per POST",
    )
    show(title, headings, rows)
    ours, theirs = rounds[GATEWAY], rounds[SAME]
    console.print(
        f"{GATEWAY} ÷ {SAME}, median of {options.rounds} rounds (lowest to highest):", highlight=False
    )
    for what, of in (
        ("p50", lambda one: one.p50),
        ("CPU time of all servers", lambda one: one.cpu),
        ("CPU time of TorchServe", lambda one: one.worker_cpu),
        ("requests per second", lambda one: one.rate),
    ):
        console.print(f"  {what}: {ratio(ours, theirs, of)}", highlight=False)


if __name__ == "__main__":
    main()
