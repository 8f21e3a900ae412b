"""What a simulation saw: every finished request, and once a second the state of the cluster."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scaling.parts import Job


@dataclass
class Record:
    """Requests by their arrival, times in seconds; `states` holds (time, ready, alive, waiting, in hand, rows)."""

    seconds: float
    arrived: int = 0
    refused: int = 0
    broken: int = 0
    resumed: int = 0
    tokens: int = 0
    rows: list[tuple[float, float, float, int]] = field(default_factory=list)
    # Of all requests, those before the counting began too.
    ends: list[float] = field(default_factory=list)
    states: list[tuple[float, int, int, int, int, int]] = field(default_factory=list)

    def finished(self, job: Job, now: float) -> None:
        self.ends.append(now)
        if job.counted:
            self.rows.append((job.arrived, job.first, now, job.tokens))

    def sampled(self, *state: float) -> None:
        self.states.append(state)  # type: ignore[arg-type]

    @property
    def done(self) -> npt.NDArray[np.float64]:
        """(requests, 4): arrival, first token, end, tokens."""
        return np.array(self.rows, dtype=np.float64).reshape(-1, 4)

    @property
    def state(self) -> npt.NDArray[np.float64]:
        return np.array(self.states, dtype=np.float64).reshape(-1, 6)

    def first_token(self, quantile: float) -> float:
        """Seconds from arrival to first token at a quantile; NaN where nothing finished."""
        done = self.done
        return float(np.quantile(done[:, 1] - done[:, 0], quantile)) if len(done) else float("nan")

    def per_token(self, quantile: float) -> float:
        """Seconds per token after the first, of texts with more than one."""
        done = self.done
        done = done[done[:, 3] > 1]
        gaps = (done[:, 2] - done[:, 1]) / (done[:, 3] - 1)
        return float(np.quantile(gaps, quantile)) if len(done) else float("nan")

    def rate(self, begin: float, end: float) -> float:
        """Requests finished per second between two times."""
        ends = np.array(self.ends)
        return float(((ends >= begin) & (ends < end)).sum() / (end - begin))

    def timeline(
        self, quantile: float, every_s: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(times, seconds to the first token at `quantile` of those that arrived in each span)."""
        done = self.done
        edges = np.arange(0.0, self.seconds + every_s, every_s)
        spans = np.digitize(done[:, 0], edges) - 1
        waits = done[:, 1] - done[:, 0]
        found = [
            float(np.quantile(waits[spans == span], quantile)) if (spans == span).any() else float("nan")
            for span in range(len(edges) - 1)
        ]
        return edges[:-1], np.array(found)
