"""Counts of a hand-made text, and n-grams against scikit-learn."""

from __future__ import annotations

import pytest
from sklearn.feature_extraction.text import CountVectorizer

from training.report.lexicon import Lexicon, Spread, words_of

TEXT = (
    "The harbour lay quiet. Old Mr. Vane said: “Don’t light it!” Nobody did; the well-known lamp, No. 7, "
    "stayed dark.\n\nIn the morning, the harbour woke."
)


def test_sentences_and_words_are_counted_as_by_hand():
    lexicon = Lexicon([TEXT, "   "])
    assert lexicon.texts == (TEXT,)
    assert len(lexicon.sentences) == 4
    assert lexicon.words_per_sentence == (4, 7, 9, 6)
    assert lexicon.words[4:9] == ("old", "mr", "vane", "said", "don’t")
    assert "well-known" in lexicon.words
    assert lexicon.characters_per_sentence[0] == len("The harbour lay quiet.")


def test_n_grams_are_those_of_scikit_learn():
    lexicon = Lexicon([TEXT])
    for size in (1, 2, 3):
        counter = CountVectorizer(
            ngram_range=(size, size), analyzer="word", tokenizer=words_of, token_pattern=None
        )
        table = counter.fit_transform(lexicon.sentences).sum(axis=0).A1
        expected = dict(zip(counter.get_feature_names_out(), table.tolist(), strict=True))
        assert {" ".join(gram): count for gram, count in lexicon.ngrams(size).items()} == expected


def test_stop_words_and_others_are_told_apart():
    lexicon = Lexicon(["The sea and the sky and the sea."])
    stops = frozenset({"the", "and"})
    assert lexicon.common(stops, True) == [("the", 3), ("and", 2)]
    assert lexicon.common(stops, False) == [("sea", 2), ("sky", 1)]
    assert lexicon.type_token_ratio == pytest.approx(4 / 8)


def test_a_limit_cuts_inside_a_long_text():
    lexicon = Lexicon([TEXT])
    assert lexicon.limited(5).words_per_sentence == (4, 7)
    assert lexicon.limited(10_000).words == lexicon.words


def test_pieces_end_once_they_are_long_enough():
    lengths = [sum(map(len, piece)) for piece in Lexicon([TEXT, "One more."]).pieces(10)]
    assert lengths == [11, 15, 2]


def test_a_spread_of_nothing_is_zero():
    assert Spread.of([]) == Spread(0.0, 0.0, 0, 0)
    assert Spread.of([1, 2, 6]) == Spread(3.0, 2, 1, 6)
