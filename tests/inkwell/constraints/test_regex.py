"""Regular expressions against the standard library's own matching."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwell.constraints.charset import Alphabet, CharSet
from inkwell.constraints.dfa import START, ComplexityError, Dfa
from inkwell.constraints.regex import Pattern, PatternError


def compiled(pattern: str) -> tuple[Dfa, Alphabet]:
    parsed = Pattern(pattern)
    alphabet = Alphabet(parsed.sets)
    return parsed.compile(alphabet), alphabet


def accepts(dfa: Dfa, alphabet: Alphabet, text: str) -> bool:
    state = START
    for index in alphabet.classes_of(np.array([ord(c) for c in text], dtype=np.int32)).tolist():
        state = int(dfa.table[state, index])
    return bool(dfa.accept[state])


PATTERNS = [
    "",
    "a",
    "a*b+c?",
    "(a|b)*abb",
    "(?:ab|a)(?:c|bcd)?",
    "a{2,3}b{0,2}",
    "(a*)*",
    "(a|)+b",
    "(ab?)*?c",
    "[^ab]c",
    "[a-c]{2}",
    "^ab$",
    "^a|b$",
    "(^a|b)*",
    "a^b",
    "a$b",
    "(a$|b)c?",
    r"\Aab\Z",
    "(?i)aB",
    "(?i:a)b",
    "(?s).b.",
    ".b.",
    "(?x) a b # c",
    "((a|b)(b|c)){2}",
    "(a?){3}a{3}",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_short_texts_match_as_the_standard_library_says(pattern: str) -> None:
    dfa, alphabet = compiled(pattern)
    for length in range(6):
        for letters in itertools.product("abcB\n", repeat=length):
            text = "".join(letters)
            assert accepts(dfa, alphabet, text) == (re.fullmatch(pattern, text) is not None), text


leaves = st.sampled_from(["a", "b", "c", "[ab]", "[^a]", ".", r"\w", "(?i:b)", ""])
patterns = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: "(?:" + "|".join(parts) + ")"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "*?"])).map(
            lambda parts: f"(?:{parts[0]}){parts[1]}"
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(patterns, st.lists(st.text(alphabet="abcC ", max_size=8), max_size=20))
def test_any_pattern_matches_as_the_standard_library_says(pattern: str, texts: list[str]) -> None:
    dfa, alphabet = compiled(pattern)
    for text in texts:
        assert accepts(dfa, alphabet, text) == (re.fullmatch(pattern, text) is not None), text


CLASSES = [
    r"\d",
    r"\D",
    r"\w",
    r"\W",
    r"\s",
    r"\S",
    r"[\w-]",
    r"[^\W\d_]",
    ".",
    r"[à-ÿ]",
    r"(?a)\w",
    r"(?a)\S",
]
FOLDED = [
    "(?i)k",
    "(?i)ß",
    "(?i)[a-z]",
    "(?i)[^a-z]",
    "(?i)[^ſ]",
    "(?i)ǆ",
    "(?ai)k",
    "(?i)µ",
    "(?i)[α-ω]",
    "(?i)1",
]


@pytest.mark.parametrize("pattern", CLASSES + FOLDED)
def test_classes_hold_exactly_the_characters_of_the_standard_library(pattern: str) -> None:
    dfa, alphabet = compiled(pattern)
    points = np.array([*range(0xD800), *range(0xE000, 0x110000)], dtype=np.int32)
    ours = dfa.accept[dfa.table[START, alphabet.classes_of(points)]]
    single = re.compile(pattern)
    theirs = np.array([single.fullmatch(chr(point)) is not None for point in points.tolist()])
    assert not np.flatnonzero(ours != theirs).size


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a", "is not a regular expression: missing \\), unterminated subpattern at character 0"),
        ("a(?=b)", "looking ahead or behind"),
        ("(?<!b)a", "looking ahead or behind"),
        (r"(a)\1", "a back-reference"),
        (r"\bword\b", "a word boundary"),
        ("(?m)^a", "flag m"),
        ("(?L)a", "not a"),
        ("[[a]", "not a clear regular expression"),
        ("a{99999999999}", "not a"),
        ("(" * 500 + ")" * 500, "nested too deeply"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_reason(pattern: str, reason: str) -> None:
    with pytest.raises(PatternError, match=reason):
        compiled(pattern)


@pytest.mark.parametrize(
    "pattern", ["[01]*1[01]{40}", "((a{100}){100}){100}", "(a?){2000}a{1000}", "(.*a.{9}){9}"]
)
def test_explosive_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ComplexityError, match="more than"):
        compiled(pattern)


def test_set_algebra_agrees_with_sets_of_numbers() -> None:
    left, right = CharSet.of_ranges([(3, 9), (20, 30)]), CharSet.of_ranges([(0, 4), (10, 25)])
    points = np.arange(40, dtype=np.int32)
    one, two = set(np.flatnonzero(left.has(points)).tolist()), set(np.flatnonzero(right.has(points)).tolist())
    assert one == {*range(3, 10), *range(20, 31)}
    assert set(np.flatnonzero(left.union(right).has(points)).tolist()) == one | two
    assert set(np.flatnonzero(left.minus(right).has(points)).tolist()) == one - two
    assert set(np.flatnonzero(left.complement().has(points)).tolist()) == set(range(40)) - one
