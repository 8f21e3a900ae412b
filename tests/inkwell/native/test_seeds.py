"""The promise of a seed on the native runtime: one text, alone and in any company."""

from __future__ import annotations

import random
from typing import Any

import pytest

from inkwell.engine import Engine, Request
from inkwell.native.decoders import DECODERS
from inkwell.native.library import Library
from inkwell.sampling import SamplingParams

from ..stepping import V, make_model


def requests(count: int, steered: bool, longest: int) -> list[Request]:
    """Requests of all kinds: short and long, filtered and penalised, some with a category and guided by it."""
    draw = random.Random(count)
    made = []
    for number in range(count):
        sampling = SamplingParams(
            seed=number,
            temperature=draw.choice([0.7, 1.0, 1.3]),
            top_k=draw.choice([0, 5, 20]),
            top_p=draw.choice([1.0, 0.9]),
            repetition_penalty=draw.choice([1.0, 1.2]),
        )
        prompt = tuple(draw.randrange(V) for _ in range(draw.choice([1, 2, 9, 70])))
        made.append(
            Request(
                str(number),
                prompt,
                sampling,
                draw.randrange(1, longest),
                condition={1: 1.0} if steered and number % 2 else None,
                guidance=2.0 if steered and number % 4 == 1 else 1.0,
                stops_at_end=bool(number % 3),
            )
        )
    return made


def texts(decoder: Any, work: list[Request], slots: int) -> dict[str, list[int]]:
    """What every request gets when `slots` rows are worked on at a time, in an order of its own."""
    engine = Engine(decoder, V, slots, queue=len(work))
    random.Random(slots).shuffle(work := list(work))
    for request in work:
        engine.submit(request)
    found: dict[str, list[int]] = {request.id: [] for request in work}
    while not engine.idle:
        for emission in engine.step():
            if emission.token is not None:
                found[emission.request_id].append(emission.token)
    return found


def differing(shape: str, count: int, longest: int, library: Library) -> list[str]:
    model = make_model(shape)
    work = requests(count, shape.endswith("steered"), longest)
    make = DECODERS[type(model)]
    fast, path = library.paths[0], library.paths[-1]
    together = texts(make(model, library, fast, 2), work, 64)
    # a guided request takes two rows; and the other processor is the slowest there is
    alone = texts(make(model, library, path, 1), work, 2)
    assert sum(map(len, together.values())) > count
    return [name for name, text in together.items() if text != alone[name]]


@pytest.mark.parametrize("shape", ["lstm-24", "gpt-36-steered"])
def test_a_seed_gives_one_text_alone_and_in_company_on_any_processor(shape: str, library: Library) -> None:
    assert differing(shape, 200, 12, library) == []


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["gru-48", "lstm-100", "gpt-36-steered"])
def test_ten_thousand_seeds_give_one_text_each(shape: str, library: Library) -> None:
    assert differing(shape, 10_000, 25, library) == []
