"""The text of one request while it grows: ids in, text out, up to the first stop string."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from inkwell.stops import StopScanner
from inkwell.tokenizer import TextStream, Tokenizer


class GrowingText:
    """Collects what each token adds. Text after a stop string, and the stop string, are left out."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._stream, self._scanner = TextStream(tokenizer), StopScanner(stop)
        self._parts: list[str] = []
        self.tokens = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string has come."""
        return self._scanner.found is not None

    def push(self, token: int) -> str:
        """Text that became certain with `token`."""
        text = self._scanner.push(self._stream.push(token))
        self._parts.append(text)
        self.tokens += 1
        return text

    def extend(self, tokens: Sequence[int]) -> list[str]:
        """What `push` gives for each of the tokens, up to and with one that completes a stop string."""
        if not self._scanner.active:
            texts = list(map(self._stream.push, tokens))
            self._parts.extend(texts)
            self.tokens += len(texts)
            return texts
        texts = []
        for token in tokens:
            texts.append(self.push(token))
            if self.stopped:
                break
        return texts

    def finish(self) -> str:
        """What was held back, at the end of the text: half a character or half a stop string."""
        tail = "" if self.stopped else self._scanner.push(self._stream.flush()) + self._scanner.rest()
        self._parts.append(tail)
        return tail

    def __str__(self) -> str:
        return "".join(self._parts)


class StopWatch:
    """Tells where the text of one beam ends for its stop strings."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._stream, self._scanner = TextStream(tokenizer), StopScanner(stop)

    def push(self, token: int) -> bool:
        """Whether a stop string is complete with this token."""
        self._scanner.push(self._stream.push(token))
        return self._scanner.found is not None

    def fork(self) -> StopWatch:
        """Another one in the same place."""
        other = copy.copy(self)
        other._stream, other._scanner = self._stream.fork(), copy.copy(self._scanner)
        return other
