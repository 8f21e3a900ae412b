"""What the decoders of all families share: bound memory for tokens and logits, and the check of their rows."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inkwell.errors import RuntimeUnavailable
from inkwell.models.base import Decoder, State
from inkwell.onnx.session import Session

_CHECKED_BYTES = 32 * 2**20
_CHECKED_ROWS = (13, 64)  # the fewest: one more than a product's kernel takes at once


class OnnxDecoder(Decoder):
    """Steps of one session. Logits go to a buffer that the next step writes again."""

    def __init__(self, session: Session, vocabulary: int) -> None:
        self._session, self._vocabulary = session, vocabulary
        self._tokens = torch.zeros(0, dtype=torch.long)
        self._unsigned = self._tokens.numpy().view(np.uint64)
        self._logits = torch.zeros(0, vocabulary)
        self._bindings: dict[int, Any] = {}  # by number of rows
        self._bound: weakref.ref[State] | None = None  # whose memory they point to
        self._reserve(self.prefill_chunk)

    @abstractmethod
    def _parts(self, state: State, rows: int) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """What the graph reads and writes besides tokens and logits in a step of the first `rows` rows."""

    def _reserve(self, rows: int) -> None:
        if rows > self._tokens.shape[0]:
            self._tokens = torch.zeros(rows, dtype=torch.long)
            self._unsigned = self._tokens.numpy().view(np.uint64)
            self._logits = torch.zeros(rows, self._vocabulary)
            self._bindings.clear()

    def _binding(self, state: State, rows: int) -> Any:
        if self._bound is None or self._bound() is not state:
            self._bindings.clear()
            self._bound = weakref.ref(state)
        binding = self._bindings.get(rows)
        if binding is None:
            inputs, outputs = self._parts(state, rows)
            binding = self._session.bind(
                {"tokens": self._tokens[:rows], **inputs}, {"logits": self._logits[:rows], **outputs}
            )
            self._bindings[rows] = binding
        return binding

    def _take(self, tokens: Tensor, rows: int) -> int:
        """Put the tokens of a step where the graph reads them; how many there are."""
        n = tokens.shape[0]
        if not 0 < n <= rows:
            raise ValueError(f"{n} tokens for a state of {rows} rows; allowed are 1 to {rows}")
        self._reserve(n)
        self._tokens[:n].copy_(tokens)
        # A graph counts negative ids from the end. Read without a sign they are huge, so one look finds both.
        if int(self._unsigned[:n].max()) >= self._vocabulary:
            raise IndexError(
                f"token ids reach from {int(tokens.min())} to {int(tokens.max())}; "
                f"this model has 0 to {self._vocabulary - 1}"
            )
        return n


def check_rows(decoder: Decoder, vocabulary: int) -> None:
    """Raises RuntimeUnavailable unless every row has the same bits in any company and at any place.

    Nothing promises that of a library in float32. It is so for the operators used here on the processors that
    they were tried on; this looks at the actual weights on the processor at hand.
    """
    fewest, most = _CHECKED_ROWS
    rows = max(fewest, min(most, _CHECKED_BYTES // decoder.new_state(1).bytes_per_row))
    generator = torch.Generator().manual_seed(rows)
    before, state = decoder.new_state(rows), decoder.new_state(rows)
    for tensor in before.tensors.values():
        if tensor.is_floating_point():
            tensor.normal_(generator=generator)
        else:
            tensor.random_(0, 1000, generator=generator)
    tokens = torch.randint(0, vocabulary, (rows,), generator=generator)

    def step(first: int, count: int) -> Tensor:
        for name, tensor in state.tensors.items():
            tensor[:count].copy_(before.tensors[name][first : first + count])
        return decoder.step(tokens[first : first + count], state)

    whole = step(0, rows).clone()
    for count in (1, 2, 3, 5, 8, rows - 1):
        for first in {0, rows - count}:
            if not torch.equal(step(first, count), whole[first : first + count]):
                raise RuntimeUnavailable(
                    f"on this processor a row's last bits change with its company ({count} rows of {rows})"
                )
