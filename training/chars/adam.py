"""Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019), by hand.

    m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
    θ ← θ − η · m̂ / (√v̂ + ε),   m̂ = m / (1 − β₁ᵗ),   v̂ = v / (1 − β₂ᵗ)

Both corrections are numbers, so they move out of the arrays: m̂ / (√v̂ + ε) = s · m / (√v + ε √(1 − β₂ᵗ)) with
s = √(1 − β₂ᵗ) / (1 − β₁ᵗ).
"""

from __future__ import annotations

import math

import numpy as np

from training.chars.rnn import Array, Weights

_TINY = 1e-30
_SWEEP = 256


def clip(gradients: Weights, most: float) -> float:
    """Scale all gradients down so that their common norm is at most `most`; the norm before."""
    norm = math.sqrt(float(np.dot(gradients.flat, gradients.flat)))
    if norm > most:
        gradients.flat *= gradients.flat.dtype.type(most / norm)
    return norm


class Adam:
    """Moments of one flat array of parameters, and the step that uses them."""

    def __init__(
        self, weights: Weights, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        self.weights = weights
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.steps = 0
        self.first: Array = np.zeros_like(weights.flat)
        self.second: Array = np.zeros_like(weights.flat)
        self._work: Array = np.empty_like(weights.flat)

    def step(self, gradients: Weights, rate: float, decay: float = 0.0) -> None:
        """Move the weights by one step of size `rate`; matrices shrink by rate · decay first."""
        number = self.weights.flat.dtype.type
        values, g = self.weights.flat, gradients.flat
        first, second, work = self.first, self.second, self._work
        self.steps += 1
        if decay:
            self.weights.matrices *= number(1.0 - rate * decay)
        np.multiply(first, number(self.beta1), out=first)
        np.multiply(g, number(1.0 - self.beta1), out=work)
        np.add(first, work, out=first)
        np.multiply(second, number(self.beta2), out=second)
        np.multiply(g, g, out=work)
        np.multiply(work, number(1.0 - self.beta2), out=work)
        np.add(second, work, out=second)
        root = math.sqrt(1.0 - self.beta2**self.steps)
        np.sqrt(second, out=work)
        np.add(work, number(self.epsilon * root), out=work)
        np.divide(first, work, out=work)
        np.multiply(work, number(rate * root / (1.0 - self.beta1**self.steps)), out=work)
        np.subtract(values, work, out=values)
        if self.steps % _SWEEP == 0:
            # rows of rare symbols fade into denormal numbers, which are many times slower to compute with
            first[np.abs(first) < _TINY] = 0.0
