"""Each rule and their products against plain string methods, over all short texts."""

from __future__ import annotations

import codecs
import itertools
import unicodedata
from collections.abc import Callable

import numpy as np
import pytest

from inkwell.constraints.charset import Alphabet, CharSet
from inkwell.constraints.dfa import FAR, START, Dfa, distances, product, trim
from inkwell.constraints.rules import Contains, EndsWith, Length, Only, Rule, StartsWith, Syllables
from inkwell.constraints.stops import overlapping, with_stops
from inkwell.constraints.utf8 import ROOT, Utf8

RULES: dict[str, tuple[Rule, Callable[[str], bool]]] = {
    "starts": (StartsWith("aba"), lambda text: text.startswith("aba")),
    "ends": (EndsWith("abab"), lambda text: text.endswith("abab")),
    "ends in a run": (EndsWith("aa"), lambda text: text.endswith("aa")),
    "contains": (Contains("aab"), lambda text: "aab" in text),
    "only": (Only("ab"), lambda text: set(text) <= set("ab")),
    "at least": (Length(3, None), lambda text: len(text) >= 3),
    "at most": (Length(0, 4), lambda text: len(text) <= 4),
    "between": (Length(2, 4), lambda text: 2 <= len(text) <= 4),
    "exactly none": (Length(0, 0), lambda text: not text),
}


def states_of(dfa: Dfa, alphabet: Alphabet, text: str) -> list[int]:
    states = [START]
    for index in alphabet.classes_of(np.array([ord(c) for c in text], dtype=np.int32)).tolist():
        states.append(int(dfa.table[states[-1], index]))
    return states


def texts(letters: str, longest: int) -> list[str]:
    return ["".join(t) for length in range(longest + 1) for t in itertools.product(letters, repeat=length)]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_accepts_what_its_string_method_accepts(name: str) -> None:
    rule, holds = RULES[name]
    alphabet = Alphabet([*rule.sets, CharSet.of("c")])
    dfa = rule.compile(alphabet)
    for text in texts("abc", 7):
        assert dfa.accept[states_of(dfa, alphabet, text)[-1]] == holds(text), text


@pytest.mark.parametrize(("one", "two"), list(itertools.combinations(RULES, 2)))
def test_a_product_accepts_what_both_rules_accept(one: str, two: str) -> None:
    (left, first), (right, second) = RULES[one], RULES[two]
    alphabet = Alphabet([*left.sets, *right.sets, CharSet.of("c")])
    both = trim(product(left.compile(alphabet), right.compile(alphabet)))
    for text in texts("abc", 6):
        if both is None:
            assert not (first(text) and second(text)), text
        else:
            assert both.accept[states_of(both, alphabet, text)[-1]] == (first(text) and second(text)), text


@pytest.mark.parametrize("stops", [("b",), ("ab", "b"), ("aab", "ab"), ("bb", "ba", "abc")])
def test_with_stops_the_text_before_the_first_stop_has_the_shape(stops: tuple[str, ...]) -> None:
    rule = Length(2, 3)
    alphabet = Alphabet([*rule.sets, *map(CharSet.of, "abc")])
    dfa = with_stops(rule.compile(alphabet), stops, alphabet)
    for text in texts("abc", 7):
        cuts = [text.find(stop) for stop in stops if stop in text]
        kept = text[: min(cuts)] if cuts else text
        assert dfa.accept[states_of(dfa, alphabet, text)[-1]] == (2 <= len(kept) <= 3), text


def test_stops_inside_each_other_are_found() -> None:
    assert overlapping(("abcd", "bc")) == ("abcd", "bc")
    assert overlapping(("abcd", "abc", "bcd", "abcd")) is None


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("Anna", 2),
        ("Maelowyn", 3),
        ("Ëlorin", 3),
        ("Brr", 0),
        ("Io", 1),
        (unicodedata.normalize("NFD", "Éowyn"), 2),
    ],
)
def test_syllables_are_runs_of_vowels(name: str, count: int) -> None:
    for asked in range(5):
        rule = Syllables(asked)
        alphabet = Alphabet(rule.sets)
        dfa = rule.compile(alphabet)
        assert dfa.accept[states_of(dfa, alphabet, name)[-1]] == (asked == count)


def test_distances_are_fewest_steps_to_a_goal() -> None:
    #  0 → 1 → 2 → 3 (goal), 0 → 3 direct, 4 leads nowhere
    sources, targets = np.array([0, 1, 2, 0, 3], dtype=np.int32), np.array([1, 2, 3, 3, 0], dtype=np.int32)
    goals = np.array([False, False, False, True, False])
    assert distances(sources, targets, goals).tolist() == [1, 2, 1, 0, FAR]


def test_utf8_reads_every_character_and_nothing_else() -> None:
    letters = CharSet.of("aé€😀")
    alphabet = Alphabet([letters])
    utf8 = Utf8(alphabet)
    inside = int(alphabet.classes_of(np.array([ord("a")], dtype=np.int32))[0])
    for point in [*range(0, 0xD800, 7), *range(0xE000, 0x110000, 61), *map(ord, "aé€😀"), 0x10FFFF]:
        read = utf8.read(ROOT, chr(point).encode())
        assert read is not None
        assert read[1] == ROOT
        assert (read[0] == (inside,)) == (chr(point) in "aé€😀")
    for first, second, third in itertools.product(
        range(256), range(0, 256, 3), (0x41, 0x80, 0x8F, 0x90, 0xBF)
    ):
        data = bytes([first, second, third])
        read = utf8.read(ROOT, data)
        decoder = codecs.getincrementaldecoder("utf-8")("strict")
        try:
            decoded = decoder.decode(data)
        except UnicodeDecodeError:
            assert read is None, data
        else:
            held = decoder.getstate()[0]
            if held[:1] == b"\xed" and held[1:] >= b"\xa0":  # Python waits one byte more to refuse surrogates
                assert read is None, data
                continue
            assert read is not None, data
            assert (len(read[0]), read[1] == ROOT) == (len(decoded), not held), data
