"""The history: what is written stays, and nothing can be reserved twice."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.bot.errors import BotError
from training.bot.history import History
from training.bot.similar import normalised, similarity


@pytest.fixture
def history(tmp_path):
    with History.open(tmp_path / "posts.sqlite") as history:
        yield history


def reserve(history, text, key=None, platform="x", account="1"):
    return history.reserve(platform, account, key or f"key of {text}", text, model="souls", seed=7)


def test_a_reservation_is_on_the_disk_before_it_returns(history, tmp_path):
    reserve(history, "The lantern")
    with History.open(tmp_path / "posts.sqlite") as other:
        [row] = other.reserved("x", "1")
    assert (row.text, row.state, row.key, row.model, row.seed) == (
        "The lantern",
        "reserved",
        "key of The lantern",
        "souls",
        7,
    )


def test_a_text_is_reserved_once_for_an_account(history):
    reserve(history, "The lantern!")
    with pytest.raises(BotError, match="already"):
        reserve(history, "the  LANTERN", key="other")
    assert reserve(history, "The lantern!", key="elsewhere", account="2").state == "reserved"


def test_a_failed_text_may_be_tried_again_and_a_posted_one_not(history):
    history.settle(reserve(history, "a b c", key="1"), "failed", reason="down")
    history.settle(reserve(history, "a b c", key="2"), "posted", remote_id="9")
    with pytest.raises(BotError):
        reserve(history, "a b c", key="3")


def test_settling_keeps_what_is_known(history):
    row = history.settle(reserve(history, "text"), "posted", remote_id="9", url="https://x.com/9")
    assert (row.state, row.remote_id, row.url) == ("posted", "9", "https://x.com/9")
    assert row.settled_at >= row.reserved_at
    assert history.reserved("x", "1") == []


@pytest.mark.parametrize("state", ["posted", "unknown", "reserved"])
def test_what_may_be_out_counts_as_posted(history, state):
    row = reserve(history, "The harbour lay quiet under the lantern.")
    if state != "reserved":
        history.settle(row, state)
    found, likeness = history.resembling("x", "1", "the harbour lay quiet, under the lantern", 0.8)
    assert (found.id, likeness) == (row.id, 1.0)


@pytest.mark.parametrize("state", ["failed", "refused"])
def test_what_is_not_out_does_not_count_as_posted(history, state):
    history.settle(reserve(history, "The harbour lay quiet."), state)
    assert history.resembling("x", "1", "The harbour lay quiet.", 0.8) is None
    assert history.refused("x", "1", "The harbour lay quiet.") == (state == "refused")


def test_nearly_the_same_text_is_found_and_another_is_not(history):
    reserve(history, "The harbour lay quiet under the lantern, and nobody asked who had lit it.")
    near = "The harbour lay quiet under the lantern, and nobody asked who lit it."
    other = "A grey ship stood in the bay; its captain asked for bread, for rope and for a light."
    found = history.resembling("x", "1", near, 0.8)
    assert found is not None
    assert 0.8 <= found[1] < 1
    assert history.resembling("x", "1", other, 0.8) is None
    assert history.resembling("x", "2", near, 0.8) is None


def test_the_latest_come_first(history):
    for number in range(5):
        history.settle(reserve(history, f"text number {number}"), "posted")
    reserve(history, "on another platform", platform="discord")
    assert [row.text for row in history.latest(2, "x")] == ["text number 4", "text number 3"]
    assert history.latest(1)[0].platform == "discord"


def test_only_one_run_has_the_history(history, tmp_path):
    with (
        history.alone(),
        History.open(tmp_path / "posts.sqlite") as other,
        pytest.raises(BotError, match="another run"),
        other.alone(wait_s=0.05),
    ):
        pytest.fail("two runs at once")
    with history.alone(wait_s=0.05):
        assert history.latest(1) == []


def test_the_lock_ends_with_its_process(history, tmp_path):
    code = f"""
        import os
        from pathlib import Path
        from training.bot.history import History
        history = History.open(Path({str(tmp_path / "posts.sqlite")!r}))
        held = history.alone(); held.__enter__()
        history.reserve("x", "1", "k", "text", model=None, seed=None)
        os._exit(9)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert ended.returncode == 9
    with history.alone(wait_s=0.05):
        assert [row.text for row in history.reserved("x", "1")] == ["text"]


def test_a_file_that_is_no_history_is_named(tmp_path):
    path = tmp_path / "posts.sqlite"
    path.write_text("this is no database, whatever its name says" * 50)
    with pytest.raises(BotError, match=r"posts\.sqlite cannot be opened"):
        History.open(path)


def test_a_history_of_another_version_is_left_alone(tmp_path):
    path = tmp_path / "posts.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(BotError, match="version 9"):
        History.open(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Lantern!", "the lantern"),
        ("Café — déjà vu", "cafe deja vu"),
        ("look: https://example.org/1", "Look https://example.org/2"),
        ("ﬁre", "fire"),
        ("two\n\nlines", "two lines"),
    ],
)
def test_texts_that_differ_in_looks_only_are_the_same(one, other):
    assert normalised(one) == normalised(other)


def test_signs_alone_are_still_told_apart():
    assert normalised("!!!") != normalised("???")


@given(st.text(max_size=60), st.text(max_size=60))
def test_similarity_is_even_and_between_none_and_all(one, other):
    first, second = normalised(one), normalised(other)
    assert similarity(first, second) == similarity(second, first)
    assert 0 <= similarity(first, second) <= 1
    assert similarity(first, first) == 1
