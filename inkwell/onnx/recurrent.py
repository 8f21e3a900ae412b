"""RNN, GRU and LSTM as a graph of one step. Formulas are torch's, as in `inkwell.models.recurrent`.

The cells are written out instead of using ONNX's own, which read a sequence and want their states in another
shape: written out, a step changes the state's own memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from inkwell.models.base import State
from inkwell.models.recurrent import RecurrentModel
from inkwell.onnx.decoder import OnnxDecoder
from inkwell.onnx.graph import Graph

_Cell = Callable[[Graph, nn.Module, str, int, int], str]


class OnnxRecurrentDecoder(OnnxDecoder):
    """Its state is that of torch's decoder: `h0`, `h1`, … and for an LSTM `c0`, `c1`, …, each (rows, H)."""

    def __init__(self, model: RecurrentModel, threads: int) -> None:
        config = self.config = model.config
        self._names = [f"h{i}" for i in range(config.layers)]
        if config.cell == "lstm":
            self._names += [f"c{i}" for i in range(config.layers)]
        super().__init__(recurrent_graph(model).session(threads), config.vocabulary)

    def new_state(self, rows: int) -> State:
        self._reserve(rows)
        return State({name: torch.zeros(rows, self.config.hidden) for name in self._names})

    def step(self, tokens: Tensor, state: State) -> Tensor:
        n = self._take(tokens, state.tensors["h0"].shape[0])
        self._session.run(self._binding(state, n))
        return self._logits[:n]

    def _parts(self, state: State, rows: int) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        tensors = {name: tensor[:rows] for name, tensor in state.tensors.items()}
        return tensors, {f"new_{name}": tensor for name, tensor in tensors.items()}


@torch.no_grad()
def recurrent_graph(model: RecurrentModel) -> Graph:
    """tokens (n,), h0 (n, H), … → new_h0 (n, H), …, logits (n, V).

    The first layer's input product is a table looked up by token. An RNN's and an LSTM's gates are sums, so each
    product begins with what there is already in place of a bias.
    """
    config, graph = model.config, Graph()
    cell: _Cell = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}[config.cell]
    tokens = graph.input("tokens", ["n"], torch.long)
    first = model.layers[0]
    table = cast(Tensor, first.weight_ih_l0).t()
    if model.embedding is not None:
        table = model.embedding.weight @ table
    x = graph.add("Gather", graph.weight(table + _input_bias(first, config.cell)), tokens)
    for index, layer in enumerate(model.layers):
        if index:
            bias = graph.weight(_input_bias(layer, config.cell))
            x = graph.linear(x, cast(Tensor, layer.weight_ih_l0), bias)
        x = cell(graph, layer, x, index, config.hidden)
    logits = graph.output("logits", ["n", config.vocabulary])
    graph.linear(x, model.head.weight, graph.weight(model.head.bias), into=logits)
    return graph


def _input_bias(layer: nn.Module, cell: str) -> Tensor:
    """A GRU's reset gate weighs the second bias, which therefore stays with its own product."""
    bias = cast(Tensor, layer.bias_ih_l0)
    return bias if cell == "gru" else bias + cast(Tensor, layer.bias_hh_l0)


def _states(graph: Graph, name: str, size: int) -> tuple[str, str]:
    return graph.input(name, ["n", size]), graph.output(f"new_{name}", ["n", size])


def _rnn(graph: Graph, layer: nn.Module, inputs: str, index: int, size: int) -> str:
    hidden, new = _states(graph, f"h{index}", size)
    return graph.add("Tanh", graph.linear(hidden, cast(Tensor, layer.weight_hh_l0), inputs), into=new)


def _gru(graph: Graph, layer: nn.Module, inputs: str, index: int, size: int) -> str:
    hidden, new = _states(graph, f"h{index}", size)
    bias = graph.weight(cast(Tensor, layer.bias_hh_l0))
    recurrent = graph.linear(hidden, cast(Tensor, layer.weight_hh_l0), bias)
    gates_x, candidate_x = graph.split(inputs, (2 * size, size), axis=1)
    gates_h, candidate_h = graph.split(recurrent, (2 * size, size), axis=1)
    gates = graph.add("Sigmoid", graph.add("Add", gates_x, gates_h))
    reset, update = graph.split(gates, (size, size), axis=1)
    candidate = graph.add("Tanh", graph.add("Add", candidate_x, graph.add("Mul", reset, candidate_h)))
    kept = graph.add("Mul", update, graph.add("Sub", hidden, candidate))
    return graph.add("Add", candidate, kept, into=new)


def _lstm(graph: Graph, layer: nn.Module, inputs: str, index: int, size: int) -> str:
    hidden, new = _states(graph, f"h{index}", size)
    cell, new_cell = _states(graph, f"c{index}", size)
    gates = graph.linear(hidden, cast(Tensor, layer.weight_hh_l0), inputs)
    opened, candidate, shown = graph.split(gates, (2 * size, size, size), axis=1)
    taken, kept = graph.split(graph.add("Sigmoid", opened), (size, size), axis=1)
    written = graph.add("Mul", taken, graph.add("Tanh", candidate))
    cell = graph.add("Add", graph.add("Mul", kept, cell), written, into=new_cell)
    return graph.add("Mul", graph.add("Sigmoid", shown), graph.add("Tanh", cell), into=new)
