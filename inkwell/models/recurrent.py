"""Recurrent families: vanilla RNN, GRU and LSTM. Their state is one or two hidden vectors per layer.

Formulas are torch's (`nn.RNN`, `nn.GRU`, `nn.LSTM`), which the tests use as oracle for the stepwise decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from inkwell.config import check
from inkwell.linear import RowLinear, row_sigmoid
from inkwell.models.base import Decoder, LanguageModel, Output, State, locked_dropout, loss_of

Cell = Literal["rnn", "gru", "lstm"]
_MODULES: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
_FUNCTIONS: dict[str, Any] = {"rnn": torch.rnn_tanh, "gru": torch.gru, "lstm": torch.lstm}
_WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


@dataclass(frozen=True)
class RecurrentConfig:
    """Shape of a recurrent model. `embedding` 0 feeds one-hot vectors, as the classic char models do."""

    vocabulary: int
    cell: Cell = "lstm"
    hidden: int = 256
    layers: int = 2
    embedding: int = 0
    dropout: float = 0.0  # on each layer's output
    dropout_input: float = 0.0  # on the embedded input
    weight_drop: float = 0.0  # on hidden-to-hidden weights (Merity et al. 2017)
    locked: bool = False  # one dropout mask per sequence instead of one per step
    tied: bool = False  # output weights are the embedding; needs embedding == hidden

    def __post_init__(self) -> None:
        check(self.vocabulary >= 2, "vocabulary", self.vocabulary, "2 or more")
        check(self.hidden >= 1, "hidden", self.hidden, "1 or more")
        check(self.layers >= 1, "layers", self.layers, "1 or more")
        check(self.embedding >= 0, "embedding", self.embedding, "0 (one-hot) or more")
        for name in ("dropout", "dropout_input", "weight_drop"):
            rate = getattr(self, name)
            check(0.0 <= rate < 1.0, name, rate, "0 or more, below 1")
        check(
            not self.tied or self.embedding == self.hidden,
            "tied",
            self.tied,
            "true only when embedding equals hidden",
        )


class RecurrentModel(LanguageModel):
    """Token → (embedding) → layers of one cell kind → logits."""

    context = None

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = config.vocabulary
        self.embedding = nn.Embedding(config.vocabulary, config.embedding) if config.embedding else None
        width = config.embedding or config.vocabulary
        kind = _MODULES[config.cell]
        sizes = [width, *([config.hidden] * (config.layers - 1))]
        self.layers = nn.ModuleList(kind(size, config.hidden, batch_first=True) for size in sizes)
        self.head = nn.Linear(config.hidden, config.vocabulary)
        self._initialise()

    def _initialise(self) -> None:
        for layer in self.layers:
            for name, parameter in layer.named_parameters():
                if "weight_hh" in name:
                    for block in parameter.chunk(parameter.shape[0] // self.config.hidden):
                        nn.init.orthogonal_(block.data)
                elif "weight_ih" in name:
                    nn.init.xavier_uniform_(parameter)
                else:
                    nn.init.zeros_(parameter)
            if self.config.cell == "lstm":
                # remember by default: gates are ordered input, forget, cell, output
                cast(Tensor, layer.bias_ih_l0).data[self.config.hidden : 2 * self.config.hidden] = 1.0
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.zeros_(self.head.bias)
        if self.config.tied and self.embedding is not None:
            self.head.weight = self.embedding.weight
        else:
            nn.init.xavier_uniform_(self.head.weight)

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, condition: Tensor | None = None, carry: Any = None
    ) -> Output:
        config = self.config
        if self.embedding is not None:
            x = self.embedding(ids)
        else:
            x = nn.functional.one_hot(ids, config.vocabulary).to(self.head.weight.dtype)
        if config.locked:
            x = locked_dropout(x, config.dropout_input, self.training)
        else:
            x = nn.functional.dropout(x, config.dropout_input, self.training)
        states = []
        for index, layer in enumerate(self.layers):
            x, state = self._run_layer(layer, x, None if carry is None else carry[index])
            states.append(state)
            if config.locked:
                x = locked_dropout(x, config.dropout, self.training)
            else:
                x = nn.functional.dropout(x, config.dropout, self.training)
        logits = self.head(x)
        return Output(logits, loss_of(logits, targets), states)

    def _run_layer(self, layer: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        if not (self.training and self.config.weight_drop):
            return cast(tuple[Tensor, Any], layer(x, state))
        # The module keeps its own list of weights, so a dropped copy has to go to the function underneath.
        weights = [cast(Tensor, getattr(layer, name)) for name in _WEIGHTS]
        weights[1] = nn.functional.dropout(weights[1], self.config.weight_drop, True)
        if state is None:
            zero = x.new_zeros(1, x.shape[0], self.config.hidden)
            state = (zero, zero) if self.config.cell == "lstm" else zero
        y, *last = _FUNCTIONS[self.config.cell](x, state, weights, True, 1, 0.0, True, False, True)
        return y, tuple(last) if self.config.cell == "lstm" else last[0]

    def decoder(self) -> RecurrentDecoder:
        return RecurrentDecoder(self)


def detach_carry(carry: Any) -> Any:
    """The carried state cut off from its gradient, for truncated backpropagation through time."""
    if isinstance(carry, Tensor):
        return carry.detach()
    return type(carry)(detach_carry(part) for part in carry)


class RecurrentDecoder(Decoder):
    """One step for n rows. The first layer's input product is a table of V rows, looked up by token; each
    further layer is one product over its input and its own hidden vector side by side."""

    def __init__(self, model: RecurrentModel) -> None:
        self.config = model.config
        self._device = model.head.weight.device
        first = model.layers[0]
        with torch.no_grad():
            table = cast(Tensor, first.weight_ih_l0).t()
            if model.embedding is not None:
                table = model.embedding.weight @ table
            self._table = (table + cast(Tensor, first.bias_ih_l0)).contiguous()
            self._recurrent = [self._hidden_product(layer) for layer in model.layers]
            self._input = [
                None
                if index == 0
                else RowLinear(cast(Tensor, layer.weight_ih_l0), cast(Tensor, layer.bias_ih_l0))
                for index, layer in enumerate(model.layers)
            ]
            self._head = RowLinear(model.head.weight, model.head.bias)
        self._advance = {"rnn": self._rnn, "gru": self._gru, "lstm": self._lstm}[self.config.cell]

    @staticmethod
    def _hidden_product(layer: nn.Module) -> RowLinear:
        return RowLinear(cast(Tensor, layer.weight_hh_l0), cast(Tensor, layer.bias_hh_l0))

    def new_state(self, rows: int) -> State:
        names = [f"h{i}" for i in range(self.config.layers)]
        if self.config.cell == "lstm":
            names += [f"c{i}" for i in range(self.config.layers)]
        return State({name: torch.zeros(rows, self.config.hidden, device=self._device) for name in names})

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State) -> Tensor:
        n = tokens.shape[0]
        x = self._table[tokens]  # (n, gates · H)
        for index, product in enumerate(self._input):
            if product is not None:
                x = product(x)
            x = self._advance(index, x, state, n)  # (n, H)
        return self._head(x)

    def _rnn(self, index: int, inputs: Tensor, state: State, n: int) -> Tensor:
        hidden = state.tensors[f"h{index}"][:n]
        hidden.copy_(torch.tanh(inputs + self._recurrent[index](hidden)))
        return hidden

    def _gru(self, index: int, inputs: Tensor, state: State, n: int) -> Tensor:
        hidden = state.tensors[f"h{index}"][:n]
        recurrent = self._recurrent[index](hidden)
        size = self.config.hidden
        gates = row_sigmoid(inputs[:, : 2 * size] + recurrent[:, : 2 * size])
        reset, update = gates[:, :size], gates[:, size:]
        candidate = torch.tanh(inputs[:, 2 * size :] + reset * recurrent[:, 2 * size :])
        hidden.copy_(candidate + update * (hidden - candidate))
        return hidden

    def _lstm(self, index: int, inputs: Tensor, state: State, n: int) -> Tensor:
        hidden, cell = state.tensors[f"h{index}"][:n], state.tensors[f"c{index}"][:n]
        gates = inputs + self._recurrent[index](hidden)
        size = self.config.hidden
        opened = row_sigmoid(gates[:, : 2 * size])
        candidate = torch.tanh(gates[:, 2 * size : 3 * size])
        cell.mul_(opened[:, size:]).addcmul_(opened[:, :size], candidate)
        hidden.copy_(row_sigmoid(gates[:, 3 * size :]) * torch.tanh(cell))
        return hidden
