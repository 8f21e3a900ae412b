"""Counter-based randomness: the number for a token depends on (seed, position, token id) and on nothing else.

So a seed gives the same text alone, in any batch, on any replica and after a resume; nothing has to be
carried along. The mixing function is the finaliser of splitmix64 (Steele, Lea, Flood 2014), chained three
times. 64-bit arithmetic wraps around in torch's int64 as it does in C; right shifts are made logical.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_WORD = (1 << 64) - 1
_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MUL_1 = _signed(0xBF58476D1CE4E5B9)
_MUL_2 = _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix64(x: Tensor) -> Tensor:
    """splitmix64's finaliser on int64 tensors of any shape; a bijection of 64-bit words."""
    x = (x ^ _shift_right(x, 30)) * _MUL_1
    x = (x ^ _shift_right(x, 27)) * _MUL_2
    return x ^ _shift_right(x, 31)


def uniform(seeds: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """Uniform numbers in (0, 1), float64 (B, K), for seeds (B,), positions (B,) and token ids (B, K) or (K,)."""
    row = mix64(mix64(seeds + _GOLDEN) ^ (positions * _GOLDEN + _MUL_1))
    words = mix64(row[:, None] + (tokens + 1) * _GOLDEN)
    # 53 random bits, moved to the middle of their cell so that neither 0 nor 1 can come out
    return (_shift_right(words, 11).to(torch.float64) + 0.5) * 2.0**-53


def uniform_of(seed: int, position: int, token: int) -> float:
    """The number that `uniform` gives for one token, without tensors."""

    def mixed(x: int) -> int:
        x = (x ^ (x >> 30)) * (_MUL_1 & _WORD) & _WORD
        x = (x ^ (x >> 27)) * (_MUL_2 & _WORD) & _WORD
        return x ^ (x >> 31)

    row = mixed(mixed((seed + _GOLDEN) & _WORD) ^ ((position * _GOLDEN + _MUL_1) & _WORD))
    word = mixed((row + (token + 1) * _GOLDEN) & _WORD)
    return ((word >> 11) + 0.5) * 2.0**-53


def gumbel(seeds: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """Standard Gumbel noise, float64, shaped as in `uniform`."""
    return -torch.log(-torch.log(uniform(seeds, positions, tokens)))
