"""A vanilla RNN over one-hot characters: forward pass and backpropagation through time, in matrix form.

For a window of T characters x_1 … x_T with targets y_1 … y_T (column vectors, one row of the batch):

    a_t = W h_{t-1} + U x_t + b        h_t = tanh(a_t)
    o_t = V h_t + c                    p_t = softmax(o_t)
    L   = −1/N Σ_t log p_t[y_t]        N = all targets of the batch

**Gradient.** The softmax and the logarithm cancel to

    g_t = ∂L/∂o_t = (p_t − onehot(y_t)) / N,    so    ∂L/∂V = Σ_t g_t h_tᵀ    and    ∂L/∂c = Σ_t g_t.

h_t acts on the loss through o_t and through a_{t+1}, and tanh' = 1 − tanh². With d_t = ∂L/∂a_t, going backwards
from d_{T+1} = 0 (the window is where time is truncated; h_0 counts as a constant):

    d_t = (Vᵀ g_t + Wᵀ d_{t+1}) ∘ (1 − h_t ∘ h_t)

    ∂L/∂W = Σ_t d_t h_{t-1}ᵀ    ∂L/∂b = Σ_t d_t    ∂L/∂U[:, k] = Σ_{t: x_t = k} d_t

**Matrix form.** With the rows of all steps stacked, every Σ_t above is one product of two large matrices. Only the
products with W have to go step by step, and they take all rows of the batch at once. x_t is one-hot, so U x_t is a
column of U: its transpose is stored, and the input product is a gathering of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.floating]
NAMES = ("U", "W", "V", "b", "c")
MATRICES = NAMES[:3]


@dataclass(frozen=True)
class Shape:
    """K symbols and m hidden units."""

    symbols: int
    hidden: int

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter as it is stored; U is stored transposed."""
        k, m = self.symbols, self.hidden
        return {"U": (k, m), "W": (m, m), "V": (k, m), "b": (m,), "c": (k,)}

    @property
    def count(self) -> int:
        """Number of parameters."""
        return sum(int(np.prod(size)) for size in self.sizes().values())


class Weights:
    """Five parameters (or their gradients) as views of one flat array, matrices first."""

    def __init__(self, shape: Shape, flat: Array) -> None:
        if flat.shape != (shape.count,):
            raise ValueError(f"flat has shape {flat.shape}; {(shape.count,)} is needed")
        self.shape, self.flat = shape, flat
        self.parts: dict[str, Array] = {}
        at = 0
        for name, size in shape.sizes().items():
            length = int(np.prod(size))
            self.parts[name] = flat[at : at + length].reshape(size)
            at += length
        self.U, self.W, self.V, self.b, self.c = (self.parts[name] for name in NAMES)
        self.matrices = flat[: sum(self.parts[name].size for name in MATRICES)]

    @classmethod
    def zeros(cls, shape: Shape, dtype: DTypeLike = np.float32) -> Weights:
        """All zero."""
        return cls(shape, np.zeros(shape.count, dtype))

    @classmethod
    def random(cls, shape: Shape, seed: int, scale: float = 0.01, dtype: DTypeLike = np.float32) -> Weights:
        """Matrices from N(0, scale²), biases zero."""
        weights = cls.zeros(shape, dtype)
        weights.matrices[:] = np.random.default_rng(seed).normal(0.0, scale, weights.matrices.size)
        return weights


class _Buffers:
    """Working memory for one window size, kept from step to step. hs[0] is the state that came in."""

    def __init__(self, shape: Shape, length: int, batch: int, dtype: DTypeLike) -> None:
        n, m, k = length * batch, shape.hidden, shape.symbols
        self.hs = np.zeros((length + 1, batch, m), dtype)
        self.product = np.empty((batch, m), dtype)
        self.logits = np.empty((n, k), dtype)
        self.d = np.empty((length, batch, m), dtype)
        self.slope = np.empty((length, batch, m), dtype)
        self.onehot = np.zeros((n, k), dtype)
        self.ones = np.ones(n, dtype)
        self.rows = np.arange(n)


class CharRNN:
    """The network over `weights`. Windows are time-major: ids and targets (T, B), states (B, m)."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.shape = weights.shape
        self.dtype = weights.flat.dtype
        self._buffers: dict[tuple[int, int], _Buffers] = {}
        # small products run several times faster on a matrix that is not a transposed view
        self._transposed = np.empty_like(weights.W)

    def start(self, batch: int) -> Array:
        """The state of rows that have seen nothing."""
        return np.zeros((batch, self.shape.hidden), self.dtype)

    def forward(self, ids: NDArray[np.integer], state: Array) -> tuple[Array, Array]:
        """Logits (T·B, K) and the last state (B, m). The logits are working memory: use or copy them before
        the next call."""
        buffers = self._at(ids.shape)
        return self._forward(ids, state, buffers), buffers.hs[-1].copy()

    def nats(
        self, ids: NDArray[np.integer], targets: NDArray[np.integer], state: Array
    ) -> tuple[float, int, Array]:
        """Summed loss, number of targets that are not negative, and the last state."""
        logits, last = self.forward(ids, state)
        wanted = targets.ravel()
        logits -= logits.max(1, keepdims=True)
        chosen = logits[np.arange(len(wanted)), np.maximum(wanted, 0)].astype(np.float64)
        losses = np.log(np.exp(logits).sum(1), dtype=np.float64) - chosen
        counted = wanted >= 0
        return float(losses[counted].sum()), int(counted.sum()), last

    def gradients(
        self, ids: NDArray[np.integer], targets: NDArray[np.integer], state: Array, into: Weights
    ) -> tuple[float, Array]:
        """Mean loss in nats per target, with its gradients written to `into`; and the last state."""
        buffers = self._at(ids.shape)
        logits = self._forward(ids, state, buffers)
        loss = self._softmax(logits, targets.ravel(), buffers.rows)
        self._backward(ids, logits, buffers, into)
        return loss, buffers.hs[-1].copy()

    def hidden(self, length: int, batch: int) -> Array:
        """Hidden values (T, B, m) of the last pass over a window of this size, as working memory."""
        return self._at((length, batch)).hs[1:]

    def _at(self, size: tuple[int, ...]) -> _Buffers:
        key = (size[0], size[1])
        if key not in self._buffers:
            self._buffers[key] = _Buffers(self.shape, *key, self.dtype)
        return self._buffers[key]

    def _forward(self, ids: NDArray[np.integer], state: Array, buffers: _Buffers) -> Array:
        weights, hs, product = self.weights, buffers.hs, buffers.product
        hs[0] = state
        np.take(weights.U + weights.b, ids, axis=0, out=hs[1:], mode="clip")
        np.copyto(self._transposed, weights.W.T)
        for before, now in pairwise(hs):
            np.dot(before, self._transposed, out=product)
            np.add(now, product, out=now)
            np.tanh(now, out=now)
        flat = hs[1:].reshape(-1, self.shape.hidden)
        np.dot(flat, weights.V.T, out=buffers.logits)
        np.add(buffers.logits, weights.c, out=buffers.logits)
        return buffers.logits

    @staticmethod
    def _softmax(logits: Array, targets: NDArray[np.integer], rows: NDArray[np.integer]) -> float:
        """Turn logits into g = (p − onehot) / N in place; the mean loss."""
        logits -= logits.max(1, keepdims=True)
        chosen = logits[rows, targets]
        np.exp(logits, out=logits)
        sums = logits.sum(1)
        loss = float(np.mean(np.log(sums) - chosen, dtype=np.float64))
        logits *= (1.0 / (len(rows) * sums))[:, None]
        logits[rows, targets] -= logits.dtype.type(1.0 / len(rows))
        return loss

    def _backward(self, ids: NDArray[np.integer], g: Array, buffers: _Buffers, into: Weights) -> None:
        weights, hs, d, product = self.weights, buffers.hs, buffers.d, buffers.product
        m = self.shape.hidden
        flat_h, flat_d = hs[1:].reshape(-1, m), d.reshape(-1, m)
        np.dot(g.T, flat_h, out=into.V)
        np.dot(buffers.ones, g, out=into.c)
        np.dot(g, weights.V, out=flat_d)
        slope = np.multiply(hs[1:], hs[1:], out=buffers.slope)
        np.subtract(1.0, slope, out=slope)
        d[-1] *= slope[-1]
        for t in range(len(d) - 2, -1, -1):
            np.dot(d[t + 1], weights.W, out=product)
            now = d[t]
            np.add(now, product, out=now)
            np.multiply(now, slope[t], out=now)
        np.dot(flat_d.T, hs[:-1].reshape(-1, m), out=into.W)
        np.dot(buffers.ones, flat_d, out=into.b)
        # as a product with one-hot rows, the sum per symbol takes a tenth of the pass; `add.at` is far slower
        symbols = ids.ravel()
        buffers.onehot[buffers.rows, symbols] = 1.0
        np.dot(buffers.onehot.T, flat_d, out=into.U)
        buffers.onehot[buffers.rows, symbols] = 0.0
