"""Finite automata over classes of characters, and how far each state is from accepting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]

DEAD = 0
START = 1
MAX_STATES = 60_000
FAR = np.iinfo(np.int32).max
"""Distance of states that cannot accept."""


class ComplexityError(Exception):
    """The rules need more states or work than is allowed. Becomes an InvalidJob where the field is known."""


@dataclass(frozen=True)
class Dfa:
    """State 0 is dead (leads only to itself), state 1 is the start.

    `table` (states, classes) holds next states, `accept` (states,) says which texts may end.
    """

    table: Ints
    accept: Bools

    @property
    def states(self) -> int:
        return len(self.accept)


def product(left: Dfa, right: Dfa) -> Dfa:
    """The automaton of texts that both accept. Raises ComplexityError above MAX_STATES states."""
    pairs = left.states * right.states
    if pairs > 1 << 28:
        raise ComplexityError(f"{left.states} × {right.states} states")
    number = np.zeros(pairs, dtype=np.int32)  # pair → state; untouched pages cost nothing
    frontier = np.array([START * right.states + START], dtype=np.int64)
    number[frontier] = START
    count = START + 1
    pieces, rows = [np.array([DEAD], dtype=np.int64)], []
    while frontier.size:
        pieces.append(frontier)
        one, two = left.table[frontier // right.states], right.table[frontier % right.states]
        pair = one.astype(np.int64) * right.states + two
        pair[(one == DEAD) | (two == DEAD)] = DEAD
        rows.append(pair)
        frontier = np.unique(pair[(number[pair] == 0) & (pair != DEAD)])
        number[frontier] = np.arange(count, count + len(frontier), dtype=np.int32)
        count += len(frontier)
        if count > MAX_STATES:
            raise ComplexityError(f"more than {MAX_STATES} states")
    found = np.concatenate(pieces)
    table = np.concatenate([np.zeros((1, left.table.shape[1]), dtype=np.int64), *rows])
    accept = left.accept[found // right.states] & right.accept[found % right.states]
    return Dfa(number[table].astype(np.int32), accept)


def trim(dfa: Dfa) -> Dfa | None:
    """Without states from which no text is accepted; None when nothing is left."""
    sources = np.repeat(np.arange(dfa.states, dtype=np.int32), dfa.table.shape[1])
    useful = distances(sources, dfa.table.ravel(), dfa.accept) < FAR
    if not useful[START]:
        return None
    number = np.where(useful, np.cumsum(useful), DEAD).astype(np.int32)
    return Dfa(
        np.concatenate([np.zeros((1, dfa.table.shape[1]), dtype=np.int32), number[dfa.table[useful]]]),
        np.concatenate([[False], dfa.accept[useful]]),
    )


def distances(sources: Ints, targets: Ints, goals: Bools) -> Ints:
    """Fewest edges (from `sources` to `targets`) from each node to a goal, FAR where there is no way."""
    count = len(goals)
    order = np.argsort(targets, kind="stable")
    before = sources[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(targets, minlength=count))])
    result = np.full(count, FAR, dtype=np.int32)
    frontier = np.flatnonzero(goals)
    result[frontier] = 0
    step = 0
    while frontier.size:
        step += 1
        low, high = starts[frontier], starts[frontier + 1]
        sizes = high - low
        places = np.repeat(low - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))
        reached = before[places]
        frontier = np.unique(reached[result[reached] == FAR])
        result[frontier] = step
    return result
