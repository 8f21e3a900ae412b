"""Constrained answers of a model that knows nothing, through the real session: none breaks a rule."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from inkwell.bundle import Bundle, BundleConfig
from inkwell.models.base import LanguageModel
from inkwell.session import TextEngine
from inkwell.tokenizer import BPETokenizer, CharTokenizer
from inkwell.words import SeedWords

Tokenizers = dict[str, CharTokenizer | BPETokenizer]

SHAPES: list[dict[str, Any]] = [
    {"regex": "[A-Z][a-z]{2,8}"},
    {"regex": r"[A-Z][a-z]+( [a-z]+){2,5}[.!?]", "max_new_tokens": 60},
    {"regex": r"(?i)the \w+", "max_chars": 12},
    {"regex": r"\d{1,3}|none"},
    {"starts_with": "The ", "ends_with": ".", "min_chars": 12, "max_chars": 40},
    {"contains": "lantern", "max_chars": 30},
    {"allowed_chars": "abcdefghij ", "min_chars": 3},
    {"max_chars": 5},
    {"min_chars": 25, "max_new_tokens": 40},
    {"ends_with": "😀", "max_chars": 6},
    {"starts_with": "Once", "contains": "fox", "ends_with": "time", "max_new_tokens": 24},
    {"regex": "[^.]*", "stop": ["."], "min_chars": 4},
    {"regex": "[a-z]+", "min_new_tokens": 3, "max_new_tokens": 7},
    {"regex": "“[^“”]+”", "top_k": 5, "temperature": 0.7},
    {"regex": "a|ab|abc", "temperature": 0.0},
]


def has_shape(text: str, shape: dict[str, Any]) -> bool:
    return (
        shape.get("min_chars", 0) <= len(text) <= shape.get("max_chars", len(text))
        and re.fullmatch(shape.get("regex", "(?s).*"), text) is not None
        and text.startswith(shape.get("starts_with", ""))
        and text.endswith(shape.get("ends_with", ""))
        and shape.get("contains", "") in text
        and set(text) <= set(shape.get("allowed_chars", text))
        and not any(stop in text for stop in shape.get("stop", ()))
        and "\ufffd" not in text
    )


def bundle_of(model: LanguageModel, tokenizer: CharTokenizer | BPETokenizer, kind: Any) -> Bundle:
    config = BundleConfig("noise", "noise", {"architecture": "noise"}, kind=kind, seed_words=False)
    return Bundle(config, model, tokenizer, SeedWords((), ()))


def answers(engine: TextEngine, count: int, seed: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Jobs of mixed shapes together, as many rows as there are slots; each shape with its last event."""
    source = random.Random(seed)
    jobs: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for number in range(count):
        sink: list[dict[str, Any]] = []
        shape = source.choice(SHAPES)
        job = {"id": f"j{number}", "max_new_tokens": 30, "seed": source.getrandbits(40), **shape}
        assert engine.submit(job, sink) is not None, sink
        jobs.append((shape, sink))
        while engine.engine.queued > 64:
            engine.advance()
    while not engine.idle:
        engine.advance()
    return [(shape, sink[-1]) for shape, sink in jobs]


def violations(
    tokenizers: Tokenizers, noise_model: type[Any], which: str, kind: str, count: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    tokenizer = tokenizers[which]
    engine = TextEngine(bundle_of(noise_model(tokenizer.size, count), tokenizer, kind))
    found = answers(engine, count, seed=count)
    assert {end["event"] for _, end in found} == {"end"}
    reasons = {end["finish_reason"] for _, end in found}
    assert reasons <= {"length", "eos_token", "stop_sequence"}
    assert ("eos_token" in reasons) == (kind == "documents")
    return [(shape, end) for shape, end in found if not has_shape(end["text"], shape)]


@pytest.mark.parametrize("kind", ["documents", "stream"])
@pytest.mark.parametrize("which", ["chars", "bpe"])
def test_constrained_answers_keep_their_rules(
    tokenizers: Tokenizers, noise_model: type[Any], which: str, kind: str
) -> None:
    assert violations(tokenizers, noise_model, which, kind, 200) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["documents", "stream"])
@pytest.mark.parametrize("which", ["chars", "bpe"])
def test_of_ten_thousand_constrained_answers_none_breaks_a_rule(
    tokenizers: Tokenizers, noise_model: type[Any], which: str, kind: str
) -> None:
    assert violations(tokenizers, noise_model, which, kind, 2500) == []


def test_a_resumed_constrained_answer_ends_with_its_shape(
    tokenizers: Tokenizers, noise_model: type[Any]
) -> None:
    tokenizer = tokenizers["bpe"]
    engine = TextEngine(bundle_of(noise_model(tokenizer.size), tokenizer, "documents"))
    shape = {"starts_with": "The harbour", "ends_with": "quiet.", "max_chars": 40, "max_new_tokens": 40}
    given = tokenizer.encode("The har")
    *_, end = engine.generate({"resume_ids": given, **shape})
    assert end["event"] == "end"
    assert has_shape(end["text"], shape)


def test_streams_end_where_nothing_may_follow(tokenizers: Tokenizers, noise_model: type[Any]) -> None:
    engine = TextEngine(bundle_of(noise_model(tokenizers["chars"].size), tokenizers["chars"], "stream"))
    *_, end = engine.generate({"regex": "[a-z]{6}", "max_new_tokens": 50})
    assert end["finish_reason"] == "stop_sequence"
    assert len(end["text"]) == end["generated_tokens"] == 6
