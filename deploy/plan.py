"""From `models.toml` and a machine to a plan: which model runs where, with how many workers.

`plan` is a pure function. It never loses a model: each one gets GPUs, or the CPU with a warning that says
why, or the whole plan is refused with a reason for every model that has nowhere to run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from deploy.board import WHOLE, Demand, Device, usable
from deploy.inventory import Gpu, Inventory
from deploy.models_file import ModelEntry, ModelsFile
from deploy.placement import place

# A worker process on a GPU holds a CUDA context beside its model, and one on a CPU torch itself.
CUDA_CONTEXT_MB = 600
TORCH_MB = 250
# Assumed for a model whose archive does not exist yet.
UNKNOWN_MB = 500
_FORMAT = 1


class PlanRefusedError(ValueError):
    """Some model has nowhere to run. `reasons` holds one sentence for each."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Placement:
    """Where one model runs.

    `device` is "gpu" or "cpu"; `device_ids` are CUDA ids and `devices` the same GPUs by identity; `share` is
    the part of each of these GPUs; `workers` counts all worker processes; `memory_mb` is MiB per worker,
    everything included.
    """

    model: str
    device: str
    device_ids: tuple[int, ...]
    devices: tuple[str, ...]
    share: float
    workers: int
    threads: int
    slots: int
    max_new_tokens: int
    runtime: str
    memory_mb: int

    def device_of(self, worker: int) -> int | None:
        """The CUDA id for worker number `worker` (from 0); None on the CPU."""
        if not self.device_ids:
            return None
        return self.device_ids[worker // (self.workers // len(self.device_ids))]


@dataclass(frozen=True)
class Plan:
    """Every model's placement in the order of the models file, on `inventory`, with what had to give way."""

    placements: dict[str, Placement]
    inventory: Inventory
    warnings: tuple[str, ...] = ()

    def on_gpu(self, identity: str) -> list[Placement]:
        """The models that share one GPU."""
        return [placement for placement in self.placements.values() if identity in placement.devices]

    def to_json(self) -> str:
        """The plan as text that `from_json` reads back."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a saved plan. Raises `ValueError` when `text` is not one."""
        try:
            raw = json.loads(text)
            if raw["format"] != _FORMAT:
                raise ValueError(f"format = {raw['format']!r}: must be {_FORMAT}")
            inventory = raw["inventory"]
            return cls(
                placements={
                    name: Placement(
                        **p | {"device_ids": tuple(p["device_ids"]), "devices": tuple(p["devices"])}
                    )
                    for name, p in raw["placements"].items()
                },
                inventory=Inventory(
                    tuple(Gpu(**gpu) for gpu in inventory["gpus"]), inventory["cpus"], inventory["memory_mb"]
                ),
                warnings=tuple(raw["warnings"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a saved plan: {error!r}") from error


@dataclass(frozen=True)
class _Wish:
    """A model's demand on GPUs after what no GPU here could give was cut; None: none could serve it."""

    demand: Demand | None
    workers: int
    why_not: str = ""


def plan(
    models_file: ModelsFile,
    inventory: Inventory,
    memory_estimates: Mapping[str, int],
    previous: Plan | None = None,
) -> Plan:
    """Place every model of `models_file` on `inventory`.

    `memory_estimates` maps a model to the MiB that its weights and states take in one worker. `previous` is
    the plan in force: placements stay where they are unless the rules of `deploy.placement` demand a move.
    Raises `PlanRefusedError` when a model has nowhere to run.
    """
    warnings: list[str] = []
    refused: list[str] = []
    wishes = {
        name: _wish(entry, inventory, memory_estimates.get(name), warnings)
        for name, entry in models_file.models.items()
        if entry.gpus
    }
    seats = place(
        [wish.demand for wish in wishes.values() if wish.demand is not None],
        [Device(gpu.identity, gpu.index, usable(gpu)) for gpu in inventory.gpus],
        {name: old.devices for name, old in previous.placements.items()} if previous else {},
    )
    ids = {gpu.identity: gpu.index for gpu in inventory.gpus}
    placements: dict[str, Placement] = {}
    for name, entry in models_file.models.items():
        held = tuple(seats.get(name, ()))
        wish = wishes.get(name)
        if held and wish is not None:
            if len(held) < entry.gpus:
                warnings.append(f"{name}: asks for {entry.gpus} GPUs and gets {len(held)}")
            placements[name] = _on_gpu(entry, held, ids, wish.workers, memory_estimates.get(name))
            continue
        if wish is not None:
            reason = wish.why_not or _crowded(entry)
            if entry.cpu_workers == 0:
                refused.append(f"{name}: {reason}, and cpu_workers = 0 forbids the CPU")
                continue
            warnings.append(f"{name}: {reason}; it runs on the CPU")
        placements[name] = _on_cpu(entry, inventory, memory_estimates.get(name), warnings)
    if refused:
        raise PlanRefusedError(tuple(refused))
    _fit_main_memory(placements, inventory, warnings)
    return Plan(placements, inventory, tuple(warnings))


def _wish(entry: ModelEntry, inventory: Inventory, estimate: int | None, warnings: list[str]) -> _Wish:
    wanted = f"asks for {entry.gpus:g} GPU{'s' if entry.gpus > 1 else ''}"
    if not inventory.gpus:
        return _Wish(None, 0, f"{wanted} and this machine has none")
    each = worker_memory(entry, estimate, "gpu")
    largest = max(usable(gpu) for gpu in inventory.gpus)
    workers = min(entry.workers_per_gpu, largest // each)
    if workers == 0:
        return _Wish(
            None, 0, f"{wanted}, but one worker needs {each} MiB and the largest GPU offers {largest} MiB"
        )
    if workers < entry.workers_per_gpu:
        warnings.append(
            f"{entry.name}: asks for {entry.workers_per_gpu} workers per GPU; only {workers} of {each} MiB "
            f"fit into {largest} MiB"
        )
    share = round(entry.gpus * WHOLE) if entry.gpus < 1 else WHOLE
    demand = Demand(
        model=entry.name,
        share=max(share, 1),
        count=max(int(entry.gpus), 1),
        memory_mb=each * workers,
        must=entry.cpu_workers == 0,
        default=entry.default,
    )
    return _Wish(demand, workers)


def worker_memory(entry: ModelEntry, estimate: int | None, device: str) -> int:
    """MiB of one worker process on `device`: the file's `memory_mb`, else the estimate plus overhead."""
    if entry.memory_mb is not None:
        return entry.memory_mb
    return (UNKNOWN_MB if estimate is None else estimate) + (CUDA_CONTEXT_MB if device == "gpu" else TORCH_MB)


def _crowded(entry: ModelEntry) -> str:
    if entry.gpus >= 1:
        plural = "s" if entry.gpus > 1 else ""
        return f"asks for {entry.gpus} GPU{plural} and none is left (a fraction would share)"
    return f"asks for {entry.gpus:g} of a GPU and none has that much room left"


def _on_gpu(
    entry: ModelEntry, held: tuple[str, ...], ids: Mapping[str, int], workers: int, estimate: int | None
) -> Placement:
    return Placement(
        model=entry.name,
        device="gpu",
        device_ids=tuple(ids[identity] for identity in held),
        devices=held,
        share=float(min(entry.gpus, 1)),
        workers=workers * len(held),
        threads=entry.threads,
        slots=entry.slots,
        max_new_tokens=entry.max_new_tokens,
        runtime=entry.runtime,
        memory_mb=worker_memory(entry, estimate, "gpu"),
    )


def _on_cpu(entry: ModelEntry, inventory: Inventory, estimate: int | None, warnings: list[str]) -> Placement:
    threads = min(entry.threads, inventory.cpus)
    if threads < entry.threads:
        warnings.append(
            f"{entry.name}: asks for {entry.threads} threads; this machine has {inventory.cpus} cores"
        )
    return Placement(
        model=entry.name,
        device="cpu",
        device_ids=(),
        devices=(),
        share=0.0,
        workers=entry.cpu_workers,
        threads=threads,
        slots=entry.slots,
        max_new_tokens=entry.max_new_tokens,
        runtime=entry.runtime,
        memory_mb=worker_memory(entry, estimate, "cpu"),
    )


def _fit_main_memory(placements: dict[str, Placement], inventory: Inventory, warnings: list[str]) -> None:
    """Take CPU workers away, one at a time where there are most, until they fit into main memory."""
    if inventory.memory_mb is None:
        return
    asked = {name: placement.workers for name, placement in placements.items()}
    while True:
        on_cpu = [placement for placement in placements.values() if placement.device == "cpu"]
        needed = sum(placement.workers * placement.memory_mb for placement in on_cpu)
        if needed <= inventory.memory_mb:
            break
        richest = max(on_cpu, key=lambda placement: (placement.workers, placement.memory_mb))
        if richest.workers == 1:
            raise PlanRefusedError(
                (
                    f"{', '.join(p.model for p in on_cpu)}: one worker each needs {needed} MiB on the CPU; "
                    f"main memory has {inventory.memory_mb} MiB",
                )
            )
        placements[richest.model] = Placement(**asdict(richest) | {"workers": richest.workers - 1})
    for name, placement in placements.items():
        if placement.workers < asked[name]:
            warnings.append(
                f"{name}: asks for {asked[name]} CPU workers; main memory of {inventory.memory_mb} MiB "
                f"leaves room for {placement.workers}"
            )
