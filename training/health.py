"""Early warnings: is this training healthy?

Three signs, looked at when the loss is evaluated: activations stuck at the ends of tanh or sigmoid, hidden
units that never move, and steps far from a thousandth of the size of what they change.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

SATURATED = 0.97
MOST_SATURATED = 0.5
MOST_DEAD = 0.2
LOW_UPDATE, HIGH_UPDATE = 1e-5, 1e-1  # a hundred times off


class Health:
    """Watches one step of a model now and then; costs nothing in between."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._found: list[str] = []
        self.update_ratios: dict[str, float] = {}
        self.saturation: dict[str, float] = {}

    @contextlib.contextmanager
    def watching(self, on: bool) -> Iterator[None]:
        """Look at what recurrent layers and tanh layers put out while a forward pass runs."""
        if not on:
            yield
            return
        self._found = []
        hooks = [
            module.register_forward_hook(self._hook(name))
            for name, module in self._model.named_modules()
            if isinstance(module, (nn.RNNBase, nn.Tanh))
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _hook(self, name: str) -> Any:
        def look(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
            found = outputs if isinstance(outputs, Tensor) else outputs[0]
            hidden: Tensor = found.detach().float()  # (…, H)
            self.saturation[name] = float((hidden.abs() > SATURATED).float().mean())
            dead = float((hidden.flatten(0, -2).std(0, correction=0) < 1e-4).float().mean())
            if self.saturation[name] > MOST_SATURATED:
                self._found.append(f"{name}: {self.saturation[name]:.0%} of activations are saturated")
            if dead > MOST_DEAD:
                self._found.append(f"{name}: {dead:.0%} of units do not move")

        return look

    @contextlib.contextmanager
    def updating(self, on: bool, share: float = 1.0) -> Iterator[None]:
        """Compare parameters before and after an optimiser step. `share` is the learning rate as a share of its
        peak: steps that are small because the schedule ends are no bad sign."""
        if not on:
            yield
            return
        before = {n: p.detach().clone() for n, p in self._model.named_parameters() if p.dim() >= 2}
        yield
        for name, parameter in self._model.named_parameters():
            if name in before:
                change = float((parameter.detach() - before[name]).float().std())
                size = float(before[name].float().std())
                self.update_ratios[name] = change / size if size > 0 else math.inf
        finite = sorted(ratio for ratio in self.update_ratios.values() if math.isfinite(ratio))
        middle = finite[len(finite) // 2] if finite else math.nan
        if middle < LOW_UPDATE * share or middle > HIGH_UPDATE:
            self._found.append(f"update:data ratio is {middle:.1e}; about 1e-3 is healthy")

    def warnings(self) -> tuple[str, ...]:
        """What the last watched step showed."""
        return tuple(self._found)
