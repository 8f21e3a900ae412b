"""The order in which a character RNN reads its text: windows of T characters for B rows at a time.

    none     B contiguous parts of the text, each read from its beginning; the state goes on to the epoch's end
    shift    the same, cut at another place in every epoch
    chunk    the text in chunks of a number of windows, dealt to the rows in random order; the state goes on within
             a chunk
    random   every window begins anywhere, without a past ("vanilla" randomisation)

Everything follows from (seed, epoch), so a resumed run sees the same windows as an unbroken one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

Order = Literal["none", "shift", "chunk", "random"]
ORDERS: tuple[Order, ...] = get_args(Order)
CHUNK = 20
"""Windows in a chunk, where the text is long enough to give every row a chunk."""


class Window(NamedTuple):
    """ids and targets (T, B), and which rows (B,) begin without a past; None when all go on."""

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    anew: NDArray[np.bool_] | None


class CharWindows:
    """Windows over `ids`, epoch after epoch. `fresh` is the share of rows whose past is taken away at random."""

    def __init__(
        self,
        ids: NDArray[np.int64],
        batch: int,
        length: int,
        order: Order,
        seed: int,
        carry: bool = True,
        fresh: float = 0.0,
    ) -> None:
        if order not in ORDERS:
            raise ValueError(f"order is {order!r}; allowed are {', '.join(ORDERS)}")
        if len(ids) < 2:
            raise ValueError(f"a text of {len(ids)} characters has nothing to predict; 2 or more are needed")
        self._ids = ids
        self.length = min(length, len(ids) - 1)
        self.batch = max(1, min(batch, (len(ids) - 1) // self.length))
        self._order, self._seed, self._carry, self._fresh = order, seed, carry, fresh
        usable = len(ids) - 1 - (self.length - 1 if order == "shift" else 0)
        per_row = max(1, max(usable, self.length) // self.batch // self.length)
        self.chunk = min(CHUNK, per_row)
        self.batches = per_row // self.chunk * self.chunk if order == "chunk" else per_row

    def epoch(self, number: int) -> Iterator[Window]:
        """All windows of one epoch."""
        random = np.random.default_rng([self._seed, number])
        steps = np.arange(self.length + 1)[:, None]  # (T + 1, 1)
        for starts, goes_on in self._starts(random):
            window = self._ids[starts + steps]
            anew = None
            if not (goes_on and self._carry):
                anew = np.ones(self.batch, np.bool_)
            elif self._fresh:
                anew = random.random(self.batch) < self._fresh
            yield Window(window[:-1], window[1:], anew)

    def _starts(self, random: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], bool]]:
        last, length, batch = len(self._ids) - 1, self.length, self.batch
        if self._order == "random":
            every = random.integers(0, last - length + 1, (self.batches, batch))
            yield from ((row, False) for row in every)
            return
        if self._order == "chunk":
            size = self.chunk * length
            order = random.permutation(last // size)[: self.batches // self.chunk * batch] * size
            for group in order.reshape(-1, batch):
                yield from ((group + i * length, i > 0) for i in range(self.chunk))
            return
        room = last - batch * self.batches * length
        offset = int(random.integers(0, min(length, room + 1))) if self._order == "shift" else 0
        starts = offset + self.batches * length * np.arange(batch)
        yield from ((starts + i * length, i > 0) for i in range(self.batches))
