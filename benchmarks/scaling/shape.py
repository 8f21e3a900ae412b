"""What is simulated: costs as measured on one machine, a cluster, the load on it, and its mishaps."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Costs:
    """Seconds, as measured on one core each.

    A worker's step, in which every row gets a token, takes `step_s + row_s · rows`. A request costs the gateway
    `request_s` of its processor, and each of its tokens `token_s`; one look at one worker costs it `look_s`, every
    five seconds. `lag_s` is what a request takes besides: network, TorchServe's own hand-over.
    """

    step_s: float
    row_s: float
    request_s: float
    token_s: float
    look_s: float
    lag_s: float

    @classmethod
    def read(cls, path: Path) -> Costs:
        """The costs of a file that `--measure` wrote."""
        known = json.loads(path.read_text(encoding="utf-8"))["costs"]
        return cls(**{field.name: float(known[field.name]) for field in fields(cls)})

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    def step(self, rows: int) -> float:
        return self.step_s + self.row_s * rows

    def capacity(self, slots: int, tokens: float) -> float:
        """Requests a second that one worker can finish."""
        return slots / (self.step(slots) * tokens)


@dataclass(frozen=True)
class Cluster:
    """Gateways and workers at the start, and how the gateways behave (the defaults of `api/settings.py`)."""

    workers: int
    gateways: int = 2
    slots: int = 64
    zones: int = 3
    inflight_per_slot: float = 1.25
    # Whether each gateway begins with another worker, as `api/places.py` has it, or all with the same.
    own_order: bool = True
    queue_jobs: int = 10**9
    liveness_s: float = 10.0
    connect_s: float = 2.0
    eject_s: float = 1.0
    look_every_s: float = 5.0
    # Kubernetes takes a node that is silent for 40 s to be lost, and its pods from their Services with it.
    forget_s: float = 50.0
    # A client whose gateway is gone asks again.
    ask_again_s: float = 1.0


@dataclass(frozen=True)
class Load:
    """Requests a second from each time on, and their tokens: geometric with this mean, or all alike.

    `closed` clients instead ask again as soon as they are answered.
    """

    rates: tuple[tuple[float, float], ...]
    seconds: float
    tokens: float = 400.0
    alike: bool = False
    closed: int = 0


@dataclass(frozen=True)
class Scaler:
    """KEDA and the HPA behind it: every `look_s` the metric, which is `stale_s` old, over `per_pod`.

    `demand` counts what waits and is in hand; without it only what waits at the gateways. Pods are added by as many
    again or four a minute, and answer `start_s` after. They go one in two minutes, after `calm_s`.
    """

    per_pod: float
    least: int
    most: int
    demand: bool = True
    look_s: float = 15.0
    stale_s: float = 10.0
    start_s: float = 40.0
    calm_s: float = 600.0
    tolerance: float = 0.1


@dataclass(frozen=True)
class Run:
    """One simulation; `lost_zone_at` is when zone 0 disappears."""

    cluster: Cluster
    costs: Costs
    load: Load
    seed: int = 1
    lost_zone_at: float | None = None
    scaler: Scaler | None = None
    # Of requests that arrive before this nothing is counted.
    warm_s: float = 0.0
