"""Texts written at one setting, and what can be counted about them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from inkwell.bundle import Bundle
from inkwell.session import Event, TextEngine
from inkwell.tokenizer import END_ID
from training.errors import DataError


@dataclass(frozen=True)
class Sample:
    """One text: what it began with, its own ids and text, and the log-probability of each token under the
    model at temperature 1."""

    prompt: str
    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True)
class Counted:
    """Figures of a collection. `nats`: mean surprise of its tokens to the model; `distinct`: different texts
    over all; `distinct_3`: different token triples over all; `repeated`: share of token 4-grams that their text
    had before; `copied`: share of characters in passages of the training text; `exact`: share of texts that are
    training documents; `longest`: mean longest such passage. The last three are NaN without a novelty index."""

    nats: float
    distinct: float
    distinct_3: float
    repeated: float
    copied: float
    exact: float
    longest: float


def sample(bundle: Bundle, count: int, seed: int, tokens: int | None, **options: Any) -> list[Sample]:
    """`count` texts with the seeds that follow `seed`, all categories in turn; of at most `tokens` tokens, or of
    the model's own limit."""
    engine = TextEngine(bundle, slots=min(64, count))
    sinks: list[list[Event]] = []
    for number in range(count):
        job: dict[str, Any] = {"id": str(number), "seed": seed + number, "logprobs": True, **options}
        if tokens is not None:
            job["max_new_tokens"] = min(tokens, bundle.limits.max_new_tokens)
        if bundle.categories:
            job.setdefault("category", bundle.categories[number % len(bundle.categories)])
        sinks.append([])
        engine.submit(job, sinks[-1])
    while not engine.idle:
        engine.advance()
    return [_gathered(events) for events in sinks]


def _gathered(events: list[Event]) -> Sample:
    if events[-1]["event"] != "end":
        raise DataError(f"generation failed: {events[-1]['error']}")
    parts = [event for event in events if event["event"] == "tokens"]
    ids = tuple(token for part in parts for token in part["ids"])
    logprobs = tuple(value for part in parts for value in part.get("logprobs", ()))
    return Sample(events[0]["prompt"], events[-1]["text"], ids, logprobs)


def count(bundle: Bundle, samples: list[Sample]) -> Counted:
    """All figures of a collection."""
    logprobs = [value for item in samples for value in item.logprobs]
    triples: Counter[tuple[int, ...]] = Counter()
    again = total = 0
    for item in samples:
        ids = [token for token in item.ids if token != END_ID]
        triples.update(_ngrams(ids, 3))
        fours = Counter(_ngrams(ids, 4))
        total += fours.total()
        again += fours.total() - len(fours)
    index = bundle.load_novelty()
    copied = exact = longest = math.nan
    if index is not None and samples:
        found = [index.check(item.text) for item in samples]
        copied = sum(overlap.ratio for overlap in found) / len(found)
        exact = sum(index.contains(item.prompt + item.text) for item in samples) / len(found)
        longest = sum(overlap.longest for overlap in found) / len(found)
    return Counted(
        nats=-sum(logprobs) / len(logprobs) if logprobs else math.nan,
        distinct=len({item.prompt + item.text for item in samples}) / max(1, len(samples)),
        distinct_3=len(triples) / triples.total() if triples else 0.0,
        repeated=again / total if total else 0.0,
        copied=copied,
        exact=exact,
        longest=longest,
    )


def _ngrams(ids: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
