"""Mixed traffic for a long time: every text is right, and nothing grows."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter

import aiohttp
import httpx
import psutil
import pytest
from fault_clients import Ask, Outcome, ask, session
from fault_stack import FaultStack, until
from rich.console import Console
from rich.table import Table
from soak_samples import Watch

pytestmark = [pytest.mark.soak, pytest.mark.slow]

LOOK_S = 5.0
# What may be left of growth over the time watched, beyond three standard errors of it.
ALLOWED = {"MiB": 4.0, "files": 2.0, "threads": 1.0, "tasks": 2.0, "jobs": 2.0, "slots": 2.0}
BAD = (
    {"inputs": "The", "parameters": {"temperature": -1}},
    {"inputs": "The", "parameters": {"regex": "((("}},
    {"inputs": 7},
    {"model": "poems", "inputs": "x"},
    {"model": "names", "inputs": "", "parameters": {"category": "gnome"}},
)


class Traffic:
    """Clients of every kind until `until_s`; what is wrong with an answer is kept in `faults`."""

    def __init__(self, stack: FaultStack, until_s: float) -> None:
        self.stack, self.until_s = stack, until_s
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.prose = stack.asks(range(64), lambda seed: 5 + 7 * (seed % 40))
        self.names = stack.asks(range(64), 40, model="names", inputs="A")
        self.shaped = stack.asks(range(16), 60, regex="[A-Za-z ]+[.]", inputs="The")

    async def run(self) -> None:
        async with session() as client:
            await asyncio.gather(
                *(self._askers(client, "stream", self.prose, stream=True) for _ in range(4)),
                *(self._askers(client, "whole", self.prose, stream=False) for _ in range(2)),
                *(self._askers(client, "names", self.names, stream=True) for _ in range(2)),
                self._askers(client, "shaped", self.shaped, stream=False),
                self._leavers(client),
                self._leavers(client),
                self._careless(client),
            )

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until_s or len(self.faults) > 20

    async def _askers(
        self, client: aiohttp.ClientSession, kind: str, requests: list[Ask], *, stream: bool
    ) -> None:
        for one in itertools.cycle(requests):
            if self.over:
                return
            request = Ask(one.parameters, one.expected, one.inputs, one.model, stream)
            self._judge(kind, await ask(client, self.stack.url, request))
            await asyncio.sleep(0.01)

    def _judge(self, kind: str, outcome: Outcome) -> None:
        self.counts[kind] += 1
        if outcome.kind != "completed":
            self.faults.append(f"{kind}: {outcome.kind}: {outcome.detail}")

    async def _leavers(self, client: aiohttp.ClientSession) -> None:
        """Streams that are left after a few events."""
        for seed in itertools.count():
            if self.over:
                return
            body = {"inputs": "The", "parameters": {"seed": seed, "max_new_tokens": 20_000}}
            async with client.post(f"{self.stack.url}/generate_stream", json=body) as answer:
                if answer.status != 200:
                    self.faults.append(f"left: status {answer.status}")
                for _ in range(3 + seed % 20):
                    await answer.content.readline()
            self.counts["left"] += 1
            await asyncio.sleep(0.05)

    async def _careless(self, client: aiohttp.ClientSession) -> None:
        for body in itertools.cycle(BAD):
            if self.over:
                return
            async with client.post(f"{self.stack.url}/generate", json=body) as answer:
                if not 400 <= answer.status < 500 or not (await answer.json())["error"]:
                    self.faults.append(f"bad input: {answer.status} {await answer.text()}")
            self.counts["refused"] += 1
            await asyncio.sleep(0.05)


def look(stack: FaultStack, watch: Watch) -> None:
    watch.look(
        gateway_tasks=stack.tasks(),
        jobs_in_flight_jobs=stack.metric("inkwell_inflight_jobs", model="prose"),
        slots_in_use_slots=float(sum(engine["active"] for engine in stack.engines())),
    )


async def test_nothing_grows_and_every_text_is_right(single: FaultStack, request):
    minutes = request.config.getoption("soak_minutes", default=30.0)
    workers = {f"worker {model}": psutil.Process(single.worker_pid(model)) for model in ("prose", "names")}
    watch = Watch({"gateway": single.gateway(), "TorchServe": single.jvm(), **workers})
    begun = time.monotonic()
    traffic = Traffic(single, begun + 60 * minutes)
    running = asyncio.create_task(traffic.run())
    while not running.done():
        await asyncio.to_thread(look, single, watch)
        await asyncio.wait([running], timeout=LOOK_S)
    await running
    retried = single.retries() + single.retries("names")
    show(watch, traffic, minutes, retried)
    assert traffic.faults == []
    assert min(traffic.counts.values()) > 0
    assert retried == 0
    await asyncio.to_thread(until, single.is_idle, "no slot is taken when all is over")
    assert httpx.get(f"{single.url}/ready").status_code == 200  # noqa: ASYNC210 - nothing else runs now
    grown = {}
    for name, series in watch.series.items():
        slope, error = series.slope()
        hours = series.settled()[0]
        lasted = float(hours[-1] - hours[0])
        # The JVM fills its heap before it cleans it; what bounds it is its limit.
        if name == "TorchServe MiB":
            assert max(series.values) < 1024
        elif (slope - 3 * error) * lasted > ALLOWED[name.rsplit(" ", 1)[1]]:
            grown[name] = f"{slope:.2f} ± {error:.2f} an hour"
    assert grown == {}


def show(watch: Watch, traffic: Traffic, minutes: float, retried: int) -> None:
    table = Table(title=f"Soak of {minutes:g} minutes", title_justify="left")
    for heading in ("figure", "median", "last", "slope per hour", "standard error"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, series in watch.series.items():
        slope, error = series.slope()
        table.add_row(name, *(f"{value:.2f}" for value in (series.median, series.values[-1], slope, error)))
    console = Console(width=110)
    console.print()
    console.print(table)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(traffic.counts.items()))
    console.print(f"requests: {counts}; wrong or lost: {len(traffic.faults)}; retried: {retried}")
