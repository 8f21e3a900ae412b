"""Every field of a job: what it may be, and that a refusal names the field and the value."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from inkwell.errors import InvalidJob
from inkwell.job import _READERS, MAX_SEED, Job, Limits, NoveltyRule, SeedWordChoice, read_job

LIMITS = Limits(max_new_tokens=200, max_prompt_tokens=50, max_prompt_chars=100)
HUGE = 10**400


def read(defaults: dict[str, Any] | None = None, limits: Limits = LIMITS, **values: Any) -> Job:
    return read_job({"id": "a", **values}, defaults or {}, limits)


REFUSED: dict[str, list[Any]] = {
    "id": ["", "a b", "ä", "a\n", "x" * 129, 3, ["a"]],
    "prompt": [3, True, {"a": 1}, ["a"], [1, -1], [1.0], [True], "\ud800"],
    "seed_word": [3, [], {"word": "x"}, {"strategy": "any"}, "any", {"strategy": []}],
    "category": [
        3,
        {},
        [],
        {"a": "x"},
        {"a": -1},
        {"a": 0},
        {"a": math.inf},
        {"a": math.nan},
        {"a": True},
        {"a": HUGE},
    ],
    "guidance": [-0.1, 101, "2", True, math.inf, math.nan, HUGE],
    "seed": [-1, MAX_SEED + 1, 1.0, "1", True],
    "position": [-1, 2.5, (1 << 31) + 1, True],
    "resume_ids": [3, "ab", [-1], [1.5], [True], {}],
    "max_new_tokens": [0, -1, 1.0, "9", True, 201, HUGE],
    "min_new_tokens": [-1, 1.0, True, 101],
    "truncate": [0, -3, 1.5, True],
    "temperature": [-0.1, 101, "1", True, math.inf, math.nan, HUGE],
    "top_k": [-1, 1.0, "1", True],
    "top_p": [0, -0.5, 1.1, "1", True, math.nan],
    "typical_p": [0, 1.5, "x", True],
    "min_p": [-0.1, 1, 1.0, True, math.nan],
    "repetition_penalty": [0, -1, 101, True, math.inf, HUGE],
    "frequency_penalty": [-2.1, 2.1, True, math.nan],
    "presence_penalty": [-3, 3, "x"],
    "no_repeat_ngram_size": [-1, 1.5, True],
    "logit_bias": [
        3,
        [1],
        {"a": "x"},
        {"a": 101},
        {"a": -100.5},
        {"a": math.nan},
        {"a": True},
        {"\ud800": 1.0},
    ],
    "stop": ["x", 3, [""], [3], ["x"] * 17, ["x" * 257], ["\udfff"]],
    "num_beams": [0, 17, 2.0, "2", True],
    "length_penalty": [-10.5, 11, math.inf, math.nan, "1", True],
    "early_stopping": [1, "soon", 0.0],
    "num_return_sequences": [0, 17, "2", True],
    "characters": ["Mia", ["mia"], ["Mia Bo"], [3], [""], ["M" * 41], ["Mia"] * 17],
    "opening": ["", 3, "x" * 1001, "\ud800"],
    "ending": ["", 3, "x" * 1001],
    "required_words": ["a", ["a b"], [3], ["a"] * 33, ["a1"]],
    "forbidden_words": ["a", ["a-b"], [None], ["a"] * 257],
    "forbid_loops": [0, 1, 33, 2.5, True],
    "deadline_ms": [-1, math.inf, math.nan, "5", True, HUGE],
    "logprobs": [1, "true", 0],
    "top_n_tokens": [-1, 21, 1.0, True],
    "prefill_details": [1, "yes"],
    "trace": [1, "yes"],
    "stream": [0, "no"],
    "min_chars": [-1, 1.5, True],
    "max_chars": [0, -1, 2.5, True],
    "syllables": [0, -1, 65, 2.5, True],
    "regex": ["", 3, "x" * 1025, "\ud800"],
    "starts_with": ["", 3, "x" * 257],
    "ends_with": ["", 3, "x" * 257],
    "contains": ["", 3, "x" * 257],
    "allowed_chars": ["", 3, "x" * 1025],
    "novelty": [
        3,
        {},
        {"mode": "maybe"},
        {"mode": "mark", "x": 1},
        "maybe",
        {"mode": "mark", "max_overlap_chars": 0},
    ],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values]
)
def test_a_refusal_names_the_field_and_the_value(name: str, value: Any) -> None:
    with pytest.raises(InvalidJob) as caught:
        read(**{name: value})
    assert caught.value.field.split(".")[0] == name
    assert str(caught.value).startswith(caught.value.field + " ")
    str(caught.value).encode()


def test_the_table_of_refusals_knows_every_field() -> None:
    assert set(REFUSED) == set(_READERS) == {field.name for field in fields(Job)}


ACCEPTED: list[tuple[str, Any, Any]] = [
    ("prompt", "", ""),
    ("prompt", "naïve 🦊", "naïve 🦊"),
    ("prompt", [1, 2], (1, 2)),
    ("seed_word", "rare", SeedWordChoice("rare")),
    ("seed_word", {"strategy": "letter", "value": "q"}, SeedWordChoice("letter", "q")),
    ("seed_word", {}, SeedWordChoice()),
    ("category", "elf", {"elf": 1.0}),
    ("category", {"elf": 3, "ork": 1}, {"elf": 0.75, "ork": 0.25}),
    ("seed", 0, 0),
    ("seed", MAX_SEED, MAX_SEED),
    ("temperature", 0, 0.0),
    ("temperature", 100, 100.0),
    ("top_k", HUGE, HUGE),
    ("top_p", 1, 1.0),
    ("min_p", 0, 0.0),
    ("logit_bias", {"5": -100, "a": 2}, {"5": -100.0, "a": 2.0}),
    ("stop", [], ()),
    ("stop", ["a"] * 16, ("a",) * 16),
    ("deadline_ms", 0, 0.0),
    ("max_new_tokens", 200, 200),
    ("novelty", "mark", NoveltyRule("mark")),
    ("novelty", {"mode": "reject", "max_overlap_chars": 9}, NoveltyRule("reject", 9)),
]


@pytest.mark.parametrize(("name", "value", "expected"), ACCEPTED)
def test_what_is_allowed_arrives(name: str, value: Any, expected: Any) -> None:
    got = getattr(read(**{name: value}), name)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize("name", [name for name in _READERS if name != "id"])
def test_null_is_as_good_as_absent(name: str) -> None:
    assert getattr(read(seed=1, **{name: None} if name != "seed" else {}), name) == getattr(
        read(seed=1), name
    )


def test_unknown_fields_are_named_with_what_is_allowed() -> None:
    with pytest.raises(
        InvalidJob, match="temprature is not a field of a job; allowed are id, prompt"
    ) as caught:
        read(temprature=1.0)
    assert caught.value.field == "temprature"


@pytest.mark.parametrize("values", [None, 3, "x", [1]])
def test_a_job_must_be_an_object(values: Any) -> None:
    with pytest.raises(InvalidJob, match="job must be an object"):
        read_job(values, {}, LIMITS)


def test_a_job_needs_an_id() -> None:
    with pytest.raises(InvalidJob, match="id is missing"):
        read_job({"prompt": "x"}, {}, LIMITS)
    with pytest.raises(InvalidJob, match="id is missing"):
        read_job({"id": None}, {}, LIMITS)


def test_the_models_defaults_fill_what_is_absent_or_null() -> None:
    defaults = {"temperature": 0.5, "top_k": 7, "stop": ["x"]}
    job = read(defaults, temperature=None, top_k=3)
    assert (job.temperature, job.top_k, job.stop) == (0.5, 3, ("x",))


def test_defaults_that_are_no_fields_are_refused() -> None:
    with pytest.raises(InvalidJob, match="temp is among this model's defaults"):
        read({"temp": 1.0})


def test_seeds_are_drawn_when_none_is_given() -> None:
    assert len({read().seed for _ in range(20)}) == 20
    assert all(0 <= read().seed <= MAX_SEED for _ in range(20))


@pytest.mark.parametrize("defaults", [{}, {"max_new_tokens": 90}])
@pytest.mark.parametrize("values", [{}, {"max_new_tokens": None}])
def test_the_default_length_stays_below_the_models_limit(
    defaults: dict[str, Any], values: dict[str, Any]
) -> None:
    assert read(defaults, Limits(max_new_tokens=30), **values).max_new_tokens == 30
    assert read(defaults, Limits(max_new_tokens=3000), **values).max_new_tokens == defaults.get(
        "max_new_tokens", 100
    )


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"max_new_tokens": 201}, "max_new_tokens", "is 201; this model allows up to 200"),
        ({"max_new_tokens": 5, "min_new_tokens": 6}, "min_new_tokens", "is 6, above max_new_tokens 5"),
        ({"prompt": "x" * 101}, "prompt", "has 101 characters; this model allows up to 100"),
        ({"min_chars": 5, "max_chars": 4}, "min_chars", "is 5, above max_chars 4"),
        ({"max_new_tokens": 2, "resume_ids": [1, 2, 3]}, "resume_ids", "has 3 ids; max_new_tokens is 2"),
    ],
)
def test_fields_must_fit_each_other_and_the_model(values: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidJob, match=message) as caught:
        read(**values)
    assert caught.value.field == field


def test_long_values_are_shown_shortened() -> None:
    with pytest.raises(InvalidJob) as caught:
        read(stop="x" * 5000)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("values", "shaped"),
    [
        ({}, False),
        ({"stop": ["x"]}, False),
        ({"min_chars": 0}, True),
        ({"regex": "a+"}, True),
        ({"contains": "b"}, True),
    ],
)
def test_only_fields_of_shape_make_a_job_shaped(values: dict[str, Any], shaped: bool) -> None:
    assert read(**values).shaped is shaped
