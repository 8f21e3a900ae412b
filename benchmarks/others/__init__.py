"""The same GPT weights in other people's libraries. Each is imported only when it is asked for.

A library here is a function that takes one of our GPT models and gives a `Generator`. Our GPT is computed as
GPT-NeoX is (layer norms before attention and feed-forward, one after the other; rotary positions over whole heads,
first half against second half; exact GELU; no bias on the output), so its weights can be taken over one by one.
Only the window of attention has no counterpart, and does not matter before a text is longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from inkwell.models.gpt import GPTModel


class Setting(NamedTuple):
    """How tokens are chosen. A temperature of 0 takes the most likely one."""

    temperature: float
    top_k: int


class Generator(Protocol):
    """Continues `rows` texts that begin with token 1 by exactly `tokens` tokens, and gives their ids."""

    def __call__(self, rows: int, tokens: int, setting: Setting) -> list[list[int]]: ...


Library = Callable[[GPTModel], Generator]
"""Weights → generator, on as many threads as torch has. ImportError where the library is not installed."""
