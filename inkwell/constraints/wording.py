"""A story as words: what has been written, which words may follow, and which tokens lead to them."""

from __future__ import annotations

import copy
import re
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from inkwell.constraints.pieces import Bools, WordPieces
from inkwell.constraints.vocabulary import Capitals, WordList
from inkwell.lexicon import WORD, begins_sentence

_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\Z")
_RUNS = re.compile(rf"{WORD.pattern}|(?:(?!{WORD.pattern}).)+", re.S)
_NONE: frozenset[str] = frozenset()


class WordRules(NamedTuple):
    """Words that a story must and must not say. `loop` words that have stood in a row may not do so again."""

    characters: tuple[str, ...] = ()  # all to be mentioned
    required: tuple[str, ...] = ()  # lower case
    forbidden: frozenset[str] = _NONE  # lower case
    loop: int | None = None


class Wording:
    """The words so far, with the one that is being written, `part`. `gap` is what stands behind the last one."""

    def __init__(self, pieces: WordPieces, capitals: Capitals, rules: WordRules) -> None:
        self.pieces, self.capitals, self.rules = pieces, capitals, rules
        self.part = self.gap = ""
        self.begins = True  # whether `part` begins a sentence
        self.late = False  # characters who have not been mentioned come before those who have
        self._words: list[str] = []  # in lower case, without `part`
        self._seen: set[str] = set()
        self._known: tuple[tuple[int, str, bool], frozenset[str]] = ((-1, "", False), _NONE)
        self._barred = _NONE  # words that `part` must not become

    def fork(self) -> Wording:
        """Another one in the same place."""
        other = copy.copy(self)
        other._words, other._seen = list(self._words), set(self._seen)
        return other

    def read(self, text: str) -> None:
        """Go on with `text`."""
        for run in _RUNS.findall(text):
            if WORD.match(run):
                if not self.part:
                    self.begins, self._barred = self._at_start(), self._bars()
                self.part += run
            else:
                if self.part:
                    self._words.append(self.part.lower())
                    self._seen |= {self.part, self.part.lower()}
                    self.part, self.gap = "", ""
                self.gap += run

    def begin(self) -> None:
        """What has been read so far is not the story's own: it does not count as said."""
        self._seen.clear()

    @property
    def ends_sentence(self) -> bool:
        """Right behind the end of a sentence, before any space."""
        return not self.part and bool(self._words) and _SENTENCE_END.search(self.gap) is not None

    @property
    def complete(self) -> bool:
        """Whether the word that is being written can end here."""
        if not self.part:
            return True
        if self.part.lower() in self._barred:
            return False
        return not self.capitals.names_one(self.part) or self.capitals.holds(self.part, self.begins)

    def wanted(self) -> list[str]:
        """What has to be said and is not said yet, `part` not counted."""
        return [word for word in (*self.rules.characters, *self.rules.required) if word not in self._seen]

    def missing(self) -> list[str]:
        """What has to be said still if `part` ends here."""
        here = {self.part, self.part.lower()} if self.part and self.complete else _NONE
        return [word for word in self.wanted() if word not in here]

    def shortest(self) -> tuple[int, str]:
        """How many letters make `part` a word that may stand here, and the first of them. It is none as it is."""
        if self.capitals.names_one(self.part):
            longer = [word for word in self._list.beginning(self.part, self._barred) if word != self.part]
            if longer:
                word = min(longer, key=len)
                return len(word) - len(self.part), word[len(self.part)]
        small = [text for text in self.pieces.characters if WORD.match(text) and not text.isupper()]
        free = [text for text in small if self.part.lower() + text not in self._barred]
        return 1, (free or small)[0]

    def fill(self, mask: Bools, spare: int | None, cast: bool = True) -> None:
        """Allow the tokens (V,) that words allow, end mark aside.

        With `spare`, the number of tokens that are left for a word once it is begun, only words that one token
        begins and completes. With `cast`, also beginnings of other names, for which `instead` has a character.
        """
        pieces, capitals = self.pieces, self.capitals
        begins = not self.part and self._at_start()
        if self.part:
            self._go_on(mask, spare)
        else:
            able = capitals.letters[begins]
            mask[pieces.letter_tokens] = able if spare is None else able & capitals.whole_letters[begins]
        if not self.complete:
            return
        mask[pieces.gaps] = True
        first = pieces.start_breaks | begins
        able = np.where(first, capitals.starts[True], capitals.starts[False])
        if spare is not None:
            able &= np.where(first, capitals.whole_starts[True], capitals.whole_starts[False])
        mask[pieces.start_tokens] = able
        self._bar(mask, begins, self.pieces.whole_words or spare is not None)
        if cast and spare is None and self._cast():
            mask[pieces.capital_starts] = True
            if not self.part:
                mask[pieces.capital_letters] = True

    def instead(self, token: int) -> int:
        """The beginning of a character's name where the model begins another name; else the token itself.

        One who has not been mentioned comes first. After that the same foreign beginning always means the same
        character, whatever has been written: nothing has to be remembered.
        """
        gap = self.pieces.capitals.get(token)
        if gap is None or not self.capitals.listed or not self.complete or (self.part and not gap):
            return token
        mask = np.zeros(self.pieces.size, dtype=bool)
        self.fill(mask, None, cast=False)
        cast = self._cast()
        if mask[token] or not cast:
            return token
        new = [name for name in cast if name not in self._seen and name != self.part]
        name = new[0] if new else cast[token % len(cast)]
        return self.pieces.first(gap + name)

    # ---- which words, and by which tokens

    @property
    def _list(self) -> WordList:
        return self.capitals.lists[self.begins]

    def _at_start(self) -> bool:
        return not self._words or begins_sentence(self.gap)

    def _cast(self) -> list[str]:
        """The characters who may be named next."""
        barred = self._bars()
        return [name for name in self.rules.characters if name.lower() not in barred]

    def _bars(self) -> frozenset[str]:
        """Words that may not follow what is written, with `part` as its last word; in lower case."""
        words = [*self._words, self.part.lower()] if self.part else self._words
        key = (len(words), words[-1] if words else "", self.late)
        if self._known[0] != key:  # asked for several times at each place
            self._known = key, self._found(words)
        return self._known[1]

    def _found(self, words: list[str]) -> frozenset[str]:
        barred, size = set(self.rules.forbidden), self.rules.loop
        if size is not None and len(words) >= size:
            head, last, at = words[len(words) - size + 1 :], words[-1], -1
            with suppress(ValueError):  # where the last word does not stand once more
                while True:
                    at = words.index(last, at + 1, len(words) - 1)
                    if at >= size - 2 and words[at - size + 2 : at + 1] == head:
                        barred.add(words[at + 1])
        if self.late:
            known = {n for n in self.rules.characters if n in self._seen or n == self.part}
            if len(known) < len(self.rules.characters):
                barred |= {name.lower() for name in known}
        return frozenset(barred)

    def _go_on(self, mask: Bools, spare: int | None) -> None:
        """Allow tokens that go on with `part`."""
        pieces, part = self.pieces, self.part
        if self.capitals.names_one(part):
            for word in self._list.beginning(part, self._barred):
                for end in range(len(part) + 1, len(word) + 1):
                    token = pieces.letters.get(word[len(part) : end])
                    if token is not None and (spare is None or len(word) - end <= spare):
                        mask[token] = True
            return
        mask[pieces.letter_tokens] = pieces.small if self.capitals.listed else True
        if pieces.whole_words:
            begun = part.lower()
            for word in self._barred:
                if word.startswith(begun):
                    for token, _, _ in pieces.letters_like.get(word[len(begun) :], ()):
                        mask[token] = False

    def _bar(self, mask: Bools, begins: bool, whole: bool) -> None:
        """Take back tokens that begin a word of which only barred ones can be made, and, with `whole`, those that
        are a barred one: its letters would have to be added to."""
        pieces, capitals = self.pieces, self.capitals
        barred = self._bars()
        tables = (pieces.starts_like,) if self.part else (pieces.starts_like, pieces.letters_like)
        for word in barred:
            for end in range(1, len(word) + 1):
                for table in tables:
                    for token, text, breaks in table.get(word[:end], ()):
                        if capitals.names_one(text) and not capitals.opens(text, begins or breaks, barred):
                            mask[token] = False
                        if end == len(word) and whole:
                            mask[token] = False
