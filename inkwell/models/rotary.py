"""Rotary positions: queries and keys turned by angles that grow with their positions.

A product of two then depends on how far they are apart (Su et al. 2021).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rotations(positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, width/2) of rotary positions (T,)."""
    rates = 10000.0 ** (-torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width)
    angles = positions[:, None].float() * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs (first half, second half) of the last dimension of x (…, T, D) by their angles."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def rotated_heads(qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, H, T, D) of their common product (B, T, 3, H, D), the first two turned.

    The same as `rotate` of each part, in fewer passes over memory, there and back.
    """
    heads = _RotatedHeads.apply(qkv, cos.to(qkv.dtype), sin.to(qkv.dtype))  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, Tensor, Tensor]", heads)


class _RotatedHeads(torch.autograd.Function):
    """Writes each part where it is wanted. The way back is the same turn by the opposite angles."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        parts = qkv.permute(2, 0, 3, 1, 4)
        turned = torch.empty_like(parts[:2], memory_format=torch.contiguous_format)
        _turn_into(turned, parts[:2], cos, sin)
        return turned[0], turned[1], parts[2].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        B, H, T, D = v.shape
        qkv = v.new_empty((B, T, 3, H, D))
        parts = qkv.permute(2, 0, 3, 1, 4)
        for part, gradient in zip(parts, (q, k), strict=False):
            _turn_into(part, gradient, cos, -sin)
        parts[2].copy_(v)
        return qkv, None, None


def _turn_into(out: Tensor, x: Tensor, cos: Tensor, sin: Tensor) -> None:
    a, b = x.chunk(2, dim=-1)
    first, second = out.chunk(2, dim=-1)
    torch.mul(a, cos, out=first).addcmul_(b, sin, value=-1)
    torch.mul(a, sin, out=second).addcmul_(b, cos)
