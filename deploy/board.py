"""The board that models are placed on: demands, devices, who sits where, and how good that is.

A *demand* is a model that would like GPUs; a *seat* is one (model, GPU) pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deploy.inventory import Gpu

# Fractions are counted in thousandths, so that ten models of 0.1 fill a GPU exactly.
WHOLE = 1000


@dataclass(frozen=True)
class Demand:
    """What one model asks for: `share` thousandths and `memory_mb` MiB on each of up to `count` GPUs."""

    model: str
    share: int
    count: int
    memory_mb: int
    must: bool
    default: bool


@dataclass(frozen=True)
class Device:
    """One GPU as the search sees it: who it is, and the MiB that models may use."""

    identity: str
    index: int
    memory_mb: int


Seats = dict[str, list[str]]
# Must-models seated, the default seated, models seated, seats: compared in this order.
Quality = tuple[int, int, int, int]


@dataclass
class Board:
    """Who sits where, and what is left on each device."""

    devices: Mapping[str, Device]
    demands: Mapping[str, Demand]
    seats: Seats = field(default_factory=dict)
    share: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seats = {model: [] for model in self.demands}
        self.share = dict.fromkeys(self.devices, WHOLE)
        self.memory = {identity: device.memory_mb for identity, device in self.devices.items()}

    def copy(self) -> Board:
        """The same seats on a board of its own."""
        other = Board(self.devices, self.demands)
        for model, held in self.seats.items():
            for device in held:
                other.sit(model, device)
        return other

    def fits(self, model: str, device: str) -> bool:
        demand = self.demands[model]
        return (
            device not in self.seats[model]
            and len(self.seats[model]) < demand.count
            and self.share[device] >= demand.share
            and self.memory[device] >= demand.memory_mb
        )

    def sit(self, model: str, device: str) -> None:
        self.seats[model].append(device)
        self.share[device] -= self.demands[model].share
        self.memory[device] -= self.demands[model].memory_mb

    def leave(self, model: str, device: str) -> None:
        self.seats[model].remove(device)
        self.share[device] += self.demands[model].share
        self.memory[device] += self.demands[model].memory_mb

    def occupants(self, device: str) -> list[str]:
        return [model for model, seats in self.seats.items() if device in seats]

    def best_fit(self, model: str, among: Iterable[str] | None = None) -> str | None:
        """The fullest device with room: first by share, then by memory, then by index."""
        options = [d for d in (self.devices if among is None else among) if self.fits(model, d)]
        if not options:
            return None
        return min(options, key=lambda d: (self.share[d], self.memory[d], self.devices[d].index))


def usable(gpu: Gpu, reserve: float = 0.05) -> int:
    """MiB of `gpu` that models may fill; the rest is left to fragmentation and the driver."""
    return int(gpu.memory_mb * (1 - reserve))


def new_seats(seats: Mapping[str, Sequence[str]], previous: Mapping[str, Sequence[str]]) -> int:
    """How many (model, device) pairs of `seats` are not in `previous`: each is a model to load."""
    return sum(device not in previous.get(model, ()) for model, held in seats.items() for device in held)


def quality(seats: Mapping[str, Sequence[str]], demands: Sequence[Demand]) -> Quality:
    """How good `seats` are, whoever sat where before: must-models, the default, models seated, all seats."""
    seated = [demand for demand in demands if seats[demand.model]]
    return (
        sum(demand.must for demand in seated),
        sum(demand.default for demand in seated),
        len(seated),
        sum(len(held) for held in seats.values()),
    )
