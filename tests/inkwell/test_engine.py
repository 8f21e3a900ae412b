"""Continuous batching: who gets a row, when rows are freed, and that nobody's tokens depend on it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from inkwell.engine import Emission, Engine, Request
from inkwell.errors import EngineFull
from inkwell.models import build_model
from inkwell.sampling import SamplingParams, log_probabilities
from inkwell.tokenizer import END_ID

V = 17
SHAPES: dict[str, dict[str, Any]] = {
    "lstm": {"architecture": "recurrent", "cell": "lstm", "hidden": 13, "layers": 1},
    "gru": {"architecture": "recurrent", "cell": "gru", "hidden": 9, "layers": 2, "embedding": 5},
    "gpt": {"architecture": "gpt", "layers": 1, "heads": 2, "width": 12, "window": 6, "categories": 3},
}


def model_of(shape: str) -> Any:
    torch.manual_seed(11)
    model = build_model({**SHAPES[shape], "vocabulary": V}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


MODELS = {shape: model_of(shape) for shape in SHAPES}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def engine_of(
    shape: str = "lstm", slots: int = 4, queue: int = 1000, clock: Callable[[], float] | None = None
) -> Engine:
    return Engine(MODELS[shape].decoder(), V, slots, queue, clock=clock or Clock())


def request(name: str, **fields: Any) -> Request:
    sampling = SamplingParams(**{"seed": 5, **fields.pop("sampling", {})})
    return Request(name, **{"prompt": (END_ID, 3, 4), "sampling": sampling, "max_new_tokens": 8, **fields})


def run(engine: Engine, limit: int = 5000) -> list[Emission]:
    emissions = []
    for _ in range(limit):
        if engine.idle:
            return emissions
        emissions.extend(engine.step())
    raise AssertionError("the engine did not come to rest")


def tokens_of(emissions: list[Emission], name: str | None = None) -> list[int]:
    return [e.token for e in emissions if e.token is not None and name in (None, e.request_id)]


def alone(shape: str, wanted: Request) -> list[Emission]:
    engine = engine_of(shape, slots=1)
    engine.submit(wanted)
    return run(engine)


def anything(rng: random.Random, name: str, shape: str = "lstm") -> Request:
    """A request with any mixture of parameters."""
    pick = rng.choice
    sampling = SamplingParams(
        seed=rng.getrandbits(62),
        temperature=pick([0.0, 0.5, 1.0, 1.5]),
        top_k=pick([0, 0, 3, 9]),
        top_p=pick([1.0, 1.0, 0.8]),
        min_p=pick([0.0, 0.0, 0.1]),
        typical_p=pick([1.0, 1.0, 0.7]),
        repetition_penalty=pick([1.0, 1.0, 1.5]),
        frequency_penalty=pick([0.0, 0.0, 0.5]),
        presence_penalty=pick([0.0, 0.0, -0.5]),
        no_repeat_ngram_size=pick([0, 0, 2, 3]),
        logit_bias=pick([{}, {}, {5: 2.0, 0: -1.0}]),
    )
    longest = rng.randint(1, 14)
    return Request(
        name,
        prompt=(END_ID, *(rng.randrange(1, V) for _ in range(rng.randint(0, 12)))),
        sampling=sampling,
        max_new_tokens=longest,
        min_new_tokens=rng.randint(0, longest),
        position=pick([0, 0, 100]),
        condition=pick([None, {1: 0.5, 2: 0.5}]) if shape == "gpt" else None,
        stops_at_end=pick([True, True, False]),
        logprobs=pick([True, False]),
        top_n_tokens=pick([0, 2]),
        trace=pick([True, False]),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_requests_say_the_same_in_a_full_batch_and_alone(shape: str) -> None:
    rng = random.Random(1)
    requests = [anything(rng, f"r{i}", shape) for i in range(120)]
    together: dict[str, list[Emission]] = defaultdict(list)
    engine, waiting = engine_of(shape, slots=16), list(requests)
    while waiting or not engine.idle:
        for _ in range(rng.randint(0, 6)):
            if waiting:
                engine.submit(waiting.pop())
        for emission in engine.step():
            together[emission.request_id].append(emission)
    for wanted in requests:
        assert together[wanted.id] == alone(shape, wanted), wanted


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_ten_thousand_requests_say_the_same_in_a_full_batch_and_alone(shape: str) -> None:
    rng = random.Random(2)
    requests = {f"r{i}": anything(rng, f"r{i}", shape) for i in range(10_000)}
    engine = engine_of(shape, slots=64, queue=10_000)
    for wanted in requests.values():
        engine.submit(wanted)
    together: dict[str, list[Emission]] = defaultdict(list)
    for emission in run(engine, limit=100_000):
        together[emission.request_id].append(emission)
    for name, wanted in requests.items():
        assert together[name] == alone(shape, wanted), wanted


@pytest.mark.parametrize("shape", SHAPES)
def test_random_traffic_loses_repeats_and_leaks_nothing(shape: str) -> None:
    rng, clock = random.Random(3), Clock()
    engine = engine_of(shape, slots=5, queue=8, clock=clock)
    open_requests: dict[str, Request] = {}
    said: dict[str, list[int]] = defaultdict(list)
    ended: dict[str, str] = {}
    dropped: set[str] = set()
    refused = 0
    for turn in range(900):
        action = rng.random()
        if action < 0.45:
            wanted = anything(rng, f"r{turn}", shape)
            if rng.random() < 0.2:
                wanted = replace(wanted, deadline=clock.now + rng.uniform(0, 12))
            try:
                engine.submit(wanted)
                open_requests[wanted.id] = wanted
            except EngineFull:
                refused += 1
        elif action < 0.52 and open_requests:
            name = rng.choice(sorted(open_requests))
            if rng.random() < 0.5:
                assert engine.cancel(name)
                assert not engine.cancel(name)
            elif said[name]:
                engine.release(name)
            else:
                continue
            del open_requests[name]
            dropped.add(name)
        else:
            clock.now += 1
            for emission in engine.step():
                name = emission.request_id
                assert name in open_requests, "an emission of a request that is over or was dropped"
                if emission.token is not None:
                    said[name].append(emission.token)
                if emission.finished:
                    ended[name] = emission.finished
                    del open_requests[name]
        assert engine.active <= 5
        assert engine.active + engine.queued == len(open_requests)
        stats = engine.stats
        assert stats.submitted == stats.finished + stats.cancelled + len(open_requests)
    assert refused > 0
    assert len(dropped) > 20
    assert {"length", "eos_token", "deadline"} <= set(ended.values())
    run(engine)
    assert engine.active == engine.queued == 0
    assert engine.stats.tokens >= sum(map(len, said.values()))
    # after all this, every row is as good as new
    wanted = [anything(rng, f"after{i}", shape) for i in range(5)]
    for one in wanted:
        engine.submit(one)
    emissions = run(engine)
    for one in wanted:
        assert [e for e in emissions if e.request_id == one.id] == alone(shape, one)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_taken_up_at_any_point_goes_on_as_it_would_have(shape: str) -> None:
    rng = random.Random(4)
    for trial in range(6):
        wanted = replace(anything(rng, "whole", shape), max_new_tokens=10, stops_at_end=trial % 2 == 0)
        whole = alone(shape, wanted)
        said = tokens_of(whole)
        for cut in range(len(said)):
            # other company, another place in the batch
            engine = engine_of(shape, slots=3)
            engine.submit(anything(rng, "neighbour", shape))
            engine.submit(replace(wanted, id="resumed", forced=tuple(said[:cut])))
            rest = [e._replace(request_id="whole") for e in run(engine) if e.request_id == "resumed"]
            assert rest == whole[cut:]


def test_a_short_request_among_long_ones_ends_first() -> None:
    engine = engine_of(slots=4)
    for i in range(3):
        engine.submit(request(f"long{i}", max_new_tokens=60, stops_at_end=False))
    for _ in range(10):
        engine.step()
    engine.submit(request("short", max_new_tokens=3, stops_at_end=False))
    ends = [e.request_id for e in run(engine) if e.finished]
    assert ends[0] == "short"
    assert len(ends) == 4


def test_those_who_wait_are_admitted_in_order_as_rows_become_free() -> None:
    engine = engine_of(slots=2)
    for i, length in enumerate([5, 2, 3, 1, 4]):
        engine.submit(request(f"r{i}", prompt=(3,), max_new_tokens=length, stops_at_end=False))
    first: dict[str, int] = {}
    for step in range(20):
        for emission in engine.step():
            first.setdefault(emission.request_id, step)
        assert engine.active <= 2
    assert first == {"r0": 0, "r1": 0, "r2": 2, "r3": 5, "r4": 5}


def test_the_waiting_line_is_bounded() -> None:
    engine = engine_of(slots=1, queue=2)
    engine.submit(request("a"))
    engine.submit(request("b"))
    with pytest.raises(EngineFull, match="2 requests are waiting"):
        engine.submit(request("c"))
    engine.step()
    engine.submit(request("c"))
    assert (engine.active, engine.queued, engine.stats.submitted) == (1, 2, 3)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt is empty"):
        engine_of().submit(request("a", prompt=()))


def test_cancelling_frees_the_row_at_once() -> None:
    engine = engine_of(slots=1)
    engine.submit(request("active", stops_at_end=False))
    engine.submit(request("waiting"))
    engine.submit(request("third", max_new_tokens=1))
    engine.step()
    assert engine.cancel("waiting")
    assert engine.cancel("active")
    assert not engine.cancel("unknown")
    assert (engine.active, engine.queued, engine.stats.cancelled) == (0, 1, 2)
    assert {e.request_id for e in run(engine)} == {"third"}


def test_deadlines_end_active_and_waiting_requests_with_what_they_have() -> None:
    clock = Clock()
    engine = engine_of(slots=1, clock=clock)
    engine.submit(request("active", prompt=(3,), max_new_tokens=50, stops_at_end=False, deadline=3.0))
    engine.submit(request("waiting", deadline=2.0))
    engine.submit(request("patient", max_new_tokens=2, stops_at_end=False))
    heard = []
    for _ in range(10):
        heard.extend((clock.now, e.request_id, e.finished) for e in engine.step() if e.finished)
        clock.now += 1
    assert heard == [(2.0, "waiting", "deadline"), (3.0, "active", "deadline"), (6.0, "patient", "length")]
    assert engine.stats.finished == 3


def test_a_deadline_at_the_clocks_zero_has_passed() -> None:
    engine = engine_of()
    engine.submit(request("late", deadline=0.0))
    assert [(e.token, e.finished) for e in engine.step()] == [(None, "deadline")]


def test_the_end_mark_ends_a_document_and_not_before_its_least_length() -> None:
    eager = {"logit_bias": {END_ID: 100.0}}
    assert [(e.token, e.finished) for e in alone("lstm", request("a", sampling=eager))] == [
        (END_ID, "eos_token")
    ]
    held = alone("lstm", request("a", sampling=eager, min_new_tokens=4))
    assert [e.token == END_ID for e in held] == [False] * 4 + [True]
    assert held[-1].finished == "eos_token"
    full = alone("lstm", request("a", sampling=eager, min_new_tokens=8))
    assert END_ID not in tokens_of(full)
    assert full[-1].finished == "length"


def test_the_end_mark_is_barred_where_texts_have_no_end() -> None:
    emissions = alone("lstm", request("a", sampling={"logit_bias": {END_ID: 100.0}}, stops_at_end=False))
    assert len(emissions) == 8
    assert END_ID not in tokens_of(emissions)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_sequence_of_the_forbidden_size_comes_twice(size: int) -> None:
    tempting = {"temperature": 0.3, "no_repeat_ngram_size": size}
    for seed in range(5):
        wanted = request("a", sampling={**tempting, "seed": seed}, max_new_tokens=14, stops_at_end=False)
        said = tokens_of(alone("lstm", wanted))
        grams = [tuple(said[i : i + size]) for i in range(len(said) - size + 1)]
        assert len(set(grams)) == len(grams)
    free = request("a", sampling={"temperature": 0.0}, max_new_tokens=14, stops_at_end=False)
    said = tokens_of(alone("lstm", free))
    assert len(set(said)) < len(said), "without the rule this model repeats itself, or the test shows nothing"


def test_greedy_tokens_and_their_log_probabilities_are_those_of_the_model() -> None:
    for shape, model in MODELS.items():
        wanted = request(
            "a", sampling={"temperature": 0.0}, logprobs=True, top_n_tokens=3, stops_at_end=False
        )
        emissions = alone(shape, replace(wanted, sampling=SamplingParams(temperature=0.0)))
        ids = [*wanted.prompt]
        for emission in emissions:
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1:]
            barred = logits.clone()
            barred[0, END_ID] = -torch.inf
            assert emission.token == int(barred.argmax())
            expected = float(log_probabilities(logits, torch.tensor([emission.token])))
            assert emission.logprob == pytest.approx(expected, abs=1e-4)
            assert [i for i, _ in emission.top] == logits.topk(3).indices[0].tolist()
            ids.append(emission.token or 0)


def test_penalties_count_the_prompt_and_grow_with_the_text() -> None:
    # four tokens far above the rest sink by the same for each time they come, so they come equally often
    strong = {
        "frequency_penalty": 2.0,
        "repetition_penalty": 1.0,
        "logit_bias": dict.fromkeys((1, 2, 3, 4), 50.0),
    }
    said = tokens_of(alone("lstm", request("a", sampling={**strong, "temperature": 0.0}, max_new_tokens=24)))
    assert [said.count(token) for token in (1, 2, 3, 4)] == [6] * 4, said
    shy = {"repetition_penalty": 100.0, "temperature": 0.0, "logit_bias": {3: 30.0, 4: 20.0, 7: 10.0}}
    assert tokens_of(alone("lstm", request("a", sampling=shy, max_new_tokens=1))) == [7]


def test_every_sampled_token_is_traced_even_when_a_neighbour_ends() -> None:
    engine = engine_of(slots=4)
    for i in range(4):
        engine.submit(
            request(f"r{i}", max_new_tokens=i + 1, stops_at_end=False, trace=True, sampling={"seed": i})
        )
    emissions = run(engine)
    assert len(emissions) == 1 + 2 + 3 + 4
    assert all(e.trace is not None and 0 < e.trace.probability <= 1 for e in emissions)


class Even:
    """Only even tokens, three of them."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def allowed(self) -> Tensor:
        mask = torch.zeros(V, dtype=torch.bool)
        mask[0 if len(self.seen) >= 3 else slice(2, None, 2)] = True
        return mask

    def advance(self, token: int) -> None:
        self.seen.append(token)

    def finished(self) -> bool:
        return len(self.seen) >= 3

    def instead(self, token: int) -> int:
        return token


def test_a_constraint_bars_tokens_and_hears_of_those_that_came() -> None:
    rule = Even()
    emissions = alone("lstm", request("a", constraint=rule))
    said = tokens_of(emissions)
    assert all(token % 2 == 0 and token for token in said[:3])
    assert said[3:] == [END_ID]
    assert rule.seen == said
    resumed = Even()
    rest = alone("lstm", request("a", constraint=resumed, forced=tuple(said[:2])))
    assert tokens_of(rest) == said[2:]
    assert resumed.seen == said


def test_reset_forgets_everybody() -> None:
    engine = engine_of(slots=2)
    for i in range(4):
        engine.submit(request(f"r{i}"))
    engine.step()
    engine.reset()
    assert engine.idle
    engine.submit(request("next"))
    assert run(engine) == alone("lstm", request("next"))


def test_totals_count_steps_rows_and_tokens() -> None:
    engine = engine_of(slots=2)
    engine.submit(request("a", prompt=(1, 2, 3), max_new_tokens=4, stops_at_end=False))
    engine.submit(request("b", prompt=(1,), max_new_tokens=1, stops_at_end=False))
    run(engine)
    stats = engine.stats
    assert (stats.submitted, stats.finished, stats.tokens) == (2, 2, 5)
    assert (stats.steps, stats.row_steps) == (6, 7)
