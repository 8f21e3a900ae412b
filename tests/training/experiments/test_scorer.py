"""The judge: probabilities that add up, and a liking for what it has read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.experiments.scorer import NgramScorer

TEXTS = st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=4)


@given(TEXTS, st.text("abcd", max_size=6), st.integers(1, 4))
def test_probabilities_add_up_to_one(texts, history, order):
    judge = NgramScorer(texts, order)
    seen = {character for text in texts for character in text}
    assert sum(judge.probability(history, c) for c in [*seen, "?"]) == pytest.approx(1.0)


def test_the_weights_are_those_of_witten_and_bell():
    judge = NgramScorer(["abab", "ac"], order=2)
    # Single characters: a 3, b 2, c 1 of 6, three kinds; one more character is possible.
    single = {c: (n + 3 * (1 / 4)) / (6 + 3) for c, n in (("a", 3), ("b", 2), ("c", 1), ("?", 0))}
    assert judge.probability("", "a") == pytest.approx(single["a"])
    # After "a": b twice, c once, two kinds.
    assert judge.probability("a", "b") == pytest.approx((2 + 2 * single["b"]) / (3 + 2))
    assert judge.probability("xa", "?") == pytest.approx((0 + 2 * single["?"]) / (3 + 2))


def test_bits_are_the_sum_over_characters():
    judge = NgramScorer(["abab"], order=3)
    by_hand = -(math.log2(judge.probability("", "a")) + math.log2(judge.probability("a", "b")))
    assert judge.bits("ab") == pytest.approx(by_hand)
    assert judge.bits_per_character(["ab", "ab"]) == pytest.approx(by_hand / 2)
    assert math.isnan(judge.bits_per_character([]))


def test_text_of_its_kind_costs_less_than_shuffled_letters():
    judge = NgramScorer(["the harbour lay quiet under the lantern and the sailors went home"])
    assert judge.bits("the sailors lay under the lantern") < judge.bits("eht srolias yal rednu hte nretnal")


def test_an_order_below_one_is_an_error():
    with pytest.raises(ValueError, match="order is 0"):
        NgramScorer(["a"], 0)
