"""One watched training step: activations, gradients, and the size of the update against what it changes."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from inkwell.bundle import Bundle
from inkwell.models.gpt import Block
from inkwell.models.window import Hidden
from training.batches import Batch, DocumentWindows, Source, StreamWindows
from training.errors import TrainingError
from training.figures.samples import sample
from training.health import SATURATED
from training.optimizers import make_optimizer
from training.prepare import prepare, windows
from training.recipe import FitRecipe, recipe_from

WARM_STEPS = 10
"""Steps before the one that is watched: AdamW's first ones say nothing, its averages being empty."""


@dataclass
class Step:
    """What one step showed. `activations` by layer; by matrix `gradients`, and the ratios of the standard
    deviation of gradient and of update to that of the values. `text`: what was read."""

    text: str
    activations: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    gradient_ratio: dict[str, float] = field(default_factory=dict)
    update_ratio: dict[str, float] = field(default_factory=dict)

    def stuck(self, name: str) -> tuple[float, str]:
        """Share of a layer's activations that hardly learn, and where those are: beyond ±0.97 of a tanh; below 0
        of what goes into a GPT's feed-forward activation."""
        values = self.activations[name]
        if name.endswith(".up"):
            return float((values < 0).float().mean()), "below 0"
        return float((values.abs() > SATURATED).float().mean()), f"beyond ±{SATURATED}"


def watched_step(bundle: Bundle, seed: int = 0, steps: int = WARM_STEPS) -> Step:
    """Train a copy of the bundle's model for `steps` small steps at its last learning rate and watch one more."""
    fit, source, text = _material(bundle, seed)
    model = copy.deepcopy(bundle.model).train()
    fit = replace(fit, rate=fit.rate * max(fit.final_rate, 0.01))
    optimizer = make_optimizer(model, fit, torch.device("cpu"))
    found = Step(text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batches = _endless(source)
        for number in range(steps + 1):
            batch = next(batches)
            last = number == steps
            optimizer.zero_grad(set_to_none=True)
            with _activations(model, found) if last else contextlib.nullcontext():
                loss = model(batch.ids, batch.targets, batch.condition).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), fit.clip)
            matrices = {n: p for n, p in model.named_parameters() if p.dim() >= 2 and p.grad is not None}
            before = {name: p.detach().clone() for name, p in matrices.items()} if last else {}
            optimizer.step()
            for name, old in before.items():
                size = float(old.std()) or float("nan")
                gradient = matrices[name].grad
                if gradient is None:
                    continue
                found.gradients[name] = gradient.detach().flatten().float()
                found.gradient_ratio[name] = float(gradient.std()) / size
                found.update_ratio[name] = float((matrices[name].detach() - old).std()) / size
    return found


@contextlib.contextmanager
def _activations(model: nn.Module, found: Step) -> Iterator[None]:
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            hooks.append(module.register_forward_hook(_keeper(found, name)))
        elif isinstance(module, Block):
            hooks.append(module.up.register_forward_hook(_keeper(found, f"{name}.up")))
        elif isinstance(module, Hidden):
            hooks.append(module.activation.register_forward_hook(_keeper(found, f"{name}.tanh")))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _keeper(found: Step, name: str) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        values = output[0] if isinstance(output, tuple) else output
        found.activations[name] = values.detach().flatten().float()

    return keep


def _material(bundle: Bundle, seed: int) -> tuple[FitRecipe, Source, str]:
    """The training text where it is at hand, else texts of the model's own."""
    values = bundle.config.training.get("recipe")
    if isinstance(values, dict):
        recipe = recipe_from(values, "config.json, training.recipe")
        fit = replace(recipe.fit, batch=min(recipe.fit.batch, 16), length=min(recipe.fit.length, 64))
        recipe = replace(recipe, fit=fit)
        with contextlib.suppress(TrainingError):  # a corpus that is not on this machine: the other way serves
            prepared = prepare(recipe, bundle.tokenizer, bundle.categories)
            source = windows(recipe, prepared, prepared.splits.train, True)
            return fit, source, f"training text {prepared.corpus.name}"
    fit = FitRecipe(batch=8, length=32)
    texts = [[*item.ids] for item in sample(bundle, 16, seed, 64)]
    if bundle.config.kind == "stream":
        import numpy as np

        ids = np.array([token for text in texts for token in text])
        return fit, StreamWindows(ids, fit.batch, fit.length, "shift", seed), "texts of its own"
    conditions = [0] * len(texts) if bundle.categories else None
    return fit, DocumentWindows(texts, conditions, fit.batch, fit.length, seed), "texts of its own"


def _endless(source: Source) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from source.epoch(epoch)
        epoch += 1
