"""What a machine offers: its GPUs and their memory, its cores and main memory."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from deploy import cgroup

_QUERY = ("--query-gpu=index,uuid,memory.total,name", "--format=csv,noheader,nounits")
_UNITS = {"": 1, "M": 1, "MB": 1, "MIB": 1, "G": 1024, "GB": 1024, "GIB": 1024}


class InventoryError(ValueError):
    """A description of the hardware cannot be understood."""


@dataclass(frozen=True)
class Gpu:
    """One GPU. `index` is the CUDA device id; `memory_mb` counts MiB; `uuid` is empty when unknown."""

    index: int
    memory_mb: int
    name: str = "GPU"
    uuid: str = ""

    @property
    def identity(self) -> str:
        """What stays the same when GPUs are renumbered: the uuid where one is known, else the index."""
        return self.uuid or f"#{self.index}"


@dataclass(frozen=True)
class Inventory:
    """GPUs, processor cores and main memory in MiB (None: not known, so not checked)."""

    gpus: tuple[Gpu, ...] = ()
    cpus: int = 1
    memory_mb: int | None = None

    def __post_init__(self) -> None:
        for noun, values in (
            ("device id", [gpu.index for gpu in self.gpus]),
            ("identity", [gpu.identity for gpu in self.gpus]),
        ):
            if len(set(values)) != len(values):
                raise InventoryError(f"gpus: every {noun} must be there once; got {values}")


def detect(visible_devices: str | None = None) -> Inventory:
    """What this process may use of its machine; `visible_devices` is CUDA_VISIBLE_DEVICES, None where it is unset.

    A machine without a working `nvidia-smi` has no GPUs. A container has the memory and cores of its limits.
    """
    return Inventory(
        gpus=visible(detect_gpus(), visible_devices),
        cpus=usable_cpus(os.cpu_count() or 1, cgroup.cpu_limit()),
        memory_mb=usable_memory(psutil.virtual_memory().total // 2**20, cgroup.memory_limit_mb()),
    )


def usable_memory(machine_mb: int, limit_mb: int | None) -> int:
    """MiB of main memory: the machine's, or a container's limit where that is less."""
    return machine_mb if limit_mb is None else min(machine_mb, limit_mb)


def usable_cpus(machine: int, limit: float | None) -> int:
    """Cores to count threads by; a part of one is one.

    >>> usable_cpus(16, 2.5), usable_cpus(16, 0.2), usable_cpus(4, None)
    (3, 1, 4)
    """
    return machine if limit is None else max(1, min(machine, math.ceil(limit)))


def described(gpus: int, gpu_memory: str, cpus: int | None = None, memory_mb: int | None = None) -> Inventory:
    """A machine that need not exist: `gpus` equal GPUs of `gpu_memory` each ("80G", "24GiB", "8000M")."""
    if not 0 <= gpus <= 64:
        raise InventoryError(f"gpus = {gpus!r}: must be a whole number from 0 to 64")
    each = parse_memory(gpu_memory)
    return Inventory(
        gpus=tuple(Gpu(index, each) for index in range(gpus)),
        cpus=cpus or os.cpu_count() or 1,
        memory_mb=memory_mb,
    )


def parse_memory(text: str) -> int:
    """MiB in a size such as "80G", "1.5GiB" or "8000M"; a bare number counts MiB.

    >>> parse_memory("1.5G")
    1536
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or math.floor(float(match[1]) * unit) < 1:
        raise InventoryError(f"gpu memory = {text!r}: must be a size above 0 such as 80G, 24GiB or 8000M")
    return math.floor(float(match[1]) * unit)


def detect_gpus(command: Sequence[str] = ("nvidia-smi",)) -> tuple[Gpu, ...]:
    """The GPUs that `nvidia-smi` lists."""
    if shutil.which(command[0]) is None:
        return ()
    try:
        answer = subprocess.run([*command, *_QUERY], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    if answer.returncode != 0:
        return ()
    return parse_nvidia_smi(answer.stdout)


def parse_nvidia_smi(output: str) -> tuple[Gpu, ...]:
    """GPUs in the lines `index, uuid, MiB, name`. Any other line is an error: it would hide a GPU."""
    found = []
    for line in output.splitlines():
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\d+)\s*,\s*(\S+)\s*,\s*(\d+)\s*,\s*(.+?)\s*", line)
        if match is None:
            raise InventoryError(f"nvidia-smi: expected 'index, uuid, MiB, name'; got {line!r}")
        found.append(Gpu(int(match[1]), int(match[3]), match[4], match[2]))
    return tuple(found)


def visible(gpus: Sequence[Gpu], setting: str | None) -> tuple[Gpu, ...]:
    """`gpus` as a process sees them under CUDA_VISIBLE_DEVICES = `setting`: chosen and numbered from 0.

    As CUDA does, the list ends at the first entry that names no GPU.
    """
    if setting is None:
        return tuple(gpus)
    chosen: list[Gpu] = []
    for entry in setting.split(","):
        wanted = entry.strip()
        gpu = next(
            (g for g in gpus if (wanted and g.uuid.startswith(wanted)) or str(g.index) == wanted),
            None,
        )
        if gpu is None:
            break
        chosen.append(Gpu(len(chosen), gpu.memory_mb, gpu.name, gpu.uuid))
    return tuple(chosen)
