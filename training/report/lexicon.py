"""Counts of one collection of texts: sentences, words, lengths, n-grams. Plain Python, no language model."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from training.data.sentences import split_sentences

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
Ngram = tuple[str, ...]


@dataclass(frozen=True)
class Spread:
    """Mean, smallest and largest of a list of lengths, and the median."""

    mean: float
    median: float
    least: int
    most: int

    @classmethod
    def of(cls, values: Sequence[int]) -> Spread:
        """All zero for an empty list."""
        if not values:
            return cls(0.0, 0.0, 0, 0)
        return cls(statistics.fmean(values), statistics.median(values), min(values), max(values))


class Lexicon:
    """Words are runs of letters and digits, inner apostrophes and hyphens included, in lower case."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(text for text in texts if text.strip())
        self.sentences = tuple(sentence for text in self.texts for sentence in split_sentences(text))
        self.words_by_sentence = tuple(tuple(words_of(sentence)) for sentence in self.sentences)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words in order."""
        return tuple(word for words in self.words_by_sentence for word in words)

    @cached_property
    def characters_per_sentence(self) -> tuple[int, ...]:
        return tuple(len(sentence) for sentence in self.sentences)

    @cached_property
    def words_per_sentence(self) -> tuple[int, ...]:
        return tuple(len(words) for words in self.words_by_sentence)

    def ngrams(self, size: int) -> Counter[Ngram]:
        """Counts of word n-grams; none crosses the end of a sentence."""
        counts: Counter[Ngram] = Counter()
        for words in self.words_by_sentence:
            counts.update(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
        return counts

    def common(self, stop_words: frozenset[str], stops: bool, count: int = 10) -> list[tuple[str, int]]:
        """The most frequent words that are stop words, or that are not."""
        counts = Counter(word for word in self.words if (word in stop_words) == stops)
        return counts.most_common(count)

    @property
    def type_token_ratio(self) -> float:
        """Different words over all words. Falls with the length of a text: compare equal lengths."""
        return len(set(self.words)) / len(self.words) if self.words else 0.0

    def limited(self, words: int) -> Lexicon:
        """The first sentences, up to `words` words and the rest of a sentence: for figures that depend on length.
        A text that is longer than that is cut, so one long book and many short texts can be compared."""
        kept, total = [], 0
        for sentence, found in zip(self.sentences, self.words_by_sentence, strict=True):
            if total >= words:
                break
            kept.append(sentence)
            total += len(found)
        return Lexicon(kept)

    def pieces(self, words: int) -> Iterator[list[tuple[str, ...]]]:
        """Each text as pieces of whole sentences (their words) that end once they hold `words` words."""
        for text in self.texts:
            piece: list[tuple[str, ...]] = []
            for sentence in split_sentences(text):
                piece.append(tuple(words_of(sentence)))
                if sum(map(len, piece)) >= words:
                    yield piece
                    piece = []
            if piece:
                yield piece


def words_of(text: str) -> list[str]:
    """Words of a text in lower case."""
    return [word.casefold() for word in _WORD.findall(text)]
