"""Matrix products whose rows cannot influence each other: the ground under "same seed, same text".

A usual fp32 product picks its kernel by the number of rows, so a row's last bits change with its company.
oneDNN's product over weights packed once gives every row the same bits at every batch size, and is faster at
64 rows. Where it is not to be had, rows are padded to a multiple of `_TILE`. Either way the property is
checked on the actual weights when a worker starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_TILE = 8


class RowLinear:
    """`x @ weight.T + bias` for x (n, K) → (n, N), float32, for inference.

    On CUDA it is the plain product: there the caller keeps the number of rows fixed, see `Runtime`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight.detach().contiguous()
        self.bias = None if bias is None else bias.detach().contiguous()
        self._run: Callable[[Tensor], Tensor] = self._plain if weight.is_cuda else self._fastest_exact()

    def __call__(self, x: Tensor) -> Tensor:
        return self._run(x)

    def _plain(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def _padded(self, x: Tensor) -> Tensor:
        spare = -x.shape[0] % _TILE
        return F.linear(F.pad(x, (0, 0, 0, spare)), self.weight, self.bias)[: x.shape[0]]

    def _fastest_exact(self) -> Callable[[Tensor], Tensor]:
        packed = _packed_product(self.weight, self.bias)
        if packed is not None and rows_are_exact(packed, self.weight.shape[1]):
            return packed
        return self._padded


def _packed_product(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor] | None:
    """oneDNN's product over a packed copy of `weight`, or None where this build of torch has none."""
    backend: Any = torch.backends.mkldnn
    if not backend.is_available() or weight.dtype != torch.float32:
        return None
    operations: Any = torch.ops.mkldnn
    try:
        reorder, product = operations._reorder_linear_weight, operations._linear_pointwise
        packed = reorder(weight, 64)
    except (AttributeError, RuntimeError):
        return None

    def run(x: Tensor) -> Tensor:
        result: Tensor = product(x, packed, bias, "none", [], "")
        return result

    return run


def rows_are_exact(product: Callable[[Tensor], Tensor], width: int, rows: int = 64) -> bool:
    """Whether each row of `product` has the same bits alone, among few and among many. width = K."""
    generator = torch.Generator().manual_seed(width)
    x = torch.randn(rows, width, generator=generator)
    full = product(x)
    return all(
        torch.equal(product(x[:n].contiguous()), full[:n]) for n in (1, 2, 3, 7, 8, 9, 16, 31, rows - 1)
    )


def row_sigmoid(x: Tensor) -> Tensor:
    """Logistic function whose value at one element has the same bits in a tensor of any shape.

    `torch.sigmoid` works in vectors and finishes each thread's share with another formula, so that the last
    bits of an element depend on where it stands; `torch.tanh` has one formula for all.
    """
    return x.mul(0.5).tanh_().mul_(0.5).add_(0.5)
