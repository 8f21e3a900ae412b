"""The questions that docs/scale.md answers, each a few simulations and the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from scaling.engine import Simulation
from scaling.record import Record
from scaling.shape import Cluster, Costs, Load, Run, Scaler

SIZES = (10, 100, 1000)
TOKENS = 400.0
SLOTS = 64
# As deploy/k8s/scaling.py and deploy/k8s/gateway.py have it.
FILLED = 0.7
GATEWAY_BUSY = 0.7
_MOST_REQUESTS = 100_000


@dataclass(frozen=True)
class Point:
    """One simulation of the sweep over sizes and loads; times in seconds."""

    workers: int
    gateways: int
    share: float
    offered: float
    done: float
    first_50: float
    first_99: float
    token_99: float


def gateways_for(costs: Costs, workers: int, rate: float) -> int | None:
    """As many as keep each at most 70 % busy, but two at least; None where looking at so many workers leaves a
    gateway no time for requests."""
    watching = workers * costs.look_s / Cluster(workers).look_every_s
    room = GATEWAY_BUSY - watching
    if room <= 0.02:
        return None
    return max(2, math.ceil(rate * (costs.request_s + costs.token_s * TOKENS) / room))


def sweep(costs: Costs, sizes: tuple[int, ...] = SIZES) -> Iterator[Point]:
    """Throughput and waits at sizes and loads; the load is a share of what the workers can do."""
    for workers in sizes:
        for share in (0.5, 0.9, 1.1):
            rate = share * workers * costs.capacity(SLOTS, TOKENS)
            # Where looking takes half of what a gateway may do, it is what breaks: what would workers do without?
            dear = workers * costs.look_s / Cluster(workers).look_every_s > GATEWAY_BUSY / 2
            costs_there = replace(costs, look_s=0.0) if dear else costs
            gateways = gateways_for(costs_there, workers, rate) or 2
            seconds = max(18.0, min(120.0, _MOST_REQUESTS / rate))
            load = Load(((0.0, rate),), seconds, TOKENS)
            record = Simulation(
                Run(Cluster(workers, gateways, SLOTS), costs_there, load, warm_s=seconds / 3)
            ).go()
            yield Point(
                workers,
                gateways,
                share,
                rate,
                record.rate(seconds / 2, seconds),
                record.first_token(0.5),
                record.first_token(0.99),
                record.per_token(0.99),
            )


def blindness(costs: Costs, workers: int = 100, share: float = 0.8) -> Iterator[tuple[int, float, float]]:
    """(gateways, first token at 99 % when all begin with the same worker, and when each has an order of its own):
    the same load through more gateways, each of which knows only its own part of what a worker does. Gateways cost
    nothing here, so that only their blindness shows."""
    free = replace(costs, request_s=0.0, token_s=0.0, look_s=0.0)
    rate = share * workers * costs.capacity(SLOTS, TOKENS)
    load = Load(((0.0, rate),), 30.0, TOKENS)
    for gateways in (1, 5, 20, 100):
        found = []
        for own_order in (False, True):
            cluster = Cluster(workers, gateways, SLOTS, own_order=own_order)
            found.append(Simulation(Run(cluster, free, load, warm_s=10.0)).go().first_token(0.99))
        yield gateways, found[0], found[1]


def zone_lost(costs: Costs, share: float, workers: int = 99) -> Record:
    """A third of everything disappears after a minute; pods that replace it start where there is room."""
    rate = share * workers * costs.capacity(SLOTS, TOKENS)
    # Gateways enough for two zones to carry what three did.
    gateways = 3 * math.ceil((gateways_for(costs, workers, rate) or 3) / 2)
    scaler = Scaler(per_pod=FILLED * SLOTS, least=workers // 3, most=2 * workers)
    cluster = Cluster(workers, gateways, SLOTS)
    load = Load(((0.0, rate),), 300.0, TOKENS)
    return Simulation(Run(cluster, costs, load, lost_zone_at=60.0, scaler=scaler)).go()


def rush(costs: Costs, *, demand: bool, start_s: float, over_s: float, workers: int = 10) -> Record:
    """The load rises from half of what ten workers can do to one and a half times that: at once after a minute, or
    evenly over `over_s`."""
    most = workers * costs.capacity(SLOTS, TOKENS)
    per_pod = FILLED * SLOTS
    scaler = Scaler(per_pod=per_pod, least=workers, most=10 * workers, demand=demand, start_s=start_s)
    gateways = gateways_for(costs, workers, 1.5 * most) or 2
    steps = max(1, round(over_s / 10))
    rises = [(60.0 + over_s * n / steps, (0.5 + n / steps) * most) for n in range(1, steps + 1)]
    load = Load(((0.0, 0.5 * most), *rises), 480.0 + over_s, TOKENS)
    return Simulation(Run(Cluster(workers, gateways, SLOTS), costs, load, scaler=scaler)).go()


def one_machine(costs: Costs, clients: int, tokens: int, slots: int, seconds: float = 60.0) -> Record:
    """What `--measure` measured, simulated: one gateway, one worker, clients that ask again at once."""
    load = Load(((0.0, 0.0),), seconds, tokens, alike=True, closed=clients)
    cluster = Cluster(1, 1, slots, zones=1)
    return Simulation(Run(cluster, costs, load, warm_s=seconds / 6)).go()
