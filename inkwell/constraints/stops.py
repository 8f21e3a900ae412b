"""Stop strings and shapes together: what stands before the first stop string has the shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inkwell.constraints.charset import Alphabet
from inkwell.constraints.dfa import DEAD, MAX_STATES, START, ComplexityError, Dfa

_STOPPED = START + 1


def overlapping(stops: Sequence[str]) -> tuple[str, str] | None:
    """Two stop strings, one inside the other: which of them ends a text depends on where tokens end."""
    for outer in stops:
        for inner in stops:
            if inner in outer[1:-1]:
                return outer, inner
    return None


def with_stops(dfa: Dfa, stops: Sequence[str], alphabet: Alphabet) -> Dfa:
    """The automaton of texts that `dfa` accepts up to their first stop string, or wholly if they have none.

    Once a stop string is complete the text is accepted whatever follows. `stops` must not be `overlapping`.
    """
    wanted = [
        alphabet.classes_of(np.array([ord(c) for c in stop], dtype=np.int32)).tolist() for stop in stops
    ]
    # a state: the shape's, and each stop string that has begun (which, how far, whether it may end the text)
    start = (START, frozenset[tuple[int, int, bool]]())
    numbers = {start: START}
    states = [start]
    accept = [False, bool(dfa.accept[START]), True]
    table = [[DEAD] * alphabet.size, [], [_STOPPED] * alphabet.size]
    rows, accepting = dfa.table.tolist(), dfa.accept.tolist()
    for state, begun in states:  # grows while it is walked
        row = []
        candidates = [*begun, *((which, 0, accepting[state]) for which in range(len(wanted)))]
        for index in range(alphabet.size):
            going = [
                (which, place + 1, good) for which, place, good in candidates if wanted[which][place] == index
            ]
            done = [(place, good) for which, place, good in going if place == len(wanted[which])]
            if done:
                # of those that end here, the longest began first
                row.append(_STOPPED if max(done)[1] else DEAD)
                continue
            # one that may not end here is a trap only if it can become complete, so it is kept as well
            after = (rows[state][index], frozenset(going))
            if after[0] == DEAD and not any(good for _, _, good in going):
                row.append(DEAD)
                continue
            if after not in numbers:
                numbers[after] = len(accept)
                states.append(after)
                accept.append(accepting[after[0]])
                table.append([])
                if len(accept) > MAX_STATES:
                    raise ComplexityError(f"more than {MAX_STATES} states")
            row.append(numbers[after])
        table[numbers[(state, begun)]] = row
    return Dfa(np.array(table, dtype=np.int32), np.array(accept, dtype=bool))
