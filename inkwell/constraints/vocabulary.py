"""The words that a story may write with a capital, and which tokens can begin one of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

import numpy as np

from inkwell.constraints.pieces import Bools, WordPieces
from inkwell.lexicon import TITLES

_NONE: frozenset[str] = frozenset()


class WordList:
    """Words in order, so that those with a beginning are found at once."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = sorted(set(words))
        self._set = frozenset(self.words)
        self.longest = max(map(len, self.words), default=0)

    def __contains__(self, word: str) -> bool:
        return word in self._set

    def beginning(self, part: str, barred: frozenset[str] = _NONE) -> Iterator[str]:
        """The words that begin with `part`, without those whose lower case is barred."""
        for place in range(bisect_left(self.words, part), len(self.words)):
            word = self.words[place]
            if not word.startswith(part):
                return
            if word.lower() not in barred:
                yield word

    def open(self, part: str, barred: frozenset[str] = _NONE) -> bool:
        """Whether any such word is left."""
        return next(self.beginning(part, barred), None) is not None


class Capitals:
    """Words with a capital: names anywhere, ordinary words where a sentence begins, and titles anywhere, but only
    as single tokens: else half of every foreign name would be the beginning of one.

    Without names every word may be written anywhere, and `listed` is False.
    """

    def __init__(self, pieces: WordPieces, names: Iterable[str], ordinary: Iterable[str]) -> None:
        within = tuple(names)
        self.listed = bool(within)
        self.lists = {
            False: WordList(within),
            True: WordList([*within, *(word[0].upper() + word[1:] for word in ordinary)]),
        }
        self.longest = self.lists[True].longest if self.listed else 0
        # by whether a sentence begins: which tokens may begin a word, and which of them are a whole one
        self.letters = {begins: self._open(pieces.letter_texts, begins) for begins in (False, True)}
        self.starts = {begins: self._open(pieces.start_texts, begins) for begins in (False, True)}
        self.whole_letters = {begins: self._whole(pieces.letter_texts, begins) for begins in (False, True)}
        self.whole_starts = {begins: self._whole(pieces.start_texts, begins) for begins in (False, True)}

    def names_one(self, part: str) -> bool:
        """Whether a word that begins so has to be in the lists."""
        return self.listed and part[0].isupper()

    def holds(self, word: str, begins: bool) -> bool:
        """Whether this word with a capital may stand where a sentence begins, or does not."""
        return word in self.lists[begins] or word in TITLES

    def opens(self, part: str, begins: bool, barred: frozenset[str] = _NONE) -> bool:
        """Whether a token of these letters, the first of a word, can become a word that may stand here."""
        return self.lists[begins].open(part, barred) or (part in TITLES and part.lower() not in barred)

    def _open(self, texts: list[str], begins: bool) -> Bools:
        able = [
            self.opens(text, begins)
            if self.names_one(text)
            else not (self.listed and any(map(str.isupper, text)))
            for text in texts
        ]
        return np.array(able, dtype=bool)

    def _whole(self, texts: list[str], begins: bool) -> Bools:
        whole = [self.holds(text, begins) or not self.names_one(text) for text in texts]
        return np.array(whole, dtype=bool)
