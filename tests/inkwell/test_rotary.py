"""Rotary positions: what they promise, and the shorter way of computing them."""

from __future__ import annotations

import pytest
import torch

from inkwell.models.rotary import rotate, rotated_heads, rotations


def product(rows: int = 2, length: int = 7, heads: int = 3, width: int = 8) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randn(rows, length, 3, heads, width, dtype=torch.float64, requires_grad=True)


def test_products_depend_on_the_distance_alone() -> None:
    torch.manual_seed(1)
    q, k = torch.randn(2, 16).double()
    near = [rotate(q, *turn(at)) @ rotate(k, *turn(at - 5)) for at in (5, 17, 1000)]
    assert torch.allclose(torch.stack(near), near[0].expand(3), atol=1e-4)
    assert not torch.allclose(near[0], rotate(q, *turn(9)) @ rotate(k, *turn(0)))


def turn(position: int) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = rotations(torch.tensor([position]), 16)
    return cos[0], sin[0]


def test_heads_and_their_gradients_are_those_of_rotating_each_part() -> None:
    qkv = product()
    angles = rotations(torch.arange(7), 8)
    heads = rotated_heads(qkv, *angles)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    wanted = (rotate(q, *angles), rotate(k, *angles), v)
    weights = [torch.randn_like(part) for part in wanted]
    for part, other in zip(heads, wanted, strict=True):
        torch.testing.assert_close(part, other, rtol=1e-12, atol=1e-12)
    found, expected = (
        torch.autograd.grad(sum((part * by).sum() for part, by in zip(parts, weights, strict=True)), qkv)[0]
        for parts in (heads, wanted)
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_gradients_of_heads_by_differences() -> None:
    qkv = product(1, 3, 2, 4)
    angles = rotations(torch.arange(3), 4)
    assert torch.autograd.gradcheck(lambda x: rotated_heads(x, *angles), (qkv,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_heads_keep_their_type(dtype: torch.dtype) -> None:
    heads = rotated_heads(product().to(dtype), *rotations(torch.arange(7), 8))
    assert {part.dtype for part in heads} == {dtype}
    assert {tuple(part.shape) for part in heads} == {(2, 3, 7, 8)}
