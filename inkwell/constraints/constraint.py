"""One job's constraint: which tokens may come next so that the text can still be finished as asked."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inkwell.constraints.automaton import Automaton
from inkwell.constraints.dfa import ComplexityError
from inkwell.tokenizer import END_ID

_MAX_WORK = 50_000_000


class ShapeConstraint:
    """Bars tokens after which the shape cannot be completed with the tokens that are left.

    The end mark is allowed exactly where the text has the shape and `min_new_tokens` have come. A text that
    runs to `max_new_tokens` has the shape there too.
    """

    def __init__(self, automaton: Automaton, max_new_tokens: int, min_new_tokens: int = 0) -> None:
        self._automaton = automaton
        self._most = max_new_tokens
        # without an end mark a text cannot end before its first token
        self._least = min_new_tokens if automaton.stops_at_end else max(min_new_tokens, 1)
        self._node, self._count, self._ended = automaton.start, 0, False
        self._early = self._early_layers()
        self._only_end = torch.zeros(automaton.vocabulary, dtype=torch.bool)
        self._only_end[END_ID] = True

    def satisfiable(self) -> bool:
        """Whether any text within the limits has the shape."""
        return self._can_finish(self._node, 0)

    def allowed(self) -> Tensor:
        """Boolean (V,): tokens that may come next; the end mark alone when the text is complete."""
        left = self._most - self._count
        if self._ended or left <= 0 or self.finished():
            return self._only_end
        return self._mask(left)

    def advance(self, token: int) -> None:
        """Tell which token came. ValueError when it was not allowed."""
        if token == END_ID or self._ended:
            self._ended = True
            return
        after = self._automaton.after(self._node, token)
        if not self._can_finish(after, self._count + 1):
            raise ValueError(f"token {token} breaks the shape of the text")
        self._node = after
        self._count += 1

    def finished(self) -> bool:
        """Whether the text has its shape and cannot go on: how a text without an end mark ends early.

        Always False for models with an end mark, which then is the one token allowed.
        """
        left = self._most - self._count
        if self._automaton.stops_at_end or self._ended or left <= 0 or self._count < self._least:
            return False
        return self._automaton.accepts(self._node) and not bool(self._mask(left).any())

    def instead(self, token: int) -> int:
        """The token itself: a shape only bars."""
        return token

    def fork(self) -> ShapeConstraint:
        """Another one in the same place; what was compiled is shared."""
        return copy.copy(self)

    def _mask(self, left: int) -> Tensor:
        automaton, node = self._automaton, self._node
        if self._count < self._least:
            return torch.from_numpy(automaton.among_after(node, self._early[self._count + 1]))
        mask, farthest = automaton.open_mask(node)
        if farthest < left:
            return mask
        near = torch.from_numpy(automaton.distances_after(node) < left)
        near[END_ID] = mask[END_ID]
        return near

    def _can_finish(self, node: int, count: int) -> bool:
        kind = self._automaton.kind(node)
        if count <= self._least:
            return bool(self._early[count][kind])
        return bool(self._automaton.distance[kind] <= self._most - count)

    def _early_layers(self) -> list[NDArray[np.bool_]]:
        """For each count of tokens up to the least, the kinds of nodes from which a text can be finished."""
        automaton = self._automaton
        layer = automaton.distance <= self._most - self._least
        layers = [layer]
        for number in range(1, self._least + 1):
            if number * len(automaton.sources) > _MAX_WORK:
                raise ComplexityError(f"min_new_tokens {self._least} × {len(automaton.sources)} moves")
            before = np.zeros(len(layer), dtype=bool)
            before[automaton.sources[layer[automaton.targets]]] = True
            if number > 1 and np.array_equal(before, layer):
                layers += [layer] * (self._least + 1 - number)
                break
            layers.append(before)
            layer = before
        return layers[::-1]
