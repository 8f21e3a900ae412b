"""How long clients wait, through a real gateway and TorchServe, and how much of the engine's speed they get.

Starts both on free ports with one model and measures by turns, round after round:

* the time to the first token of streams of 64 tokens, with 1, 8 and 64 in flight;
* a short answer of 16 tokens alone, and while N streams of 500 tokens run: it must not wait for them;
* whole answers of 64 tokens with 1, 8, 32, 64 and 512 in flight, beside the engine in this process with the same
  bundle, runtime, threads, rows and sampling. Through the gateway 85 % of its tokens per second is the goal; with
  512 in flight 90 % of those with 64, and the gateway's processor time for a request within 1.3 of that with 32.

Each through the gateway, and, up to 64 in flight, straight at TorchServe with one POST per request, the loop that
people write. This process sends all requests, and takes its share of the machine: with two cores, one is the
worker's.

`--shape` serves random weights of a model of `inkwell bench engine` instead of a trained bundle.

    inkwell bench latency [--bundle bundles/prose] [--runtime native] [--rounds 5] [--seconds 1.0] [--long 32]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import torch
from engine import MODELS
from measure import JSON_HELP, Figure, console, note, record, show
from serving.asking import Asked, Direct, Gateway, Way, busy, crowd
from serving.stack import Stack, random_bundle, served

from inkwell.bundle import Bundle
from inkwell.engine import Engine, Request
from inkwell.errors import RuntimeUnavailable
from inkwell.running import MOST_STEPS
from inkwell.runtimes import make_decoder
from inkwell.sampling import SamplingParams

FLIGHTS = (1, 8, 64)
WHOLE_FLIGHTS = (1, 8, 32, 64, 512)
ENGINE = "engine in process"
FIRST, ALONE, BEHIND, WHOLE = "first token", "short alone", "short behind long ones", "whole"


@dataclass(frozen=True)
class Load:
    """What is asked for in one round: how many at a time, and how many tokens each."""

    kind: str
    in_flight: int
    tokens: int

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.in_flight} in flight" if self.kind in (FIRST, WHOLE) else self.kind


@dataclass
class Seen:
    """All rounds of one load on one side: seconds of each round, and of each wait in it."""

    count: int = 0  # requests in a round
    seconds: list[float] = field(default_factory=list)
    waits: list[list[float]] = field(default_factory=list)
    gateway_cpu: list[float] = field(default_factory=list)  # seconds of the gateway's process, for a request

    def percentile(self, share: int) -> float:
        """Over the waits of all rounds, seconds."""
        return percentile([wait for one in self.waits for wait in one], share)


def percentile(values: Sequence[float], share: int) -> float:
    """The smallest value that `share` per cent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def loads(options: argparse.Namespace) -> list[Load]:
    return [
        *(Load(FIRST, flight, options.tokens) for flight in FLIGHTS),
        Load(ALONE, 1, options.short_tokens),
        Load(BEHIND, 1, options.short_tokens),
        *(Load(WHOLE, flight, options.tokens) for flight in WHOLE_FLIGHTS),
    ]


async def one_round(way: Way, load: Load, count: int, first_seed: int) -> tuple[float, list[float]]:
    """Seconds of `count` requests, and what each client waited for: the first token, or the whole answer."""
    firsts: list[float] = []

    async def one(number: int) -> None:
        if load.kind == FIRST:
            firsts.append(await way.stream(load.tokens, first_seed + number))
        else:
            await way.whole(load.tokens, first_seed + number)

    started = time.perf_counter()
    latencies = await crowd(count, load.in_flight, one)
    return time.perf_counter() - started, firsts or latencies


def in_process(bundle: Bundle, asked: Asked, options: argparse.Namespace) -> Callable[[Load, int], float]:
    """Seconds of `count` whole texts on the engine itself, `load.in_flight` rows at a time."""
    torch.set_num_threads(options.threads)
    try:
        decoder, runtime = make_decoder(bundle.model, options.runtime, bundle.runtimes)
    except RuntimeUnavailable as error:
        raise SystemExit(str(error)) from error
    console.print(f"the engine runs on {runtime}", highlight=False)
    engine = Engine(decoder, bundle.model.vocabulary, slots=options.slots)
    prompt = tuple(bundle.tokenizer.encode(bundle.config.start + asked.prompt)) or (0,)

    def run(load: Load, count: int) -> float:
        size, documents = load.tokens, bundle.config.kind == "documents"
        started = time.perf_counter()
        for number in range(count):
            sampling = SamplingParams(seed=number, temperature=asked.temperature, top_k=asked.top_k)
            engine.submit(Request(str(number), prompt, sampling, size, size, stops_at_end=documents))
            if (number + 1) % load.in_flight == 0 or number + 1 == count:
                while not engine.idle:
                    engine.run(MOST_STEPS)
        return time.perf_counter() - started

    return run


async def measure(
    options: argparse.Namespace, bundle: Bundle, servers: Stack
) -> dict[tuple[Load, str], Seen]:
    """Every load on every side, `options.rounds` times in turn after one to warm up."""
    asked = Asked(bundle.config.name, prompt_of(bundle, options), options.temperature, options.top_k)
    engine = in_process(bundle, asked, options)
    found: dict[tuple[Load, str], Seen] = {}
    # Servers close what is idle for 5 seconds, as connections are while the engine has its turn.
    connector = aiohttp.TCPConnector(limit=options.long + max(WHOLE_FLIGHTS) + 8, keepalive_timeout=2)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        ways: list[Way] = [Gateway(session, servers.gateway, asked), Direct(session, servers.worker, asked)]
        for number in range(options.rounds + 1):
            for load in loads(options):
                count = max((seen.count for (one, _), seen in found.items() if one == load), default=0)
                for way in ways if load.in_flight <= max(FLIGHTS) else ways[:1]:
                    seen = found.setdefault((load, way.name), Seen())
                    running = busy(way, options.long, options.long_tokens) if load.kind == BEHIND else None
                    async with running or contextlib.nullcontext():
                        if number == 0:
                            seen.count = await how_many(way, load, options.seconds)
                            continue
                        before, _ = servers.cpu()
                        seconds, waits = await one_round(way, load, count, number * 1_000_000)
                        seen.gateway_cpu.append((servers.cpu()[0] - before) / count)
                    seen.count = count
                    seen.seconds.append(seconds)
                    seen.waits.append(waits)
                if load.kind == WHOLE:
                    seen = found.setdefault((load, ENGINE), Seen())
                    seen.count = max(count, load.in_flight)
                    seconds = engine(load, seen.count)
                    if number:
                        seen.seconds.append(seconds)
    return found


async def how_many(way: Way, load: Load, seconds: float) -> int:
    """Requests that take about `seconds`, in whole waves: as many as are in flight at a time, at least twice."""
    await one_round(way, load, load.in_flight, 0)
    wave, _ = await one_round(way, load, load.in_flight, 1000)
    return load.in_flight * max(2, round(seconds / wave))


def prompt_of(bundle: Bundle, options: argparse.Namespace) -> str:
    """What was asked for, or the first tokens of the bundle that make text."""
    return (
        str(options.prompt)
        if options.prompt
        else bundle.tokenizer.decode([1, 2, 3]).strip("\ufffd \n") or "A"
    )


def figures_of(found: dict[tuple[Load, str], Seen]) -> list[Figure]:
    """Rounds as seconds: of all its tokens for whole answers, else each round's p50 and p99 of the waits."""
    figures = []
    for (load, side), seen in found.items():
        if load.kind == WHOLE:
            figures.append(Figure(load.name, side, tuple(seen.seconds), seen.count * load.tokens, "token"))
        for share in (50, 99) if seen.waits else ():
            waits = tuple(percentile(one, share) for one in seen.waits)
            figures.append(Figure(f"{load.name}, p{share}", side, waits, unit="wait"))
    return figures


def waits_table(found: dict[tuple[Load, str], Seen], kinds: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """p50 and p99 of each load on both sides, and the gateway's p50 over TorchServe's."""
    for load in dict.fromkeys(load for load, _ in found if load.kind in kinds):
        ours, theirs = found[load, Gateway.name], found[load, Direct.name]
        numbers = [seen.percentile(share) * 1e3 for seen in (ours, theirs) for share in (50, 99)]
        yield (load.name, *(f"{number:,.1f}" for number in numbers), f"{numbers[0] / numbers[2]:.2f}")


def rates_table(found: dict[tuple[Load, str], Seen]) -> Iterator[tuple[object, ...]]:
    """Requests and tokens per second of whole answers, and the share of the engine's own."""
    for (load, side), seen in found.items():
        if load.kind != WHOLE:
            continue
        rate = seen.count / statistics.median(seen.seconds)
        own = found[load, ENGINE]
        yield (
            f"{load.in_flight} in flight",
            side,
            f"{rate:,.1f}",
            f"{rate * load.tokens:,.0f}",
            f"{rate * statistics.median(own.seconds) / own.count:.0%}",
            *(f"{seen.percentile(share) * 1e3:,.1f}" if seen.waits else "" for share in (50, 99)),
            f"{statistics.median(seen.gateway_cpu) * 1e3:.2f}" if side == Gateway.name else "",
        )


def crowd_note(found: dict[tuple[Load, str], Seen]) -> str:
    """What many in flight lose against a full engine, and cost the gateway against fewer."""
    seen = {
        load.in_flight: one
        for (load, side), one in found.items()
        if load.kind == WHOLE and side == Gateway.name
    }
    rate = {flight: one.count / statistics.median(one.seconds) for flight, one in seen.items()}
    cpu = {flight: statistics.median(one.gateway_cpu) for flight, one in seen.items()}
    return (
        f"512 in flight: {rate[512] / rate[64]:.2f} of the tokens/s of 64, "
        f"{cpu[512] / cpu[32]:.2f} of the gateway's processor time per request of 32"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundles/prose"))
    parser.add_argument("--shape", help=f"random weights instead: {'; '.join(MODELS)} (a part of it will do)")
    parser.add_argument("--runtime", default="auto", help="of worker and engine")
    parser.add_argument("--threads", type=int, default=1, help="of the worker, and of the engine in process")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one load in one round, about")
    parser.add_argument("--prompt", default="")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-k", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--short-tokens", type=int, default=16)
    parser.add_argument("--long-tokens", type=int, default=500)
    parser.add_argument("--long", type=int, default=32, help="long streams that run beside a short answer")
    parser.add_argument("--json", type=Path, help=JSON_HELP)
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        path: Path = options.bundle
        if options.shape:
            settings = next((one for name, one in MODELS.items() if options.shape in name), None)
            if settings is None:
                parser.error(
                    f"--shape {options.shape!r}: no model is named so; there are {'; '.join(MODELS)}"
                )
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="inkwell-bench-"))
            path = random_bundle(settings, Path(folder, "random"))
        elif not (path / "config.json").is_file():
            parser.error(
                f"--bundle {path}: no bundle is there; `inkwell train` makes one, --shape needs none"
            )
        bundle, servers = stack.enter_context(served(path, options.runtime, options.threads, options.slots))
        found = asyncio.run(measure(options, bundle, servers))
    report(found, bundle, options)


def report(found: dict[tuple[Load, str], Seen], bundle: Bundle, options: argparse.Namespace) -> None:
    what = options.shape or bundle.config.name
    console.print(note(options.rounds), highlight=False)
    ways = (f"{side}, p{share}" for side in (Gateway.name, Direct.name) for share in (50, 99))
    headings = (*ways, f"{Gateway.name} ÷ {Direct.name}")
    title = f"{what}: milliseconds to the first token, streams of {options.tokens}"
    show(title, ("load", *headings), list(waits_table(found, (FIRST,))))
    title = (
        f"{what}: milliseconds of {options.short_tokens} tokens, {options.long} long of {options.long_tokens}"
    )
    show(title, ("load", *headings), list(waits_table(found, (ALONE, BEHIND))))
    show(
        f"{what}: whole answers of {options.tokens} tokens",
        (
            "load",
            "side",
            "requests/s",
            "tokens/s",
            "share of the engine",
            "p50 ms",
            "p99 ms",
            "gateway CPU ms",
        ),
        list(rates_table(found)),
    )
    console.print(crowd_note(found), highlight=False)
    record(options.json, "latency", figures_of(found), options)


if __name__ == "__main__":
    main()
