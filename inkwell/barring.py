"""Which tokens a text may not take next: its constraint, its least length, and n-grams that it has already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from inkwell.request import Constraint, Request
from inkwell.rows import Row
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


def masks_of(
    rows: Sequence[Row], drawn: Sequence[bool], vocabulary: int, device: torch.device
) -> dict[int, Tensor]:
    """Of drawn rows by index, masks (V,) of the tokens that a shape or a ban of n-grams leaves."""
    masks: dict[int, Tensor] = {}
    for index, row in enumerate(rows):
        request = row.request
        if drawn[index] and (request.constraint is not None or request.sampling.no_repeat_ngram_size):
            mask = permitted(request, row.text, request.constraint, vocabulary, device)
            if mask is not None:
                masks[index] = mask
    return masks


def allowed_of(
    rows: Sequence[Row],
    drawn: Sequence[bool],
    masks: Mapping[int, Tensor],
    vocabulary: int,
    device: torch.device,
) -> Tensor | None:
    """Mask (n, V) of the tokens that drawn rows may take, or None when nothing is barred."""
    endless = [
        index
        for index, row in enumerate(rows)
        if drawn[index] and (not row.request.stops_at_end or len(row.text) < row.request.min_new_tokens)
    ]
    if not masks and not endless:
        return None
    allowed = torch.ones((len(rows), vocabulary), dtype=torch.bool, device=device)
    for index, mask in masks.items():
        allowed[index] = mask
    if endless:
        allowed[endless, END_ID] = False
    return allowed


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
