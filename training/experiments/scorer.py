"""A judge that has read nothing but held-out text: a character n-gram model.

A language model finds its own habits plausible and its own copies perfect. This judge shares neither: it knows
what text of this kind looks like, and has never seen the training text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable


class NgramScorer:
    """Interpolated n-grams with Witten and Bell's (1991) weights, down to an even chance for every character."""

    def __init__(self, texts: Iterable[str], order: int = 5) -> None:
        if order < 1:
            raise ValueError(f"order is {order}; it must be 1 or more")
        self.order = order
        self._counts: Counter[str] = Counter()  # of every run of 1 to `order` characters
        self._seen: Counter[str] = Counter()  # of every history
        self._kinds: Counter[str] = Counter()  # different characters after each history
        for text in texts:
            for at in range(len(text)):
                for length in range(min(order - 1, at) + 1):
                    history, whole = text[at - length : at], text[at - length : at + 1]
                    self._seen[history] += 1
                    self._kinds[history] += not self._counts[whole]
                    self._counts[whole] += 1
        # one more than was seen, so that a new character is unlikely and not impossible
        self._alphabet = self._kinds[""] + 1

    def probability(self, history: str, character: str) -> float:
        """Of `character` after `history`; over the seen characters and one unseen these add up to 1."""
        estimate = 1.0 / self._alphabet
        most = min(self.order - 1, len(history))
        for length in range(most + 1):
            known = history[len(history) - length :]
            kinds = self._kinds[known]
            if not kinds:
                break
            estimate = (self._counts[known + character] + kinds * estimate) / (self._seen[known] + kinds)
        return estimate

    def bits(self, text: str) -> float:
        """Bits of a whole text."""
        return -sum(
            math.log2(self.probability(text[max(0, at - self.order + 1) : at], character))
            for at, character in enumerate(text)
        )

    def bits_per_character(self, texts: Iterable[str]) -> float:
        """Mean over all characters of all texts; NaN without any."""
        bits = characters = 0.0
        for text in texts:
            bits += self.bits(text)
            characters += len(text)
        return bits / characters if characters else math.nan
