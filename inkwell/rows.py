"""The rows of the engine's state: who has which, and how they are filled, copied and freed.

Rows in use always stand at the front of the state, so that a step works on a view of it; a freed row is filled
by the last one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from inkwell.beams import BeamSearch
from inkwell.models.base import Decoder, State
from inkwell.request import UNDRAWN, Request
from inkwell.running import Runner
from inkwell.sampling import Counts


@dataclass(slots=True, eq=False)
class Row:
    """One row of the state. Only a row that `draws` gets a token of its own; others are given theirs."""

    request: Request
    pending: deque[int]  # prompt and forced tokens still to be fed
    draws: bool = True
    text: list[int] = field(default_factory=list)
    next_token: int = 0
    shadow: Row | None = None  # the row without the condition, of a guided request
    search: Search | None = None
    manner: Any = None  # how a runtime that draws for itself has taken down its sampling


@dataclass(slots=True, eq=False)
class Search:
    """A search for likeliest texts and its rows, first those of its beams in their order, then spare ones."""

    request: Request
    beams: BeamSearch
    rows: list[Row]

    @property
    def live(self) -> list[Row]:
        """The rows of the beams that go on."""
        return self.rows[: len(self.beams.beams)]

    @property
    def ready(self) -> bool:
        """Whether the prompt has been read but for the token that is fed next."""
        return not self.rows[0].pending


class Rows:
    """The rows in use, in the order of the state."""

    def __init__(self, decoder: Decoder, slots: int, vocabulary: int, device: torch.device) -> None:
        self.state: State = decoder.new_state(slots)
        self.used: list[Row] = []
        self.searches: list[Search] = []
        self._counts: Counts | None = None
        self._decoder, self._device = decoder, device
        self._shape = (slots, vocabulary)
        # Rows that have read a prompt but for its last token and were not stepped since.
        self._read: dict[tuple[Any, ...], int] = {}

    @property
    def counts(self) -> Counts | None:
        """Token counts of the rows in use, when any row has needed them."""
        n = len(self.used)
        return None if self._counts is None else Counts(self._counts.prompt[:n], self._counts.text[:n])

    @property
    def all_counts(self) -> Counts | None:
        """Token counts of all slots, those of the rows in use first, when any row has needed them."""
        return self._counts

    def admit(self, request: Request) -> None:
        """Give a request its rows."""
        for token in request.forced:
            if request.constraint is not None:
                request.constraint.advance(token)
        first = self._enter(request, request.condition)
        if request.beams is None:
            return
        # The beams are one until the prompt has been read; the rows of the others wait for copies of it.
        first.draws = False
        spare = [self._spare(request) for _ in range(request.beams.width - 1)]
        search = Search(request, BeamSearch(request, request.beams), [first, *spare])
        for row in search.rows:
            row.search = search
        self.searches.append(search)

    def stepped(self) -> None:
        """Tell that the rows have been fed a token."""
        self._read.clear()

    def free(self, row: Row) -> None:
        """Free all rows of this row's request."""
        rows = [row] if row.search is None else row.search.rows
        if row.search is not None:
            self.searches.remove(row.search)
        for one in rows:
            self._free(one)
            if one.shadow is not None:
                self._free(one.shadow)

    def clear(self) -> None:
        """Free all rows. The state needs no clearing: a row is cleared when it is admitted."""
        self.used.clear()
        self.searches.clear()
        self._read.clear()

    def manner(self, row: Row, runner: Runner) -> Any:
        """How `row` is drawn, as `runner` wants it."""
        if row.manner is None:
            sampling = row.request.sampling if row.draws else UNDRAWN
            row.manner = runner.manner(sampling, row.request.stops_at_end, row.request.logprobs)
        return row.manner

    def chosen(self, row: Row, token: int) -> None:
        """Take down what a row is fed next, and its shadow with it."""
        row.next_token = token
        if row.shadow is not None:
            row.shadow.next_token = token

    def count(self, rows: Tensor, tokens: Tensor) -> None:
        """Add tokens (m,) to the counts of rows (m,)."""
        if self._counts is not None:
            self._counts.text[rows, tokens] += 1

    def branch(self, search: Search, parents: Sequence[int]) -> None:
        """Copy rows so that beam i continues what row `parents[i]` of the search holds.

        A row that is continued keeps one of its continuations, the others go where nothing is continued: no row
        is overwritten before it has been copied.
        """
        old = search.rows
        new: dict[int, Row] = {}
        for beam, parent in enumerate(parents):
            if old[parent] not in new.values():
                new[beam] = old[parent]
        unused = [row for row in old if row not in new.values()]
        for beam, parent in enumerate(parents):
            if beam not in new:
                new[beam] = unused.pop(0)
                self._copy(old[parent], new[beam])
        search.rows = [*(new[beam] for beam in range(len(parents))), *unused]

    def _enter(self, request: Request, condition: Mapping[int, float] | None, shadow: bool = False) -> Row:
        row, index = Row(request, deque(request.prompt), draws=not shadow), len(self.used)
        if self._decoder.prefill_chunk and len(row.pending) > 1:
            self._prefill(row, index, condition)
        else:
            self._decoder.admit(self.state, index, condition)
        row.pending.extend(request.forced)
        row.text.extend(request.forced)
        self.used.append(row)
        if not shadow:
            if request.sampling.penalised:
                self._count_from_start(index, request)
            if request.guided:
                row.shadow = self._enter(request, None, shadow=True)
        return row

    def _prefill(self, row: Row, index: int, condition: Mapping[int, float] | None) -> None:
        """Read the prompt but for its last token, which goes through `step`: that gives the logits for the first
        token of the text. Of equal prompts that are admitted together one is read and the others copy it."""
        known = (row.request.prompt, None if condition is None else tuple(sorted(condition.items())))
        source = self._read.get(known)
        if source is not None:
            self.state.move(source, index)
            row.pending = deque(row.request.prompt[-1:])
            return
        self._decoder.admit(self.state, index, condition)
        while len(row.pending) > 1:
            count = min(self._decoder.prefill_chunk, len(row.pending) - 1)
            self._decoder.prefill([row.pending.popleft() for _ in range(count)], self.state, index)
        self._read[known] = index

    def _spare(self, request: Request, shadow: bool = False) -> Row:
        row = Row(request, deque(), draws=False)
        self._decoder.admit(self.state, len(self.used), None)
        self.used.append(row)
        if request.guided and not shadow:
            row.shadow = self._spare(request, shadow=True)
        return row

    def _count_from_start(self, index: int, request: Request) -> None:
        if self._counts is None:
            zeros = torch.zeros(self._shape, dtype=torch.float32, device=self._device)
            self._counts = Counts(zeros, zeros.clone())
        for tensor, ids in ((self._counts.prompt, request.prompt), (self._counts.text, request.forced)):
            found = torch.bincount(torch.tensor(ids, dtype=torch.long), minlength=self._shape[1])
            tensor[index] = found.to(tensor)

    def _copy(self, source: Row, target: Row) -> None:
        self._move(self.used.index(source), self.used.index(target))
        if source.shadow is not None and target.shadow is not None:
            self._move(self.used.index(source.shadow), self.used.index(target.shadow))

    def _move(self, source: int, target: int) -> None:
        self.state.move(source, target)
        if self._counts is not None:
            for tensor in self._counts:
                tensor[target].copy_(tensor[source])

    def _free(self, row: Row) -> None:
        self._read.clear()
        index, last = self.used.index(row), len(self.used) - 1
        if index != last:
            self._move(last, index)
            self.used[index] = self.used[last]
        self.used.pop()
