"""How far back does a model look? Held-out tokens are predicted from their last 1, 2, 4, … tokens alone.

What more text still improves is what a model remembers. Three kinds of tokens need it differently: those that
begin a word (what is going on?), those inside a word (how is it spelled?), and those inside a word that was said
before and is rare in the training text (who was that?), which only a long memory can know.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inkwell.bundle import Bundle
from inkwell.tokenizer import END_ID
from training.errors import UserError
from training.experiments.runs import Row
from training.figures.inside import condition_of
from training.prepare import prepare
from training.recipe import recipe_from

CONTEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
KINDS = ("word_begins", "inside_word", "said_before")
RARE = 2
"""A word that stands at most so often in the training text is rare."""
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ROWS = 64  # windows that are read at a time


@dataclass(frozen=True)
class Place:
    """A token to be predicted: its document and its index there."""

    document: int
    index: int


def memory(
    bundle: Bundle, contexts: Sequence[int] = CONTEXTS, places: int = 400, device: str = "cpu"
) -> list[Row]:
    """One row per length of context in tokens: nats per token over all places and for each kind, and what the
    longer context gained over the one before it.

    Every row predicts the same tokens. Raises UserError for a model whose held-out texts are too short.
    """
    lengths = sorted(set(contexts))
    if not lengths or lengths[0] < 1:
        raise UserError(f"contexts are {list(contexts)}; whole numbers of 1 or more are needed")
    recipe = recipe_from(bundle.config.training["recipe"], "config.json, training.recipe")
    prepared = prepare(recipe, bundle.tokenizer, bundle.categories)
    if prepared.validation is None:
        raise UserError(f"the corpus of {bundle.config.name!r} has no held-out part")
    seen = _words(document.text for document in prepared.splits.train.documents)
    documents = [bundle.tokenizer.encode(document.text) for document in prepared.validation.documents]
    found = _places(bundle, documents, seen, lengths[-1])
    chosen = {kind: _evenly(found[kind], places) for kind in KINDS}
    if not chosen["word_begins"] and not chosen["inside_word"]:
        longest = max(map(len, documents))
        raise UserError(
            f"held-out texts of {bundle.config.name!r} have at most {longest} tokens; "
            f"--contexts must stay below that"
        )
    model = bundle.model.to(device).eval()
    rows: list[Row] = []
    before = math.nan
    for length in lengths:
        row: Row = {"context": length}
        sums = {kind: _nats(model, documents, chosen[kind], length) for kind in KINDS}
        both = [*sums["word_begins"], *sums["inside_word"]]
        row["nats_per_token"] = sum(both) / len(both)
        row["gain"] = before - row["nats_per_token"]
        before = row["nats_per_token"]
        for kind in KINDS:
            row[kind] = sum(sums[kind]) / len(sums[kind]) if sums[kind] else math.nan
        rows.append(row)
    return rows


def _words(texts: Any) -> Counter[str]:
    return Counter(word.casefold() for text in texts for word in _WORD.findall(text))


def _places(
    bundle: Bundle, documents: list[list[int]], seen: Counter[str], reach: int
) -> dict[str, list[Place]]:
    """Tokens with at least `reach` before them, by kind. A token that is said before is also inside a word."""
    found: dict[str, list[Place]] = {kind: [] for kind in KINDS}
    for number, ids in enumerate(documents):
        pieces = [bundle.tokenizer.decode([token]) for token in ids]
        text = "".join(pieces)
        starts: list[int] = []
        at = 0
        for piece in pieces:
            starts.append(at)
            at += len(piece)
        earlier: dict[str, int] = {}  # word: index of the token in which it was said last
        token = 0
        for match in _WORD.finditer(text):
            while token + 1 < len(starts) and starts[token + 1] <= match.start():
                token += 1
            word, first, again = match.group().casefold(), token, earlier.get(match.group().casefold())
            # a piece may hold the space before its word, and all of a short word
            inside = [i for i in range(first + 1, len(starts)) if starts[i] < match.end()]
            if first >= reach:
                found["word_begins"].append(Place(number, first))
                found["inside_word"].extend(Place(number, i) for i in inside)
                if again is not None and seen[word] <= RARE and first - again <= reach:
                    found["said_before"].extend(Place(number, i) for i in inside)
            earlier[word] = first
    return found


def _evenly(items: list[Place], most: int) -> list[Place]:
    return items[:: max(1, -(-len(items) // most))] if items else []


def _nats(model: Any, documents: list[list[int]], places: list[Place], length: int) -> list[float]:
    """Surprise at each place, given the start mark and the last `length` tokens."""
    device = next(model.parameters()).device
    nats: list[float] = []
    for at in range(0, len(places), _ROWS):
        batch = places[at : at + _ROWS]
        rows = [[END_ID, *documents[p.document][p.index - length : p.index]] for p in batch]
        wanted = torch.tensor([documents[p.document][p.index] for p in batch], device=device)
        condition: Tensor | None = condition_of(model, 0)
        if condition is not None:
            condition = condition.expand(len(batch)).to(device)
        with torch.no_grad():
            logits = model(torch.tensor(rows, device=device), condition=condition).logits[:, -1]
        chances = logits.double().log_softmax(-1).gather(1, wanted[:, None])[:, 0]
        nats.extend((-chances).tolist())
    return nats
