"""Distances against scipy and against the plainest way to compute each."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from training.report.distances import compare, distinct, earth_mover, jensen_shannon, repeated, self_bleu
from training.report.lexicon import Lexicon

TABLES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 50), min_size=1)
LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=40)
SENTENCES = st.lists(st.lists(st.sampled_from("abc"), min_size=0, max_size=9), min_size=0, max_size=7)


@given(TABLES, TABLES)
def test_jensen_shannon_is_the_square_of_scipys_distance(left, right):
    keys = sorted(left.keys() | right.keys())
    distance = jensenshannon([left.get(k, 0) for k in keys], [right.get(k, 0) for k in keys], base=2)
    assert jensen_shannon(left, right) == pytest.approx(distance**2, abs=1e-9)


def test_jensen_shannon_ends_at_equal_and_at_nothing_in_common():
    assert jensen_shannon({"a": 1, "b": 3}, {"a": 2, "b": 6}) == 0.0
    assert jensen_shannon({"a": 1}, {"b": 9}) == 1.0
    assert jensen_shannon({}, {}) == 0.0
    assert jensen_shannon({}, {"a": 1}) == 1.0


@given(LENGTHS, LENGTHS)
def test_earth_mover_agrees_with_scipy(left, right):
    assert earth_mover(left, right) == pytest.approx(wasserstein_distance(left, right), abs=1e-9)


def naive_self_bleu(sentences, order=4):
    """BLEU of each sentence against all others, written as the definition reads."""
    whole = [s for s in sentences if len(s) >= order]
    if len(whole) < 2:
        return 0.0
    scores = []
    for index, words in enumerate(whole):
        others = whole[:index] + whole[index + 1 :]
        logs = 0.0
        for n in range(1, order + 1):
            grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
            tables = [Counter(tuple(o[i : i + n]) for i in range(len(o) - n + 1)) for o in others]
            clipped = sum(min(c, max(t[g] for t in tables)) for g, c in grams.items())
            extra = 1 if n > 1 else 0
            precision = (clipped + extra) / (sum(grams.values()) + extra)
            logs += math.log(precision) if precision else -math.inf
        scores.append(math.exp(logs / order))
    return sum(scores) / len(scores)


@given(SENTENCES)
def test_self_bleu_agrees_with_its_definition(sentences):
    assert self_bleu(sentences) == pytest.approx(naive_self_bleu(sentences), abs=1e-9)


def test_self_bleu_ends_at_all_alike_and_at_nothing_in_common():
    assert self_bleu([("a", "b", "c", "d")] * 3) == pytest.approx(1.0)
    assert self_bleu([tuple("abcd"), tuple("efgh")]) == 0.0


def test_distinct_is_different_pairs_over_all_pairs():
    assert distinct(Lexicon(["To be or not to be."]), 2) == pytest.approx(4 / 5)


def test_repetition_counts_what_stood_in_the_same_text_before():
    said_twice = "We sail at dawn tomorrow. We sail at dawn tomorrow."
    assert repeated(Lexicon([said_twice]), 4, words=10) == pytest.approx(0.5)
    assert repeated(Lexicon(["We sail at dawn tomorrow."] * 2), 4, words=10) == 0.0


def test_repetition_of_a_long_text_is_measured_in_pieces_as_long_as_the_other_sides():
    book = " ".join(["We sail at dawn tomorrow."] * 40)
    assert repeated(Lexicon([book]), 4, words=5) == 0.0
    assert repeated(Lexicon([book]), 4, words=200) == pytest.approx(1 - 2 / 80)


def test_a_book_and_short_texts_are_compared_over_equally_many_words():
    book = " ".join(f"The {word} lay quiet here." for word in ("harbour", "ship", "rope", "lamp") * 30)
    short = Lexicon(["A ship came in late."] * 4)
    found = compare(Lexicon([book]), short)
    assert found.words_compared == 20
    assert found.type_token_source == pytest.approx(8 / 20)  # of 600 words it would be 8 / 600
    assert found.type_token_generated == pytest.approx(5 / 20)


def test_a_source_compared_with_itself_is_all_copies_and_no_distance():
    texts = ["The harbour lay quiet under the old lantern.", "Nobody asked who lit it so long ago."]
    found = compare(Lexicon(texts), Lexicon(texts)).as_dict()
    assert found["js_words"] == found["js_bigrams"] == found["js_characters"] == 0.0
    assert found["length_characters"] == found["length_words"] == 0.0
    assert found["exact_copies"] == found["copied_share"] == 1.0
    assert found["max_longest_copy"] == len(texts[0])


def test_nothing_generated_is_as_far_as_can_be():
    found = compare(Lexicon(["Some words."]), Lexicon([]))
    assert found.words_compared == 0
    assert found.exact_copies == 0.0
