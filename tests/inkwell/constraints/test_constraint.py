"""Masks against an oracle that tries all continuations, and what is refused."""

from __future__ import annotations

import gc
import itertools
import re
import weakref
from pathlib import Path
from typing import Any

import pytest

from inkwell.constraints import Shape, ShapeConstraint, compile_constraint
from inkwell.constraints.compiling import Compiler
from inkwell.errors import InvalidJob
from inkwell.job import Job
from inkwell.tokenizer import END_ID, BPETokenizer, CharTokenizer, Tokenizer

Tokenizers = dict[str, CharTokenizer | BPETokenizer]


class Pieces:
    """A tokenizer of just these byte strings."""

    kind = "pieces"

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [b"", *pieces]

    @property
    def size(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def unknown(self, text: str) -> str:
        raise NotImplementedError

    def decode(self, ids: list[int]) -> str:
        return b"".join(self._pieces[i] for i in ids).decode(errors="replace")

    def piece(self, token: int) -> bytes:
        return self._pieces[token]

    def save(self, path: Path) -> None:
        raise NotImplementedError


def has_shape(data: bytes, rules: dict[str, Any]) -> bool:
    """What the rules mean, in plain string methods."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    cuts = [text.find(stop) for stop in rules.get("stop", ()) if stop in text]
    text = text[: min(cuts)] if cuts else text
    return (
        rules.get("min_chars", 0) <= len(text) <= rules.get("max_chars", len(text))
        and re.fullmatch(rules.get("regex", r"(?s).*"), text) is not None
        and text.startswith(rules.get("starts_with", ""))
        and text.endswith(rules.get("ends_with", ""))
        and rules.get("contains", "") in text
        and set(text) <= set(rules.get("allowed_chars", text))
    )


class Oracle:
    """Which token sequences can be finished within the limits, by trying all of them."""

    def __init__(
        self, tokenizer: Pieces, rules: dict[str, Any], stops_at_end: bool, least: int, most: int
    ) -> None:
        self.tokenizer, self.rules, self.most = tokenizer, rules, most
        self.stops_at_end, self.least = stops_at_end, least
        self.finishable: set[tuple[int, ...]] = set()
        for length in range(most + 1):
            for tokens in itertools.product(range(1, tokenizer.size), repeat=length):
                if self.may_end(tokens):
                    self.finishable.update(tokens[:cut] for cut in range(length + 1))

    def has_shape(self, tokens: tuple[int, ...]) -> bool:
        return has_shape(b"".join(map(self.tokenizer.piece, tokens)), self.rules)

    def may_end(self, tokens: tuple[int, ...]) -> bool:
        least = self.least if self.stops_at_end else max(self.least, 1)
        return self.has_shape(tokens) and len(tokens) >= least

    def allowed(self, tokens: tuple[int, ...]) -> set[int]:
        found = {t for t in range(1, self.tokenizer.size) if (*tokens, t) in self.finishable}
        return found | {END_ID} if self.stops_at_end and self.may_end(tokens) else found


SMALL = Pieces(b"a", b"b", b"ab", b"ba ", b" ")
SPLIT = Pieces(b"a", b"\xc3", b"\xa9", b"a\xc3", b"\xa9a", "é".encode())
CASES: list[tuple[Pieces, dict[str, Any]]] = [
    (SMALL, {"regex": "(ab)+"}),
    (SMALL, {"regex": "a*b a*"}),
    (SMALL, {"starts_with": "ab", "max_chars": 5}),
    (SMALL, {"ends_with": "ba", "min_chars": 4}),
    (SMALL, {"contains": "b a", "allowed_chars": "ab "}),
    (SMALL, {"regex": "(?:a|b)*", "stop": (" ",)}),
    (SMALL, {"min_chars": 2, "max_chars": 3, "stop": ("ba", " ")}),
    (SMALL, {"regex": "ab|abab|abbb"}),
    (SPLIT, {"regex": "(éa?)+"}),
    (SPLIT, {"contains": "é", "max_chars": 3}),
    (SPLIT, {"min_chars": 3, "ends_with": "aé"}),
    (SPLIT, {"allowed_chars": "a"}),
    (SPLIT, {"max_chars": 4, "stop": ("é",)}),
]


@pytest.mark.parametrize(
    ("tokenizer", "rules"), CASES, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
@pytest.mark.parametrize("stops_at_end", [True, False])
@pytest.mark.parametrize(("least", "most"), [(0, 5), (3, 5), (4, 4)])
def test_masks_are_exactly_what_can_be_finished(
    tokenizer: Pieces, rules: dict[str, Any], stops_at_end: bool, least: int, most: int
) -> None:
    oracle = Oracle(tokenizer, rules, stops_at_end, least, most)
    job = Job(id="j", max_new_tokens=most, min_new_tokens=least, **rules)
    if () not in oracle.finishable:
        with pytest.raises(InvalidJob):
            compile_constraint(job, tokenizer, stops_at_end)
        return
    for tokens in sorted(oracle.finishable):
        if len(tokens) >= most or any(
            stop in tokenizer.decode(list(tokens)) for stop in rules.get("stop", ())
        ):
            continue  # the text is over; the engine asks no more
        constraint = compile_constraint(job, tokenizer, stops_at_end)
        for token in tokens:
            constraint.advance(token)
        mask = set(constraint.allowed().nonzero()[:, 0].tolist())
        expected = oracle.allowed(tokens)
        assert mask == (expected or {END_ID}), tokens
        assert constraint.finished() == (not expected), tokens


@pytest.mark.parametrize(
    ("rules", "field", "message"),
    [
        ({"regex": "(a"}, "regex", "not a regular expression"),
        ({"regex": "(?=a)b"}, "regex", "looking ahead"),
        ({"regex": "[01]*1[01]{30}"}, "regex", "too complex"),
        ({"regex": "a{50}"}, "max_new_tokens", "is 20; the shortest text of this shape takes 50 tokens"),
        ({"starts_with": "Ω"}, "starts_with", "it has no 'Ω'"),
        ({"regex": "Ω+"}, "regex", "cannot be met by any text of this model's characters"),
        ({"starts_with": "abc", "max_chars": 2}, "starts_with", "cannot be met together with max_chars"),
        ({"allowed_chars": "b", "regex": "a"}, "allowed_chars", "cannot be met together with regex"),
        ({"min_chars": 21}, "min_chars", "at most 20 characters"),
        (
            {"regex": "ab?", "min_new_tokens": 5},
            "min_new_tokens",
            "no text of at least 5 and at most 20 tokens",
        ),
        ({"contains": "a", "stop": ("abcd", "bc")}, "stop", "holds 'bc' inside 'abcd'"),
        ({"contains": "ab", "stop": ("a",)}, "stop", "cannot both be met"),
        ({"starts_with": "a", "resume_ids": (2,)}, "resume_ids", "breaks the shape"),
    ],
)
def test_impossible_shapes_are_refused_by_field(rules: dict[str, Any], field: str, message: str) -> None:
    tokenizer = CharTokenizer("abc01 ")
    if "resume_ids" in rules:
        rules = {**rules, "resume_ids": tuple(tokenizer.encode("b"))}
    job = Job(id="j", **{"max_new_tokens": 20, **rules})
    for _ in range(2):  # the second time from the cache
        with pytest.raises(InvalidJob, match=re.escape(message)) as caught:
            compile_constraint(job, tokenizer, True)
        assert caught.value.field == field


def test_streams_refuse_shapes_that_only_the_empty_text_has() -> None:
    tokenizer = CharTokenizer("ab")
    job = Job(id="j", regex="")
    assert compile_constraint(job, tokenizer, True).allowed().nonzero().tolist() == [[END_ID]]
    with pytest.raises(InvalidJob, match="no text of at least 1"):
        compile_constraint(job, tokenizer, False)


def test_advancing_by_a_barred_token_is_an_error() -> None:
    tokenizer = CharTokenizer("ab")
    constraint = compile_constraint(Job(id="j", regex="a+"), tokenizer, True)
    with pytest.raises(ValueError, match="breaks the shape"):
        constraint.advance(tokenizer.encode("b")[0])


def test_a_complete_text_allows_only_the_end_mark() -> None:
    tokenizer = CharTokenizer("ab")
    constraint = compile_constraint(Job(id="j", regex="a+", resume_ids=(1, 0)), tokenizer, True)
    for token in (1, END_ID):
        constraint.advance(token)
    assert constraint.allowed().nonzero().tolist() == [[END_ID]]


def test_the_same_shape_is_compiled_once_and_forgotten_with_its_tokenizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[Shape] = []
    original = Compiler._compile

    def counting(self: Compiler, shape: Shape, stops_at_end: bool) -> Any:
        built.append(shape)
        return original(self, shape, stops_at_end)

    monkeypatch.setattr(Compiler, "_compile", counting)
    tokenizer = CharTokenizer("abc")
    for limit in (5, 6, 7):
        compile_constraint(Job(id="j", regex="a+", max_new_tokens=limit), tokenizer, True)
    compile_constraint(Job(id="j", regex="a+", max_chars=100, max_new_tokens=5), tokenizer, True)
    assert len(built) == 1
    compile_constraint(Job(id="j", regex="a+"), tokenizer, False)
    assert len(built) == 2
    gone = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert gone() is None


def test_bytes_of_a_character_are_never_left_open(tokenizers: Tokenizers) -> None:
    tokenizer: Tokenizer = tokenizers["bpe"]
    lead = next(token for token in range(tokenizer.size) if tokenizer.piece(token) == b"\xf0")
    constraint = compile_constraint(Job(id="j", max_chars=1, max_new_tokens=4), tokenizer, True)
    assert isinstance(constraint, ShapeConstraint)
    constraint.advance(lead)
    allowed = constraint.allowed().nonzero()[:, 0].tolist()
    assert END_ID not in allowed
    assert all(0x90 <= tokenizer.piece(token)[0] <= 0xBF for token in allowed)
    short = compile_constraint(Job(id="j", max_chars=1, max_new_tokens=3), tokenizer, True)
    assert not short.allowed()[lead] or any(
        len(tokenizer.piece(token)) > 1 and tokenizer.piece(token)[0] & 0xC0 == 0x80
        for token in range(tokenizer.size)
    )
