"""Syllables and pronounceability by themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import phonetics


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("Alathanor", 4), ("Rhys", 1), ("Ka'el", 1), ("Éowyn", 2), ("Thrym", 1), ("Yara", 2),
        ("brrr", 0), ("", 0), ("Grey Wolf", 2), ("Ærøskøbing", 4), ("Myr", 1), ("Bayou", 2),
    ],
)  # fmt: skip
def test_syllables_are_runs_of_vowels(name, count):
    assert phonetics.syllables(name) == count


@pytest.mark.parametrize(
    ("easier", "harder"),
    [("Brandor", "Rbandor"), ("Alma", "Almzlkta"), ("Stark", "Tsrak"), ("Kael", "Kaeeiul"), ("Nim", "Nmm")],
)
def test_what_follows_the_sonority_principle_scores_higher(easier, harder):
    assert phonetics.score(easier) > phonetics.score(harder)


@given(st.text(max_size=40))
def test_scores_lie_between_0_and_1_and_case_does_not_matter(text):
    assert 0 <= phonetics.score(text) <= 1
    assert phonetics.score(text.casefold()) == phonetics.score(text)


@given(st.lists(st.sampled_from(["ba", "lo", "mi", "ra", "ne", "tu"]), min_size=1, max_size=6))
def test_open_syllables_count_one_each_and_score_full(parts):
    assert phonetics.syllables("".join(parts)) == len(parts)
    assert phonetics.score("".join(parts)) == 1.0
