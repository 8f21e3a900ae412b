"""A tokenizer's tokens as pieces of words: which go on with a word, which end one, which begin one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inkwell.lexicon import WORD, begins_sentence
from inkwell.tokenizer import END_ID, Tokenizer

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class WordPieces:
    """The tokens of whole characters by what they do to words. A word is a run of letters.

    A token is nothing but letters (`letters`), or has none (`gaps`), or has some behind a gap (`starts`).
    Letters and then a gap stand in no token of our tokenizers; one that had them would not be used.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.size = tokenizer.size
        self.texts: dict[int, str] = {}
        self.letters: dict[str, int] = {}
        self.characters: dict[str, int] = {}
        # by the letters that a token adds to a new word, in lower case: (token, letters, begins a sentence)
        self.letters_like: dict[str, list[tuple[int, str, bool]]] = {}
        self.starts_like: dict[str, list[tuple[int, str, bool]]] = {}
        gaps: list[int] = []
        letters: list[tuple[int, str]] = []
        starts: list[tuple[int, str, str]] = []
        for token in range(tokenizer.size):
            piece = tokenizer.piece(token)
            try:
                text = piece.decode()
            except UnicodeDecodeError:
                continue  # half a character
            if token == END_ID or not text:
                continue
            found = WORD.search(text)
            if found is None:
                gaps.append(token)
            elif found.end() < len(text):
                continue
            elif found.start():
                starts.append((token, text[: found.start()], found.group()))
            else:
                letters.append((token, text))
            self.texts[token] = text
            if len(text) == 1:
                self.characters[text] = token
        for token, text in letters:
            self.letters.setdefault(text, token)
            self.letters_like.setdefault(text.lower(), []).append((token, text, False))
        for token, gap, text in starts:
            self.starts_like.setdefault(text.lower(), []).append((token, text, begins_sentence(gap)))
        self.whole_words = any(len(text) > 1 for text in self.letters)
        # tokens that can begin a word with a capital, and what stands before it
        capitals = [(token, gap) for token, gap, text in starts if text[0].isupper()]
        initials = [(token, "") for token, text in letters if text[0].isupper()]
        self.capitals = dict([*capitals, *initials])
        self.capital_starts = np.array([token for token, _ in capitals], dtype=np.int64)
        self.capital_letters = np.array([token for token, _ in initials], dtype=np.int64)
        self._tokenizer = tokenizer
        self.gaps = np.array(gaps, dtype=np.int64)
        self.letter_tokens, self.letter_texts = _columns(letters)
        self.start_tokens, self.start_texts = _columns([(token, text) for token, _, text in starts])
        self.start_breaks = np.array([begins_sentence(gap) for _, gap, _ in starts], dtype=bool)
        self.small = np.array([not any(map(str.isupper, text)) for text in self.letter_texts], dtype=bool)

    def first(self, text: str) -> int:
        """The first token of a text."""
        return self._tokenizer.encode(text)[0]


def _columns(pairs: list[tuple[int, str]]) -> tuple[Ints, list[str]]:
    return np.array([token for token, _ in pairs], dtype=np.int64), [text for _, text in pairs]
