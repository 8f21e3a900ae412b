"""The core's draws against those of `inkwell.sampling`, and several steps in one call against single ones."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from inkwell.engine import Engine, Request
from inkwell.native.decoders import DECODERS
from inkwell.native.library import Library
from inkwell.running import MOST_STEPS, NEVER, Cursor
from inkwell.sampling import Counts, Plan, SamplingParams, adjust, log_probabilities, sample

from ..stepping import V, make_model
from .test_seeds import requests

CPU = torch.device("cpu")
SIZES = (3, 37, 90, 1000)


def runner_of(library: Library, vocabulary: int, threads: int = 1) -> Any:
    """Keeps its decoder alive by itself."""
    model = make_model("rnn-1", vocabulary=vocabulary)
    return DECODERS[type(model)](model, library, library.paths[0], threads).runner


def params(draw: random.Random, seed: int, vocabulary: int) -> SamplingParams:
    biased = draw.sample(range(vocabulary), draw.choice([0, 0, 0, 2]))
    return SamplingParams(
        seed=seed,
        temperature=draw.choice([0.0, 0.2, 0.8, 1.0, 1.7]),
        top_k=draw.choice([0, 0, 1, 2, 7, 50, vocabulary, 5000]),
        top_p=draw.choice([1.0, 1.0, 0.95, 0.6, 0.01]),
        min_p=draw.choice([0.0, 0.0, 0.05, 0.5]),
        typical_p=draw.choice([1.0, 1.0, 0.9, 0.3]),
        repetition_penalty=draw.choice([1.0, 1.0, 1.3, 0.7]),
        frequency_penalty=draw.choice([0.0, 0.0, 0.4, -0.3]),
        presence_penalty=draw.choice([0.0, 0.0, 0.5]),
        logit_bias={token: draw.choice([-100.0, -1.0, 2.0]) for token in biased},
    )


@pytest.mark.parametrize("vocabulary", SIZES)
@pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])
def test_tokens_are_those_that_torch_draws(vocabulary: int, masked: bool, library: Library) -> None:
    draw, made = random.Random(vocabulary), torch.Generator().manual_seed(vocabulary)
    runner = runner_of(library, vocabulary, 2)
    seen: set[int] = set()
    for trial in range(30):
        n = draw.choice([1, 5, 64])
        rows = [params(draw, draw.randrange(-(1 << 62), 1 << 62), vocabulary) for _ in range(n)]
        logits = draw.choice([0.5, 3.0, 12.0]) * torch.randn(n, vocabulary, generator=made)
        positions = [draw.randrange(1 << 20) for _ in range(n)]
        counts = Counts(
            *(
                torch.randint(0, 3, (n, vocabulary), generator=made).float().mul_(half).floor()
                for half in (0.5, 0.6)
            )
        )
        ends = [draw.random() < 0.7 for _ in range(n)]
        allowed = (
            torch.rand(n, vocabulary, generator=made) < 0.6 if masked else torch.ones(n, vocabulary).bool()
        )
        allowed[:, 1] = True  # something always may come
        mask = allowed.clone()
        mask[:, 0] &= torch.tensor(ends)
        plan = Plan(rows, vocabulary, CPU)
        torch_draws = sample(adjust(logits, plan, counts, mask), plan, torch.tensor(positions)).tolist()
        cursors = [
            Cursor(position, 1, 0, 0, 9, 0 if end else NEVER)
            for position, end in zip(positions, ends, strict=True)
        ]
        runner.settle([runner.manner(row, True, logs=True) for row in rows])
        own, logs = runner.draw(logits, cursors, counts, range(n), allowed if masked else None)
        assert own == torch_draws, f"trial {trial}"
        assert logs == pytest.approx(log_probabilities(logits, torch.tensor(own)).tolist(), abs=1e-12)
        seen.update(own)
    assert len(seen) > 2


def test_rows_that_are_not_asked_for_draw_nothing_and_the_others_the_same(library: Library) -> None:
    runner = runner_of(library, 90)
    logits = torch.randn(6, 90)
    runner.settle([runner.manner(SamplingParams(seed=row, top_k=20), True) for row in range(6)])
    cursors = [Cursor(row, 1, 0, 0, 9, 0) for row in range(6)]
    every, logs = runner.draw(logits, cursors, None, range(6), None)
    assert logs == [0.0] * 6, "nobody asked for them"
    assert runner.draw(logits, cursors, None, [4, 1], None)[0] == [every[4], every[1]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", [{}, {"top_k": 5}, {"top_p": 0.5}, {"typical_p": 0.5}, {"temperature": 0.0}])
def test_whatever_the_logits_are_a_token_of_the_vocabulary_comes(
    value: float, kind: dict[str, float], library: Library
) -> None:
    runner = runner_of(library, 37)
    for count in (1, 36, 37):
        logits = torch.randn(1, 37)
        logits[0, :count] = value
        runner.settle([runner.manner(SamplingParams(seed=4, **kind), True)])  # type: ignore[arg-type]
        (token,), _ = runner.draw(logits, [Cursor(0, 1, 0, 0, 9, 0)], None, [0], None)
        assert 0 <= token < 37


def test_draws_have_the_probabilities_of_the_model(library: Library) -> None:
    """Pearson's statistic over 40,000 draws of each kind; beyond 60 with 19 degrees of freedom once in 10^5."""
    runner = runner_of(library, 20)
    logits = torch.linspace(-2.0, 1.5, 20)[None]
    for settings, kept in (({}, 20), ({"top_k": 6}, 6)):
        found = torch.zeros(20)
        for start in range(0, 40_000, 500):
            rows = [SamplingParams(seed=seed, **settings) for seed in range(start, start + 500)]  # type: ignore[arg-type]
            runner.settle([runner.manner(row, True) for row in rows])
            cursors = [Cursor(0, 1, 0, 0, 9, 0)] * 500
            drawn, _ = runner.draw(logits.expand(500, 20), cursors, None, range(500), None)
            found += torch.bincount(torch.tensor(drawn), minlength=20)
        wanted = torch.where(torch.arange(20) >= 20 - kept, logits[0], float("-inf")).softmax(-1) * 40_000
        assert float(found[wanted == 0].sum()) == 0
        assert float(((found - wanted) ** 2 / wanted)[wanted > 0].sum()) < 60


def texts_of(engine: Engine, work: list[Request], most: int) -> dict[str, tuple[list[int], str | None]]:
    for request in work:
        engine.submit(request)
    found: dict[str, tuple[list[int], str | None]] = {request.id: ([], None) for request in work}
    while not engine.idle:
        for emission in engine.run(most):
            tokens, before = found[emission.request_id]
            assert before is None, "nothing comes after the end"
            tokens.extend(emission.tokens)
            found[emission.request_id] = (tokens, emission.finished)
    return found


@pytest.mark.parametrize("shape", ["rnn-33", "gru-48", "lstm-24", "gpt-36-steered"])
def test_several_steps_in_one_call_write_what_single_steps_do(shape: str, library: Library) -> None:
    model = make_model(shape)
    work = requests(60, shape.endswith("steered"), 40)
    # guided texts are watched between steps: with and without such company
    plain = [replace(request, guidance=1.0, logprobs=True) for request in work]
    for part in (work, plain):
        found = []
        for most, slots, threads in ((1, 64, 1), (3, 7, 2), (1000, 64, 2)):
            decoder = DECODERS[type(model)](model, library, library.paths[0], threads)
            found.append(texts_of(Engine(decoder, V, slots), part, most))
        assert found[0] == found[1] == found[2]
        assert all(reason in ("length", "eos_token") for _, reason in found[0].values())


def test_a_text_is_taken_up_where_it_stood(library: Library) -> None:
    model = make_model("gru-48")
    decoder = DECODERS[type(model)](model, library, library.paths[0], 1)
    sampling = SamplingParams(seed=5, repetition_penalty=1.3, frequency_penalty=0.2)
    wanted = Request("whole", (3, 4, 5), sampling, 30, stops_at_end=False)
    whole, _ = texts_of(Engine(decoder, V), [wanted], 64)["whole"]
    assert len(whole) == 30
    for cut in (1, 17, 29):
        rest = replace(wanted, forced=tuple(whole[:cut]))
        assert texts_of(Engine(decoder, V), [rest], 64)["whole"] == (whole[cut:], "length")


def test_a_call_ends_with_a_first_token_and_with_a_last_one(library: Library) -> None:
    model = make_model("lstm-24")
    engine = Engine(DECODERS[type(model)](model, library, library.paths[0], 1), V)
    engine.submit(Request("a", (1, 2, 3, 4), SamplingParams(), 50, stops_at_end=False))
    (first,) = engine.run(64)
    assert (first.request_id, len(first.tokens), first.finished) == ("a", 1, None)
    assert engine.stats.steps == 4
    engine.submit(Request("b", (1,), SamplingParams(), 6, stops_at_end=False))
    assert {e.request_id: len(e.tokens) for e in engine.run(64)} == {"a": 1, "b": 1}
    found = {e.request_id: (len(e.tokens), e.finished) for e in engine.run(64)}
    assert found == {"a": (5, None), "b": (5, "length")}
    assert engine.active == 1


def test_the_end_mark_waits_for_the_least_length(library: Library) -> None:
    model = make_model("lstm-24")
    with torch.no_grad():
        model.head.bias[0] += 50.0
    decoder = DECODERS[type(model)](model, library, library.paths[0], 1)
    for least in (0, 5):
        request = Request("a", (1,), SamplingParams(), 20, min_new_tokens=least)
        text, reason = texts_of(Engine(decoder, V), [request], 64)["a"]
        assert (len(text), reason) == (least + 1, "eos_token")
        assert 0 not in text[:-1]
    text, reason = texts_of(
        Engine(decoder, V), [Request("a", (1,), SamplingParams(), 20, stops_at_end=False)], 64
    )["a"]
    assert (len(text), reason, 0 in text) == (20, "length", False)


def test_what_does_not_fit_is_refused(library: Library) -> None:
    runner = runner_of(library, 37)
    with pytest.raises(IndexError, match="logit_bias"):
        runner.manner(SamplingParams(logit_bias={37: 1.0}), True)
    with pytest.raises(ValueError, match="settle"):
        runner.draw(torch.zeros(1, 37), [Cursor(0, 1, 0, 0, 9, 0)], None, [0], None)
    model = make_model("rnn-33")
    decoder = DECODERS[type(model)](model, library, library.paths[0], 1)
    state = decoder.new_state(2)
    decoder.runner.settle([decoder.runner.manner(SamplingParams(), True)])
    with pytest.raises(ValueError, match=f"allowed are 1 to {MOST_STEPS}"):
        decoder.runner.run([Cursor(0, 1, 0, 0, 9, 0)], [], None, state, MOST_STEPS + 1)
    with pytest.raises(IndexError, match="0 to 36"):
        decoder.runner.run([Cursor(0, 37, 0, 0, 9, 0)], [], None, state, 2)


def test_log_probabilities_do_not_depend_on_the_company(library: Library) -> None:
    model = make_model("gru-48")
    decoder = DECODERS[type(model)](model, library, library.paths[0], 1)

    def logs(*more: Request) -> list[float]:
        engine, found = Engine(decoder, V), []
        for request in (
            Request("a", (1, 2), SamplingParams(seed=3), 30, logprobs=True, stops_at_end=False),
            *more,
        ):
            engine.submit(request)
        while not engine.idle:
            found += [
                log for emission in engine.run(64) if emission.request_id == "a" for log in emission.logprobs
            ]
        return found

    alone = logs()
    assert len(alone) == 30
    assert all(log < 0 for log in alone)
    watched = Request("b", (1,), SamplingParams(no_repeat_ngram_size=2), 40, stops_at_end=False)
    assert logs(watched) == alone, "one step at a time, to the bit"
