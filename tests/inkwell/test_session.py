"""Jobs in, events out: what docs/protocol.md promises, on three tiny bundles."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwell.bundle import Bundle, load_bundle
from inkwell.errors import InkwellError, InvalidJob
from inkwell.session import TextEngine, final_event
from inkwell.tokenizer import END_ID, END_TEXT
from inkwell.words import SeedWords

Event = dict[str, Any]
NAMES = ("char_bundle", "bpe_bundle", "gpt_bundle")


@pytest.fixture(scope="session")
def bundles(request: pytest.FixtureRequest) -> dict[str, Bundle]:
    return {name: load_bundle(request.getfixturevalue(name)) for name in NAMES}


@pytest.fixture
def prose(bundles: dict[str, Bundle]) -> TextEngine:
    return TextEngine(bundles["char_bundle"], slots=8)


@pytest.fixture
def stories(bundles: dict[str, Bundle]) -> TextEngine:
    return TextEngine(bundles["bpe_bundle"], slots=8)


@pytest.fixture
def names(bundles: dict[str, Bundle]) -> TextEngine:
    return TextEngine(bundles["gpt_bundle"], slots=8)


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest, bundles: dict[str, Bundle]) -> TextEngine:
    return TextEngine(bundles[request.param], slots=8)


def run(engine: TextEngine, *jobs: Event, seconds: float = 0.0) -> list[Event]:
    """Events of all jobs in the order in which they came."""
    sink: list[Event] = []
    for number, job in enumerate(jobs):
        engine.submit({"id": f"j{number}", "seed": 1, "prompt": "The", **job}, sink)
    while not engine.idle:
        engine.advance(seconds, 0.0)
    return sink


def one(engine: TextEngine, **job: Any) -> Event:
    """Start and end of one job, with all its tokens."""
    events = run(engine, job)
    check_order(events)
    tokens = [event for event in events if event["event"] == "tokens"]
    assert events[-1]["event"] == "end", events[-1]
    return {
        **events[0],
        **events[-1],
        "ids": [i for event in tokens for i in event["ids"]],
        "texts": [text for event in tokens for text in event["texts"]],
        "special": [flag for event in tokens for flag in event["special"]],
    }


def refusal(engine: TextEngine, **job: Any) -> Event:
    events = run(engine, job)
    assert [event["event"] for event in events] == ["error"]
    assert engine.engine.active + engine.engine.queued == 0
    return events[0]


def check_order(events: list[Event]) -> None:
    by_job: dict[str, list[Event]] = {}
    for event in events:
        by_job.setdefault(event["job"], []).append(event)
    for own in by_job.values():
        kinds = [event["event"] for event in own]
        assert kinds in (["error"], ["start", *["tokens"] * (len(kinds) - 2), "end"])
        if kinds == ["error"]:
            continue
        assert all(len(e["ids"]) == len(e["texts"]) == len(e["special"]) > 0 for e in own[1:-1])
        said = "".join(text for event in own[1:-1] for text in event["texts"])
        assert said + own[-1].get("tail", "") == own[-1]["text"]
        assert own[-1]["generated_tokens"] == sum(len(event["ids"]) for event in own[1:-1])
        json.dumps(own, allow_nan=False)


def test_events_come_in_order_and_add_up_to_the_text(engine: TextEngine) -> None:
    jobs = [
        {"seed": seed, "max_new_tokens": 3 + 7 * seed, "stop": ["he", "ar"] if seed % 2 else []}
        for seed in range(12)
    ]
    for seconds in (0.0, 10.0):
        events = run(engine, *jobs, seconds=seconds)
        check_order(events)
        assert {event["job"] for event in events} == {f"j{i}" for i in range(12)}
        assert {e["finish_reason"] for e in events if e["event"] == "end"} <= {
            "length",
            "eos_token",
            "stop_sequence",
        }


def test_texts_do_not_depend_on_company_or_slices(engine: TextEngine) -> None:
    jobs = [{"id": str(seed), "seed": seed, "max_new_tokens": 30, "top_p": 0.9} for seed in range(20)]
    texts = {e["job"]: e["text"] for e in run(engine, *jobs, seconds=0.001) if e["event"] == "end"}
    assert texts == {job["id"]: one(engine, **job)["text"] for job in jobs}
    assert len(set(texts.values())) > 15


def test_the_start_tells_what_was_decided(prose: TextEngine, names: TextEngine) -> None:
    start = run(prose, {"seed": None, "prompt": "The old ☃ harbour", "max_new_tokens": 1})[0]
    assert start["prompt"] == "The old ☃ harbour"
    assert start["dropped_characters"] == "☃"
    assert start["prompt_ids"] == prose.bundle.tokenizer.encode("The old  harbour")
    assert start["prompt_tokens"] == len(start["prompt_ids"])
    assert isinstance(start["seed"], int)
    assert (start["seed_word"], start["category"]) == (None, None)
    assert (
        one(prose, prompt="The", max_new_tokens=40)["text"]
        == one(prose, prompt="The", max_new_tokens=40)["text"]
    )
    start = run(names, {"category": {"ELF": 3, "ork": 1}, "prompt": [4, 5], "max_new_tokens": 1})[0]
    assert start["category"] == {"ELF": 0.75, "ork": 0.25}
    assert start["prompt"] == names.bundle.tokenizer.decode([4, 5])


def test_a_drawn_seed_repeats_the_text(engine: TextEngine) -> None:
    first = one(engine, seed=None, max_new_tokens=40)
    assert one(engine, seed=first["seed"], max_new_tokens=40)["text"] == first["text"]


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**9),
    stop=st.lists(st.sampled_from(["a", "he", "n ", "\n", "zz", "lant"]), max_size=3),
)
def test_stop_strings_cut_where_they_first_stand(
    bundles: dict[str, Bundle], seed: int, stop: list[str]
) -> None:
    for name in ("char_bundle", "bpe_bundle"):
        engine = TextEngine(bundles[name], slots=2)
        free = one(engine, seed=seed, max_new_tokens=60)
        cut = one(engine, seed=seed, max_new_tokens=60, stop=stop)
        places = [free["text"].find(s) for s in stop if s in free["text"]]
        if places:
            assert cut["finish_reason"] == "stop_sequence"
            assert cut["text"] == free["text"][: min(places)]
            assert cut["ids"] == free["ids"][: len(cut["ids"])]
        else:
            assert (cut["text"], cut["finish_reason"]) == (free["text"], free["finish_reason"])


def test_a_stop_string_across_two_tokens_is_found(stories: TextEngine) -> None:
    free = one(stories, seed=3, max_new_tokens=40, temperature=0.7)
    pieces = free["texts"]
    at = next(
        i
        for i in range(5, 30)
        if pieces[i].isascii() and pieces[i] and pieces[i + 1] and pieces[i + 1].isascii()
    )
    stop = pieces[at][-1] + pieces[at + 1][0]
    cut = one(stories, seed=3, max_new_tokens=40, temperature=0.7, stop=[stop])
    assert cut["finish_reason"] == "stop_sequence"
    assert cut["text"] == free["text"][: free["text"].index(stop)]
    assert stories.engine.active == 0


def test_an_empty_prompt_gets_a_seed_word_that_the_seed_decides(prose: TextEngine) -> None:
    first = one(prose, prompt=None, seed=5)
    assert first["seed_word"] == first["prompt"]
    assert first["seed_word"] in prose.bundle.words.words
    assert one(prose, prompt="", seed=5)["text"] == first["text"]
    assert not first["text"].startswith(first["prompt"])
    asked = one(prose, prompt=None, seed_word={"strategy": "nearest", "value": "lantarn"})
    assert asked["seed_word"] == "lantern"
    assert {one(prose, prompt=None, seed=s, max_new_tokens=1)["seed_word"] for s in range(30)} >= {
        "lantern",
        "harbour",
    }


def test_without_a_seed_word_a_text_begins_at_its_beginning(prose: TextEngine, names: TextEngine) -> None:
    none = one(prose, prompt=None, seed_word={"strategy": "none"})
    assert (none["prompt"], none["seed_word"], none["prompt_ids"]) == ("", None, [])
    name = one(names, prompt=None)
    assert (name["prompt"], name["seed_word"]) == ("", None)
    error = refusal(names, prompt=None, seed_word="common")
    assert (error["field"], error["error_type"]) == ("seed_word", "validation")


def test_a_bundle_without_words_refuses_what_needs_them(bundles: dict[str, Bundle]) -> None:
    engine = TextEngine(replace(bundles["char_bundle"], words=SeedWords((), ())))
    assert refusal(engine, prompt=None)["field"] == "seed_word"


def test_start_text_silently_precedes_the_prompt(prose: TextEngine) -> None:
    fed = one(prose, prompt="The", temperature=0, max_new_tokens=1)
    tokenizer, model = prose.bundle.tokenizer, prose.bundle.model
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer.encode("\nThe")])).logits[0, -1]
    logits[END_ID] = -math.inf
    assert fed["ids"] == [int(logits.argmax())]
    assert fed["prompt"] == "The"


def test_streams_never_take_the_end_mark_and_documents_end_with_it(
    prose: TextEngine, stories: TextEngine
) -> None:
    eager = {"logit_bias": {"0": 100}, "max_new_tokens": 20}
    assert one(prose, **eager)["generated_tokens"] == 20
    ended = one(stories, **eager)
    assert (ended["finish_reason"], ended["ids"], ended["texts"], ended["special"]) == (
        "eos_token",
        [0],
        [""],
        [True],
    )
    assert one(stories, **eager, min_new_tokens=7)["generated_tokens"] == 8


def resumed(engine: TextEngine, job: Event, whole: Event, cut: int) -> Event:
    """The job as a gateway sends it after a broken reply."""
    again = {k: v for k, v in job.items() if k != "prompt"}
    return one_resumed(
        engine,
        {**again, "prompt": whole["prompt"], "seed_word": None, "resume_ids": whole["ids"][:cut]},
        whole["ids"][:cut],
    )


def one_resumed(engine: TextEngine, job: Event, before: list[int]) -> Event:
    events = run(engine, job)
    assert [events[0]["event"], events[-1]["event"]] == ["start", "end"], events
    ids = [i for event in events if event["event"] == "tokens" for i in event["ids"]]
    return {**events[-1], "ids": [*before, *ids], "start": events[0]}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stop": ["he", "n "]},
        {"temperature": 0.0},
        {"top_k": 5, "repetition_penalty": 1.3, "frequency_penalty": 0.2},
        {"no_repeat_ngram_size": 2, "min_new_tokens": 8},
        {"logit_bias": {"0": 3.0}},
        {"regex": "[a-z ]{4,12}"},
        {"max_chars": 9},
        {"prompt": None},
        {"prompt": None, "seed_word": "none"},
    ],
)
def test_a_job_resumed_at_any_token_gives_the_same_bytes(engine: TextEngine, fields: Event) -> None:
    if fields.get("prompt", "x") is None and "seed_word" not in fields and not engine.bundle.words.words:
        fields = {**fields, "seed_word": "none"}
    for seed in range(2):
        job = {"prompt": "The l", "seed": seed, "max_new_tokens": 10, **fields}
        whole = one(engine, **job)
        # from 1: with nothing received there is nothing to resume
        for cut in range(1, len(whole["ids"]) + 1):
            again = resumed(engine, job, whole, cut)
            for name in ("text", "finish_reason", "generated_tokens", "ids"):
                assert again[name] == whole[name], (name, cut, job)
            assert again["start"]["prompt_ids"] == whole["prompt_ids"]


def test_categories_steer_and_their_names_ignore_case(names: TextEngine) -> None:
    texts = {
        c: one(names, prompt="a", category=c, seed=2, max_new_tokens=30)["text"]
        for c in ("elf", "ork", "dwarf", None)
    }
    assert len(set(texts.values())) > 1
    assert one(names, prompt="a", category="ELF", seed=2, max_new_tokens=30)["text"] == texts["elf"]
    assert one(names, prompt="a", category={"elf": 7}, seed=2, max_new_tokens=30)["text"] == texts["elf"]


@pytest.mark.parametrize(
    ("bundle", "job", "field", "message"),
    [
        (
            "char_bundle",
            {"temperature": -1},
            "temperature",
            "temperature must be a number from 0 to 100; got -1",
        ),
        ("char_bundle", {"colour": 1}, "colour", "is not a field of a job"),
        ("char_bundle", {"category": "elf"}, "category", "model 'prose' has no categories"),
        ("gpt_bundle", {"category": "gnome"}, "category", "'gnome'; this model knows dwarf, elf, ork"),
        ("char_bundle", {"prompt": [500]}, "prompt", "holds token id 500; this model has ids 0 to"),
        ("char_bundle", {"resume_ids": [500]}, "resume_ids", "holds token id 500"),
        ("char_bundle", {"logit_bias": {"999": 1}}, "logit_bias", "holds token id 999"),
        (
            "char_bundle",
            {"logit_bias": {"the": 1}},
            "logit_bias",
            "has 'the', which is 3 tokens of this model, not one",
        ),
        ("char_bundle", {"max_new_tokens": 401}, "max_new_tokens", "allows up to 400"),
        (
            "char_bundle",
            {"prompt": "a" * 301},
            "prompt",
            "has 301 tokens; this model allows up to 300, or set truncate",
        ),
        ("char_bundle", {"regex": "("}, "regex", "regex"),
        ("char_bundle", {"prompt": "", "seed_word": {"strategy": "letter"}}, "seed_word.value", "is missing"),
    ],
)
def test_what_a_model_cannot_do_is_an_error_of_that_job(
    bundles: dict[str, Bundle], bundle: str, job: Event, field: str, message: str
) -> None:
    engine = TextEngine(bundles[bundle])
    error = refusal(engine, **job)
    assert (error["job"], error["field"], error["error_type"]) == ("j0", field, "validation")
    assert message in error["error"]
    beside = run(engine, job, {"id": "good", "max_new_tokens": 3})
    assert [e["event"] for e in beside if e["job"] == "good"][-1] == "end"


@pytest.mark.parametrize("values", [None, 3, "x", [], {}])
def test_what_is_no_job_is_an_error_event(prose: TextEngine, values: Any) -> None:
    sink: list[Event] = []
    assert prose.submit(values, sink) is None
    assert [event["event"] for event in sink] == ["error"]


def test_truncate_keeps_the_end_of_the_prompt(prose: TextEngine) -> None:
    long = "The lantern " * 40
    kept = one(prose, prompt=long, truncate=10, seed=4)
    assert kept["prompt_ids"] == prose.bundle.tokenizer.encode(long[-10:])
    assert kept["text"] == one(prose, prompt=long[-10:], seed=4)["text"]


def test_a_full_line_says_overloaded(bundles: dict[str, Bundle]) -> None:
    engine = TextEngine(bundles["char_bundle"], slots=1, queue=2)
    sink: list[Event] = []
    for number in range(4):
        engine.submit({"id": str(number), "prompt": "a"}, sink)
    assert [(e["job"], e["error_type"]) for e in sink if e["event"] == "error"] == [
        ("2", "overloaded"),
        ("3", "overloaded"),
    ]
    while not engine.idle:
        engine.advance()
    assert sum(e["event"] == "end" for e in sink) == 2


def test_two_posts_may_use_the_same_id(prose: TextEngine) -> None:
    first: list[Event] = []
    second: list[Event] = []
    for sink, seed in ((first, 1), (second, 2)):
        assert (
            prose.submit({"id": "same", "prompt": "The", "seed": seed, "max_new_tokens": 9}, sink) is not None
        )
    while not prose.idle:
        prose.advance()
    for sink in (first, second):
        check_order(sink)
    assert first[-1]["text"] != second[-1]["text"]


def test_cancelling_ends_a_job_with_what_it_has(prose: TextEngine) -> None:
    sink: list[Event] = []
    prose.submit({"id": "a", "prompt": "The", "max_new_tokens": 300}, sink)
    prose.submit({"id": "b", "prompt": "The", "max_new_tokens": 5}, sink)
    for _ in range(3):
        prose.engine.step()
    prose.advance(0.0, 0.0)
    assert prose.cancel("a")
    assert not prose.cancel("a")
    assert not prose.cancel("unknown")
    assert sink[-1]["finish_reason"] == "cancelled"
    assert prose.engine.active == 1
    prose.drop("unknown")
    check = [e for e in sink if e["job"] == "a"]
    assert [check[0]["event"], check[-1]["event"]] == ["start", "end"]


def test_a_dropped_job_frees_its_row_and_says_nothing_more(prose: TextEngine) -> None:
    sink: list[Event] = []
    key = prose.submit({"id": "a", "prompt": "The", "max_new_tokens": 300}, sink)
    assert key is not None
    prose.advance(0.0, 0.0)
    said = len(sink)
    prose.drop(key)
    assert prose.idle
    assert prose.engine.active == 0
    prose.advance()
    assert len(sink) == said


def test_reset_interrupts_every_job_and_leaves_a_working_engine(prose: TextEngine) -> None:
    sink: list[Event] = []
    for number in range(10):
        prose.submit({"id": str(number), "prompt": "The", "max_new_tokens": 300}, sink)
    prose.advance(0.0, 0.0)
    prose.reset("out of memory")
    errors = [e for e in sink if e["event"] == "error"]
    assert sorted(e["job"] for e in errors) == [str(n) for n in range(10)]
    assert {(e["error"], e["error_type"]) for e in errors} == {("out of memory", "interrupted")}
    assert prose.idle
    assert one(prose, max_new_tokens=5)["generated_tokens"] == 5


class Clock:
    def __init__(self, tick: float) -> None:
        self.now, self.tick = 100.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def test_a_deadline_ends_a_job_with_its_text_so_far(bundles: dict[str, Bundle]) -> None:
    engine = TextEngine(bundles["char_bundle"], clock=Clock(0.01))
    cut = one(engine, max_new_tokens=400, deadline_ms=600, seed=6)
    free = one(engine, max_new_tokens=400, seed=6)
    assert cut["finish_reason"] == "deadline"
    assert 0 < cut["generated_tokens"] < 400
    assert free["text"].startswith(cut["text"])
    assert one(engine, deadline_ms=0)["generated_tokens"] == 0


def test_times_are_those_of_the_clock(bundles: dict[str, Bundle]) -> None:
    engine = TextEngine(bundles["char_bundle"], slots=1, clock=Clock(0.001))
    events = run(engine, {"max_new_tokens": 20}, {"max_new_tokens": 20})
    first, second = (e for e in events if e["event"] == "end")
    assert 0 < first["queue_ms"] < first["inference_ms"] < second["inference_ms"]
    assert second["queue_ms"] > first["queue_ms"]


def test_the_first_token_is_heard_of_before_the_slice_is_over(bundles: dict[str, Bundle]) -> None:
    clock = Clock(0.0)
    engine = TextEngine(bundles["char_bundle"], clock=clock)
    sink: list[Event] = []
    engine.submit({"id": "a", "prompt": "T", "max_new_tokens": 50}, sink)
    clock.tick = 0.001  # a step reads the clock three times
    engine.advance(seconds=0.1, least=0.002)
    assert sum(len(e["ids"]) for e in sink if e["event"] == "tokens") == 1
    engine.advance(seconds=0.1, least=0.002)
    assert 10 < sum(len(e["ids"]) for e in sink if e["event"] == "tokens") < 50


def test_news_does_not_wait_for_the_slice_when_the_first_token_came_too_early(
    bundles: dict[str, Bundle],
) -> None:
    clock = Clock(0.0)
    engine = TextEngine(bundles["char_bundle"], clock=clock)
    sink: list[Event] = []
    for name in "ab":
        engine.submit({"id": name, "prompt": "T", "max_new_tokens": 400}, sink)
    clock.tick, began = 0.0001, clock.now
    engine.advance(seconds=0.1, least=0.002)
    assert any(event["event"] == "tokens" for event in sink)
    assert 0.002 <= clock.now - began < 0.01


def test_log_probabilities_and_alternatives_are_the_models(stories: TextEngine) -> None:
    events = run(
        stories,
        {"prompt": "The", "max_new_tokens": 6, "logprobs": True, "top_n_tokens": 3, "min_new_tokens": 6},
    )
    ids, logprobs, tops = [], [], []
    for event in events[1:-1]:
        ids += event["ids"]
        logprobs += event["logprobs"]
        tops += event["top"]
    prompt = [END_ID, *events[0]["prompt_ids"]]
    with torch.no_grad():
        logs = stories.bundle.model(torch.tensor([prompt + ids])).logits[0].double().log_softmax(-1)
    for place, (token, logprob, top) in enumerate(zip(ids, logprobs, tops, strict=True), len(prompt) - 1):
        assert logprob == pytest.approx(float(logs[place, token]), abs=1e-4)
        values, best = logs[place].topk(3)
        assert [entry["id"] for entry in top] == best.tolist()
        assert [entry["logprob"] for entry in top] == pytest.approx(values.tolist(), abs=1e-4)
        for entry in top:
            expected = END_TEXT if entry["id"] == END_ID else stories.bundle.tokenizer.decode([entry["id"]])
            assert entry["text"] == expected


def test_traces_come_with_every_token(engine: TextEngine) -> None:
    jobs = [{"trace": True, "max_new_tokens": n, "top_k": 5, "seed": n} for n in range(1, 7)]
    for event in run(engine, *jobs):
        if event["event"] == "tokens":
            assert len(event["trace"]) == len(event["ids"])
            for told in event["trace"]:
                assert set(told) == {"probability", "rank", "entropy", "kept", "cut"}
                assert 1 <= told["kept"] <= 5


@pytest.mark.parametrize("category", [None, "elf", {"elf": 1, "ork": 3}])
def test_prefill_details_follow_the_category(names: TextEngine, category: Any) -> None:
    start = run(
        names, {"prompt": "lamp", "prefill_details": True, "category": category, "max_new_tokens": 1}
    )[0]
    tokenizer = names.bundle.tokenizer
    assert "".join(detail["text"] for detail in start["prefill"]) == "lamp"
    assert [detail["id"] for detail in start["prefill"]] == start["prompt_ids"]
    assert start["prefill"][0]["logprob"] is None
    # the same figures come from generating the prompt itself under a bias that leaves no choice
    for place in range(1, 4):
        forced = {"logit_bias": {str(start["prompt_ids"][place]): 100}, "logprobs": True, "max_new_tokens": 1}
        event = run(names, {"prompt": "lamp"[:place], "category": category, **forced})[1]
        assert event["ids"] == [start["prompt_ids"][place]]
        assert start["prefill"][place]["logprob"] == pytest.approx(event["logprobs"][0], abs=1e-4)
    assert tokenizer.decode(start["prompt_ids"]) == "lamp"


def test_bias_may_name_a_token_by_text_or_id(prose: TextEngine) -> None:
    token = prose.bundle.tokenizer.encode("q" if "q" in prose.bundle.tokenizer.characters else "k")[0]  # type: ignore[union-attr]
    text = prose.bundle.tokenizer.decode([token])
    for key in (text, str(token)):
        assert one(prose, logit_bias={key: 100}, max_new_tokens=4)["text"] == text * 4
    assert one(prose, logit_bias={text: 60, str(token): 60, "e": 99}, max_new_tokens=2)["text"] == text * 2


def test_a_character_cut_at_the_end_is_shown_in_the_tail(stories: TextEngine) -> None:
    first = next(
        i for i in range(stories.bundle.tokenizer.size) if stories.bundle.tokenizer.piece(i) == b"\xf0"
    )
    cut = one(stories, logit_bias={str(first): 100}, max_new_tokens=1)
    assert (cut["texts"], cut["tail"], cut["text"]) == ([""], "\ufffd", "\ufffd")


def test_describe_names_the_model_and_counts_its_work(engine: TextEngine) -> None:
    run(engine, {"max_new_tokens": 5, "min_new_tokens": 5}, {"max_new_tokens": 5, "min_new_tokens": 5})
    card = engine.describe()
    json.dumps(card, allow_nan=False)
    bundle = engine.bundle
    assert card["name"] == bundle.config.name
    assert card["parameters"] == sum(p.numel() for p in bundle.model.parameters())
    assert card["vocabulary"] == bundle.tokenizer.size
    assert card["limits"]["max_new_tokens"] == bundle.limits.max_new_tokens
    assert card["categories"] == list(bundle.categories)
    totals = card["engine"]
    assert (totals["tokens_total"], totals["finished_total"], totals["active"], totals["queued"]) == (
        10,
        2,
        0,
        0,
    )
    assert totals["row_steps_total"] >= 10
    assert card["bytes_per_slot"] > 0


@pytest.mark.parametrize("text", ["", "The lantern", "naïve — 🦊", "<|end|> x"])
def test_tokenize_spans_the_text(stories: TextEngine, prose: TextEngine, text: str) -> None:
    tokens = stories.tokenize(text)
    assert "".join(token["text"] for token in tokens) == text
    at = 0
    for token in tokens:
        assert token["start"] == at
        at = token["stop"]
        assert text[token["start"] : token["stop"]] == token["text"]
    assert at == len(text)
    assert [t["id"] for t in prose.tokenize("The")] == prose.bundle.tokenizer.encode("The")


def test_generate_runs_one_job_and_leaves_nothing_when_abandoned(engine: TextEngine) -> None:
    events = list(engine.generate({"prompt": "The", "seed": 3, "max_new_tokens": 20}))
    check_order(events)
    assert final_event(iter(events))["text"] == one(engine, seed=3, max_new_tokens=20)["text"]
    stream: Iterator[Event] = engine.generate(
        {"prompt": "The", "seed": 3, "max_new_tokens": 60, "min_new_tokens": 60}
    )
    assert next(stream)["event"] == "start"
    stream.close()  # type: ignore[attr-defined]
    assert engine.idle
    assert engine.engine.idle


def test_final_event_raises_what_the_job_was_refused_for(prose: TextEngine) -> None:
    with pytest.raises(InvalidJob, match="top_p must be a number above 0 to 1; got 2") as caught:
        final_event(prose.generate({"top_p": 2}))
    assert caught.value.field == "top_p"
    with pytest.raises(InkwellError, match="without an answer"):
        final_event(iter([]))


def test_warming_up_leaves_no_trace(engine: TextEngine) -> None:
    engine.warm_up()
    assert engine.idle
    assert engine.engine.idle
    assert engine.describe()["engine"]["tokens_total"] == 0


def test_bundles_load_and_speak_alike_in_two_processes_worth_of_engines(bundles: dict[str, Bundle]) -> None:
    for bundle in bundles.values():
        path = bundle.path
        assert isinstance(path, Path)
        twin = TextEngine(load_bundle(path), slots=3)
        assert (
            one(twin, seed=9, max_new_tokens=25)["text"]
            == one(TextEngine(bundle), seed=9, max_new_tokens=25)["text"]
        )
