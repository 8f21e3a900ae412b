"""What may be posted, and why the rest may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.bot.candidates import Candidate
from training.bot.choosing import Rules, objection, read_block_list, tidy
from training.bot.length import x_length
from training.errors import DataError, UserError


def judge(text, verdict="novel", **changes):
    values = {"most": 280, "length": x_length} | changes
    return objection(Candidate(text, True, verdict=verdict), text, Rules(**values))


def test_a_good_text_may_be_posted():
    assert judge("The lantern burned low.") is None


def test_length_is_counted_as_the_platform_does():
    assert judge("x" * 280) is None
    assert judge("x" * 281) == "too long"
    assert judge("日" * 140) is None
    assert judge("日" * 141) == "too long"
    assert judge("x" * 256 + " https://example.org/" + "y" * 200) is None


def test_short_and_empty_texts_are_not_posted():
    assert judge("ab", least=3) == "too short"
    assert judge("") == "empty"


@pytest.mark.parametrize("sign", ["\x00", "\ufeff", "\ufffd", "\x1b"])
def test_signs_that_cannot_be_sent_are_not_posted(sign):
    assert judge(f"a{sign}b") == "unsendable characters"


@pytest.mark.parametrize(
    ("novelty", "verdict", "reason"),
    [
        ("any", "copy", None),
        ("known", "copy", "copied from the corpus"),
        ("known", "unknown", None),
        ("proven", "unknown", "novelty unknown"),
        ("proven", "copy", "copied from the corpus"),
        ("proven", "novel", None),
    ],
)
def test_copies_of_the_corpus_are_not_posted(novelty, verdict, reason):
    assert judge("The lantern.", verdict, novelty=novelty) == reason


def test_the_block_list_knows_words_phrases_and_patterns(tmp_path):
    path = tmp_path / "blocked.txt"
    path.write_text("# a comment\n\nDamn\nold  sailor\n/w[i1]tch(es)?/\nC++\n", encoding="utf-8")
    blocked = read_block_list(path)
    assert len(blocked) == 4
    for text in ("Damn!", "an OLD sailor", "three W1TCHES", "in C++ he said"):
        assert judge(text, blocked=blocked) == "blocked"
    for text in ("the goddamned sea", "old sailors", "which", "C+ at best"):
        assert judge(text, blocked=blocked) is None


def test_a_broken_block_list_names_its_line(tmp_path):
    path = tmp_path / "blocked.txt"
    path.write_text("fine\n/(unclosed/\n")
    with pytest.raises(DataError, match=r"blocked\.txt:2.*not a regular expression"):
        read_block_list(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_block_list(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("text", "finished", "expected"),
    [
        ("One. Two! Thr", False, "One. Two!"),
        ('He said "Go." Then', False, 'He said "Go."'),
        ("One. Two", True, "One. Two"),
        ("no end in sight", False, ""),
        ("cost 3.5 coins and", False, ""),
        ("  a \t b \n\n\n\n c  ", True, "a b\n\nc"),
        ("Wait… what", False, "Wait…"),
    ],
)
def test_a_cut_text_ends_with_its_last_whole_sentence(text, finished, expected):
    assert tidy(Candidate(text, finished), whole=True) == expected


def test_a_text_without_a_whole_sentence_is_unfinished():
    candidate = Candidate("no end in sight", False)
    assert objection(candidate, tidy(candidate, whole=True), Rules(280, x_length)) == "unfinished"
    assert tidy(candidate, whole=False) == "no end in sight"


@given(st.text(max_size=100), st.booleans())
def test_tidying_twice_changes_nothing_more(text, finished):
    once = tidy(Candidate(text, finished), whole=True)
    assert tidy(Candidate(once, finished), whole=True) == once


def test_rules_name_what_is_wrong():
    with pytest.raises(UserError, match="--novelty 'some' must be any, known or proven"):
        Rules(280, x_length, novelty="some")
    with pytest.raises(UserError, match="--min-chars 300"):
        Rules(280, x_length, least=300)
