"""Optimizers and their rate: AdamW for everything, or Muon for the matrices inside a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from training.recipe import FitRecipe

MOMENTUM = 0.95
# Coefficients of the iteration, and how often it is made (Jordan et al. 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


def learning_rate(fit: FitRecipe, step: int) -> float:
    """Linear warm-up, then a cosine down to `final_rate` of the peak (Loshchilov and Hutter 2017)."""
    if step < fit.warmup:
        return fit.rate * (step + 1) / fit.warmup
    reached = (step - fit.warmup) / max(1, fit.steps - fit.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, reached)))
    return fit.rate * (fit.final_rate + (1 - fit.final_rate) * cosine)


def make_optimizer(model: nn.Module, fit: FitRecipe, device: torch.device) -> torch.optim.AdamW:
    """What `fit.optimizer` names; matrices decay, vectors (biases, norms) do not."""
    inner = list(inner_matrices(model)) if fit.optimizer == "muon" else []
    taken = {id(parameter) for parameter in inner}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": fit.weight_decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    if inner:
        groups.append({"params": inner, "weight_decay": fit.weight_decay, MARK: True})
    fused = device.type in ("cpu", "cuda")
    return Muon(groups, lr=fit.rate, betas=(0.9, fit.beta2), fused=fused)


def inner_matrices(model: nn.Module) -> Iterator[Tensor]:
    """Matrices between hidden values. Not what turns tokens or categories into vectors, a one-hot input's
    included, nor the output layer: each of their rows or columns belongs to one token and moves by itself."""
    outer = {id(getattr(model, name, None)) for name in ("head", "modulation")}
    one_hot = getattr(model, "embedding", None) is None
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and id(module) not in outer:
            yield module.weight
        elif isinstance(module, nn.RNNBase):
            first = name.endswith("layers.0")
            for kind, parameter in module.named_parameters():
                if parameter.dim() == 2 and not (one_hot and first and kind.startswith("weight_ih")):
                    yield parameter


MARK = "inner"
"""Key of the groups whose parameters go by Muon."""


class Muon(torch.optim.AdamW):
    """Groups marked `inner` by Muon (Jordan et al. 2024), others by AdamW; without such groups it is AdamW.

    Muon's step is momentum made orthogonal: all directions of a matrix move equally far, and not those alone that
    the gradient favours. Scaled so that its values are as large as AdamW's (Liu et al. 2025), both take the same
    rate and decay.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group.get(MARK)]
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for parameter in group["params"] if group.get(MARK) else ():
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, float(group["lr"]), float(group["weight_decay"]))
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            # AdamW looks for a step in everybody's state when a checkpoint is taken up
            state["step"], state["momentum"] = torch.tensor(0.0), torch.zeros_like(parameter)
        state["step"] += 1
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        ahead = torch.lerp(gradient, momentum, MOMENTUM)
        parameter.mul_(1 - rate * decay)
        parameter.add_(orthogonal(ahead), alpha=-0.2 * math.sqrt(max(parameter.shape)) * rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix, about: singular values of `matrix` (m, n) become 0.7 to 1.2.

    A Newton-Schulz iteration of fifth degree. In bf16 on a GPU, where it is exact enough and fast; a processor
    without bf16 instructions would crawl.
    """
    x = matrix.to(torch.bfloat16) if matrix.is_cuda else matrix.float()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.mT
    x = x / x.norm().clamp(min=1e-7)
    x = _turned(x) if x.shape[1] >= 2 * x.shape[0] and not x.is_cuda else _iterated(x)
    return (x.mT if tall else x).to(matrix.dtype)


def _iterated(x: Tensor) -> Tensor:
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        # a·x + (b·s + c·s²)·x with s = x·xᵀ
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x


def _turned(x: Tensor) -> Tensor:
    """The same for x (m, n) with n of 2·m and more, with fewer operations: every iteration multiplies x from the
    left by a polynomial p of s = x·xᵀ, and s by p², so only matrices (m, m) are iterated. In bf16 s would be too
    coarse."""
    square = x @ x.mT
    eye = torch.eye(len(x), dtype=x.dtype, device=x.device)
    whole = eye
    for left in reversed(range(_ITERATIONS)):
        step = torch.addmm(square, square, square, beta=_B, alpha=_C) + _A * eye
        whole = step @ whole
        if left:
            square = step @ square @ step
    return whole @ x
