"""KEDA's ScaledObject as deploy/k8s renders it, and the HorizontalPodAutoscaler behind it."""

from __future__ import annotations

import math
from collections import deque

from scaling.engine import Simulation
from scaling.shape import Scaler


class Autoscaler:
    """Looks at the metric now and then, and adds and removes workers within the rules of `slow_to_shrink`."""

    def __init__(self, simulation: Simulation, rules: Scaler) -> None:
        self._sim, self._rules = simulation, rules
        self._seen: deque[tuple[float, int]] = deque()
        self._wished: deque[tuple[float, int]] = deque()
        self._grown: deque[tuple[float, int]] = deque()
        self._shrunk_at = -math.inf
        self._coming = 0

    def start(self) -> None:
        # The number that is there counts as a wish, so nothing shrinks before the first calm is over.
        self._wished.append((self._sim.now, self._sim.ready))
        self._sim.later(0.0, self._scrape)
        self._sim.later(self._rules.look_s, self._look)

    def _scrape(self) -> None:
        sim = self._sim
        value = sim.waiting() + (sim.in_hand() if self._rules.demand else 0)
        self._seen.append((sim.now, value))
        while len(self._seen) > 1 and self._seen[1][0] <= sim.now - self._rules.stale_s:
            self._seen.popleft()
        sim.later(1.0, self._scrape)

    def _look(self) -> None:
        sim, rules = self._sim, self._rules
        wanted = sim.ready + self._coming
        ratio = self._seen[0][1] / rules.per_pod / max(1, wanted)
        desired = wanted if abs(ratio - 1) <= rules.tolerance else math.ceil(ratio * wanted)
        desired = min(rules.most, max(rules.least, desired))
        self._wished.append((sim.now, desired))
        while self._wished[0][0] < sim.now - rules.calm_s:
            self._wished.popleft()
        if desired > wanted:
            self._grow(min(desired, self._ceiling(wanted)) - wanted)
        else:
            # The highest wish of the calm counts.
            self._shrink(wanted - max(wish for _, wish in self._wished))
        sim.later(rules.look_s, self._look)

    def _ceiling(self, wanted: int) -> int:
        """As many again as a minute ago, or four more."""
        while self._grown and self._grown[0][0] <= self._sim.now - 60.0:
            self._grown.popleft()
        before = wanted - sum(count for _, count in self._grown)
        return max(2 * before, before + 4)

    def _grow(self, count: int) -> None:
        if count <= 0:
            return
        self._grown.append((self._sim.now, count))
        self._coming += count
        for _ in range(count):
            self._sim.later(self._rules.start_s, self._arrived)

    def _arrived(self) -> None:
        self._coming -= 1
        alive = [gateway.zone for gateway in self._sim.gateways if gateway.alive]
        zones = sorted({worker.zone for worker in self._sim.workers if worker.alive} | set(alive))
        counts = dict.fromkeys(zones, 0)
        for worker in self._sim.workers:
            if worker.alive and worker.zone in counts:
                counts[worker.zone] += 1
        self._sim.join(min(zones, key=lambda zone: counts[zone]))

    def _shrink(self, count: int) -> None:
        if count <= 0 or self._sim.now - self._shrunk_at < 120.0:
            return
        known = next(gateway.held for gateway in self._sim.gateways if gateway.alive)
        if len(known) > self._rules.least:
            self._shrunk_at = self._sim.now
            self._sim.leave(max(known))
