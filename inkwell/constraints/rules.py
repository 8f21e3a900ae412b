"""The rules that a text's shape can have, each as an automaton over classes of characters."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Protocol

import numpy as np

from inkwell.constraints.charset import Alphabet, CharSet
from inkwell.constraints.dfa import DEAD, START, Dfa

_LATIN_ENDS = 0x2000  # all letters that Latin script composes from a, e, i, o, u and y come before


class Rule(Protocol):
    """`sets`: the character sets it tells apart. An alphabet that includes them gives its automaton."""

    sets: list[CharSet]

    def compile(self, alphabet: Alphabet) -> Dfa:
        """Its automaton. Raises ComplexityError."""


class _Literal:
    def __init__(self, text: str) -> None:
        self.text = text
        self.sets = [CharSet.of(c) for c in dict.fromkeys(text)]

    def _classes(self, alphabet: Alphabet) -> list[int]:
        points = np.array([ord(c) for c in self.text], dtype=np.int32)
        return [int(index) for index in alphabet.classes_of(points)]

    def _search(self, alphabet: Alphabet) -> list[list[int]]:
        """Knuth, Morris and Pratt's automaton: state k has just read the first k characters of the text. The
        last state goes on as the longest end of the text that also begins it."""
        wanted = self._classes(alphabet)
        table = [[0] * alphabet.size]
        table[0][wanted[0]] = 1
        back = 0
        for index in wanted[1:]:
            row = list(table[back])
            row[index] = len(table) + 1
            table.append(row)
            back = table[back][index]
        table.append(list(table[back]))
        return table


class StartsWith(_Literal):
    """The text begins with these characters."""

    def compile(self, alphabet: Alphabet) -> Dfa:
        wanted = self._classes(alphabet)
        table = np.zeros((len(wanted) + 2, alphabet.size), dtype=np.int32)
        for place, index in enumerate(wanted):
            table[START + place, index] = START + place + 1
        table[-1] = len(wanted) + 1
        return Dfa(table, np.arange(len(table)) == len(table) - 1)


class Contains(_Literal):
    """The text has these characters somewhere."""

    def compile(self, alphabet: Alphabet) -> Dfa:
        table = self._search(alphabet)
        table[-1] = [len(table) - 1] * alphabet.size
        return _alive(table, len(table) - 1)


class EndsWith(_Literal):
    """The text ends with these characters."""

    def compile(self, alphabet: Alphabet) -> Dfa:
        table = self._search(alphabet)
        return _alive(table, len(table) - 1)


class Only:
    """The text has no other characters than these."""

    def __init__(self, characters: str) -> None:
        self.sets = [CharSet.of(characters)]

    def compile(self, alphabet: Alphabet) -> Dfa:
        table = np.zeros((2, alphabet.size), dtype=np.int32)
        table[START] = np.where(alphabet.members(self.sets[0]), START, DEAD)
        return Dfa(table, np.array([False, True]))


class Length:
    """The text has at least `least` characters and, unless None, at most `most`."""

    def __init__(self, least: int, most: int | None) -> None:
        self.least, self.most = least, most
        self.sets: list[CharSet] = []

    def compile(self, alphabet: Alphabet) -> Dfa:
        top = self.least if self.most is None else self.most
        lengths = np.arange(top + 1)
        after = START + lengths + 1
        after[-1] = START + top if self.most is None else DEAD
        table = np.repeat(np.append(DEAD, after)[:, None], alphabet.size, axis=1).astype(np.int32)
        return Dfa(table, np.append(False, lengths >= self.least))


class Syllables:
    """The text has so many syllables, counted as runs of vowels: a, e, i, o, u, y, with or without accents.

    That is right for most invented names and knows no silent letters; other scripts have no vowels here.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.sets = [_vowels(), _marks()]

    def compile(self, alphabet: Alphabet) -> Dfa:
        vowel, mark = (alphabet.members(chars) for chars in self.sets)
        # states: DEAD, then for each count of runs so far: outside a run, inside the last one
        table = np.zeros((2 * self.count + 3, alphabet.size), dtype=np.int32)
        for runs in range(self.count + 1):
            outside, inside = START + 2 * runs, START + 2 * runs + 1
            more = inside + 2 if runs < self.count else DEAD
            table[outside] = np.where(vowel, more, outside)
            table[inside] = np.where(vowel | mark, inside, outside)
        accept = np.zeros(len(table), dtype=bool)
        accept[-2:] = True
        return Dfa(table, accept)


def _alive(table: list[list[int]], accept: int) -> Dfa:
    """Shift by the dead state, which these automata never enter."""
    shifted = np.array(table, dtype=np.int32) + START
    dead = np.zeros((1, shifted.shape[1]), dtype=np.int32)
    return Dfa(np.concatenate([dead, shifted]), np.append(False, np.arange(len(table)) == accept))


@lru_cache(maxsize=1)
def _vowels() -> CharSet:
    return CharSet.of(
        c
        for c in map(chr, range(_LATIN_ENDS))
        if unicodedata.normalize("NFKD", c)[0].lower() in set("aeiouyæœø")
    )


@lru_cache(maxsize=1)
def _marks() -> CharSet:
    """Combining marks, which belong to the letter before."""
    return CharSet.of(c for c in map(chr, range(_LATIN_ENDS)) if unicodedata.combining(c))
