"""Classifier-free guidance: the formula, and that the second row changes nothing about the first rules."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from typing import Any

import pytest
import torch

from inkwell.bundle import Bundle, load_bundle
from inkwell.engine import Emission, Engine, Request
from inkwell.models import build_model
from inkwell.sampling import SamplingParams
from inkwell.session import TextEngine
from inkwell.tokenizer import END_ID

V = 17
SHAPES: dict[str, dict[str, Any]] = {
    "gpt": {"architecture": "gpt", "layers": 1, "heads": 2, "width": 12, "window": 6, "categories": 4},
    "window": {
        "architecture": "window",
        "window": 5,
        "embedding": 8,
        "hidden": 12,
        "categories": 4,
        "steering": "both",
        "adaptive": True,
    },
}


def model_of(shape: str) -> Any:
    torch.manual_seed(11)
    model = build_model({**SHAPES[shape], "vocabulary": V}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


MODELS = {shape: model_of(shape) for shape in SHAPES}


def request(name: str, guidance: float, **fields: Any) -> Request:
    values: dict[str, Any] = {
        "prompt": (END_ID, 3, 4),
        "sampling": SamplingParams(seed=5),
        "max_new_tokens": 8,
        "condition": {1: 0.75, 3: 0.25},
        **fields,
    }
    return Request(name, guidance=guidance, **values)


def run(engine: Engine) -> dict[str, list[Emission]]:
    heard: dict[str, list[Emission]] = defaultdict(list)
    for _ in range(5000):
        if engine.idle:
            return heard
        for emission in engine.step():
            heard[emission.request_id].append(emission)
    raise AssertionError("the engine did not come to rest")


def alone(shape: str, wanted: Request) -> list[Emission]:
    engine = Engine(MODELS[shape].decoder(), V, slots=wanted.rows)
    engine.submit(wanted)
    return run(engine)[wanted.id]


def tokens(emissions: list[Emission]) -> list[int]:
    return [emission.token for emission in emissions if emission.token is not None]


def by_hand(shape: str, wanted: Request) -> tuple[list[int], list[float]]:
    """Greedy tokens and their log-probabilities from two decoders run side by side."""
    decoders = [MODELS[shape].decoder() for _ in range(2)]
    states = [decoder.new_state(1) for decoder in decoders]
    for decoder, state, condition in zip(decoders, states, (wanted.condition, None), strict=True):
        decoder.admit(state, 0, condition)
    text: list[int] = []
    logs: list[float] = []
    feed = [*wanted.prompt]
    while len(text) < wanted.max_new_tokens and text[-1:] != [END_ID]:
        for token in feed:
            given, free = (d.step(torch.tensor([token]), s)[0] for d, s in zip(decoders, states, strict=True))
        logits = free + wanted.guidance * (given - free)
        text.append(int(logits.argmax()))
        logs.append(float(logits.double().log_softmax(-1)[text[-1]]))
        feed = [text[-1]]
    return text, logs


@pytest.mark.parametrize("guidance", [0.0, 0.5, 2.0, 7.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_guided_logits_are_the_formula(shape: str, guidance: float) -> None:
    wanted = request(
        "r", guidance, sampling=SamplingParams(temperature=0.0), logprobs=True, max_new_tokens=12
    )
    heard = alone(shape, wanted)
    text, logs = by_hand(shape, wanted)
    assert tokens(heard) == text
    assert [emission.logprob for emission in heard] == pytest.approx(logs, abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_guidance_of_one_is_none_and_of_zero_has_no_category(shape: str) -> None:
    plain = alone(shape, request("r", 1.0))
    free = alone(shape, request("r", 1.0, condition=None))
    assert tokens(alone(shape, request("r", 0.0))) == tokens(free)
    assert tokens(alone(shape, request("r", 3.0))) != tokens(plain)
    assert request("r", 1.0).rows == request("r", 3.0, condition=None).rows == 1
    assert request("r", 3.0).rows == 2


@pytest.mark.parametrize("shape", SHAPES)
def test_guided_and_plain_requests_say_the_same_together_and_alone(shape: str) -> None:
    rng = random.Random(3)
    requests = [
        request(
            f"r{i}",
            rng.choice([1.0, 1.0, 0.5, 3.0]),
            condition=rng.choice([None, {1: 1.0}, {2: 0.5, 3: 0.5}]),
            prompt=(END_ID, *(rng.randrange(1, V) for _ in range(rng.randint(0, 9)))),
            sampling=SamplingParams(
                seed=rng.getrandbits(60),
                temperature=rng.choice([0.0, 1.0]),
                top_k=rng.choice([0, 4]),
                repetition_penalty=rng.choice([1.0, 1.3]),
                frequency_penalty=rng.choice([0.0, 0.5]),
            ),
            max_new_tokens=rng.randint(1, 12),
            logprobs=True,
            trace=rng.random() < 0.3,
        )
        for i in range(120)
    ]
    engine, waiting = Engine(MODELS[shape].decoder(), V, slots=9), list(requests)
    heard: dict[str, list[Emission]] = defaultdict(list)
    dropped = set()
    while waiting or not engine.idle:
        for _ in range(rng.randint(0, 4)):
            if waiting:
                engine.submit(waiting.pop())
        for emission in engine.step():
            heard[emission.request_id].append(emission)
        if rng.random() < 0.1 and heard:
            # whoever leaves early takes a shadow along and disturbs nobody
            name = rng.choice(sorted(heard))
            if engine.cancel(name):
                dropped.add(name)
        assert engine.active <= 9
    assert dropped
    assert engine.active == 0
    for wanted in requests:
        if wanted.id not in dropped:
            assert heard[wanted.id] == alone(shape, wanted), wanted


@pytest.mark.parametrize("shape", SHAPES)
def test_a_guided_text_taken_up_at_any_point_goes_on_as_it_would_have(shape: str) -> None:
    whole = tokens(alone(shape, request("r", 2.5, stops_at_end=False)))
    for cut in range(len(whole)):
        rest = alone(shape, request("r", 2.5, stops_at_end=False, forced=tuple(whole[:cut])))
        assert tokens(rest) == whole[cut:]


def test_a_guided_request_waits_for_two_rows_and_frees_both() -> None:
    engine = Engine(MODELS["gpt"].decoder(), V, slots=3)
    engine.submit(request("a", 2.0, max_new_tokens=3, stops_at_end=False))
    engine.submit(request("b", 2.0, max_new_tokens=2, stops_at_end=False))
    engine.step()
    assert (engine.active, engine.queued) == (2, 1)
    heard = run(engine)
    assert len(heard["b"]) == 2
    assert engine.active == 0
    assert engine.stats.finished == 2
    assert engine.stats.tokens == 5


def test_a_guided_request_that_can_never_fit_is_refused() -> None:
    engine = Engine(MODELS["gpt"].decoder(), V, slots=1)
    with pytest.raises(ValueError, match="takes 2 rows; this engine has 1"):
        engine.submit(request("a", 2.0))


def test_an_expired_guided_request_frees_both_rows() -> None:
    now = [0.0]
    engine = Engine(MODELS["gpt"].decoder(), V, slots=4, clock=lambda: now[0])
    engine.submit(request("late", 2.0, deadline=1.0, stops_at_end=False))
    engine.submit(request("other", 2.0, stops_at_end=False))
    engine.step()
    now[0] = 2.0
    heard = run(engine)
    assert [emission.finished for emission in heard["late"]][-1:] == ["deadline"]
    assert len(heard["other"]) == 7  # and one in the step before
    assert engine.active == 0


@pytest.fixture(scope="module")
def bundles(request: pytest.FixtureRequest) -> dict[str, Bundle]:
    return {name: load_bundle(request.getfixturevalue(name)) for name in ("char_bundle", "gpt_bundle")}


def last(bundle: Bundle, slots: int = 4, **job: Any) -> dict[str, Any]:
    return list(TextEngine(bundle, slots=slots).generate({"seed": 1, "prompt": "a", **job}))[-1]


def test_jobs_ask_for_guidance_by_name(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["gpt_bundle"]
    category = bundle.categories[0]
    ends = {g: last(bundle, category=category, guidance=g, max_new_tokens=20) for g in (0, 1, 8)}
    assert all(end["event"] == "end" for end in ends.values())
    assert ends[1] | {"queue_ms": 0, "inference_ms": 0} == last(
        bundle, category=category, max_new_tokens=20
    ) | {
        "queue_ms": 0,
        "inference_ms": 0,
    }
    assert ends[0]["text"] == last(bundle, max_new_tokens=20)["text"]
    # nothing to strengthen
    assert last(bundle, guidance=8, max_new_tokens=20)["text"] == ends[0]["text"]


@pytest.mark.parametrize(
    ("name", "slots", "job", "message"),
    [
        ("char_bundle", 4, {"guidance": 2}, "guidance is not possible: model .* has no categories"),
        ("gpt_bundle", 1, {"guidance": 2, "category": True}, "guidance takes two rows; this engine has one"),
        ("gpt_bundle", 4, {"guidance": -1}, "guidance must be a number from 0 to 100; got -1"),
        ("gpt_bundle", 4, {"guidance": "2"}, "guidance must be a number from 0 to 100; got '2'"),
    ],
)
def test_impossible_guidance_is_an_error_of_the_job(
    bundles: dict[str, Bundle], name: str, slots: int, job: dict[str, Any], message: str
) -> None:
    bundle = bundles[name]
    if job.get("category"):
        job = {**job, "category": bundle.categories[0]}
    event = last(bundle, slots, **job)
    assert event["event"] == "error"
    assert event["field"] == "guidance"
    assert re.fullmatch(message, event["error"].partition(", so")[0])
