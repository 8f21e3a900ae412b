"""How long a worker takes until it is ready, the memory it holds, and what one slot costs.

Every measurement is a fresh Python process in which the handler does what it does under TorchServe: import, load
the bundle, prepare the runtime, warm up. Then it generates one text. What TorchServe imports itself, and its JVM,
are not in it. Each model is started on each runtime, and `import torch` alone is the floor that anybody pays who
serves with torch. All take turns, round after round, after one start of each worker that is not counted: files are
in the page cache. Weights are random: what is measured does not depend on them. A runtime that cannot run here is
named and left out.

`beyond weights` is what is resident after the text less the size of weights.safetensors. Packed copies of the
weights and the memory of all slots count as beyond. The goals are: ready in at most 3 s, and at most 350 MiB beyond
the weights.

The native core is compiled at the first start on a machine. That time is measured once, with an empty cache, and
printed on a line of its own.

    inkwell bench start [--rounds 5] [--only lstm | --bundle bundles/prose] [--runtime native] [--slots 64]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from engine import MODELS
from measure import JSON_HELP, Figure, Timing, console, note, record, show
from serving.stack import random_bundle

from inkwell.native.settings import of_child
from inkwell.runtimes import RUNTIMES

CHOSEN = ("lstm 2x512, V 90", "gru 3x1024, V 4000", "names gpt 4x256, V 90", "gpt 6x384, V 4000")
"""Models that are measured unless others are asked for."""
FLOOR = "import torch"
CHILD = Path(__file__).parent / "serving" / "starting.py"
PATIENCE_S = 600.0  # of one start; the compiler alone is given 300
TOKENS = 64
READY_S = 3.0
BEYOND_MIB = 350.0
MIB = 2**20


@dataclass(frozen=True)
class Start:
    """One start: seconds since the process was started, resident bytes, and bytes of one slot (0 without slots)."""

    imported_s: float
    ready_s: float
    resident: int
    resident_after_text: int
    threads: int
    bytes_per_slot: int


@dataclass
class Found:
    """Bytes of each model's weights; all rounds of the floor beside each model, and of each (model, runtime);
    seconds that a first start took longer, 0 where nothing was compiled and None where native is no side."""

    weights: dict[str, int]
    floor: dict[str, list[Start]] = field(default_factory=dict)
    workers: dict[tuple[str, str], list[Start]] = field(default_factory=dict)
    compiling_s: float | None = None


class LeftOut(Exception):  # noqa: N818  not a defect: this machine lacks something
    """A side cannot run here; the message says why."""


def start(runtime: str | None, model_dir: Path, slots: int, threads: int, **environment: str) -> Start:
    """One process from its start to its end. Raises LeftOut; ends the program where the process fails."""
    asked: dict[str, Any] = {"runtime": runtime, "model_dir": str(model_dir), "tokens": TOKENS}
    asked |= {"slots": slots, "threads": threads, "began": time.monotonic()}
    try:
        done = subprocess.run(
            [sys.executable, str(CHILD), json.dumps(asked)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=PATIENCE_S,
            env=of_child(**environment),
        )
    except subprocess.TimeoutExpired as error:
        raise SystemExit(f"a worker on {runtime} was not ready after {PATIENCE_S:.0f} s") from error
    if done.returncode:
        said = done.stderr.strip()[-2000:] or "nothing"
        raise SystemExit(f"a worker on {runtime} ended with {done.returncode} and said: {said}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "unavailable" in answer:
        raise LeftOut(answer["unavailable"])
    return Start(**answer)


def measure(
    bundles: Mapping[str, Path], runtimes: Sequence[str], rounds: int, slots: int, threads: int
) -> Found:
    """Every side once per round, after one start of each worker, which finds those that cannot run here.
    `bundles` are folders with a folder `bundle` inside, by the models' names."""
    found = Found({name: weights_of(path) for name, path in bundles.items()})
    for name, path in bundles.items():
        for runtime in runtimes:
            try:
                start(runtime, path, slots, threads)
            except LeftOut as error:
                text = f"without {name} on {runtime}: {error}"
                console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)
            else:
                found.workers[name, runtime] = []
    if not found.workers:
        raise SystemExit("no worker can run here; the reasons stand above")
    found.floor = {name: [] for name, _ in found.workers}
    for _ in range(rounds):
        for name, floor in found.floor.items():
            floor.append(start(None, bundles[name], slots, threads))
            for runtime in runtimes:
                if (name, runtime) in found.workers:
                    found.workers[name, runtime].append(start(runtime, bundles[name], slots, threads))
    compiled = next((name for name, runtime in found.workers if runtime == "native"), None)
    if compiled is not None:
        usual = median(found.workers[compiled, "native"], ready)
        found.compiling_s = compiling(bundles[compiled], usual, slots, threads)
    return found


def weights_of(path: Path) -> int:
    """Bytes of the weights as they lie on disk."""
    return (path / "bundle" / "weights.safetensors").stat().st_size


def compiling(path: Path, usual: float, slots: int, threads: int) -> float:
    """Seconds that a worker with an empty cache needs longer to be ready; 0 when it found a library elsewhere."""
    with tempfile.TemporaryDirectory(prefix="inkwell-bench-") as cache:
        first = start("native", path, slots, threads, INKWELL_NATIVE_CACHE=cache)
        return first.ready_s - usual if any(Path(cache).glob("*.so")) else 0.0


def ready(one: Start) -> float:
    return one.ready_s


def median(starts: Sequence[Start], of: Callable[[Start], float]) -> float:
    return statistics.median(map(of, starts))


def beyond(found: Found, name: str, starts: Sequence[Start]) -> float:
    """MiB that a worker holds beside its weights."""
    return (median(starts, lambda one: one.resident_after_text) - found.weights[name]) / MIB


def named(found: Found) -> Iterable[tuple[str, str, list[Start]]]:
    """Each worker's label, model and starts."""
    for (name, runtime), starts in found.workers.items():
        yield f"{name}, {runtime}", name, starts


def times_table(found: Found) -> Iterable[tuple[object, ...]]:
    """Seconds of each side, and how many times those of the floor beside the same model."""
    floor = [one for starts in found.floor.values() for one in starts]
    for side, name, starts in [(FLOOR, None, floor), *named(found)]:
        seconds, least = median(starts, ready), median(floor if name is None else found.floor[name], ready)
        imports = median(starts, lambda one: one.imported_s)
        spread = Timing(tuple(map(ready, starts))).spread
        yield side, seconds, imports, seconds - imports, f"±{spread:.0%}", f"{seconds / least:.2f}x"


def memory_table(found: Found) -> Iterable[tuple[object, ...]]:
    """MiB of each side, KiB of one slot, and threads."""
    floor = [one for starts in found.floor.values() for one in starts]
    resident = median(floor, lambda one: one.resident) / MIB
    yield FLOOR, "", f"{resident:.0f}", "", "", "", floor[-1].threads
    for side, name, starts in named(found):
        yield (
            side,
            f"{found.weights[name] / MIB:.1f}",
            f"{median(starts, lambda one: one.resident) / MIB:.0f}",
            f"{median(starts, lambda one: one.resident_after_text) / MIB:.0f}",
            f"{beyond(found, name, starts):.0f}",
            f"{starts[-1].bytes_per_slot / 1024:,.1f}",
            starts[-1].threads,
        )


def goals(found: Found) -> list[str]:
    """A line per goal: how many reach it, and which do not."""
    late = {side: median(starts, ready) for side, _, starts in named(found)}
    large = {side: beyond(found, name, starts) for side, name, starts in named(found)}
    return [
        reached(f"ready in at most {READY_S:.0f} s", late, READY_S, "{:.2f} s"),
        reached(f"at most {BEYOND_MIB:.0f} MiB beyond weights", large, BEYOND_MIB, "{:.0f} MiB"),
    ]


def reached(goal: str, values: Mapping[str, float], most: float, form: str) -> str:
    missed = [f"{side} ({form.format(value)})" for side, value in values.items() if value > most]
    text = f"goal, {goal}: reached by {len(values) - len(missed)} of {len(values)}"
    return f"{text}; missed by {'; '.join(missed)}" if missed else text


def figures_of(found: Found) -> list[Figure]:
    """Seconds of all rounds."""
    figures = [
        Figure(name, FLOOR, tuple(map(ready, starts)), unit="start") for name, starts in found.floor.items()
    ]
    for (name, runtime), starts in found.workers.items():
        figures.append(Figure(name, runtime, tuple(map(ready, starts)), unit="start"))
        imports = tuple(one.imported_s for one in starts)
        figures.append(Figure(f"{name}, of it imports", runtime, imports, unit="start"))
    return figures


def report(found: Found, options: argparse.Namespace) -> None:
    console.print(note(options.rounds), highlight=False)
    show(
        "Start, seconds since the process began",
        ("model, runtime", "ready after", "of it imports", "load and ready", "spread", f"÷ {FLOOR}"),
        list(times_table(found)),
    )
    show(
        f"Memory with {options.slots} slots, MiB",
        (
            *("model, runtime", "weights", "resident when ready", f"after {TOKENS} tokens"),
            *("beyond weights", "KiB per slot", "threads"),
        ),
        list(memory_table(found)),
    )
    for line in goals(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if found.compiling_s is not None:
        text = (
            f"first start on a machine, native: {found.compiling_s:.1f} s more, the core is compiled once"
            if found.compiling_s
            else "first start on a machine, native: nothing had to be compiled"
        )
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    record(options.json, "start", figures_of(found), options)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def prepare(options: argparse.Namespace, folder: Path, parser: argparse.ArgumentParser) -> dict[str, Path]:
    """Folders with a bundle inside, by name: of what was asked for, else of the usual models."""
    if options.bundle is not None:
        if not (options.bundle / "config.json").is_file():
            parser.error(f"--bundle {options.bundle}: no bundle is there; `inkwell train` makes one")
        (folder / "bundle").symlink_to(options.bundle.resolve())
        return {options.bundle.resolve().name: folder}
    names = CHOSEN if options.only is None else [name for name in MODELS if options.only in name]
    if not names:
        parser.error(f"--only {options.only!r}: no model is named so; there are {'; '.join(MODELS)}")
    places = {name: folder / str(index) for index, name in enumerate(names)}
    for name, place in places.items():
        place.mkdir()
        random_bundle(MODELS[name], place / "bundle")
    return places


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=positive, default=5)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", help=f"models whose name holds this: {'; '.join(MODELS)}")
    chosen.add_argument("--bundle", type=Path, help="a trained bundle instead of random weights")
    parser.add_argument(
        "--runtime", action="append", choices=list(RUNTIMES), help="only this; may be repeated"
    )
    parser.add_argument("--slots", type=positive, default=64)
    parser.add_argument("--threads", type=positive, default=1, help="of a worker")
    parser.add_argument("--json", type=Path, help=JSON_HELP)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    runtimes = [name for name in RUNTIMES if options.runtime is None or name in options.runtime]
    with tempfile.TemporaryDirectory(prefix="inkwell-bench-") as folder:
        bundles = prepare(options, Path(folder), parser)
        found = measure(bundles, runtimes, options.rounds, options.slots, options.threads)
    report(found, options)


if __name__ == "__main__":
    main()
