"""Beam search against textbooks: all texts tried out, and a search written down plainly over `forward`."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inkwell.beams import BeamSearch
from inkwell.bundle import Bundle, load_bundle
from inkwell.engine import BeamSettings, Emission, Engine, Hypothesis, Request
from inkwell.models import build_model
from inkwell.sampling import SamplingParams
from inkwell.session import TextEngine
from inkwell.tokenizer import END_ID

V = 11
SHAPES: dict[str, dict[str, Any]] = {
    "lstm": {"architecture": "recurrent", "cell": "lstm", "hidden": 13, "layers": 1},
    "gru": {"architecture": "recurrent", "cell": "gru", "hidden": 9, "layers": 2, "embedding": 5},
    "gpt": {"architecture": "gpt", "layers": 1, "heads": 2, "width": 12, "window": 6, "categories": 3},
}
GREEDY = SamplingParams(temperature=0.0)


def model_of(shape: str, vocabulary: int = V) -> Any:
    torch.manual_seed(11)
    model = build_model({**SHAPES[shape], "vocabulary": vocabulary}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


MODELS = {shape: model_of(shape) for shape in SHAPES}
TINY = {shape: model_of(shape, 3) for shape in SHAPES}


def request(name: str = "r", width: int = 3, **fields: Any) -> Request:
    beams = BeamSettings(width, fields.pop("length_penalty", 1.0), fields.pop("early_stopping", False))
    values = {"prompt": (END_ID, 3, 4), "sampling": GREEDY, "max_new_tokens": 8, "beams": beams, **fields}
    return Request(name, **values)


def run(engine: Engine) -> dict[str, list[Emission]]:
    heard: dict[str, list[Emission]] = defaultdict(list)
    for _ in range(5000):
        if engine.idle:
            return heard
        for emission in engine.step():
            heard[emission.request_id].append(emission)
    raise AssertionError("the engine did not come to rest")


def alone(model: Any, wanted: Request) -> list[Emission]:
    engine = Engine(model.decoder(), model.vocabulary, slots=wanted.rows)
    engine.submit(wanted)
    return run(engine)[wanted.id]


def tokens(emissions: list[Emission]) -> tuple[int, ...]:
    return tuple(emission.token for emission in emissions if emission.token is not None)


def log_probabilities(model: Any, prompt: tuple[int, ...], text: tuple[int, ...]) -> Tensor:
    """(V,) what the model says of the token after prompt and text, by `forward` over all of it."""
    with torch.no_grad():
        return model(torch.tensor([[*prompt, *text]])).logits[0, -1].double().log_softmax(-1)


def every_text(model: Any, wanted: Request) -> list[tuple[float, tuple[int, ...]]]:
    """(score, tokens) of all texts that end, or are as long as allowed; best first."""
    found = []
    most, penalty = wanted.max_new_tokens, wanted.beams.length_penalty
    for length in range(1, most + 1):
        for text in itertools.product(range(model.vocabulary), repeat=length):
            if END_ID in text[:-1] or (length < most and text[-1] != END_ID):
                continue
            total = sum(
                float(log_probabilities(model, wanted.prompt, text[:at])[token])
                for at, token in enumerate(text)
            )
            found.append((total / length**penalty, text))
    return sorted(found, reverse=True)


def plainly(
    model: Any, wanted: Request, barred: Any = lambda text: ()
) -> list[tuple[float, tuple[int, ...]]]:
    """(score, tokens) by beam search as a book has it, to the last allowed length and without any early end."""
    width, penalty = wanted.beams.width, wanted.beams.length_penalty
    alive: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    found = []
    for length in range(1, wanted.max_new_tokens + 1):
        longer = []
        for total, text in alive:
            logs = log_probabilities(model, wanted.prompt, text)
            for token in range(model.vocabulary):
                if token not in barred(text):
                    longer.append((total + float(logs[token]), (*text, token)))
        longer.sort(reverse=True)
        alive = []
        for rank, (total, text) in enumerate(longer):
            if text[-1] == END_ID or length == wanted.max_new_tokens:
                if rank < width:
                    found.append((total / length**penalty, text))
            elif len(alive) < width:
                alive.append((total, text))
    return sorted(found, reverse=True)


def close(found: tuple[Hypothesis, ...], wanted: list[tuple[float, tuple[int, ...]]]) -> None:
    assert [one.tokens for one in found] == [text for _, text in wanted[: len(found)]]
    assert [one.score for one in found] == pytest.approx(
        [score for score, _ in wanted[: len(found)]], abs=1e-4
    )


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_search_that_is_wide_enough_finds_the_best_of_all_texts(shape: str, penalty: float) -> None:
    wanted = request(
        width=30, prompt=(END_ID, 1, 2), max_new_tokens=4, length_penalty=penalty, early_stopping="never"
    )
    everything = every_text(TINY[shape], wanted)
    assert len(everything) == 2**4 + sum(2**length for length in range(4))
    close(alone(TINY[shape], wanted)[-1].found, everything)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_narrow_search_finds_what_a_book_says_it_finds(shape: str, width: int, penalty: float) -> None:
    for prompt in ((END_ID,), (END_ID, 3, 4), (END_ID, 7, 7, 1, 2, 9, 5, 6)):
        wanted = request(width=width, prompt=prompt, length_penalty=penalty, early_stopping="never")
        heard = alone(MODELS[shape], wanted)
        by_book = plainly(MODELS[shape], wanted)
        assert tokens(heard) == by_book[0][1]
        assert heard[-1].found[0].score == pytest.approx(by_book[0][0], abs=1e-4)
        likely = sum(
            float(log_probabilities(MODELS[shape], prompt, tokens(heard)[:at])[token])
            for at, token in enumerate(tokens(heard))
        )
        assert heard[-1].found[0].total == pytest.approx(likely, abs=1e-4)


def test_a_search_finds_likelier_texts_than_taking_the_likeliest_token_does() -> None:
    better = worse = 0
    for shape, first, second in itertools.product(SHAPES, range(1, 5), range(1, 5)):
        wanted = request(
            width=4, prompt=(END_ID, first, second), length_penalty=0.0, stops_at_end=False, max_new_tokens=7
        )
        greedy = tokens(alone(MODELS[shape], replace(wanted, beams=None)))
        likely = sum(
            float(log_probabilities(MODELS[shape], wanted.prompt, greedy[:at])[token])
            for at, token in enumerate(greedy)
        )
        best = alone(MODELS[shape], wanted)[-1].found[0].total
        better += best > likely + 1e-4
        worse += best < likely - 1e-4
    assert better >= 5
    assert worse * 5 <= better


rows = st.lists(st.integers(-4, 0), min_size=3, max_size=3)


@given(
    table=st.lists(rows, min_size=3, max_size=3),
    width=st.integers(2, 5),
    penalty=st.sampled_from([0.0, 1.0]),
    early=st.sampled_from([False, True, "never"]),
    most=st.integers(1, 6),
)
def test_scores_that_are_equal_leave_no_doubt_about_the_order(
    table: list[list[int]], width: int, penalty: float, early: Any, most: int
) -> None:
    """Whole numbers as log-probabilities: ties everywhere. The same again, and by the book's rules."""

    def found() -> BeamSearch:
        search = BeamSearch(request(width=width, max_new_tokens=most), BeamSettings(width, penalty, early))
        while not search.done:
            last = [beam.tokens[-1] if beam.tokens else 0 for beam in search.beams]
            before = search.beams
            parents = search.advance(torch.tensor([table[token] for token in last], dtype=torch.float64))
            for beam, parent in zip(search.beams, parents, strict=True):
                assert beam.tokens[:-1] == before[parent].tokens
                assert beam.tokens[-1] != END_ID
                step = table[last[parent]][beam.tokens[-1]]
                assert beam.total == before[parent].total + step
            totals = [beam.total for beam in search.beams]
            assert totals == sorted(totals, reverse=True)
            assert len(totals) <= width
        return search

    texts = found().found()
    assert texts == found().found()
    assert 1 <= len(texts) <= width
    assert len({text.tokens for text in texts}) == len(texts)
    scores = [text.score for text in texts]
    assert scores == sorted(scores, reverse=True)
    for text in texts:
        path = zip((0, *text.tokens), text.tokens, strict=False)
        assert text.total == sum(table[before][token] for before, token in path)
        assert text.score == text.total / len(text.tokens) ** penalty
        assert text.reason == ("eos_token" if text.tokens[-1] == END_ID else "length")
        assert END_ID not in text.tokens[:-1]


def steps(table: dict[tuple[int, ...], list[float]], early: Any) -> tuple[int, tuple[int, ...]]:
    """How many tokens a search of two beams looks at, and what it finds; what is not in `table` repeats 1."""
    search = BeamSearch(request(max_new_tokens=40), BeamSettings(2, 1.0, early))
    count = 0
    while not search.done:
        logs = [table.get(beam.tokens, [-9.0, -0.01, -9.0]) for beam in search.beams]
        search.advance(torch.tensor(logs, dtype=torch.float64))
        count += 1
    return count, search.found()[0].tokens


def test_a_search_ends_early_by_the_rule_that_was_asked_for() -> None:
    # two texts are complete after two tokens; the long one that would win looks worse for its length till then
    hidden = {(): [-9.0, -0.7, -0.7], (1,): [-0.2, -2.0, -9.0], (2,): [-0.25, -9.0, -3.0]}
    assert steps(hidden, True) == (2, (1, END_ID))
    assert steps(hidden, False) == (2, (1, END_ID))
    assert steps(hidden, "never") == (40, (1,) * 40)
    # here it looks better than one of them
    plain = {(): [-1.0, -0.9, -9.0], (1,): [-1.0, -1.05, -9.0]}
    assert steps(plain, True) == (2, (1, END_ID))
    assert steps(plain, False) == (40, (1,) * 40)


def anything(rng: random.Random, name: str, shape: str) -> Request:
    """A search or a sampled text with any mixture of parameters."""
    pick = rng.choice
    searches = rng.random() < 0.6
    sampling = SamplingParams(
        seed=rng.getrandbits(60),
        temperature=0.0 if searches else pick([0.0, 1.0]),
        repetition_penalty=pick([1.0, 1.0, 1.5]),
        frequency_penalty=pick([0.0, 0.0, 0.5]),
        presence_penalty=pick([0.0, 0.0, -0.5]),
        no_repeat_ngram_size=pick([0, 0, 2]),
        logit_bias=pick([{}, {}, {5: 2.0, 0: -1.0}]),
    )
    longest = rng.randint(1, 10)
    return Request(
        name,
        prompt=(END_ID, *(rng.randrange(1, V) for _ in range(rng.randint(0, 9)))),
        sampling=sampling,
        max_new_tokens=longest,
        min_new_tokens=rng.randint(0, longest),
        condition=pick([None, {1: 0.5, 2: 0.5}]) if shape == "gpt" else None,
        guidance=pick([1.0, 2.5]),
        stops_at_end=pick([True, True, False]),
        logprobs=pick([True, False]),
        top_n_tokens=pick([0, 2]),
        beams=BeamSettings(rng.randint(2, 4), pick([0.0, 1.0, 2.0]), pick([False, True, "never"]))
        if searches
        else None,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_searches_find_the_same_in_a_full_batch_and_alone(shape: str) -> None:
    rng = random.Random(5)
    requests = [anything(rng, f"r{i}", shape) for i in range(90)]
    model = MODELS[shape]
    engine, waiting = Engine(model.decoder(), V, slots=12), list(requests)
    heard: dict[str, list[Emission]] = defaultdict(list)
    dropped = set()
    for _ in range(5000):
        for _ in range(rng.randint(0, 4)):
            if waiting:
                engine.submit(waiting.pop())
        for emission in engine.step():
            heard[emission.request_id].append(emission)
        if rng.random() < 0.05:
            name = f"r{rng.randrange(90)}"
            if engine.cancel(name):
                dropped.add(name)
        assert engine.active <= 12
        if not waiting and engine.idle:
            break
    assert engine.active == 0
    assert dropped
    for wanted in requests:
        if wanted.id not in dropped:
            assert heard[wanted.id] == alone(model, wanted), wanted


@pytest.mark.parametrize("shape", SHAPES)
def test_penalties_and_bans_follow_each_beams_own_text(shape: str) -> None:
    """The reference multiplies out what penalties do to the logits of each text by itself."""
    sampling = SamplingParams(
        temperature=0.0,
        repetition_penalty=1.4,
        frequency_penalty=0.3,
        presence_penalty=0.2,
        logit_bias={5: 1.0},
    )
    wanted = request(width=3, sampling=sampling, early_stopping="never", max_new_tokens=6, min_new_tokens=3)

    def logs_of(model: Any, prompt: tuple[int, ...], text: tuple[int, ...]) -> Tensor:
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *text]])).logits[0, -1].clone()
        logits[5] += 1.0
        for token in {*prompt, *text}:
            logits[token] = logits[token] / 1.4 if logits[token] > 0 else logits[token] * 1.4
        for token in set(text):
            logits[token] -= 0.3 * text.count(token) + 0.2
        return logits.double().log_softmax(-1)

    patch = pytest.MonkeyPatch()
    patch.setitem(globals(), "log_probabilities", logs_of)
    try:
        by_book = plainly(MODELS[shape], wanted, lambda text: (END_ID,) if len(text) < 3 else ())
    finally:
        patch.undo()
    heard = alone(MODELS[shape], wanted)
    assert tokens(heard) == by_book[0][1]
    assert heard[-1].found[0].score == pytest.approx(by_book[0][0], abs=1e-4)


class Rising:
    """Each token must be above the one before; the text is complete when none is left."""

    def __init__(self) -> None:
        self.last = 0

    def allowed(self) -> Tensor:
        return torch.arange(V) > self.last if self.last < V - 1 else torch.arange(V) == END_ID

    def advance(self, token: int) -> None:
        assert token > self.last, "a token was taken that was not allowed"
        self.last = token

    def finished(self) -> bool:
        return self.last == V - 1

    def instead(self, token: int) -> int:
        return token

    def fork(self) -> Rising:
        other = Rising()
        other.last = self.last
        return other


def test_beams_keep_a_constraint_each_in_its_own_place() -> None:
    wanted = request(
        width=4, constraint=Rising(), stops_at_end=False, early_stopping="never", length_penalty=0.0
    )
    heard = alone(MODELS["gru"], wanted)
    everything = [
        (
            sum(
                float(log_probabilities(MODELS["gru"], wanted.prompt, text[:at])[token])
                for at, token in enumerate(text)
            ),
            text,
        )
        for length in range(1, 9)
        for text in itertools.combinations(range(1, V), length)
        if text[-1] == V - 1 or length == 8
    ]
    found = heard[-1].found
    assert all(list(one.tokens) == sorted(set(one.tokens)) for one in found)
    assert found[0].total <= max(everything)[0] + 1e-4
    assert found[0].total == pytest.approx(
        next(total for total, text in everything if text == found[0].tokens), abs=1e-4
    )
    assert {one.reason for one in found} <= {"stop_sequence", "length"}


def test_beams_are_rows_in_admission_and_in_the_totals() -> None:
    engine = Engine(MODELS["gpt"].decoder(), V, slots=7)
    condition = {1: 1.0}
    engine.submit(request("a", 3, guidance=2.0, condition=condition, stops_at_end=False, max_new_tokens=3))
    engine.submit(request("b", 2, stops_at_end=False, max_new_tokens=2))
    assert (request(width=3, guidance=2.0, condition=condition).rows, request(width=2).rows) == (6, 2)
    engine.step()
    assert (engine.active, engine.queued, engine.stats.row_steps) == (6, 1, 6)
    heard = run(engine)
    assert (len(heard["a"]), len(heard["b"])) == (3, 2)
    assert (engine.active, engine.stats.finished, engine.stats.tokens) == (0, 2, 5)
    with pytest.raises(ValueError, match="takes 8 rows; this engine has 7"):
        engine.submit(request("c", 8))


def test_a_search_says_nothing_before_it_is_over_and_then_all_of_it() -> None:
    engine = Engine(MODELS["lstm"].decoder(), V, slots=3)
    engine.submit(request("a", 3, stops_at_end=False, max_new_tokens=6, logprobs=True, top_n_tokens=2))
    said = [engine.step() for _ in range(8)]  # three tokens of the prompt, the last one with the first draw
    assert [len(step) for step in said] == [0] * 7 + [6]
    assert [one.finished for one in said[-1]] == [None] * 5 + ["length"]
    best = said[-1][-1].found[0]
    assert best.tokens == tokens(said[-1])
    assert best.total == pytest.approx(sum(one.logprob for one in said[-1]), abs=1e-6)
    assert all(len(one.top) == 2 and one.top[0][1] >= one.top[1][1] for one in said[-1])


def test_a_search_that_runs_out_of_time_gives_the_best_it_has() -> None:
    now = [0.0]
    engine = Engine(MODELS["gru"].decoder(), V, slots=6, clock=lambda: now[0])
    engine.submit(request("late", 3, deadline=1.0, stops_at_end=False))
    engine.submit(request("other", 3, stops_at_end=False))
    for _ in range(5):
        engine.step()
    now[0] = 2.0
    heard = run(engine)
    assert len(tokens(heard["late"])) == 3
    assert heard["late"][-1].finished == "deadline"
    assert len(tokens(heard["other"])) == 8
    assert engine.active == 0


def test_what_a_search_cannot_have_is_refused() -> None:
    engine = Engine(MODELS["gru"].decoder(), V, slots=6)
    for fields in ({"forced": (1,)}, {"trace": True}):
        with pytest.raises(ValueError, match="no forced tokens and no trace"):
            engine.submit(request(**fields))


# ---- jobs


@pytest.fixture(scope="module")
def bundles(request: pytest.FixtureRequest) -> dict[str, Bundle]:
    return {name: load_bundle(request.getfixturevalue(name)) for name in ("char_bundle", "gpt_bundle")}


def last(bundle: Bundle, slots: int = 8, **job: Any) -> dict[str, Any]:
    return list(TextEngine(bundle, slots=slots).generate({"seed": 1, "prompt": "a", **job}))[-1]


def without_times(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if not name.endswith("_ms")}


def test_a_job_searches_and_its_texts_come_best_first(bundles: dict[str, Bundle]) -> None:
    for bundle in bundles.values():
        end = last(bundle, num_beams=4, num_return_sequences=3, max_new_tokens=12, logprobs=True)
        assert end["event"] == "end"
        scores = [beam["score"] for beam in end["beams"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert end["text"] == end["beams"][0]["text"]
        assert len({beam["text"] for beam in end["beams"]}) > 1
        for beam in end["beams"]:
            assert "".join(beam["texts"]) + beam.get("tail", "") == beam["text"]
            mean = sum(beam["logprobs"]) / len(beam["ids"])
            assert mean == pytest.approx(beam["score"], abs=1e-6)
        # whatever the seed
        again = last(bundle, num_beams=4, num_return_sequences=3, max_new_tokens=12, logprobs=True, seed=77)
        assert without_times(again) == without_times(end)


def test_a_stop_string_completes_a_text_of_a_search(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["char_bundle"]
    free = last(bundle, num_beams=3, max_new_tokens=20)["text"]
    stop = free[4:6]
    end = last(bundle, num_beams=3, max_new_tokens=20, stop=[stop], num_return_sequences=3)
    ended = [beam for beam in end["beams"] if beam["finish_reason"] == "stop_sequence"]
    assert ended
    assert all(stop not in beam["text"] for beam in end["beams"])
    assert all("".join(beam["texts"]) == beam["text"] for beam in ended)


def test_every_text_of_a_search_has_its_shape(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["char_bundle"]
    for shape in ({"max_chars": 7, "min_chars": 3}, {"starts_with": "th"}, {"ends_with": "e"}):
        end = last(bundle, num_beams=4, num_return_sequences=4, max_new_tokens=15, **shape)
        for beam in end["beams"]:
            text = beam["text"]
            assert len(text) <= shape.get("max_chars", math.inf)
            assert len(text) >= shape.get("min_chars", 0)
            assert text.startswith(shape.get("starts_with", ""))
            assert text.endswith(shape.get("ends_with", ""))


def test_a_broken_reply_is_made_good_by_searching_again(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["char_bundle"]
    job = {"seed": 1, "prompt": "a", "num_beams": 3, "max_new_tokens": 10}
    whole = list(TextEngine(bundle, slots=4).generate(job))
    ids = next(event for event in whole if event["event"] == "tokens")["ids"]
    for cut in (3, len(ids)):
        rest = list(TextEngine(bundle, slots=4).generate({**job, "resume_ids": ids[:cut]}))
        said = [token for event in rest if event["event"] == "tokens" for token in event["ids"]]
        assert said == ids[cut:]
        assert without_times(rest[-1]) == without_times(whole[-1])
    other = last(bundle, num_beams=3, max_new_tokens=10, resume_ids=[ids[0] % 5 + 1, *ids[1:]])
    assert (other["event"], other["error_type"]) == ("error", "generation")


@pytest.mark.parametrize(
    ("job", "field", "message"),
    [
        ({"num_beams": 17}, "num_beams", "must be an integer from 1 to 16; got 17"),
        ({"num_beams": 0}, "num_beams", "must be an integer from 1 to 16; got 0"),
        ({"num_beams": 9}, "num_beams", "takes 9 rows; this engine has 8"),
        (
            {"num_beams": 2, "temperature": 0.7},
            "temperature",
            "must be absent or 0 or 1 with num_beams above 1",
        ),
        ({"num_beams": 2, "top_k": 5}, "top_k", "must be absent or 0 with num_beams"),
        ({"num_beams": 2, "top_p": 0.5}, "top_p", "got 0.5"),
        ({"num_beams": 2, "trace": True}, "trace", "draws nothing"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences", "is 3, above num_beams 2"),
        ({"num_return_sequences": 3}, "num_return_sequences", "num_beams is 1"),
        ({"num_beams": 2, "length_penalty": 11}, "length_penalty", "from -10 to 10; got 11"),
        ({"num_beams": 2, "early_stopping": "soon"}, "early_stopping", "true, false or 'never'; got 'soon'"),
    ],
)
def test_impossible_searches_are_errors_of_the_job(
    bundles: dict[str, Bundle], job: dict[str, Any], field: str, message: str
) -> None:
    event = last(bundles["char_bundle"], **job)
    assert (event["event"], event["field"]) == ("error", field)
    assert message in event["error"]


def test_a_models_own_defaults_of_drawing_do_not_forbid_a_search(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["char_bundle"]
    plain = last(bundle, num_beams=3, max_new_tokens=10)
    eager = replace(bundle.config, defaults={"temperature": 0.3, "top_p": 0.5})
    assert without_times(
        last(replace(bundle, config=eager), num_beams=3, max_new_tokens=10)
    ) == without_times(plain)
