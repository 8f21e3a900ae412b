"""The moving parts of the simulation: requests, workers whose rows share their time, gateways with their views."""

from __future__ import annotations

import heapq
from collections import deque

from scaling.shape import Costs


class Job:
    """One text. `left` counts tokens not yet made; `epoch` grows when it is sent again, so that what happens to an
    earlier sending is known to be old."""

    __slots__ = ("arrived", "counted", "done", "epoch", "first", "gateway", "left", "tokens", "worker")

    def __init__(self, arrived: float, tokens: int, counted: bool) -> None:
        self.arrived, self.tokens, self.left, self.counted = arrived, tokens, float(tokens), counted
        self.first = -1.0
        self.gateway = self.worker = -1
        self.epoch = 0
        self.done = False


class Worker:
    """Rows advance together, one token a step, so each row's end is known on a clock that counts steps.

    `clock` is that count at time `at`; `due` is when the next row is expected to end.
    """

    __slots__ = ("alive", "at", "clock", "due", "queue", "rows", "zone")

    def __init__(self, zone: int) -> None:
        self.zone = zone
        self.alive = True
        self.rows: list[tuple[float, int, Job, int]] = []
        self.queue: deque[tuple[Job, int]] = deque()
        self.clock = self.at = 0.0
        self.due = -1.0

    def advance(self, now: float, costs: Costs) -> None:
        """Let the rows work until `now`."""
        if self.rows:
            self.clock += (now - self.at) / costs.step(len(self.rows))
        self.at = now

    def next_end(self, costs: Costs) -> float:
        """When the next row ends if nothing comes between; rows must not be empty."""
        return self.at + max(0.0, self.rows[0][0] - self.clock) * costs.step(len(self.rows))

    def remaining(self, end: float) -> float:
        return max(0.0, end - self.clock)


class Gateway:
    """One process: its own work in order, its own queue, and its own idea of how busy each worker is."""

    __slots__ = (
        *("alive", "failures", "free", "heap", "held", "inflight", "queue", "recovering", "sick", "uses"),
        "zone",
    )

    def __init__(self, zone: int) -> None:
        self.zone = zone
        self.alive = True
        self.free = 0.0
        self.inflight = 0
        self.queue: deque[Job] = deque()
        # Worker -> jobs of this gateway with it; the heap is ordered as `api.endpoints.Pool.pick` chooses.
        self.held: dict[int, int] = {}
        self.uses: dict[int, int] = {}
        self.heap: list[tuple[int, int, int]] = []
        # Passed over until then, and out of the heap.
        self.sick: dict[int, float] = {}
        self.recovering: list[tuple[float, int]] = []
        self.failures: dict[int, int] = {}

    def add(self, worker: int, place: int = 0) -> None:
        """Know one more worker; of equally idle ones those with a lower `place` come first."""
        self.held[worker] = 0
        self.uses[worker] = place
        heapq.heappush(self.heap, (0, place, worker))

    def forget(self, worker: int) -> None:
        self.held.pop(worker, None)
        self.sick.pop(worker, None)

    def pick(self, now: float, stamp: int) -> int:
        """The worker with the fewest jobs of ours that is not passed over, the longest unused of equals; with none
        well, the one that recovers first."""
        while self.recovering and self.recovering[0][0] <= now:
            until, worker = heapq.heappop(self.recovering)
            if self.sick.get(worker) == until and worker in self.held:
                del self.sick[worker]
                heapq.heappush(self.heap, (self.held[worker], self.uses[worker], worker))
        found = -1
        while self.heap:
            count, used, worker = heapq.heappop(self.heap)
            # An entry may be an older state of this worker.
            if self.held.get(worker) == count and self.uses[worker] == used and worker not in self.sick:
                found = worker
                break
        if found < 0:
            found = min(self.held, key=lambda worker: (self.sick.get(worker, 0.0), self.uses[worker]))
        self.uses[found] = stamp
        self._changed(found, 1)
        return found

    def ended(self, worker: int) -> None:
        if worker in self.held:
            self._changed(worker, -1)

    def failed(self, worker: int, now: float, eject_s: float) -> None:
        """Pass it over for a while, longer each time in a row."""
        count = self.failures[worker] = self.failures.get(worker, 0) + 1
        if worker in self.held:
            self.sick[worker] = now + eject_s * min(8, 2 ** (count - 1))
            heapq.heappush(self.recovering, (self.sick[worker], worker))

    def _changed(self, worker: int, by: int) -> None:
        self.held[worker] += by
        if worker not in self.sick:
            heapq.heappush(self.heap, (self.held[worker], self.uses[worker], worker))
