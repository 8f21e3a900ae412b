"""Are the hand-written gradients right? Against torch autograd and against differences of the loss, in float64."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inkwell.models.recurrent import RecurrentConfig, RecurrentModel
from training.chars.convert import into_torch
from training.chars.rnn import Array, CharRNN, Shape, Weights


class Problem:
    """Random float64 weights, one random window, and a state that comes in: all that one gradient follows from."""

    def __init__(self, shape: Shape, length: int, batch: int, seed: int, scale: float = 0.2) -> None:
        random = np.random.default_rng(seed)
        flat = random.normal(0.0, scale, shape.count)  # biases too, so that none is checked at zero
        self.weights = Weights(shape, flat)
        self.ids: NDArray[np.int64] = random.integers(0, shape.symbols, (length, batch))
        self.targets: NDArray[np.int64] = random.integers(0, shape.symbols, (length, batch))
        self.state: Array = np.tanh(random.normal(0.0, 1.0, (batch, shape.hidden)))

    def by_hand(self) -> tuple[float, Weights]:
        """Loss and gradients of `CharRNN`."""
        gradients = Weights.zeros(self.weights.shape, np.float64)
        loss, _ = CharRNN(self.weights).gradients(self.ids, self.targets, self.state, gradients)
        return loss, gradients

    def by_autograd(self) -> tuple[float, Weights]:
        """Loss and gradients of the torch model that serves these weights."""
        shape = self.weights.shape
        model = RecurrentModel(
            RecurrentConfig(shape.symbols, cell="rnn", hidden=shape.hidden, layers=1)
        ).double()
        into_torch(self.weights, model)
        output = model(torch.from_numpy(self.ids.T.copy()), carry=[torch.from_numpy(self.state)[None]])
        targets = torch.from_numpy(self.targets.T.copy())
        loss = torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        layer, head = model.layers[0], model.head
        gradients = Weights.zeros(shape, np.float64)
        gradients.U[:] = _gradient(layer.weight_ih_l0).T
        gradients.W[:] = _gradient(layer.weight_hh_l0)
        gradients.V[:] = _gradient(head.weight)
        gradients.b[:] = _gradient(layer.bias_ih_l0)
        gradients.c[:] = _gradient(head.bias)
        return float(loss.detach()), gradients

    def by_differences(self, step: float = 1e-3) -> Weights:
        """Gradients from losses alone: central differences of fourth order,
        f'(θ) ≈ (8 [f(θ+s) − f(θ−s)] − [f(θ+2s) − f(θ−2s)]) / 12 s."""
        network, flat = CharRNN(self.weights), self.weights.flat
        scratch, gradients = (
            Weights.zeros(self.weights.shape, np.float64),
            Weights.zeros(self.weights.shape, np.float64),
        )
        for index in range(flat.size):
            value = flat[index]
            losses = {}
            for side in (-2, -1, 1, 2):
                flat[index] = value + side * step
                losses[side], _ = network.gradients(self.ids, self.targets, self.state, scratch)
            flat[index] = value
            gradients.flat[index] = (8 * (losses[1] - losses[-1]) - (losses[2] - losses[-2])) / (12 * step)
        return gradients


def relative_errors(ours: Weights, theirs: Weights) -> dict[str, float]:
    """Largest |a − b| / max(|a|, |b|) of each parameter, over all its elements; 0 where both are 0."""
    errors = {}
    for name, a in ours.parts.items():
        b = theirs.parts[name]
        size = np.maximum(np.abs(a), np.abs(b))
        errors[name] = float((np.abs(a - b) / np.where(size > 0, size, 1.0)).max())
    return errors


def gradient_errors(
    symbols: int = 90, hidden: int = 200, length: int = 25, batch: int = 10, seed: int = 1
) -> dict[str, float]:
    """Largest relative error against autograd of every parameter, at the size of the published setting."""
    problem = Problem(Shape(symbols, hidden), length, batch, seed, scale=0.05)
    return relative_errors(problem.by_hand()[1], problem.by_autograd()[1])


def _gradient(parameter: object) -> Array:
    gradient = cast(Tensor, parameter).grad
    if gradient is None:
        raise RuntimeError("autograd left a parameter without a gradient")
    return cast(Array, gradient.numpy())
