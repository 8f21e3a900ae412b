"""What a runtime may offer beyond single steps: several steps in one call, tokens drawn between them.

A decoder that has a `Runner` draws all its tokens by it, so that a text does not depend on whether its company
allowed several steps at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from inkwell.models.base import State
from inkwell.sampling import Counts, SamplingParams

MOST_STEPS = 64
"""In one call: a bound of what a text that ends early wastes, and of how long nobody else is heard."""
NEVER = 1 << 62
"""Tokens before the end mark may come, where it may not."""


class Cursor(NamedTuple):
    """Where a row stands. The order of fields is the core's."""

    position: int  # of the next token that is drawn, for its noise
    token: int  # to be fed when nothing is pending
    pending: int  # tokens to be fed first
    feed: int  # where they begin in `feed`
    left: int  # tokens until the text is as long as it may be
    least: int  # tokens before the end mark may be drawn


class Runner(ABC):
    """Draws tokens by (seed, position), as `inkwell.sampling` describes."""

    @abstractmethod
    def manner(self, params: SamplingParams, stops: bool, logs: bool = False) -> Any:
        """What the runtime has to know of how a row is drawn. `stops`: the end mark ends its text. `logs`: it is
        wanted how likely its tokens were."""

    @abstractmethod
    def settle(self, manners: Sequence[Any]) -> None:
        """Take down how the rows in use are drawn, in their order, until they change."""

    @abstractmethod
    def run(
        self, cursors: Sequence[Cursor], feed: Sequence[int], counts: Counts | None, state: State, steps: int
    ) -> list[tuple[list[int], list[float]]]:
        """Up to `steps` steps of all rows in use, until one of them ends; for each row what was drawn in every
        step that was made, and the log-probabilities under the model's own logits, of rows that want them. A row
        draws in the step in which it is fed the last of its pending tokens, and in all after it; what stands in
        earlier places means nothing. Counts of penalised rows are kept up."""

    @abstractmethod
    def draw(
        self,
        logits: Tensor,
        cursors: Sequence[Cursor],
        counts: Counts | None,
        which: Sequence[int],
        allowed: Tensor | None,
    ) -> tuple[list[int], list[float]]:
        """A token for each of the rows `which` of logits (n, V), and log-probabilities, of rows that want them.
        `allowed` (len(which), V) bars where False."""
