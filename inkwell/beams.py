"""Beam search over one text: log-probabilities in, the beams that go on and the texts that are complete out.

The rules are those of the `transformers` library, which its users expect. A text's score is its
log-probability over length^`length_penalty`, so a penalty of 0 takes the likeliest text, and above 0 long texts
lose less. At each step the continuations of all beams are ranked together. Those that complete a text count
only among the first `width` ranks; the first `width` others go on. The search ends when all beams are complete,
or when enough texts are and no beam can win any more: at once (`early_stopping` True), judged by what each beam
would score now (False), or judged by the best that it could still reach ("never"), which loses nothing.

Tokens that may not come have log-probability −inf. What is left is not scaled up to 1 again: a text is as
likely as the model says, and among those that are allowed the likeliest is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inkwell.request import BeamSettings, Constraint, Hypothesis, Request, Watch
from inkwell.tokenizer import END_ID

Top = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Beam:
    """A text that goes on. `total` is its log-probability in nats."""

    tokens: tuple[int, ...]
    total: float
    constraint: Constraint | None
    watch: Watch | None
    logprobs: tuple[float, ...] = ()
    top: tuple[Top, ...] = ()


class BeamSearch:
    """The search for one request's texts. Knows no model and no rows."""

    def __init__(self, request: Request, settings: BeamSettings) -> None:
        self._request, self._settings = request, settings
        self.beams = [Beam((), 0.0, request.constraint, request.watch)]  # best first
        self._found: list[Hypothesis] = []

    def advance(
        self, logs: Tensor, shown: Tensor | None = None, top: Sequence[Top] | None = None
    ) -> list[int]:
        """Lengthen every beam by one token: log-probabilities (beams, V) float64 → for each beam that goes on
        the index of the one that it continues.

        `shown` (beams, V) are the log-probabilities to report, `top` each beam's likeliest tokens.
        """
        totals = torch.tensor([beam.total for beam in self.beams], dtype=torch.float64, device=logs.device)
        going: list[Beam] = []
        parents: list[int] = []
        for rank, (parent, token, total) in enumerate(_ranked(logs + totals[:, None], 2 * self.width)):
            if len(going) == self.width:
                break
            beam, reason = self._longer(parent, token, total, shown, top)
            if reason is None:
                going.append(beam)
                parents.append(parent)
            elif rank < self.width:
                self._complete(beam, reason)
        if not going and not self._found:  # all is barred: what there is has to do
            self._found = [self._hypothesis(beam, "length") for beam in self.beams]
        self.beams = going
        return parents

    @property
    def width(self) -> int:
        """The most beams that go on."""
        return self._settings.width

    @property
    def done(self) -> bool:
        """Whether nothing better can be found by the rules."""
        if not self.beams:
            return True
        if len(self._found) < self.width:
            return False
        if self._settings.early_stopping is True:
            return True
        length = len(self.beams[0].tokens)
        if self._settings.early_stopping == "never" and self._settings.length_penalty > 0:
            length = self._request.max_new_tokens
        return self._found[-1].score >= self._score(self.beams[0].total, length)

    def found(self, reason: str | None = None) -> tuple[Hypothesis, ...]:
        """The texts that are complete, best first; with a `reason`, also those that are broken off for it."""
        texts = list(self._found)
        if reason is not None:
            texts += [self._hypothesis(beam, reason) for beam in self.beams if beam.tokens]
            texts.sort(key=lambda text: -text.score)  # a stable sort: of equals, the complete one
        return tuple(texts[: self.width])

    def _longer(
        self, parent: int, token: int, total: float, shown: Tensor | None, top: Sequence[Top] | None
    ) -> tuple[Beam, str | None]:
        """A beam with one more token, and why it is complete, if it is."""
        before, request = self.beams[parent], self._request
        constraint, watch, reason = before.constraint, before.watch, None
        if constraint is not None:
            constraint = constraint.fork()
            token = constraint.instead(token)
            constraint.advance(token)
        if token == END_ID and request.stops_at_end:
            reason = "eos_token"
        elif watch is not None and (watch := watch.fork()).push(token):
            reason = "stop_sequence"
        elif len(before.tokens) + 1 >= request.max_new_tokens:
            reason = "length"
        elif constraint is not None and constraint.finished():
            reason = "stop_sequence"
        logprobs = before.logprobs if shown is None else (*before.logprobs, float(shown[parent, token]))
        likeliest = before.top if top is None else (*before.top, top[parent])
        return Beam((*before.tokens, token), total, constraint, watch, logprobs, likeliest), reason

    def _complete(self, beam: Beam, reason: str) -> None:
        # Places behind are closed once enough texts are complete and the first ones are to be taken.
        if self._settings.early_stopping is True and len(self._found) >= self.width:
            return
        self._found.append(self._hypothesis(beam, reason))
        self._found.sort(key=lambda text: -text.score)  # stable: of equals, the one found first
        del self._found[self.width :]

    def _hypothesis(self, beam: Beam, reason: str) -> Hypothesis:
        score = self._score(beam.total, max(1, len(beam.tokens)))
        return Hypothesis(beam.tokens, beam.total, score, reason, beam.logprobs, beam.top)

    def _score(self, total: float, length: int) -> float:
        return float(total / length**self._settings.length_penalty)


def _ranked(scores: Tensor, most: int) -> Iterator[tuple[int, int, float]]:
    """(row, column, score) of the finite scores in falling order; of equals, in order of row and column.

    The first `most` are found without sorting all of them.
    """
    flat, columns = scores.flatten(), scores.shape[1]
    given = 0
    for count in (most, flat.numel()):
        # a partial sort may order equals anyhow: take all that are no less than the last one, then sort these
        least = flat.topk(min(count, flat.numel())).values[-1]
        places = ((flat >= least) & (flat > float("-inf"))).nonzero()[:, 0]
        values, order = flat[places].sort(descending=True, stable=True)
        found = list(zip(places[order].tolist(), values.tolist(), strict=True))
        for place, value in found[given:]:
            yield place // columns, place % columns, value
        given = len(found)
