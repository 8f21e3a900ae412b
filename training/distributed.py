"""Several processes under `torchrun`, each with its share of every batch (DistributedDataParallel)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.settings import process_group


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    def wrap(self, model: nn.Module, device: torch.device) -> Callable[..., Any]:
        """The model, synchronising gradients when there are several processes."""
        if self.world == 1:
            return model
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)

    def total(self, count: int, device: torch.device) -> int:
        """The sum of every process's `count`."""
        if self.world == 1:
            return count
        summed = torch.tensor(count, device=device)
        torch.distributed.all_reduce(summed)
        return int(summed)

    @contextlib.contextmanager
    def syncing(self, forward: Callable[..., Any], last: bool) -> Iterator[None]:
        """Exchange gradients only with the last part of an accumulated batch."""
        if isinstance(forward, DistributedDataParallel) and not last:
            with forward.no_sync():
                yield
        else:
            yield


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the process group that `torchrun` set up, or be the only process."""
    place = process_group()
    if place is None:
        yield Processes()
        return
    rank, world, local_rank = place
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(rank, world, local_rank)
    finally:
        torch.distributed.destroy_process_group()
