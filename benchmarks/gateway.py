"""The cost of the gateway: the same jobs through it and straight to TorchServe, in one run.

Starts the stack itself on free ports with one model, then in turn, round after round: N clients that POST to
the gateway, N clients that POST single jobs to TorchServe, and one client that POSTs the jobs in bunches of N
as the gateway does. Prints requests per second, p50 and p99, CPU seconds of the gateway per request, and the
engine's own speed in process with the same model as the ceiling.

    inkwell bench gateway [--model names] [--in-flight 64] [--tokens 16] [--requests 512] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
import torch
from measure import console, machine, show

from inkwell.bundle import open_bundle
from inkwell.session import TextEngine


@dataclass
class Side:
    """What was seen of one way to ask, over all rounds."""

    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row."""
    while True:
        first = free_port()
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


@contextlib.contextmanager
def stack(model: str) -> Iterator[tuple[str, str, psutil.Process]]:
    """URLs of gateway and TorchServe, and the gateway's process."""
    port, worker_port = free_port(), free_ports(5)
    with tempfile.TemporaryDirectory(prefix="inkwell-bench-") as folder:
        base = [sys.executable, "-m", "training"]
        where = ["--run-dir", f"{folder}/run"]
        start = [*base, "serve", "--detach", "--models", model, "--port", str(port), *where]
        start += ["--worker-port", str(worker_port), "--log-dir", f"{folder}/logs"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
        try:
            owner = next(
                c.pid for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN"
            )
            yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{worker_port}", psutil.Process(owner)
        finally:
            subprocess.run([*base, "stop", *where], check=True, stdout=subprocess.DEVNULL)


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


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def compare(
    options: argparse.Namespace, gateway: str, worker: str, process: psutil.Process
) -> dict[str, Side]:
    count, in_flight = options.requests, options.in_flight
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post(url: str, body: object) -> bytes:
            async with session.post(url, json=body) as response:
                answer = await response.read()
                if response.status != 200:
                    raise RuntimeError(f"{url} answered {response.status}: {answer[:200]!r}")
                return answer

        async def through(number: int) -> None:
            parameters = {"max_new_tokens": options.tokens, "min_new_tokens": options.tokens, "seed": number}
            body = {"model": options.model, "inputs": options.prompt, "parameters": parameters}
            await post(f"{gateway}/generate", body)

        def job(number: int) -> dict[str, object]:
            size = options.tokens
            shape = {"max_new_tokens": size, "min_new_tokens": size, "seed": number}
            return {"id": str(number), "prompt": options.prompt, **shape}

        async def single(number: int) -> None:
            await post(f"{worker}/predictions/{options.model}", {"jobs": [job(number)]})

        async def bunch(number: int) -> None:
            jobs = [job(number * in_flight + index) for index in range(in_flight)]
            answer = await post(f"{worker}/predictions/{options.model}", {"jobs": jobs})
            ends = sum(json.loads(line)["event"] == "end" for line in answer.splitlines() if line.strip())
            if ends != in_flight:
                raise RuntimeError(f"{ends} of {in_flight} jobs ended")

        ways = {
            "gateway": (count, in_flight, through, 1),
            "TorchServe, one job per POST": (count, in_flight, single, 1),
            f"TorchServe, {in_flight} jobs per POST": (count // in_flight, 1, bunch, in_flight),
        }
        sides = {name: Side() for name in ways}
        for round_ in range(options.rounds + 1):
            for name, (times, wide, one, jobs) in ways.items():
                before, started = cpu(process), time.perf_counter()
                latencies = await crowd(times, wide, one)
                seconds = time.perf_counter() - started
                if round_ == 0:
                    continue
                side = sides[name]
                side.latencies += latencies
                side.rates.append(times * jobs / seconds)
                side.cpu.append((cpu(process) - before) / (times * jobs))
    return sides


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
    with stack(options.model) as (gateway, worker, process):
        sides = asyncio.run(compare(options, gateway, worker, process))
    most = ceiling(options)
    best = statistics.median(sides["gateway"].rates)
    rows: list[tuple[object, ...]] = []
    for name, side in sides.items():
        rate = statistics.median(side.rates)
        cuts = statistics.quantiles(side.latencies, n=100)
        cost = f"{statistics.median(side.cpu) * 1000:.2f}" if name == "gateway" else ""
        rows.append(
            (
                name,
                f"{rate:,.0f}",
                f"{cuts[49] * 1000:.1f}",
                f"{cuts[98] * 1000:.1f}",
                cost,
                f"{best / rate:.2f}",
            )
        )
    rows.append(("engine in process", f"{most:,.0f}", "", "", "", f"{best / most:.2f}"))
    console.print(machine(), highlight=False)
    title = f"{options.model}: {options.in_flight} in flight, {options.tokens} tokens each"
    show(title, ("way", "requests/s", "p50 ms", "p99 ms", "gateway CPU ms", "gateway is ×"), rows)


if __name__ == "__main__":
    main()
