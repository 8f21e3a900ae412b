"""Seed words: which are collected, and how one is picked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwell.errors import BundleError, InvalidJob
from inkwell.words import SeedWords, edit_distances

WORDS = SeedWords(("harbour", "lantern", "Élan", "sea", "lamp"), (50, 25, 12, 8, 5))


def levenshtein(a: str, b: str) -> int:
    """The textbook's table, with two rows."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, before = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
    return row[-1]


names = st.text(alphabet="abcdEÉß'ß", min_size=0, max_size=9)


@given(names, st.lists(names, min_size=1, max_size=8))
def test_edit_distances_are_the_textbooks(word: str, others: list[str]) -> None:
    expected = [levenshtein(word.casefold(), other.casefold()) for other in others]
    assert edit_distances(word, others).tolist() == expected


@pytest.mark.parametrize(
    ("asked", "word"),
    [("lantirn", "lantern"), ("LAMP", "lamp"), ("see", "sea"), ("élan", "Élan"), ("habrour", "harbour")],
)
def test_nearest_is_the_word_with_the_fewest_edits(asked: str, word: str) -> None:
    assert WORDS.pick("nearest", 0, asked) == word


def test_of_equally_near_words_the_more_frequent_one_is_taken() -> None:
    words = SeedWords(("bat", "cat", "rat"), (9, 5, 2))
    assert words.pick("nearest", 3, "hat") == "bat"


def frequencies(strategy: str, value: str | None = None, n: int = 4000) -> Counter[str]:
    return Counter(WORDS.pick(strategy, seed, value) for seed in range(n))


@pytest.mark.parametrize(
    ("strategy", "weights"),
    [
        ("random", {"harbour": 1, "lantern": 1, "Élan": 1, "sea": 1, "lamp": 1}),
        ("common", {"harbour": 50, "lantern": 25, "Élan": 12, "sea": 8, "lamp": 5}),
        ("rare", {"harbour": 1 / 50, "lantern": 1 / 25, "Élan": 1 / 12, "sea": 1 / 8, "lamp": 1 / 5}),
    ],
)
def test_strategies_weigh_words_as_they_say(strategy: str, weights: dict[str, float]) -> None:
    counts, total = frequencies(strategy), sum(weights.values())
    for word, weight in weights.items():
        share = weight / total
        assert abs(counts[word] - 4000 * share) < 4.5 * (4000 * share * (1 - share)) ** 0.5


def test_letter_takes_only_words_that_begin_so() -> None:
    assert set(frequencies("letter", "L", 200)) == {"lantern", "lamp"}
    assert set(frequencies("letter", "LAM", 50)) == {"lamp"}
    assert set(frequencies("letter", "é", 50)) == {"Élan"}


def test_a_seed_decides_the_word() -> None:
    assert [WORDS.pick("common", s) for s in range(50)] == [WORDS.pick("common", s) for s in range(50)]
    assert WORDS.pick("random", (1 << 63) - 1) in WORDS.words


@pytest.mark.parametrize(
    ("strategy", "value", "message"),
    [
        ("nearest", None, "seed_word.value is missing; strategy 'nearest'"),
        ("letter", None, "seed_word.value is missing; strategy 'letter'"),
        ("letter", "", "seed_word.value is missing; strategy 'letter'"),
        ("letter", "xq", "seed_word.value is 'xq'; no seed word"),
    ],
)
def test_what_cannot_be_picked_is_refused(strategy: str, value: str | None, message: str) -> None:
    with pytest.raises(InvalidJob, match=message):
        WORDS.pick(strategy, 1, value)


def test_a_model_without_words_says_so() -> None:
    with pytest.raises(InvalidJob, match="no seed words; give a prompt"):
        SeedWords((), ()).pick("random", 1)


def test_words_that_mostly_begin_sentences_and_rare_ones_are_left_out() -> None:
    text = (
        "However the sea rose. However the sea fell! “However, the sea stayed,” Anna said.\n"
        "However, the ship sank: the sea took Anna and a rope.\n\n"
        "Meanwhile Anna's sister saw the sea — the sea and Anna."
    )
    words = SeedWords.collect([text], least=2)
    assert dict(zip(words.words, words.counts, strict=True)) == {"the": 6, "sea": 6, "Anna": 3, "and": 2}
    assert words.words == ("sea", "the", "Anna", "and")


def test_words_keep_apostrophes_and_hyphens_and_drop_digits_and_single_letters() -> None:
    text = "x so-called o’clock don't x2 I " * 3
    assert set(SeedWords.collect([text]).words) >= {"so-called", "o’clock", "don't"}
    assert not {"I", "x", "x2"} & set(SeedWords.collect([text]).words)


def test_the_beginning_of_a_text_begins_a_sentence() -> None:
    assert SeedWords.collect(["Once upon"] * 9, least=3).words == ("upon",)


def test_the_list_is_bounded_and_keeps_the_most_frequent() -> None:
    assert SeedWords.collect(["- bb aa bb aa cc bb - " * 3], limit=2).words == ("bb", "aa")


@given(st.lists(st.tuples(st.from_regex(r"[a-zé']{2,8}", fullmatch=True), st.integers(1, 10**9)), max_size=6))
def test_words_come_back_from_disk(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("words") / "words.txt"
    words = SeedWords(tuple(w for w, _ in items), tuple(c for _, c in items))
    words.save(path)
    assert SeedWords.load(path) == words


@pytest.mark.parametrize("line", ["word", "word\tmany", "word\t0", "\t3", "", "word\t-1"])
def test_a_damaged_list_is_refused_by_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "words.txt").write_text(f"good\t3\n{line}\n", encoding="utf-8")
    with pytest.raises(BundleError, match=r"words.txt, line 2: .*is not 'word<TAB>count'"):
        SeedWords.load(tmp_path / "words.txt")


def test_a_list_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match=r"words.txt cannot be read"):
        SeedWords.load(tmp_path / "words.txt")


def test_a_sample_goes_from_the_most_frequent_to_the_rarest_and_leaves_short_words_out() -> None:
    words = SeedWords(
        tuple(f"word{n:03}" if n % 2 else f"{n:03}" for n in range(200)), tuple(range(200, 0, -1))
    )
    sample = words.sample(10)
    assert len(sample) == len(set(sample)) == 10
    assert sample == sorted(sample)
    assert sample[0] == "word001"
    assert sample[-1] > "word170"
    few = SeedWords(("the", "sea", "Anna"), (9, 6, 3))
    assert few.sample(10) == ["the", "sea", "Anna"]
    assert SeedWords((), ()).sample() == []
