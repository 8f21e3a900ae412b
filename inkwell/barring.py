"""Which tokens a text may not take next: its constraint, its least length, and n-grams that it has already."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from inkwell.request import Constraint, Request
from inkwell.tokenizer import END_ID


def permitted(
    request: Request,
    text: Sequence[int],
    constraint: Constraint | None,
    vocabulary: int,
    device: torch.device,
) -> Tensor | None:
    """Boolean (V,): tokens that may follow `text`, or None when nothing is barred."""
    barred: list[int] = []
    if not request.stops_at_end or len(text) < request.min_new_tokens:
        barred.append(END_ID)
    mask = constraint.allowed() if constraint is not None else None
    size = request.sampling.no_repeat_ngram_size
    repeats = repeating(text, size) if size else []
    # A shape is a promise and an n-gram ban a preference: where both leave nothing, the ban gives way.
    if mask is not None and repeats and int(mask.sum()) == int(mask[sorted({*repeats, *barred})].sum()):
        repeats = []
    barred.extend(repeats)
    if not barred:
        return None if mask is None else mask.to(device)
    ones = torch.ones(vocabulary, dtype=torch.bool)
    result = (ones if mask is None else mask.clone()).to(device)
    result[barred] = False
    return result


def repeating(text: Sequence[int], size: int) -> list[int]:
    """Tokens that would complete an n-gram of `size` which the text holds already."""
    if len(text) < size:
        return []
    head = list(text[len(text) - size + 1 :]) if size > 1 else []
    found = []
    for start in range(len(text) - size + 1):
        if list(text[start : start + size - 1]) == head:
            found.append(text[start + size - 1])
    return found
