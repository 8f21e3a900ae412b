"""Averaged parameters, which generalise better than the last ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of parameters; what is evaluated and kept when it is on."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.count = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.count += 1
        # early on, average over what there is, so that the random start is forgotten quickly
        decay = min(self.decay, self.count / (self.count + 9.0))
        for name, parameter in model.named_parameters():
            self.values[name].lerp_(parameter, 1.0 - decay)

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with averaged parameters, and its own back afterwards."""
        own = {name: p.detach().clone() for name, p in model.named_parameters()}
        try:
            copy_into(model, self.values)
            yield
        finally:
            copy_into(model, own)


@torch.no_grad()
def copy_into(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])
