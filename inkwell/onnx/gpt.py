"""A GPT as a graph of one step: B rows of Q new tokens each. Formulas are those of `inkwell.models.gpt`.

A step has one token in each of n rows, and reading a prompt has up to `CHUNK` tokens in one row. Both are the same
graph over the same packed weights. A row's ring of keys and values has `CHUNK` places more than the window, so that
the last of Q new tokens overwrites nothing that the first of them still sees. A token at position p sees the
`window` places that end with its own, or p + 1 of them in the beginning, whatever stands in the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from inkwell.models.base import State
from inkwell.models.gpt import Block, GPTConfig, GPTModel, Norm
from inkwell.models.rotary import rotations
from inkwell.onnx.decoder import OnnxDecoder
from inkwell.onnx.graph import Graph, Shape

CHUNK = 16
"""Tokens of a prompt read in one pass: enough to read the weights seldom, few enough for a short ring."""
_ANGLES = 4096  # positions by which the table of angles grows


class OnnxGPTDecoder(OnnxDecoder):
    """Its state is `position` (rows,) and, per layer, `k0`, `v0`, … (rows, H, ring, D); with categories also `mods`
    (rows, 4 * layers * C): for each norm what it is multiplied with and what is added."""

    prefill_chunk = CHUNK

    def __init__(self, model: GPTModel, threads: int) -> None:
        config = self.config = model.config
        self._model = model
        self._caches = [f"{kind}{i}" for i in range(config.layers) for kind in "kv"]
        self._angles = _angles(0, config)
        self._places = _Places(0, 1, config)
        self._unread = torch.zeros(CHUNK, config.vocabulary)  # logits of prompts, which nobody asks for
        super().__init__(gpt_graph(model).session(threads), config.vocabulary)

    def new_state(self, rows: int) -> State:
        config = self.config
        self._reserve(rows)
        tensors = {"position": torch.zeros(rows, dtype=torch.long)}
        for name in self._caches:
            tensors[name] = torch.zeros(rows, config.heads, ring_of(config), config.head_width)
        if config.categories:
            tensors["mods"] = torch.zeros(rows, 4 * config.layers * config.width)
        return State(tensors)

    @torch.no_grad()
    def admit(self, state: State, row: int, condition: Mapping[int, float] | None) -> None:
        # Position 0 would hide old keys and values, but not what is not finite among them.
        state.clear(row)
        if self.config.categories:
            weights = torch.zeros(self.config.categories)
            for index, weight in (condition or {0: 1.0}).items():
                weights[index] = weight
            mods = self._model.modulations((weights @ self._model.category.weight)[None])[0]
            mods[:, 0::2] += 1
            state.tensors["mods"][row] = mods.flatten()

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State) -> Tensor:
        position = state.tensors["position"]
        n = self._take(tokens, position.shape[0])
        position = position[:n]
        self._know(int(position.max()))
        self._places.fill(position[:, None])
        self._session.run(self._binding(state, n))
        position.add_(1)
        return self._logits[:n]

    @torch.no_grad()
    def prefill(self, tokens: Sequence[int], state: State, row: int) -> None:
        position, count = state.tensors["position"], len(tokens)
        if not 0 <= row < position.shape[0]:
            raise IndexError(f"row {row} of a state of {position.shape[0]} rows")
        if not 0 < count <= CHUNK:
            raise ValueError(f"{count} tokens; prefill takes 1 to {CHUNK} at a time")
        self._take(torch.tensor(tokens, dtype=torch.long), CHUNK)
        start = int(position[row])
        positions = torch.arange(start, start + count)[None]
        self._know(start + count)
        places = _Places(1, count, self.config)
        places.fill(positions)
        inputs, outputs = self._bound_parts(state, slice(row, row + 1), positions, places)
        binding = self._session.bind(
            {"tokens": self._tokens[:count], **inputs}, {"logits": self._unread[:count], **outputs}
        )
        self._session.run(binding)
        position[row] += count

    def _reserve(self, rows: int) -> None:
        super()._reserve(rows)
        if rows > len(self._places.flat):
            self._places = _Places(rows, 1, self.config)
            self._bindings.clear()

    def _know(self, position: int) -> None:
        """Have the angles of all positions up to this one. They come in blocks, so that a position's have the
        same bits whoever asked first."""
        while position >= len(self._angles[0]):
            first = len(self._angles[0])
            more = _angles(first, self.config)
            self._angles = (torch.cat((self._angles[0], more[0])), torch.cat((self._angles[1], more[1])))
            self._bindings.clear()

    def _parts(self, state: State, rows: int) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        positions = state.tensors["position"][:rows, None]
        return self._bound_parts(state, slice(0, rows), positions, self._places)

    def _bound_parts(
        self, state: State, rows: slice, positions: Tensor, places: _Places
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        caches = {name: state.tensors[name][rows].view(-1, self.config.head_width) for name in self._caches}
        inputs = {
            "positions": positions,
            "places": places.flat[: len(positions)],
            "cosines": self._angles[0],
            "sines": self._angles[1],
            **caches,
        }
        if self.config.categories:
            inputs["mods"] = state.tensors["mods"][rows]
        return inputs, {f"new_{name}": cache for name, cache in caches.items()}


def ring_of(config: GPTConfig) -> int:
    """Places that a row's keys and values have."""
    return config.window + CHUNK


def _angles(first: int, config: GPTConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines (P, D/2) of a block of positions. Queries and keys both get the fourth root of what their
    product is divided by, since ONNX Runtime is much faster at a product without a factor."""
    cos, sin = rotations(torch.arange(first, first + _ANGLES), config.head_width)
    factor = config.head_width**-0.25
    return cos * factor, sin * factor


class _Places:
    """Where Q new keys or values of each row go in the memory of a layer, seen as (rows·H·ring, D)."""

    def __init__(self, rows: int, length: int, config: GPTConfig) -> None:
        self._ring = ring_of(config)
        self._first = self._ring * torch.arange(rows * config.heads).view(rows, config.heads, 1, 1)
        self.flat = self._first.repeat(1, 1, length, 1)

    def fill(self, positions: Tensor) -> None:
        """For tokens at these positions (n, Q)."""
        n = len(positions)
        torch.add(self._first[:n], (positions % self._ring)[:, None, :, None], out=self.flat[:n])


@torch.no_grad()
def gpt_graph(model: GPTModel) -> Graph:
    """tokens (B·Q,), positions (B, Q), places (B, H, Q, 1), cosines and sines (P, D/2), k0, v0 (B·H·ring, D), …,
    mods (B, 4·layers·C) → new_k0, new_v0, …, logits (B·Q, V)."""
    config, graph = model.config, Graph()
    tokens = graph.input("tokens", ["M"], torch.long)
    positions = graph.input("positions", ["B", "Q"], torch.long)
    graph.input("places", ["B", config.heads, "Q", 1], torch.long)
    for name in ("cosines", "sines"):
        graph.input(name, ["P", config.head_width // 2])
    mods = [("", "")] * (2 * config.layers)
    if config.categories:
        width = 4 * config.layers * config.width
        parts = graph.split(
            graph.input("mods", ["B", width]), [config.width] * (4 * config.layers), axis=1
        )  # each (B, C), which fits (M, C): with several tokens there is one row
        mods = list(zip(parts[0::2], parts[1::2], strict=True))
    shapes = _Shapes(graph, positions, config)
    hidden = _hidden(graph, positions, config)
    x = graph.add("Gather", graph.weight(model.embedding.weight), tokens)
    for index, item in enumerate(model.blocks):
        block = cast(Block, item)
        y = _attention(
            graph, block, _norm(graph, block.norm_attention, x, mods[2 * index]), index, shapes, hidden
        )
        x = graph.add("Add", x, y)
        y = graph.linear(
            _norm(graph, block.norm_feed, x, mods[2 * index + 1]),
            block.up.weight,
            graph.weight(block.up.bias),
        )
        y = (
            graph.add("Gelu", y)
            if config.activation == "gelu"
            else graph.add("Mul", y, graph.add("Sigmoid", y))
        )
        x = graph.add("Add", x, graph.linear(y, block.down.weight, graph.weight(block.down.bias)))
    logits = graph.output("logits", ["M", config.vocabulary])
    graph.linear(_norm(graph, model.norm, x, ("", "")), model.head.weight, into=logits)
    return graph


class _Shapes:
    """Shapes with the sizes B and Q of a call in them."""

    def __init__(self, graph: Graph, positions: str, config: GPTConfig) -> None:
        own = graph.add("Shape", positions)

        def of(*sizes: int) -> str:
            return graph.add("Concat", own, graph.sizes(*sizes), axis=0)

        self.turned = of(2 * config.width)
        self.both = of(2 * config.heads, config.head_width)
        self.one = of(config.heads, config.head_width)
        self.flat = graph.sizes(-1, config.width)
        self.cache = graph.sizes(-1, config.heads, ring_of(config), config.head_width)


def _hidden(graph: Graph, positions: str, config: GPTConfig) -> str:
    """What is added to scores, (B, 1, Q, ring): 0 where a token sees a place, else minus infinity."""
    ring = ring_of(config)

    def number(value: float) -> str:
        return graph.constant(torch.tensor(value, dtype=torch.float32))

    def column(value: str) -> str:
        return graph.add("Cast", graph.add("Unsqueeze", value, graph.sizes(1, 3)), to=1)

    place = column(graph.add("Mod", positions, graph.sizes(ring)))
    limit = column(graph.add("Min", positions, graph.sizes(config.window - 1)))
    places = graph.constant(torch.arange(ring, dtype=torch.float32))
    back = graph.add("Sub", place, places)
    wrapped = graph.add("Add", back, number(ring))
    back = graph.add("Where", graph.add("Less", back, number(0.0)), wrapped, back)
    return graph.add("Where", graph.add("LessOrEqual", back, limit), number(0.0), number(-math.inf))


def _norm(graph: Graph, norm: Norm, x: str, mod: tuple[str, str]) -> str:
    x = graph.add("LayerNormalization", x, graph.weight(norm.weight), graph.weight(norm.bias), epsilon=1e-5)
    factor, shift = mod
    return graph.add("Add", graph.add("Mul", x, factor), shift) if factor else x


def _attention(graph: Graph, block: Block, x: str, index: int, shapes: _Shapes, hidden: str) -> str:
    config = block.config
    heads = config.heads
    cache: Shape = ["R", config.head_width]
    qkv = graph.linear(x, block.qkv.weight, graph.weight(block.qkv.bias))
    both, value = graph.split(qkv, (2 * config.width, config.width), axis=1)
    both = graph.add("Reshape", both, shapes.turned)
    both = graph.add("com.microsoft:RotaryEmbedding", both, "positions", "cosines", "sines")
    both = graph.add("Transpose", graph.add("Reshape", both, shapes.both), perm=(0, 2, 1, 3))
    query, key = graph.split(both, (heads, heads), axis=1)  # each (B, H, Q, D)
    value = graph.add("Transpose", graph.add("Reshape", value, shapes.one), perm=(0, 2, 1, 3))
    kept = []
    for name, new in ((f"k{index}", key), (f"v{index}", value)):
        old, out = graph.input(name, cache), graph.output(f"new_{name}", cache)
        kept.append(graph.add("Reshape", graph.add("ScatterND", old, "places", new, into=out), shapes.cache))
    keys, values = kept
    scores = graph.add("com.microsoft:FusedMatMul", query, keys, transB=1)
    weights = graph.add("Softmax", graph.add("Add", scores, hidden), axis=-1)
    found = graph.add("Transpose", graph.add("MatMul", weights, values), perm=(0, 2, 1, 3))
    return graph.linear(
        graph.add("Reshape", found, shapes.flat), block.proj.weight, graph.weight(block.proj.bias)
    )
