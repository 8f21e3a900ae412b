"""Longest common parts of a short text and a long one, exactly and fast.

A suffix array holds the places of the long text in the order of what follows them; with it go the distinct
runs of `width` characters, packed into integers. A query looks all its runs up at once; only places where
enough of them follow each other can hold a long copy, and those few are measured by binary search in it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class SuffixArray:
    """The suffix array of a text, and its distinct runs of `width` characters packed into 64 bits each."""

    def __init__(self, text: str) -> None:
        self.text = text
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        # symbol 0 is the end of a document; symbols keep the order of code points
        alphabet = np.unique(codes[codes != 0])
        self._symbols = np.zeros(int(alphabet[-1]) + 1 if len(alphabet) else 1, dtype=np.uint32)
        self._symbols[alphabet] = np.arange(1, len(alphabet) + 1)
        self.bits = max(len(alphabet).bit_length(), 1)
        self.width = 64 // self.bits
        symbols = self._symbols[codes]
        keys = self.pack(symbols)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = ordered[1:] != ordered[:-1]
        self.keys = ordered[first]
        self.bounds = np.append(np.flatnonzero(first), len(order))
        longest = int(np.diff(np.flatnonzero(np.concatenate(([True], symbols == 0, [True])))).max(initial=0))
        _refine(order, first, self.width, longest)
        # a memoryview gives Python integers, which index a string faster than numpy's
        self.order = memoryview(order.astype(np.int32).data)

    def symbols_of(self, text: str) -> NDArray[np.uint32]:
        """Symbols of a text; 0 for characters that the training text does not have."""
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        known = codes < len(self._symbols)
        return np.where(known, self._symbols[np.where(known, codes, 0)], 0).astype(np.uint32)

    def pack(self, symbols: NDArray[np.uint32]) -> NDArray[np.uint64]:
        """For each place the `width` symbols from it on as one integer, in the same order as the strings."""
        padded = np.zeros(len(symbols) + self.width, dtype=np.uint64)
        padded[: len(symbols)] = symbols
        keys = np.zeros(len(symbols), dtype=np.uint64)
        for step in range(self.width):
            keys = (keys << np.uint64(self.bits)) | padded[step : step + len(symbols)]
        return keys


def _refine(order: Ints, first: NDArray[np.bool_], width: int, longest: int) -> None:
    """Sort `order` wholly, in place: suffixes sorted by their first `width` symbols, whose groups of equals
    begin at `first`. Doubles the compared length (Manber and Myers 1993) on what is still undecided."""
    count = len(order)
    rank = np.empty(count + 1, dtype=np.int64)
    rank[count] = -1
    rank[order] = np.maximum.accumulate(np.where(first, np.arange(count), 0))
    first = np.append(first, True)
    while width <= longest:
        slots = np.flatnonzero(~(first[:-1] & first[1:]))  # groups of one are decided
        if not len(slots):
            return
        suffixes = order[slots]
        group = rank[suffixes]
        then = rank[np.minimum(suffixes + width, count)]
        both = group * (count + 1) + then + 1
        by = np.argsort(both, kind="stable")
        order[slots], both, group = suffixes[by], both[by], group[by]
        fresh = np.ones(len(slots), dtype=bool)
        fresh[1:] = both[1:] != both[:-1]
        first[slots] = fresh
        rank[order[slots]] = np.maximum.accumulate(np.where(fresh, slots, 0))
        width *= 2


class Query:
    """One text against the suffixes. `short[i]`: length of the longest copy from place i on, at most `width`;
    `most[i]`: a bound on its length without that limit."""

    def __init__(self, suffixes: SuffixArray, text: str) -> None:
        self.suffixes, self.text = suffixes, text
        self._measured: dict[int, tuple[int, int]] = {}
        count, width = len(text), suffixes.width
        self._group = self.short = self.most = np.zeros(count, dtype=np.int64)
        if not count or not len(suffixes.keys):
            return
        symbols = suffixes.symbols_of(text)
        places = np.arange(count)
        known = _until(symbols == 0) - places
        keys = suffixes.pack(symbols)
        at = np.searchsorted(suffixes.keys, keys)
        last = len(suffixes.keys) - 1
        above, below = np.minimum(at, last), np.maximum(at - 1, 0)
        shared_above, shared_below = self._shared(keys, above), self._shared(keys, below)
        self._group = np.where(shared_above >= shared_below, above, below)
        self.short = np.minimum(np.maximum(shared_above, shared_below), known)
        # a copy longer than `width` needs a full run at each of its places but the last width - 1
        full = self.short == width
        self.most = np.where(full, np.minimum(_until(~full) - places + width - 1, known), self.short)

    def _shared(self, keys: NDArray[np.uint64], group: Ints) -> Ints:
        """Leading symbols that keys share with the runs `group`."""
        differing = keys ^ self.suffixes.keys[group]
        top = self.suffixes.bits * self.suffixes.width
        high = np.zeros(len(keys), dtype=np.int64)
        for shift in (32, 16, 8, 4, 2, 1):
            bigger = differing >> np.uint64(shift) > 0
            high += np.where(bigger, shift, 0)
            differing = np.where(bigger, differing >> np.uint64(shift), differing)
        length = np.where(differing > 0, high + 1, 0)  # bits from the highest differing one down
        return (top - length) // self.suffixes.bits

    def measure(self, start: int) -> tuple[int, int]:
        """Length of the longest copy from `start` on and a place in the training text where it stands."""
        if start not in self._measured:
            self._measured[start] = self._measure(start)
        return self._measured[start]

    def _measure(self, start: int) -> tuple[int, int]:
        suffixes, group = self.suffixes, int(self._group[start])
        low, high = int(suffixes.bounds[group]), int(suffixes.bounds[group + 1])
        short, most = int(self.short[start]), int(self.most[start])
        if most <= short:
            return short, suffixes.order[low]
        training, wanted = suffixes.text, self.text[start : start + most]
        at = bisect_left(suffixes.order, wanted, low, high, key=lambda place: training[place : place + most])
        near = [suffixes.order[slot] for slot in (at - 1, at) if low <= slot < high]
        return max((_shared_length(wanted, training, place), place) for place in near)

    def longest(self) -> tuple[int, int, int]:
        """Length of the longest copy, its start here, and its place in the training text."""
        best = (0, 0, 0)
        for start in np.argsort(-self.most, kind="stable").tolist():
            if self.most[start] <= best[0]:
                break
            length, place = self.measure(start)
            if length > best[0]:
                best = (length, start, place)
        return best

    def covered(self, least: int) -> int:
        """Characters that lie in copies of `least` characters or more."""
        total = reach = index = 0
        starts = np.flatnonzero(self.most >= least).tolist()
        while index < len(starts):
            if starts[index] < reach:
                # copies of later starts never end earlier, so the next to reach further is bisected
                index = bisect_right(starts, reach, index, key=self._end)
                if index == len(starts):
                    break
            start = starts[index]
            end = self._end(start)
            if end - start >= least:
                total += end - max(start, reach)
                reach = end
            index += 1
        return total

    def _end(self, start: int) -> int:
        return start + self.measure(start)[0]


def _until(stop: NDArray[np.bool_]) -> Ints:
    """For each place the next place at or after it where `stop` is set, or the length."""
    ends = np.where(stop, np.arange(len(stop)), len(stop))
    return np.minimum.accumulate(ends[::-1])[::-1]


def _shared_length(wanted: str, training: str, place: int) -> int:
    """How many characters of `wanted` stand at `place`."""
    low, high = 0, len(wanted)
    while low < high:
        middle = (low + high + 1) // 2
        if training.startswith(wanted[low:middle], place + low):
            low = middle
        else:
            high = middle - 1
    return low
