"""Seed words: what an empty prompt is filled with.

A model knows what to say after a familiar word; nothing or an unknown word gives garbage, and a word that
usually begins a sentence brings a training sentence back. So a bundle carries the words of its corpus with
their counts, without rare ones and without those that mostly stand at the beginning of a sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from inkwell.errors import BundleError, InvalidJob
from inkwell.noise import uniform_of

STRATEGIES = ("random", "common", "rare", "letter", "nearest", "none")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"""[.!?…:]["'”’)\]]*\s+["'“‘(\[]*$|\n\s*["'“‘(\[]*$|^\s*["'“‘(\[]*$""")


@dataclass(frozen=True)
class SeedWords:
    """Familiar words and how often the corpus has each, most frequent first."""

    words: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def collect(
        cls, texts: Iterable[str], least: int = 3, most_initial: float = 0.5, limit: int = 20_000
    ) -> SeedWords:
        """Words that stand `least` times or more and begin a sentence in at most `most_initial` of them.

        Capitals within a sentence are kept: they mark names. Words of one letter are left out.
        """
        inside: Counter[str] = Counter()
        initial: Counter[str] = Counter()
        for text in texts:
            for match in _WORD.finditer(text):
                word = match.group()
                if len(word) < 2:
                    continue
                before = text[max(0, match.start() - 12) : match.start()]
                if _SENTENCE_END.search(before) or match.start() == 0:
                    initial[word.casefold()] += 1
                else:
                    inside[word] += 1
        chosen = {
            word: count
            for word, count in inside.items()
            if count >= least
            and initial[word.casefold()] <= most_initial * (count + initial[word.casefold()])
        }
        ordered = sorted(chosen.items(), key=lambda item: (-item[1], item[0]))[:limit]
        return cls(tuple(word for word, _ in ordered), tuple(count for _, count in ordered))

    def save(self, path: Path) -> None:
        """Write one `word<TAB>count` per line."""
        lines = (f"{word}\t{count}\n" for word, count in zip(self.words, self.counts, strict=True))
        path.write_text("".join(lines), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> SeedWords:
        """Read what `save` wrote; BundleError names the line that is wrong."""
        words, counts = [], []
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path.name} cannot be read: {error}") from error
        for number, line in enumerate(text.splitlines(), 1):
            word, tab, count = line.partition("\t")
            if not word or not tab or not count.isdecimal() or int(count) < 1:
                raise BundleError(f"{path.name}, line {number}: {line!r} is not 'word<TAB>count'")
            words.append(word)
            counts.append(int(count))
        return cls(tuple(words), tuple(counts))

    def sample(self, count: int = 40) -> list[str]:
        """`count` words, or all where there are fewer, evenly from the most frequent to the rarest: for people to
        choose from, so none that is shorter than four letters where there are enough others."""
        words = [word for word in self.words if len(word) > 3]
        if len(words) < count:
            words = list(self.words)
        step = max(1.0, len(words) / count)
        return [words[int(at * step)] for at in range(min(count, len(words)))]

    def pick(self, strategy: str, seed: int, value: str | None = None) -> str:
        """One word, decided by `seed`. `letter` takes words beginning with `value`; `nearest` the word with the
        smallest edit distance to `value`, the more frequent one of equals. Raises InvalidJob."""
        if not self.words:
            raise InvalidJob("seed_word", "is not possible: this model has no seed words; give a prompt")
        if strategy == "nearest":
            if not value:
                raise InvalidJob("seed_word.value", "is missing; strategy 'nearest' needs a word")
            return self.words[int(np.argmin(edit_distances(value, self.words)))]
        pool: Sequence[int] = range(len(self.words))
        if strategy == "letter":
            if not value:
                raise InvalidJob("seed_word.value", "is missing; strategy 'letter' needs the first letters")
            pool = [i for i in pool if self.words[i].casefold().startswith(value.casefold())]
            if not pool:
                raise InvalidJob("seed_word.value", f"is {value!r}; no seed word of this model begins so")
        whole = len(pool) == len(self.words)
        reached = (
            self._reached[strategy if strategy in self._reached else "random"]
            if whole
            else _shares(np.ones(len(pool)))
        )
        # position −1 belongs to no token of any text
        place = int(np.searchsorted(reached, uniform_of(seed, -1, 0), side="right"))
        return self.words[pool[min(place, len(pool) - 1)]]

    @cached_property
    def _reached(self) -> dict[str, np.ndarray]:
        """By strategy, the share of draws that fall on each word or on one before it."""
        counts = np.array(self.counts, dtype=np.float64)
        weights = {"common": counts, "rare": 1.0 / counts, "random": np.ones(len(counts))}
        return {name: _shares(values) for name, values in weights.items()}


def _shares(weights: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.cumsum(weights) / weights.sum()
    return shares


def edit_distances(word: str, others: Sequence[str]) -> np.ndarray:
    """Levenshtein distances from `word` to each of `others`, ignoring case: int (n,). One pass over all at once."""
    folded = [other.casefold() for other in others]
    width = max(map(len, folded))
    letters = np.zeros((len(folded), width), dtype=np.int32)
    for row, other in enumerate(folded):
        letters[row, : len(other)] = [ord(c) for c in other]
    distance = np.tile(np.arange(width + 1, dtype=np.int32), (len(folded), 1))
    for letter in word.casefold():
        diagonal = distance[:, :-1] + (letters != ord(letter))
        above = distance + 1
        distance = above.copy()
        for column in range(width):
            best = np.minimum(diagonal[:, column], above[:, column + 1])
            distance[:, column + 1] = np.minimum(best, distance[:, column] + 1)
    result: np.ndarray = distance[np.arange(len(folded)), [len(other) for other in folded]]
    return result
