"""A graph that is ready to run over memory of our own.

Inputs and outputs are bound to tensors by their addresses, so a step copies nothing: what it reads and what it
leaves is the state itself. An output may have the address of an input as long as everything that reads the input
comes before what writes the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_KINDS: Mapping[torch.dtype, type] = {torch.float32: np.float32, torch.long: np.int64}


class Session:
    """One graph of ONNX Runtime, and the weights that it points to."""

    def __init__(self, session: Any, weights: Sequence[Tensor]) -> None:
        self._session, self._weights = session, weights

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> Any:
        """Where the graph reads and writes, for `run`. All tensors are contiguous, and whoever binds them keeps
        them alive."""
        binding = self._session.io_binding()
        for bind, tensors in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, tensor in tensors.items():
                if not tensor.is_contiguous():
                    raise ValueError(f"{name} is not contiguous")
                bind(name, "cpu", 0, _KINDS[tensor.dtype], list(tensor.shape), tensor.data_ptr())
        return binding

    def run(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding)
