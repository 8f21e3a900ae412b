"""The steps of searches for likeliest texts (`inkwell.beams`) over the rows of the engine."""

from __future__ import annotations

import torch
from torch import Tensor

from inkwell.barring import permitted
from inkwell.beams import Top
from inkwell.request import Emission
from inkwell.rows import Rows, Search
from inkwell.sampling import top_tokens


def lengthen(rows: Rows, search: Search, raw: Tensor, adjusted: Tensor) -> bool:
    """Lengthen the beams of one search by a token, from logits (n, V) of all rows in use; whether it is over."""
    request, own = search.request, search.live
    device, vocabulary = raw.device, raw.shape[1]
    places = torch.tensor([rows.used.index(row) for row in own], device=device)
    logs = adjusted[places].double().log_softmax(-1)
    for beam, log in zip(search.beams.beams, logs, strict=True):
        mask = permitted(request, beam.tokens, beam.constraint, vocabulary, device)
        if mask is not None:
            log.masked_fill_(~mask, float("-inf"))
    shown = raw[places].double().log_softmax(-1) if request.logprobs else None
    top = likeliest(raw[places], request.top_n_tokens) if request.top_n_tokens else None
    parents = search.beams.advance(logs, shown, top)
    if search.beams.done:
        return True
    rows.branch(search, parents)
    tokens = [beam.tokens[-1] for beam in search.beams.beams]
    for row, token in zip(search.live, tokens, strict=True):
        rows.chosen(row, token)
    if request.sampling.penalised:
        counted = [rows.used.index(row) for row in search.live]
        rows.count(torch.tensor(counted, device=device), torch.tensor(tokens, device=device))
    return False


def told(search: Search, broken_off: str | None = None) -> list[Emission]:
    """The best text of a search, token by token; its last emission bears all texts."""
    request, found = search.request, search.beams.found(broken_off)
    if not found or not found[0].tokens:
        return [Emission(request.id, (), broken_off or "length", found=found)]
    best = found[0]
    last = len(best.tokens) - 1
    return [
        Emission(
            request.id,
            (token,),
            (broken_off or best.reason) if place == last else None,
            (best.logprobs[place],) if best.logprobs else (),
            best.top[place] if best.top else (),
            found=found if place == last else (),
        )
        for place, token in enumerate(best.tokens)
    ]


def likeliest(logits: Tensor, count: int) -> list[Top]:
    """The `count` most likely tokens of each row of logits (m, V) with their log-probabilities."""
    ids, values = top_tokens(logits, count)
    return [tuple(zip(*pair, strict=True)) for pair in zip(ids.tolist(), values.tolist(), strict=True)]
