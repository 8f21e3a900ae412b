"""Which models share a pod: one group per model, except that fractions of a GPU are packed onto whole ones.

A pod cannot ask Kubernetes for half a GPU. So models that want fractions, and as many replicas as each other,
share pods that ask for one GPU, and within the pod `deploy.plan` shares it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from deploy.board import WHOLE
from deploy.inventory import described
from deploy.models_file import ModelEntry, ModelsFile, ModelsFileError
from deploy.plan import PlanRefusedError, plan, worker_memory

# What a pod needs beside its model workers, in MiB: a JVM with 512 of heap, its own memory, the init process.
JVM_MB = 768
# A process that computes on a GPU holds torch with CUDA in main memory too, and reads weights through it.
CUDA_HOST_MB = 2048
_LONGEST_NAME = 40


class GroupError(ModelsFileError):
    """The models file cannot become pods; the message names the model and what to change."""


@dataclass(frozen=True)
class Group:
    """Pods that are alike: `gpus` whole GPUs each (0: they compute on the CPU); `models` in the file's order."""

    name: str
    models: tuple[ModelEntry, ...]
    gpus: int

    @property
    def replicas(self) -> int:
        return self.models[0].replicas

    @property
    def workers(self) -> int:
        """Model processes of one pod."""
        return sum(self.workers_of(entry) for entry in self.models)

    @property
    def slots(self) -> int:
        """Texts that one pod writes at a time."""
        return sum(entry.slots * self.workers_of(entry) for entry in self.models)

    @property
    def memory_mb(self) -> int:
        """MiB of main memory for one pod, as `deploy.plan` counts them, rounded up to 256."""
        if self.gpus:
            models = CUDA_HOST_MB * self.workers
        else:
            models = sum(worker_memory(entry, None, "cpu") * entry.cpu_workers for entry in self.models)
        return -(-(JVM_MB + models) // 256) * 256

    @property
    def millicores(self) -> int:
        """Processor time to ask for, in thousandths of a core: the threads of all workers, and some for the JVM."""
        if self.gpus:
            return 1000 * self.workers + 250
        return 1000 * sum(entry.threads * entry.cpu_workers for entry in self.models) + 250

    def workers_of(self, entry: ModelEntry) -> int:
        if self.gpus and entry.gpus:
            return max(int(entry.gpus), 1) * entry.workers_per_gpu
        return entry.cpu_workers


def groups(models_file: ModelsFile, *, use_gpus: bool, gpu_memory: str = "80G") -> tuple[Group, ...]:
    """The groups of `models_file`; without `use_gpus` every model runs on the CPU. Raises `GroupError` for a model
    that may not, and for models that do not fit onto GPUs of `gpu_memory`."""
    alone: list[Group] = []
    fractions: list[ModelEntry] = []
    for entry in models_file.models.values():
        if not use_gpus and entry.cpu_workers == 0:
            raise GroupError(
                f"models.{entry.name}: cpu_workers = 0 forbids the CPU, and these pods have no GPU"
            )
        if use_gpus and 0 < entry.gpus < 1:
            fractions.append(entry)
        else:
            alone.append(Group(slug(entry.name), (entry,), int(entry.gpus) if use_gpus else 0))
    made = (*alone, *_packed(fractions))
    _check_names(made)
    for group in made:
        if group.gpus:
            _check_fit(group, gpu_memory)
    return made


def slug(name: str) -> str:
    """A model's name as Kubernetes takes it: short, and without `_`.

    >>> slug("dark_souls")
    'dark-souls'
    """
    return re.sub("_+", "-", name)[:_LONGEST_NAME].strip("-")


def _packed(entries: Iterable[ModelEntry]) -> tuple[Group, ...]:
    """First fit, largest first: few GPUs, and the same answer for the same file."""
    bins: list[tuple[int, list[ModelEntry]]] = []
    for entry in sorted(entries, key=lambda entry: (-entry.gpus, entry.name)):
        share = max(round(entry.gpus * WHOLE), 1)
        for index, (free, held) in enumerate(bins):
            if share <= free and held[0].replicas == entry.replicas:
                bins[index] = (free - share, [*held, entry])
                break
        else:
            bins.append((WHOLE - share, [entry]))
    return tuple(
        Group(f"shared-{number}", tuple(sorted(held, key=lambda entry: entry.name)), 1)
        for number, (_, held) in enumerate(bins, 1)
    )


def _check_names(made: tuple[Group, ...]) -> None:
    owners: dict[str, Group] = {}
    for group in made:
        other = owners.setdefault(group.name, group)
        if other is not group:
            names = f"{other.models[0].name!r} and {group.models[0].name!r}"
            raise GroupError(f"models: {names} both become {group.name!r} in Kubernetes; rename one")


def _check_fit(group: Group, gpu_memory: str) -> None:
    models = ModelsFile({entry.name: entry for entry in group.models}, group.models[0].name)
    # Main memory is asked for as needed, so only the GPUs can be too small.
    machine = replace(described(group.gpus, gpu_memory), cpus=256, memory_mb=None)
    try:
        warnings = plan(models, machine, {}).warnings
    except PlanRefusedError as error:
        raise GroupError("; ".join(error.reasons)) from error
    if warnings:
        raise GroupError(f"group {group.name} on {group.gpus} GPUs of {gpu_memory}: {'; '.join(warnings)}")
