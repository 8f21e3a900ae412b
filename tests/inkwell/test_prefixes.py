"""Equal prompts that come together are read once, and nobody can tell."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from inkwell.engine import Engine, Request
from inkwell.models import build_model
from inkwell.sampling import SamplingParams

V = 31
PROMPT = tuple(range(1, 20))


class Reading:
    """A decoder that takes down the lengths of the parts it reads."""

    def __init__(self, decoder: Any) -> None:
        self._decoder, self.read = decoder, []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def prefill(self, tokens: Any, state: Any, row: int) -> None:
        self.read.append(len(tokens))
        self._decoder.prefill(tokens, state, row)


def decoder() -> Reading:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        shape = {"architecture": "gpt", "layers": 2, "heads": 2, "width": 32, "window": 12, "categories": 3}
        return Reading(build_model({**shape, "vocabulary": V}).eval().decoder())


def request(number: int, **fields: Any) -> Request:
    return Request(
        str(number), **{"prompt": PROMPT, "sampling": SamplingParams(seed=number), **fields}, max_new_tokens=9
    )


def texts(engine: Engine) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    while not engine.idle:
        for emission in engine.step():
            found.setdefault(emission.request_id, []).extend(emission.tokens)
    return found


def test_samples_of_one_prompt_read_it_once_and_say_what_they_say_alone() -> None:
    reading = decoder()
    engine = Engine(reading, V, slots=8)
    work = [request(number) for number in range(5)]
    for one in work:
        engine.submit(one)
    together = texts(engine)
    assert sum(reading.read) == len(PROMPT) - 1
    for one in work:
        engine.submit(one)
        assert texts(engine) == {one.id: together[one.id]}
    assert len({tuple(text) for text in together.values()}) > 1


@pytest.mark.parametrize(
    "other", [{"condition": {1: 1.0}}, {"prompt": (*PROMPT[:-1], 30)}, {"prompt": PROMPT[:-1]}]
)
def test_another_prompt_or_category_is_read_by_itself(other: dict[str, Any]) -> None:
    reading = decoder()
    engine = Engine(reading, V, slots=8)
    engine.submit(request(1))
    engine.submit(request(2, **other))
    together = texts(engine)
    assert sum(reading.read) == len(PROMPT) - 1 + len(other.get("prompt", PROMPT)) - 1
    for one in (request(1), request(2, **other)):
        engine.submit(one)
        assert texts(engine) == {one.id: together[one.id]}


def test_a_row_that_has_gone_on_is_not_copied() -> None:
    reading = decoder()
    engine = Engine(reading, V, slots=2)
    for number in range(4):
        engine.submit(request(number))
    together = texts(engine)
    assert sum(reading.read) == 2 * (len(PROMPT) - 1), "two at a time, each pair once"
    engine.submit(request(3))
    assert texts(engine)["3"] == together["3"]


def test_a_row_that_is_freed_before_a_step_is_not_copied() -> None:
    reading = decoder()
    engine = Engine(reading, V, slots=4)
    rows = engine._rows
    rows.admit(request(1))
    rows.free(rows.used[0])
    rows.admit(request(2, condition={2: 1.0}))
    rows.admit(request(1))
    assert sum(reading.read) == 3 * (len(PROMPT) - 1)
