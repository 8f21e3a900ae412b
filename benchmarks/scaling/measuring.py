"""The costs of one machine, measured: what the simulation calculates with, and what it is checked by."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import aiohttp
import numpy as np
import psutil
import torch
from measure import console, machine
from serving.asking import crowd
from serving.stack import Stack, installed

from api.gateway import Gateway
from api.settings import Settings
from inkwell.bundle import open_bundle
from inkwell.session import TextEngine
from scaling.shape import Costs

MEASURED = Path(__file__).resolve().parent / "measured.json"
MODEL, PROMPT, SLOTS, CLIENTS = "prose", "The harbour", 64, 64
_ROWS = (1, 8, 16, 32, 64)
_SHORT, _LONG = 16, 200
_ROUNDS = {16: 1024, 64: 512, 200: 256, 400: 128}  # tokens -> requests


@dataclass(frozen=True)
class Check:
    """What was seen of `clients` that ask one gateway and one worker again and again: texts of so many tokens for
    each second of the worker's processor, all that it does for a request included."""

    clients: int
    tokens: int
    slots: int
    rate: float


@dataclass(frozen=True)
class Measured:
    """One measuring: the machine, the day, its load average, the costs, the seconds of a step by its rows, and the
    checks."""

    machine: str
    when: str
    load: float
    costs: Costs
    steps: dict[int, float]
    checks: tuple[Check, ...]

    @classmethod
    def read(cls, path: Path) -> Measured:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            raw["machine"],
            raw["when"],
            raw["load"],
            Costs.read(path),
            {int(rows): seconds for rows, seconds in raw["steps"].items()},
            tuple(Check(**check) for check in raw["checks"]),
        )

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The costs in words."""
        costs, steps = self.costs, self.steps
        by_rows = ", ".join(f"{1000 * seconds:.2f} with {rows}" for rows, seconds in steps.items())
        return ("what", "measured"), [
            ("a step of the engine, ms by its rows", by_rows),
            ("… as a line", f"{1000 * costs.step_s:.2f} ms + {1e6 * costs.row_s:.0f} µs a row"),
            ("a request, gateway's processor", f"{1000 * costs.request_s:.2f} ms"),
            ("a token, gateway's processor", f"{1e6 * costs.token_s:.1f} µs"),
            ("one look at one worker, gateway's processor", f"{1000 * costs.look_s:.2f} ms"),
            ("network, TorchServe, everything else of a request", f"{1000 * costs.lag_s:.1f} ms"),
        ]


def measure() -> Measured:
    """Measure this machine, for a few minutes; it should have nothing else to do."""
    torch.set_num_threads(1)
    steps = {rows: _step(rows) for rows in _ROWS}
    row_s, step_s = np.polyfit(list(steps), list(steps.values()), 1)
    with installed(MODEL) as servers:
        costs, checks = asyncio.run(_served(servers, max(float(step_s), 0.0), max(float(row_s), 0.0)))
    day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    found = Measured(machine(), day, round(os.getloadavg()[1], 1), costs, steps, checks)
    for what, value in found.table()[1]:
        console.print(f"{what}: {value}", highlight=False)
    return found


def _step(rows: int, steps: int = 150) -> float:
    """Seconds of one step of the engine with so many rows, sampling included; the median of three runs, in time of
    this processor, so that what else the machine does counts little."""
    seconds = []
    for _ in range(3):
        engine = TextEngine(open_bundle(Path("model_store") / f"{MODEL}.mar"), slots=SLOTS)
        engine.warm_up()
        for number in range(rows):
            shape = {"max_new_tokens": steps, "min_new_tokens": steps, "seed": number}
            engine.submit({"id": str(number), "prompt": "A", **shape}, [])
        started = time.process_time()
        while not engine.idle:
            engine.advance()
        seconds.append((time.process_time() - started) / steps)
    return statistics.median(seconds)


async def _served(servers: Stack, step_s: float, row_s: float) -> tuple[Costs, tuple[Check, ...]]:
    """Costs in time of each process' own processor, which what else the machine does hardly changes."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CLIENTS)) as session:

        async def ask(number: int, tokens: int) -> None:
            shape = {"max_new_tokens": tokens, "min_new_tokens": tokens, "seed": number}
            body = {"model": MODEL, "inputs": PROMPT, "parameters": shape}
            async with session.post(f"{servers.gateway}/generate", json=body) as answer:
                text = await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"the gateway answered {answer.status}: {text[:200]!r}")

        async def round_(tokens: int, count: int) -> tuple[float, float]:
            """Seconds of the gateway's and of the model worker's processor per request."""
            worker = _model_worker(servers)
            before = servers.cpu()[0], sum(worker.cpu_times()[:2])
            await crowd(count, CLIENTS, lambda number: ask(number, tokens))
            after = servers.cpu()[0], sum(worker.cpu_times()[:2])
            return (after[0] - before[0]) / count, (after[1] - before[1]) / count

        await round_(_SHORT, 128)
        seen = {tokens: await round_(tokens, count) for tokens, count in _ROUNDS.items()}
        token_s = max(0.0, (seen[_LONG][0] - seen[_SHORT][0]) / (_LONG - _SHORT))
        request_s = max(0.0, seen[_SHORT][0] - _SHORT * token_s)
        # The quickest of many, since anything else that runs only makes them slower.
        alone = min(await crowd(100, 1, lambda number: ask(number, 1)))
    lag_s = max(0.0, alone - request_s - step_s - row_s)
    look_s = await _look(servers)
    checks = tuple(Check(CLIENTS, tokens, SLOTS, 1 / cost) for tokens, (_, cost) in seen.items())
    return Costs(step_s, row_s, request_s, token_s, look_s, lag_s), checks


def _model_worker(servers: Stack) -> psutil.Process:
    """The process that computes the model."""
    found = [
        process
        for process in servers.worker_process.children(recursive=True)
        if any("model_service_worker" in word for word in process.cmdline())
    ]
    if len(found) != 1:
        raise RuntimeError(f"TorchServe has {len(found)} model workers; one is measured")
    return found[0]


async def _look(servers: Stack, times: int = 200) -> float:
    """Seconds of a gateway's processor for one look at one worker: a gateway in this process, asked for looks."""
    host, port = servers.worker.rsplit(":", 1)
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models.toml"
        models.write_text(f'[models.{MODEL}]\nfamily = "prose"\n', encoding="utf-8")
        gateway = Gateway(
            Settings(models_file=models, inference=[servers.worker], management=[f"{host}:{int(port) + 1}"])
        )
        try:
            await gateway.catalog.state(MODEL, fresh=True)
            started = time.process_time()
            for _ in range(times):
                await gateway.catalog.state(MODEL, fresh=True)
            return (time.process_time() - started) / times
        finally:
            await gateway.stop()
