"""The contract of every family, and the state that lets rows come and go.

Training uses `forward`. Generation uses `decoder()`: a view of the model prepared for one step at a time over
the first n rows of a preallocated `State`. A new family is one file plus one line in `inkwell.models`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from inkwell.running import Runner

IGNORE = -100
"""Target id that counts in no loss (padding, prompts)."""


class Output(NamedTuple):
    """What `forward` gives: logits (B, T, V), the mean loss in nats per counted target or None, and the
    state to carry into the next window (recurrent families) or None."""

    logits: Tensor
    loss: Tensor | None
    carry: Any


@dataclass
class State:
    """Everything a family remembers per row: tensors whose first dimension is the row."""

    tensors: Mapping[str, Tensor]

    def move(self, source: int, target: int) -> None:
        """Copy row `source` over row `target`."""
        for tensor in self.tensors.values():
            tensor[target].copy_(tensor[source])

    def clear(self, row: int) -> None:
        """Make `row` a row that has seen nothing."""
        for tensor in self.tensors.values():
            tensor[row].zero_()

    @property
    def bytes_per_row(self) -> int:
        """Memory that one slot takes."""
        return sum(tensor[0].numel() * tensor.element_size() for tensor in self.tensors.values())


class Decoder(ABC):
    """A model prepared for generation. Rows never influence each other, to the last bit."""

    prefill_chunk: int = 0
    """Tokens that `prefill` takes at once; 0 when prompts go through `step` token by token."""

    runner: Runner | None = None
    """Steps and draws in one call, where the runtime can; else tokens are drawn by `inkwell.sampling`."""

    @abstractmethod
    def new_state(self, rows: int) -> State:
        """A cleared state of `rows` rows."""

    @abstractmethod
    def step(self, tokens: Tensor, state: State) -> Tensor:
        """Feed one token to each of the first n rows: tokens (n,) int64 → logits (n, V) float32."""

    def prefill(self, tokens: Sequence[int], state: State, row: int) -> None:
        """Feed up to `prefill_chunk` tokens to one row without asking for logits."""
        raise TypeError(f"{type(self).__name__} has no prefill")

    def admit(self, state: State, row: int, condition: Mapping[int, float] | None) -> None:
        """Clear `row` and set its condition: category index → weight (weights add up to 1), or None."""
        state.clear(row)


class LanguageModel(nn.Module, ABC):
    """One contract for all families. Token id 0 is the end mark, and also what a text begins with."""

    vocabulary: int
    """Number of token ids, V."""
    context: int | None
    """Tokens of the past that one prediction can see; None when there is no limit."""

    @abstractmethod
    def forward(
        self, ids: Tensor, targets: Tensor | None = None, condition: Tensor | None = None, carry: Any = None
    ) -> Output:
        """ids (B, T) int64, targets (B, T) int64 with IGNORE where nothing counts, condition (B,) int64
        category indices (0 is "unknown"), carry what the last `forward` gave."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """The model prepared for generation on its present device. Weights are shared or copied once."""

    def parameter_count(self) -> int:
        """Number of trained values; shared (tied) tensors count once."""
        return sum(parameter.numel() for parameter in self.parameters())


def loss_of(logits: Tensor, targets: Tensor | None) -> Tensor | None:
    """Mean cross-entropy in nats over targets that are not IGNORE; computed in float32."""
    if targets is None:
        return None
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def locked_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout on (B, T, C) with one mask for all T of a row (Gal and Ghahramani 2016)."""
    if not training or rate == 0.0:
        return x
    mask = torch.empty(x.shape[0], 1, x.shape[2], device=x.device, dtype=x.dtype).bernoulli_(1.0 - rate)
    return x * mask.div_(1.0 - rate)
