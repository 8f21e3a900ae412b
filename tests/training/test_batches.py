"""Windows: every token where it should be, the same for the same seed, and shared out without gap or overlap."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwell.models import IGNORE
from inkwell.tokenizer import END_ID
from training.batches import Batch, DocumentWindows, Share, StreamReading, StreamWindows


def stream(length: int) -> np.ndarray:
    """Ids that are their own positions."""
    return np.arange(length)


def predicted(batches: list[Batch]) -> Counter[int]:
    return Counter(int(t) for batch in batches for t in batch.targets.flatten() if t != IGNORE)


def check_windows(batches: list[Batch]) -> None:
    for batch in batches:
        counted = batch.targets != IGNORE
        assert torch.equal(batch.targets[counted], batch.ids[counted] + 1), (
            "a target is the id after its input"
        )


sizes = st.tuples(st.integers(2, 300), st.integers(1, 9), st.integers(1, 20))


@given(sizes)
def test_reading_predicts_every_token_but_the_first_exactly_once(size: tuple[int, int, int]) -> None:
    length, rows, window = size
    source = StreamReading(stream(length), rows, window)
    batches = list(source.epoch(0))
    assert len(batches) == source.batches
    assert predicted(batches) == Counter(range(1, length))
    check_windows(batches)
    assert [batch.goes_on for batch in batches] == [index > 0 for index in range(len(batches))]
    for before, after in itertools.pairwise(batches):
        goes_on = after.targets[:, 0] != IGNORE
        assert torch.equal(after.ids[goes_on, 0], before.targets[goes_on, -1])
    assert all(batch.ids.shape[0] <= rows and batch.ids.shape[1] <= window for batch in batches)


@given(sizes, st.sampled_from(["none", "shift", "chunk", "random"]), st.integers(0, 3))
def test_training_windows_stay_inside_and_predict_nothing_twice(
    size: tuple[int, int, int], randomise: str, epoch: int
) -> None:
    length, rows, window = size
    source = StreamWindows(stream(length), rows, window, randomise, seed=3)
    batches = list(source.epoch(epoch))
    assert len(batches) == source.batches >= 1
    check_windows(batches)
    assert len({batch.ids.shape for batch in batches}) == 1
    if randomise != "random":
        assert max(predicted(batches).values()) == 1
    rows_used, width = batches[0].ids.shape
    lost = length - 1 - rows_used * width * len(batches)
    # what does not fill a window in every row is left for another epoch's offset
    assert lost < rows_used * width + (width if randomise == "shift" else 0)
    carried = randomise in ("none", "shift")
    assert [batch.goes_on for batch in batches] == [carried and index > 0 for index in range(len(batches))]
    if carried:
        for before, after in itertools.pairwise(batches):
            assert torch.equal(after.ids[:, 0], before.targets[:, -1])


def test_windows_without_randomness_predict_every_token_exactly_once() -> None:
    batches = list(StreamWindows(stream(1 + 4 * 30), 4, 10, "none", seed=1).epoch(0))
    assert predicted(batches) == Counter(range(1, 121))


def test_shifted_windows_are_cut_elsewhere_in_every_epoch() -> None:
    source = StreamWindows(stream(1000), 4, 32, "shift", seed=1)
    starts = {int(next(iter(source.epoch(number))).ids[0, 0]) for number in range(40)}
    assert len(starts) > 15
    assert starts <= set(range(32))


@pytest.mark.parametrize("randomise", ["none", "shift", "chunk", "random"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_stream_shares_are_disjoint_and_together_the_whole(randomise: str, world: int) -> None:
    def rows(share: Share) -> list[Batch]:
        return list(StreamWindows(stream(500), 6, 7, randomise, 5, share).epoch(2))

    whole = rows(Share())
    parts = [rows(Share(rank, world)) for rank in range(world)]
    for index, batch in enumerate(whole):
        joined = torch.cat([part[index].ids for part in parts])
        assert sorted(joined.tolist()) == sorted(batch.ids.tolist())
        assert all(len(part[index].ids) == 6 // world for part in parts)


@pytest.mark.parametrize("randomise", ["shift", "chunk", "random"])
def test_a_seed_and_an_epoch_decide_all_windows(randomise: str) -> None:
    def ids(seed: int, epoch: int) -> list[Any]:
        return [b.ids.tolist() for b in StreamWindows(stream(900), 4, 8, randomise, seed).epoch(epoch)]

    assert ids(1, 3) == ids(1, 3)
    assert ids(1, 3) != ids(1, 4)
    assert ids(1, 3) != ids(2, 3)


documents = st.lists(st.lists(st.integers(1, 9), max_size=25), min_size=1, max_size=30)


@given(documents, st.integers(1, 6), st.integers(1, 12), st.booleans(), st.integers(0, 3))
def test_document_windows_predict_every_token_and_end_mark_exactly_once(
    texts: list[list[int]], rows: int, window: int, shuffle: bool, epoch: int
) -> None:
    # ids that name document and place: 1000 · document + place
    named = [[1000 * (d + 1) + place for place in range(len(text))] for d, text in enumerate(texts)]
    source = DocumentWindows(named, None, rows, window, 3, shuffle)
    batches = list(source.epoch(epoch))
    assert len(batches) == source.batches
    wanted = Counter(i for text in named for i in text)
    wanted[END_ID] = len(named)
    assert predicted(batches) == wanted
    for batch in batches:
        assert batch.ids.shape[0] <= rows
        assert batch.ids.shape[1] <= window
        assert not batch.goes_on
        assert batch.condition is None
        for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
            counted = [(i, t) for i, t in zip(ids, targets, strict=True) if t != IGNORE]
            assert counted, "a row without targets is wasted"
            for i, t in counted:
                if i != END_ID and t != END_ID:
                    assert t == i + 1
                elif i == END_ID and t != END_ID:
                    assert t % 1000 == 0
            assert targets[len(counted) :] == [IGNORE] * (len(targets) - len(counted))


@settings(max_examples=25)
@given(documents, st.integers(0, 3))
def test_document_shares_are_together_the_whole(texts: list[list[int]], epoch: int) -> None:
    rows = [(sum(text) % 4) for text in texts]

    def batches(share: Share) -> list[Batch]:
        return list(DocumentWindows(texts, rows, 4, 8, 1, True, share).epoch(epoch))

    whole, first, second = batches(Share()), batches(Share(0, 2)), batches(Share(1, 2))
    assert len(whole) == len(first) == len(second)
    for all_rows, a, b in zip(whole, first, second, strict=True):
        if len(all_rows.ids) == 1:
            continue  # a process without a row of its own repeats the only one
        shared = [[t for t in row if t != IGNORE] for part in (a, b) for row in part.targets.tolist()]
        assert sorted(shared) == sorted([t for t in row if t != IGNORE] for row in all_rows.targets.tolist())


def test_conditions_stay_with_their_documents() -> None:
    texts = [[d + 1] * (d % 7 + 1) for d in range(40)]
    source = DocumentWindows(texts, [d % 3 for d in range(40)], 6, 4, 9)
    for batch in source.epoch(1):
        assert batch.condition is not None
        for row, condition in zip(batch.targets.tolist(), batch.condition.tolist(), strict=True):
            for target in row:
                if target not in (IGNORE, END_ID):
                    assert condition == (target - 1) % 3


def test_documents_of_similar_length_share_batches() -> None:
    rng = np.random.default_rng(0)
    texts = [[1] * int(n) for n in rng.integers(1, 60, size=400)]
    batches = list(DocumentWindows(texts, None, 16, 64, 1).epoch(0))
    padding = sum(int((b.targets == IGNORE).sum()) for b in batches) / sum(b.targets.numel() for b in batches)
    assert padding < 0.1


def test_order_of_documents_changes_with_the_epoch_and_only_when_shuffled() -> None:
    texts = [[d + 1] for d in range(30)]

    def order(shuffle: bool, epoch: int) -> list[int]:
        return [
            int(row[1]) for b in DocumentWindows(texts, None, 4, 8, 1, shuffle).epoch(epoch) for row in b.ids
        ]

    assert order(True, 0) != order(True, 1)
    assert order(True, 1) == order(True, 1)
    assert order(False, 0) == order(False, 5)


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="two tokens or more"):
        StreamWindows(stream(1), 2, 3, "none", 1)
    with pytest.raises(ValueError, match="two tokens or more"):
        StreamReading(stream(1), 2, 3)
    with pytest.raises(ValueError, match="no documents"):
        DocumentWindows([], None, 2, 3, 1)
