"""Recurrent models and GPTs decoded by the C++ core in int8, one call per step.

Weights have one scale per output channel and activations one per row, and sums of products are integers;
embeddings, norms, gates and attention are float32. States are torch tensors, so that rows move, clear and are
counted like those of any decoder.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from inkwell.errors import RuntimeUnavailable
from inkwell.models.base import Decoder, State
from inkwell.models.gpt import Block, GPTModel
from inkwell.models.recurrent import RecurrentModel
from inkwell.native.draws import NativeRunner
from inkwell.native.library import Library

_CELLS = {"rnn": 0, "gru": 1, "lstm": 2}
_ACTIVATIONS = {"gelu": 0, "swish": 1}
_BAD_TOKEN = 1
MOST_INPUTS = 65_536  # of one layer: more products might not fit into 32 bits


class _Core:
    """One network of the library, freed with this object."""

    def __init__(self, library: Library, pointer: int | None) -> None:
        if pointer is None:
            reason = library.functions.inkwell_reason().decode()
            raise RuntimeUnavailable(f"the core cannot hold this model: {reason}")
        self.functions: Any = library.functions
        self.pointer = pointer
        weakref.finalize(self, library.functions.inkwell_free, pointer)


class _NativeDecoder(Decoder):
    """What both families share: room for steps and for their logits."""

    _parts: tuple[str, ...]  # of a state, in the order in which the core takes them

    def __init__(self, core: _Core, vocabulary: int) -> None:
        self._core, self._vocabulary = core, vocabulary
        self.runner = NativeRunner(core, vocabulary, self._parts)
        self._logits = torch.empty(0, vocabulary)
        self._reserve(self.prefill_chunk)

    def _reserve(self, rows: int) -> None:
        if rows <= self._logits.shape[0]:
            return
        if self._core.functions.inkwell_reserve(self._core.pointer, rows):
            raise MemoryError(f"there is not enough memory for {rows} rows")
        self._logits = torch.empty(rows, self._vocabulary)

    def _fits(self, tokens: Tensor, rows: int) -> Tensor:
        """Tokens as the core reads them: int64 in a row. The core trusts their number."""
        if not 0 < tokens.shape[0] <= rows:
            raise ValueError(f"{tokens.shape[0]} tokens for a state of {rows} rows; allowed are 1 to {rows}")
        return tokens.to(torch.long).contiguous()

    def _checked(self, status: int, tokens: Tensor) -> None:
        if status == _BAD_TOKEN:
            raise IndexError(
                f"token ids reach from {int(tokens.min())} to {int(tokens.max())}; "
                f"this model has 0 to {self._vocabulary - 1}"
            )
        if status:
            raise RuntimeError(f"the core refused a step of {tokens.shape[0]} rows (status {status})")


class NativeRecurrentDecoder(_NativeDecoder):
    """RNN, GRU or LSTM. Its state is `hidden` and, for an LSTM, `cell`: (rows, layers, H) float32."""

    _parts = ("hidden", "cell")

    @torch.no_grad()
    def __init__(self, model: RecurrentModel, library: Library, path: str, threads: int) -> None:
        config = self.config = model.config
        check_inputs(config.hidden)
        first = model.layers[0]
        table = cast(Tensor, first.weight_ih_l0).t()
        if model.embedding is not None:
            table = model.embedding.weight @ table
        table = _plain(table + cast(Tensor, first.bias_ih_l0))
        weights: list[Tensor | None] = []
        for index, layer in enumerate(model.layers):
            own = (cast(Tensor, layer.weight_ih_l0), cast(Tensor, layer.bias_ih_l0))
            weights.extend(own if index else (None, None))
            weights.extend((cast(Tensor, layer.weight_hh_l0), cast(Tensor, layer.bias_hh_l0)))
        weights.extend((model.head.weight, model.head.bias))
        sizes = (_CELLS[config.cell], config.vocabulary, config.hidden, config.layers)
        with _pointers(weights) as pointers:
            pointer = library.functions.inkwell_recurrent(
                path.encode(), threads, *sizes, table.data_ptr(), pointers.array
            )
        super().__init__(_Core(library, pointer), config.vocabulary)

    def new_state(self, rows: int) -> State:
        self._reserve(rows)
        names = ("hidden", "cell") if self.config.cell == "lstm" else ("hidden",)
        return State({name: torch.zeros(rows, self.config.layers, self.config.hidden) for name in names})

    def step(self, tokens: Tensor, state: State) -> Tensor:
        hidden = state.tensors["hidden"]
        cell = state.tensors["cell"].data_ptr() if self.config.cell == "lstm" else None
        tokens = self._fits(tokens, hidden.shape[0])
        n = tokens.shape[0]
        self._reserve(n)
        status = self._core.functions.inkwell_recurrent_step(
            self._core.pointer, tokens.data_ptr(), n, hidden.data_ptr(), cell, self._logits.data_ptr()
        )
        self._checked(status, tokens)
        return self._logits[:n]


class NativeGPTDecoder(_NativeDecoder):
    """A GPT. Keys and values are kept in bfloat16 and read up to the position only.

    Reading a prompt in chunks has the same effect, to the bit, as feeding it token by token.
    """

    prefill_chunk = 64
    _parts = ("position", "keys", "values", "mods")

    @torch.no_grad()
    def __init__(self, model: GPTModel, library: Library, path: str, threads: int) -> None:
        config = self.config = model.config
        feed = config.rate * config.width
        check_inputs(feed)
        self._model = model
        weights: list[Tensor | None] = [model.embedding.weight]
        for item in model.blocks:
            block = cast(Block, item)
            for layer in (block.norm_attention, block.qkv, block.proj, block.norm_feed, block.up, block.down):
                weights.extend((layer.weight, layer.bias))
        weights.extend((model.norm.weight, model.norm.bias, model.head.weight))
        sizes = (config.vocabulary, config.layers, config.heads, config.width, config.window, feed)
        with _pointers(weights) as pointers:
            pointer = library.functions.inkwell_transformer(
                path.encode(), threads, *sizes, _ACTIVATIONS[config.activation], pointers.array
            )
        super().__init__(_Core(library, pointer), config.vocabulary)
        self._prompt = torch.zeros(2, self.prefill_chunk, dtype=torch.long)  # tokens, and their row

    def new_state(self, rows: int) -> State:
        config = self.config
        self._reserve(rows)
        depth, slots = config.head_width, config.window
        # as the core reads them: sixteen keys side by side, values one after another
        keys = (rows, config.layers, config.heads, -(-slots // 16), -(-depth // 4) * 4, 16)
        values = (rows, config.layers, config.heads, slots, -(-depth // 16) * 16)
        tensors = {
            "position": torch.zeros(rows, dtype=torch.long),
            "keys": torch.zeros(keys, dtype=torch.bfloat16),
            "values": torch.zeros(values, dtype=torch.bfloat16),
        }
        if config.categories:
            tensors["mods"] = torch.zeros(rows, config.layers, 4, config.width)
        return State(tensors)

    @torch.no_grad()
    def admit(self, state: State, row: int, condition: Mapping[int, float] | None) -> None:
        # Old keys and values stay where they are: position 0 hides them all.
        state.tensors["position"][row] = 0
        if self.config.categories:
            weights = torch.zeros(self.config.categories)
            for index, weight in (condition or {0: 1.0}).items():
                weights[index] = weight
            vector = weights @ self._model.category.weight
            state.tensors["mods"][row] = self._model.modulations(vector[None])[0]

    def step(self, tokens: Tensor, state: State) -> Tensor:
        tokens = self._fits(tokens, state.tensors["position"].shape[0])
        n = tokens.shape[0]
        self._reserve(n)
        self._feed(tokens, None, n, state, self._logits.data_ptr())
        return self._logits[:n]

    def prefill(self, tokens: Sequence[int], state: State, row: int) -> None:
        rows, count = state.tensors["position"].shape[0], len(tokens)
        if not 0 <= row < rows:
            raise IndexError(f"row {row} of a state of {rows} rows")
        if not 0 < count <= self.prefill_chunk:
            raise ValueError(f"{count} tokens; prefill takes 1 to {self.prefill_chunk} at a time")
        self._prompt[0, :count] = torch.tensor(tokens, dtype=torch.long)
        self._prompt[1, :count] = row
        self._feed(self._prompt[0, :count], self._prompt[1].data_ptr(), count, state, None)

    def _feed(self, tokens: Tensor, rows: int | None, count: int, state: State, logits: int | None) -> None:
        tensors = state.tensors
        mods = tensors["mods"].data_ptr() if self.config.categories else None
        status = self._core.functions.inkwell_transformer_step(
            self._core.pointer,
            tokens.data_ptr(),
            rows,
            count,
            tensors["position"].data_ptr(),
            tensors["keys"].data_ptr(),
            tensors["values"].data_ptr(),
            mods,
            logits,
        )
        self._checked(status, tokens)


class _pointers:  # noqa: N801  a function that keeps what it points to alive
    """Tensors as an array of addresses, for as long as a call takes."""

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        self._kept = [None if tensor is None else _plain(tensor) for tensor in tensors]
        addresses = [None if tensor is None else tensor.data_ptr() for tensor in self._kept]
        self.array = (ctypes.c_void_p * len(addresses))(*addresses)

    def __enter__(self) -> _pointers:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.clear()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32).contiguous()


def check_inputs(width: int) -> None:
    """Raises RuntimeUnavailable for a layer too wide for sums of 32 bits."""
    if width > MOST_INPUTS:
        raise RuntimeUnavailable(
            f"a layer has {width} inputs; its integer sums would overflow beyond {MOST_INPUTS}"
        )


DECODERS: dict[type, Callable[[Any, Library, str, int], Decoder]] = {
    RecurrentModel: NativeRecurrentDecoder,
    GPTModel: NativeGPTDecoder,
}
