"""What a soak watches: figures of processes and gateway over time, and the slope that remains after warm-up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import psutil


@dataclass
class Series:
    """One figure over time; `unit` is per hour in slopes."""

    name: str
    seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        self.seconds.append(time.monotonic())
        self.values.append(value)

    def settled(self, warm_up: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
        """Hours and values after the first `warm_up` share of the time."""
        hours = (np.array(self.seconds) - self.seconds[0]) / 3600
        keep = hours >= warm_up * hours[-1]
        return hours[keep], np.array(self.values)[keep]

    def slope(self) -> tuple[float, float]:
        """Growth per hour after warm-up, and its standard error.

        Theil and Sen's median of slopes, which single spikes do not move; the error is that of a straight
        line's slope with the scatter that is seen around it.
        """
        hours, values = self.settled()
        one, two = np.triu_indices(len(hours), 1)
        slope = float(np.median((values[two] - values[one]) / (hours[two] - hours[one])))
        scatter = values - slope * hours
        spread = float(np.sqrt(np.var(scatter) / (len(hours) * np.var(hours))))
        return slope, spread

    @property
    def median(self) -> float:
        return float(np.median(self.settled()[1]))


class Watch:
    """Memory and open files of processes by name."""

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        self._processes = processes
        self.series: dict[str, Series] = {}

    def look(self, **figures: float) -> None:
        """Take down the processes' figures, and `figures` beside them."""
        for name, process in self._processes.items():
            self._add(f"{name} MiB", process.memory_info().rss / 2**20)
            self._add(f"{name} files", float(process.num_fds()))
            self._add(f"{name} threads", float(process.num_threads()))
        for name, value in figures.items():
            self._add(name.replace("_", " "), value)

    def _add(self, name: str, value: float) -> None:
        self.series.setdefault(name, Series(name)).add(value)
