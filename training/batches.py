"""Token windows for training and evaluation. Everything follows from (seed, epoch), so a resumed run sees the
same windows as an unbroken one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from inkwell.models import IGNORE
from inkwell.tokenizer import END_ID


class Batch(NamedTuple):
    """ids and targets (B, T) int64, category indices (B,) int64, and whether a carried state goes on."""

    ids: Tensor
    targets: Tensor
    condition: Tensor | None
    goes_on: bool


class Source(Protocol):
    """Windows of one epoch after another."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """All batches of one epoch."""

    @property
    def batches(self) -> int:
        """Batches in an epoch."""


@dataclass(frozen=True)
class Share:
    """Which part of each batch this process takes: rows rank, rank + world, …"""

    rank: int = 0
    world: int = 1


class StreamWindows:
    """One long row of ids cut into `batch` contiguous rows of windows, for a state carried along.

    randomise: "none" starts every epoch at the beginning; "shift" at a random offset below one window, so that
    windows are cut elsewhere each time; "chunk" shuffles whole windows (no carrying); "random" starts each
    window anywhere (no carrying).
    """

    def __init__(
        self, ids: np.ndarray, batch: int, length: int, randomise: str, seed: int, share: Share | None = None
    ) -> None:
        if len(ids) < 2:
            raise ValueError("a stream needs two tokens or more")
        self._ids = torch.from_numpy(ids.astype(np.int64))
        self._length = min(length, len(ids) - 1)
        self._batch = max(1, min(batch, (len(ids) - 1) // self._length))
        self._randomise, self._seed = randomise, seed
        self._share = share or Share()

    @property
    def batches(self) -> int:
        usable = len(self._ids) - 1 - (self._length - 1 if self._randomise == "shift" else 0)
        per_row = max(usable, self._length) // self._batch
        return max(1, per_row // self._length)

    def epoch(self, number: int) -> Iterator[Batch]:
        random = np.random.default_rng([self._seed, number])
        length, count = self._length, self.batches
        if self._randomise in ("chunk", "random"):
            yield from self._windows(random, count)
            return
        room = len(self._ids) - 1 - self._batch * count * length
        offset = int(random.integers(0, min(length, room + 1))) if self._randomise == "shift" else 0
        stride = count * length
        starts = offset + stride * torch.arange(self._batch)[self._share.rank :: self._share.world]
        for index in range(count):
            yield self._cut(starts + index * length, index > 0)

    def _windows(self, random: np.random.Generator, count: int) -> Iterator[Batch]:
        length, total = self._length, count * self._batch
        if self._randomise == "chunk":
            starts = random.permutation((len(self._ids) - 1) // length)[:total] * length
        else:
            starts = random.integers(0, len(self._ids) - length, size=total)
        for index in range(0, len(starts) - self._batch + 1, self._batch):
            rows = torch.from_numpy(starts[index : index + self._batch])
            yield self._cut(rows[self._share.rank :: self._share.world], False)

    def _cut(self, starts: Tensor, goes_on: bool) -> Batch:
        window = self._ids[starts[:, None] + torch.arange(self._length + 1)]
        return Batch(window[:, :-1], window[:, 1:], None, goes_on)


class StreamReading:
    """A stream from its beginning to its end, for evaluation: up to `batch` stretches of it side by side, a
    state carried along each, and every token but the first predicted exactly once."""

    def __init__(self, ids: np.ndarray, batch: int, length: int) -> None:
        if len(ids) < 2:
            raise ValueError("a stream needs two tokens or more")
        self._ids = torch.from_numpy(ids.astype(np.int64))
        self._length = length
        total = len(ids) - 1
        self._rows = max(1, min(batch, total // length))
        self._stride = -(-total // self._rows)

    @property
    def batches(self) -> int:
        return -(-self._stride // self._length)

    def epoch(self, number: int) -> Iterator[Batch]:  # noqa: ARG002  a Source, though every epoch is the same
        """The same batches for every `number`."""
        last = len(self._ids) - 1
        starts = self._stride * torch.arange(self._rows)[:, None]
        ends = (starts + self._stride).clamp(max=last)
        for at in range(0, self._stride, self._length):
            places = starts + torch.arange(at, min(at + self._length, self._stride))
            targets = self._ids[(places + 1).clamp(max=last)].masked_fill(places >= ends, IGNORE)
            yield Batch(self._ids[places.clamp(max=last)], targets, None, at > 0)


class DocumentWindows:
    """Independent texts, each between end marks. A text longer than a window is cut into several, and only the
    last of them ends with the mark. Rows of similar length go together, padded with targets that do not count."""

    def __init__(
        self,
        documents: Sequence[Sequence[int]],
        conditions: Sequence[int] | None,
        batch: int,
        length: int,
        seed: int,
        shuffle: bool = True,
        share: Share | None = None,
    ) -> None:
        self._windows: list[tuple[np.ndarray, int]] = []
        for index, document in enumerate(documents):
            whole = np.array([END_ID, *document, END_ID], dtype=np.int64)
            condition = 0 if conditions is None else conditions[index]
            for start in range(0, max(1, len(whole) - 1), length):
                self._windows.append((whole[start : start + length + 1], condition))
        if not self._windows:
            raise ValueError("there are no documents")
        self._conditioned = conditions is not None
        self._batch, self._seed, self._shuffle = batch, seed, shuffle
        self._share = share or Share()

    @property
    def batches(self) -> int:
        return -(-len(self._windows) // self._batch)

    def epoch(self, number: int) -> Iterator[Batch]:
        random = np.random.default_rng([self._seed, number])
        order = random.permutation(len(self._windows)) if self._shuffle else np.arange(len(self._windows))
        # Sort within pools of 16 batches: little padding, and still other companions in every epoch.
        pool = 16 * self._batch
        groups: list[np.ndarray] = []
        for start in range(0, len(order), pool):
            part = sorted(order[start : start + pool], key=lambda i: len(self._windows[i][0]))
            groups.extend(np.array(part[i : i + self._batch]) for i in range(0, len(part), self._batch))
        if self._shuffle:
            random.shuffle(groups)
        for group in groups:
            rows = group[self._share.rank :: self._share.world]
            yield self._collate(rows if len(rows) else group[:1])

    def _collate(self, rows: np.ndarray) -> Batch:
        windows = [self._windows[i] for i in rows]
        width = max(len(window) for window, _ in windows) - 1
        ids = np.full((len(windows), width), END_ID, dtype=np.int64)
        targets = np.full((len(windows), width), IGNORE, dtype=np.int64)
        for row, (window, _) in enumerate(windows):
            ids[row, : len(window) - 1] = window[:-1]
            targets[row, : len(window) - 1] = window[1:]
        condition = torch.tensor([c for _, c in windows]) if self._conditioned else None
        return Batch(torch.from_numpy(ids), torch.from_numpy(targets), condition, False)
