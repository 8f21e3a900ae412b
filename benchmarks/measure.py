"""What the benchmarks share: interleaved rounds, medians, the line about the machine, the file of all rounds."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

console = Console()


@dataclass(frozen=True)
class Timing:
    """Seconds of one thing over several rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance from fastest to slowest round, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / 2 / self.median


def interleaved(
    sides: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time every side once per round, A B A B …, after one warm-up of each, so that a machine whose speed
    drifts is equally unfair to all. `clock` may be `time.process_time`, which other processes do not move."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        run()
    for _ in range(rounds):
        for name, run in sides.items():
            started = clock()
            run()
            times[name].append(clock() - started)
    return {name: Timing(tuple(seconds)) for name, seconds in times.items()}


def processor() -> str:
    """What the processor calls itself."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = models[0] if models else name
    return name


def machine() -> str:
    """Processor, cores, Python and torch, in one line."""
    return (
        f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )


def show(title: str, headings: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Print a table, numbers to the right."""
    table = Table(title=title, title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in row))
    console.print(table)


RECORD = 1
"""Version of the files that `record` writes."""
PACKAGES = (
    "inkwell",
    "torch",
    "numpy",
    "torchserve",
    "onnxruntime",
    "transformers",
    "ctranslate2",
    "xllamacpp",
)
JSON_HELP = "write every round to this file, for `inkwell bench compare`"


@dataclass(frozen=True)
class Figure:
    """All rounds of one thing: `seconds` of each round, in which `work` units were done (tokens, steps)."""

    what: str
    side: str
    seconds: tuple[float, ...]
    work: float = 1.0
    unit: str = ""

    @property
    def name(self) -> str:
        return f"{self.what}, {self.side}"


def clock_of(options: argparse.Namespace) -> Callable[[], float]:
    """The clock that `--cpu-time` asks for; ends the program where it would add up threads."""
    if not options.cpu_time:
        return time.perf_counter
    if options.threads > 1:
        raise SystemExit("--cpu-time adds up what threads spend side by side; use it with --threads 1")
    return time.process_time


def note(rounds: int, cpu_time: bool = False) -> str:
    """How was measured, in one line: the machine, its load, and which seconds."""
    seconds = "processor seconds" if cpu_time else "seconds on the wall"
    load = f"load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return f"{machine()}; {load}; {seconds}, {rounds} rounds"


def record(path: Path | None, benchmark: str, figures: Iterable[Figure], options: argparse.Namespace) -> None:
    """Write every round as JSON, with what is needed to judge them: machine, versions, load and options.
    Nothing without a `path`."""
    if path is None:
        return
    values: dict[str, Any] = {
        "format": RECORD,
        "benchmark": benchmark,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version(), **_versions()},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "clock": "processor" if getattr(options, "cpu_time", False) else "wall",
        "options": {
            name: value if isinstance(value, int | float | bool | str | None) else str(value)
            for name, value in vars(options).items()
            if name != "json"
        },
        "figures": [asdict(figure) for figure in figures],
    }
    try:
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        sys.exit(f"{path} cannot be written: {error.strerror}")
    console.print(f"all rounds are in {path}", highlight=False, markup=False, soft_wrap=True)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
