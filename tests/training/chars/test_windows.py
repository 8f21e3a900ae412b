"""What each reading order promises, on texts whose ids are their own positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.batches import StreamWindows
from training.chars.windows import CHUNK, ORDERS, CharWindows, Order, Window


def text(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.int64)


def epoch(windows: CharWindows, number: int = 0) -> list[Window]:
    return list(windows.epoch(number))


@pytest.mark.parametrize("order", ["none", "shift"])
def test_contiguous_orders_are_those_of_the_torch_trainer(order: Order) -> None:
    ours = CharWindows(text(1003), 4, 25, order, seed=7)
    theirs = StreamWindows(text(1003), 4, 25, order, seed=7)
    for number in range(3):
        for a, b in zip(epoch(ours, number), theirs.epoch(number), strict=True):
            assert np.array_equal(a.ids.T, b.ids.numpy())
            assert np.array_equal(a.targets.T, b.targets.numpy())
            assert (a.anew is None) == b.goes_on


@given(
    size=st.integers(2, 900),
    batch=st.integers(1, 12),
    length=st.integers(1, 60),
    order=st.sampled_from(ORDERS),
    number=st.integers(0, 5),
)
def test_every_window_is_a_passage_of_the_text_with_its_targets_one_on(
    size: int, batch: int, length: int, order: Order, number: int
) -> None:
    windows = CharWindows(text(size), batch, length, order, seed=3)
    seen = epoch(windows, number)
    assert len(seen) == windows.batches >= 1
    for window in seen:
        assert window.ids.shape == window.targets.shape == (windows.length, windows.batch)
        assert np.array_equal(window.ids + 1, window.targets)
        assert np.array_equal(np.diff(window.ids, axis=0), np.ones((windows.length - 1, windows.batch)))
        assert window.targets.max() < size


@given(
    size=st.integers(50, 3000),
    batch=st.integers(1, 10),
    length=st.integers(1, 30),
    order=st.sampled_from(["none", "shift", "chunk"]),
)
def test_a_row_that_goes_on_begins_where_its_last_window_ended(
    size: int, batch: int, length: int, order: Order
) -> None:
    before: Window | None = None
    for window in epoch(CharWindows(text(size), batch, length, order, seed=5), 1):
        if window.anew is None:
            assert before is not None
            assert np.array_equal(window.ids[0], before.targets[-1])
        before = window


@pytest.mark.parametrize("order", ["none", "shift", "chunk"])
@pytest.mark.parametrize("batch", [1, 10, 50])
def test_an_epoch_reads_no_character_twice_and_nearly_all_once(order: Order, batch: int) -> None:
    size = 60_001
    counts = np.zeros(size, int)
    for window in epoch(CharWindows(text(size), batch, 25, order, seed=2), 4):
        np.add.at(counts, window.targets.ravel(), 1)
    assert counts.max() == 1
    left_out = batch * 25 * (CHUNK if order == "chunk" else 1) + 25
    assert counts.sum() >= size - 1 - left_out


def test_none_reads_every_epoch_alike_from_the_first_character() -> None:
    windows = CharWindows(text(501), 2, 25, "none", seed=1)
    first, second = epoch(windows, 0), epoch(windows, 1)
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(first, second, strict=True))
    assert first[0].ids[0].tolist() == [0, 250]
    assert first[-1].targets[-1].tolist() == [250, 500]


def test_shift_cuts_the_epochs_at_different_places() -> None:
    windows = CharWindows(text(2001), 2, 25, "shift", seed=1)
    beginnings = {int(epoch(windows, number)[0].ids[0, 0]) for number in range(12)}
    assert len(beginnings) > 6
    assert max(beginnings) < 25


def test_random_windows_begin_anywhere_and_without_a_past() -> None:
    seen = epoch(CharWindows(text(5001), 10, 25, "random", seed=1))
    starts = np.concatenate([window.ids[0] for window in seen])
    assert all(window.anew is not None and window.anew.all() for window in seen)
    assert len(set(starts % 25)) == 25
    assert starts.min() < 500
    assert starts.max() > 4400


def test_chunks_are_shuffled_but_each_is_read_in_order() -> None:
    windows = CharWindows(text(50_001), 10, 25, "chunk", seed=1)
    seen = epoch(windows)
    begins = [index for index, window in enumerate(seen) if window.anew is not None]
    assert begins == list(range(0, len(seen), CHUNK))
    starts = np.concatenate([seen[index].ids[0] for index in begins])
    assert set(starts % (CHUNK * 25)) == {0}
    assert len(set(starts)) == len(starts) == 100
    assert starts.tolist() != sorted(starts)
    other = np.concatenate([window.ids[0] for window in epoch(windows, 1) if window.anew is not None])
    assert other.tolist() != starts.tolist()


def test_a_text_too_short_for_whole_chunks_is_still_read() -> None:
    windows = CharWindows(text(201), 4, 10, "chunk", seed=1)
    assert windows.chunk == windows.batches == 5
    assert sorted(np.concatenate([w.ids.ravel() for w in epoch(windows)])) == list(range(200))


@pytest.mark.parametrize("order", ORDERS)
def test_windows_follow_from_seed_and_epoch(order: Order) -> None:
    def starts(seed: int, number: int) -> list[list[int]]:
        windows = CharWindows(text(3001), 3, 20, order, seed, fresh=0.3)
        return [
            [*w.ids[0].tolist(), *([] if w.anew is None else w.anew.tolist())] for w in epoch(windows, number)
        ]

    assert starts(1, 2) == starts(1, 2)
    assert starts(1, 2) != starts(1, 3)
    assert starts(1, 2) != starts(2, 2)


def test_fresh_takes_about_its_share_of_pasts_away() -> None:
    seen = epoch(CharWindows(text(40_001), 20, 10, "none", seed=1, fresh=0.25))[1:]
    share = np.mean([window.anew for window in seen if window.anew is not None])
    assert 0.2 < share < 0.3


def test_without_carrying_every_window_begins_anew() -> None:
    seen = epoch(CharWindows(text(501), 2, 25, "none", seed=1, carry=False))
    assert all(window.anew is not None and window.anew.all() for window in seen)


def test_unknown_orders_and_empty_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="order is 'sideways'; allowed are none, shift, chunk, random"):
        CharWindows(text(100), 2, 5, "sideways", seed=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a text of 1 characters"):
        CharWindows(text(1), 2, 5, "none", seed=1)
