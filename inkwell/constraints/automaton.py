"""A shape's automaton over one tokenizer's tokens, with the distance of every state from a finished text.

A node is a pair: where the text stands in a UTF-8 character, and the state of the shape. Tokens are grouped
by what they do to all states at once, so that a large vocabulary costs little more than a small one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inkwell.constraints.charset import Alphabet
from inkwell.constraints.dfa import DEAD, FAR, START, ComplexityError, Dfa, Ints, distances
from inkwell.constraints.utf8 import ROOT, Utf8
from inkwell.tokenizer import END_ID, Tokenizer

MAX_CELLS = 12_000_000
_MASK_BYTES = 16 << 20
_MOVE_BYTES = 120  # of one token in `_Moves`, mostly its dictionary entry


class Pieces:
    """The texts of a tokenizer's tokens: those that are whole characters, and the bytes of all others."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        whole: list[tuple[int, str]] = []
        self.broken: list[tuple[int, bytes]] = []
        for token in range(tokenizer.size):
            piece = tokenizer.piece(token)
            if token == END_ID or not piece:
                continue
            try:
                whole.append((token, piece.decode()))
            except UnicodeDecodeError:
                self.broken.append((token, piece))
        self.inner = [(token, piece) for token, piece in self.broken if piece[0] & 0xC0 == 0x80]
        self.size = tokenizer.size
        self.longest = max((len(text) for _, text in whole), default=1)
        self.tokens = np.array([token for token, _ in whole], dtype=np.int32)
        self.ends = np.cumsum([len(text) for _, text in whole], dtype=np.int64).tolist()
        points = "".join(text for _, text in whole).encode("utf-32-le")
        self.points = np.frombuffer(points, dtype=np.uint32).astype(np.int32)


class _Moves(NamedTuple):
    """Tokens that can come at one place within a character: their ids, the columns that they apply, and the
    place after. `slot` gives a token's index."""

    tokens: Ints
    columns: Ints
    ends: Ints
    slot: dict[int, int]


class Automaton:
    """All that a shape and a tokenizer determine, shared by the jobs that have both."""

    def __init__(self, dfa: Dfa, alphabet: Alphabet, pieces: Pieces, stops_at_end: bool) -> None:
        self.dfa, self.states, self.vocabulary = dfa, dfa.states, pieces.size
        self.stops_at_end = stops_at_end
        self._columns: list[Ints] = [np.arange(dfa.states, dtype=np.int32)]
        self._numbers = {self._columns[0].tobytes(): 0}
        self._steps: dict[tuple[int, int], int] = {}
        self._by_class = np.ascontiguousarray(dfa.table.T)
        self._moves = self._all_moves(alphabet, pieces)
        self.columns = np.stack(self._columns)  # (what tokens do, state) → state
        self.start = ROOT * self.states + START
        self._alike = _alike(self._moves)
        self.sources, self.targets = self._edges()
        goals = np.zeros((int(self._alike.max()) + 1) * self.states, dtype=bool)
        goals[: self.states] = dfa.accept
        self.distance = distances(self.sources, self.targets, goals)
        del self._columns, self._numbers, self._steps, self._by_class
        self._masks: OrderedDict[int, tuple[Tensor, int]] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Memory held, the cache of masks not counted."""
        arrays = (self.columns, self.distance, self.sources, self.targets)
        return sum(array.nbytes for array in arrays) + _MOVE_BYTES * sum(len(m.tokens) for m in self._moves)

    def accepts(self, node: int) -> bool:
        """Whether the text may end here."""
        return node < self.states and bool(self.dfa.accept[node])

    def kind(self, node: int) -> int:
        """Index of `node` in arrays over kinds of nodes, as `distance` is."""
        place, state = divmod(node, self.states)
        return int(self._alike[place]) * self.states + state

    def after(self, node: int, token: int) -> int:
        """The node that `token` leads to; one at distance FAR when the text may not go on so."""
        place, state = divmod(node, self.states)
        moves = self._moves[place]
        slot = moves.slot.get(token)
        if slot is None:
            return DEAD
        return int(moves.ends[slot]) * self.states + int(self.columns[moves.columns[slot], state])

    def distances_after(self, node: int) -> Ints:
        """(V,) how far from a finished text each token leads; FAR for the end mark."""
        tokens, kinds = self._kinds_after(node)
        result = np.full(self.vocabulary, FAR, dtype=np.int32)
        result[tokens] = self.distance[kinds]
        return result

    def among_after(self, node: int, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(V,) tokens that lead to one of the `good` kinds of nodes."""
        tokens, kinds = self._kinds_after(node)
        result = np.zeros(self.vocabulary, dtype=bool)
        result[tokens] = good[kinds]
        return result

    def _kinds_after(self, node: int) -> tuple[Ints, Ints]:
        place, state = divmod(node, self.states)
        moves = self._moves[place]
        return moves.tokens, self._alike[moves.ends] * self.states + self.columns[moves.columns, state]

    def open_mask(self, node: int) -> tuple[Tensor, int]:
        """(V,) tokens allowed at `node` when enough are left, and the longest way from where they lead to a
        finished text."""
        known = self._masks.get(node)
        if known is not None:
            self._masks.move_to_end(node)
            return known
        far = self.distances_after(node)
        mask = far < FAR
        farthest = int(far[mask].max(initial=0))
        mask[END_ID] = self.stops_at_end and self.accepts(node)
        result = torch.from_numpy(mask), farthest
        self._masks[node] = result
        if len(self._masks) * self.vocabulary > _MASK_BYTES:
            self._masks.popitem(last=False)
        return result

    def _all_moves(self, alphabet: Alphabet, pieces: Pieces) -> list[_Moves]:
        classes = alphabet.classes_of(pieces.points).tolist()
        columns, start = [], 0
        for end in pieces.ends:
            columns.append(self._column(classes[start:end]))
            start = end
        whole = [(token, column, ROOT) for token, column in zip(pieces.tokens.tolist(), columns, strict=True)]
        if not pieces.broken:
            return [_moves(whole)]
        utf8 = Utf8(alphabet)
        nodes = [ROOT]  # places within a character at which tokens can end
        numbers = {ROOT: 0}
        found = []
        for node in nodes:  # grows while it is walked
            moves = whole if node == ROOT else []
            for token, piece in pieces.broken if node == ROOT else pieces.inner:
                read = utf8.read(node, piece)
                if read is None:
                    continue
                classes, end = read
                if end not in numbers:
                    numbers[end] = len(nodes)
                    nodes.append(end)
                moves.append((token, self._column(classes), numbers[end]))
            found.append(_moves(moves))
        return found

    def _column(self, classes: Sequence[int]) -> int:
        """Number of the column that says where characters of these classes lead from each state."""
        column = 0
        for index in classes:
            if index < 0:
                raise ValueError("a token's text holds half a surrogate pair")
            step = self._steps.get((column, index))
            if step is None:
                after = self._by_class[index][self._columns[column]]
                step = self._numbers.setdefault(after.tobytes(), len(self._columns))
                if step == len(self._columns):
                    self._columns.append(after)
                    if len(self._columns) * self.states > MAX_CELLS:
                        raise ComplexityError(f"{len(self._columns)} kinds of tokens × {self.states} states")
                self._steps[column, index] = step
            column = step
        return column

    def _edges(self) -> tuple[Ints, Ints]:
        """All moves between kinds of nodes, those of tokens that do the same once."""
        every = np.arange(self.states, dtype=np.int32)
        sources: list[Ints] = []
        targets: list[Ints] = []
        total = 0
        for kind in range(int(self._alike.max()) + 1):
            moves = self._moves[int(np.argmax(self._alike == kind))]
            ways = np.unique(self._alike[moves.ends].astype(np.int64) * len(self.columns) + moves.columns)
            ends, columns = ways // len(self.columns), ways % len(self.columns)
            total += len(ways) * self.states
            if total > MAX_CELLS:
                raise ComplexityError(f"more than {MAX_CELLS} moves between states")
            after = self.columns[columns]  # (ways, states)
            alive = after != DEAD
            targets.append((ends[:, None] * self.states + after)[alive])
            sources.append(np.broadcast_to(kind * self.states + every, after.shape)[alive])
        return np.concatenate(sources).astype(np.int32), np.concatenate(targets).astype(np.int32)


def _alike(moves: list[_Moves]) -> Ints:
    """For each place within a character its kind. Places are alike when their tokens do the same to all
    states and lead to places that are alike: then the same can follow, whatever the tokens are called."""
    ways = [np.unique(np.stack([move.columns, move.ends], axis=1), axis=0).tolist() for move in moves]
    kinds = [min(place, 1) for place in range(len(moves))]
    count = 0
    while len(set(kinds)) > count:
        count = len(set(kinds))
        keys = [
            (kind, frozenset((column, kinds[end]) for column, end in found))
            for kind, found in zip(kinds, ways, strict=True)
        ]
        known = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        kinds = [known[key] for key in keys]
    return np.array(kinds, dtype=np.int32)


def _moves(moves: list[tuple[int, int, int]]) -> _Moves:
    array = np.array(moves, dtype=np.int32).reshape(-1, 3)
    return _Moves(array[:, 0], array[:, 1], array[:, 2], {move[0]: slot for slot, move in enumerate(moves)})
