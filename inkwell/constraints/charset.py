"""Sets of Unicode characters, and the alphabet of classes that a collection of such sets tells apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

END = 0x110000
SURROGATES = (0xD800, 0xE000)
Ints = NDArray[np.int32]


class CharSet:
    """A set of code points as the sorted places where membership begins and ends."""

    def __init__(self, borders: NDArray[Any]) -> None:
        self.borders = borders.astype(np.int32)

    @classmethod
    def of(cls, characters: Iterable[str]) -> CharSet:
        """Exactly these characters."""
        return cls.of_ranges([(ord(c), ord(c)) for c in characters])

    @classmethod
    def of_ranges(cls, ranges: Sequence[tuple[int, int]]) -> CharSet:
        """All code points of ranges (first, last), both included."""
        borders: list[int] = []
        for low, high in sorted(ranges):
            if borders and low <= borders[-1]:
                borders[-1] = max(borders[-1], high + 1)
            else:
                borders += (low, high + 1)
        return cls(np.array(borders, dtype=np.int32))

    def ranges(self) -> list[tuple[int, int]]:
        """Ranges (first, last), both included."""
        low, high = self.borders[::2].tolist(), self.borders[1::2].tolist()
        return [(first, last - 1) for first, last in zip(low, high, strict=True)]

    def union(self, other: CharSet) -> CharSet:
        return CharSet.of_ranges(self.ranges() + other.ranges())

    def complement(self) -> CharSet:
        """All code points that are not in this set."""
        borders = self.borders.tolist()
        borders = borders[1:] if borders[:1] == [0] else [0, *borders]
        borders = borders[:-1] if borders[-1:] == [END] else [*borders, END]
        return CharSet(np.array(borders, dtype=np.int32))

    def minus(self, other: CharSet) -> CharSet:
        return self.complement().union(other).complement()

    def has(self, points: Ints) -> NDArray[np.bool_]:
        """Membership of each code point."""
        return (np.searchsorted(self.borders, points, side="right") & 1).astype(bool)


class Alphabet:
    """Classes of characters that no given set tells apart; `size` of them. Surrogates have class -1."""

    def __init__(self, sets: Sequence[CharSet]) -> None:
        edges = [np.array([0, *SURROGATES], dtype=np.int32), *(s.borders for s in sets)]
        starts = np.unique(np.concatenate(edges))
        self._starts = starts[starts < END]
        if sets:
            member = np.stack([s.has(self._starts) for s in sets], axis=1)
            packed = np.packbits(member, axis=1)
            rows: dict[bytes, int] = {}
            self._classes = np.array(
                [rows.setdefault(row.tobytes(), len(rows)) for row in packed], dtype=np.int32
            )
        else:
            self._classes = np.zeros(len(self._starts), dtype=np.int32)
        self._classes[(self._starts >= SURROGATES[0]) & (self._starts < SURROGATES[1])] = -1
        self.size = int(self._classes.max()) + 1

    def classes_of(self, points: Ints) -> Ints:
        """The class of each code point."""
        return self._classes[np.searchsorted(self._starts, points, side="right") - 1]

    def members(self, chars: CharSet) -> NDArray[np.bool_]:
        """(size,) which classes lie in a set; it must be one of those that the alphabet was made of."""
        inside = np.zeros(self.size, dtype=bool)
        held = chars.has(self._starts) & (self._classes >= 0)
        inside[self._classes[held]] = True
        return inside

    @cached_property
    def every(self) -> Ints:
        """(1114112,) the class of every code point."""
        return np.repeat(self._classes, np.diff(np.append(self._starts, END)))
