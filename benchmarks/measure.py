"""What the benchmarks share: interleaved rounds, medians, and the line about the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

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


def machine() -> str:
    """Processor, cores, Python and torch, in one line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = models[0] if models else name
    return (
        f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}, torch {torch.__version__}, "
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
