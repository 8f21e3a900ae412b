"""UTF-8 as an automaton: bytes in, classes of characters out, invalid sequences refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inkwell.constraints.charset import Alphabet

ROOT = 0


class Utf8:
    """Reads bytes of an alphabet's characters. Node ROOT stands between characters; other nodes stand within
    one, and two places within a character are the same node when what can follow has the same classes."""

    def __init__(self, alphabet: Alphabet) -> None:
        every = alphabet.every
        self._ascii: list[int] = every[:128].tolist()
        # Per node: continuation byte & 0x3F → node, or class when the character is complete, or -1.
        self._next: list[list[int]] = [[]]
        self._complete = [False]
        self._numbers: dict[tuple[bool, bytes | tuple[int, ...]], int] = {}
        data = every.tobytes()
        size = 64 * every.itemsize
        ones = [
            self._node(True, data[at : at + size], every[at // every.itemsize :][:64])
            for at in range(0, len(data), size)
        ]
        twos = [self._inner(ones[low : low + 64]) for low in range(0, len(ones), 64)]
        refused = [-1] * 64
        self._leads: dict[int, int] = {lead: ones[lead & 0x1F] for lead in range(0xC2, 0xE0)}
        # more bytes than a character needs are not UTF-8: three below U+0800, four below U+10000
        self._leads[0xE0] = self._inner(refused[:32] + ones[32:64])
        self._leads.update({0xE0 + high: twos[high] for high in range(1, 16)})
        planes = [twos[low : low + 64] for low in range(0, len(twos), 64)]
        planes[0] = refused[:16] + planes[0][16:]
        planes[4] = planes[4] + refused[len(planes[4]) :]
        self._leads.update({0xF0 + high: self._inner(plane) for high, plane in enumerate(planes)})

    def read(self, node: int, data: bytes) -> tuple[tuple[int, ...], int] | None:
        """Classes of characters that `data` completes from `node` on, and the node after; or None."""
        classes: list[int] = []
        for byte in data:
            if node == ROOT:
                if byte < 0x80:
                    classes.append(self._ascii[byte])
                    continue
                node = self._leads.get(byte, -1)
            else:
                if byte & 0xC0 != 0x80:
                    return None
                complete = self._complete[node]
                node = self._next[node][byte & 0x3F]
                if complete and node >= 0:
                    classes.append(node)
                    node = ROOT
            if node < 0:
                return None
        return tuple(classes), node

    def _node(
        self, complete: bool, key: bytes | tuple[int, ...], row: Sequence[int] | NDArray[np.int32]
    ) -> int:
        number = self._numbers.get((complete, key))
        if number is None:
            number = len(self._next) if max(row) >= 0 else -1
            self._numbers[(complete, key)] = number
            if number >= 0:
                self._next.append([int(after) for after in row])
                self._complete.append(complete)
        return number

    def _inner(self, nodes: list[int]) -> int:
        return self._node(False, tuple(nodes), nodes)
