"""The window family: a fixed number of past tokens, flattened, predicts the next one.

From a plain multilayer perceptron (Bengio et al. 2003) to attention over the window steered by a category.
Windows reach over the beginning of a text into padding, which is the end mark's id: the first prediction sees
nothing but it, in training as in generation.

All positions of a row are trained at once. Padding is only ever input; what counts as a target is for
`targets` to say, so that a model cannot learn to predict it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkwell.config import check
from inkwell.linear import RowLinear
from inkwell.models.base import IGNORE, Decoder, LanguageModel, Output, State, loss_of

Product = Callable[[nn.Linear, Tensor], Tensor]
Normalise = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class WindowConfig:
    """Shape of a window model."""

    vocabulary: int
    window: int = 16
    embedding: int = 32
    width: int = 0  # of the sequence under attention; 0: that of the embedding
    attention: int = 0  # self-attention blocks before the window is flattened
    heads: int = 4
    layers: int = 1  # hidden layers after it is flattened
    hidden: int = 128
    norm: Literal["none", "layer", "batch"] = "layer"
    skip: bool = False  # add what goes into a block to what comes out, where the widths agree
    dropout: float = 0.0
    categories: int = 0  # 0: none; else their number including "unknown"
    steering: Literal["query", "both", "none"] = "query"  # cross-attention between category and window
    slots: int = 4  # keys that a category offers to the window under "both"
    adaptive: bool = False  # the window first passes a layer norm whose scale and shift the category sets
    category_width: int = 32
    category_dropout: float = 0.1  # share of training rows whose category is hidden

    def __post_init__(self) -> None:
        check(self.vocabulary >= 2, "vocabulary", self.vocabulary, "2 or more")
        for name in ("window", "embedding", "heads", "layers", "hidden", "slots", "category_width"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("width", "attention"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("dropout", "category_dropout"):
            check(0.0 <= getattr(self, name) < 1.0, name, getattr(self, name), "0 or more, below 1")
        check(self.categories == 0 or self.categories >= 2, "categories", self.categories, "0, or 2 and more")
        check(
            not self.attends or self.channels % self.heads == 0,
            "heads",
            self.heads,
            f"a divisor of the sequence's width ({self.channels})",
        )
        check(
            self.categories == 0 or self.adaptive or self.steering != "none",
            "steering",
            self.steering,
            "'query' or 'both', or set adaptive, for a model with categories",
        )

    @property
    def channels(self) -> int:
        """Width of one token of the window where it is flattened."""
        return self.width or self.embedding

    @property
    def crosses(self) -> bool:
        return bool(self.categories) and self.steering != "none"

    @property
    def attends(self) -> bool:
        return self.attention > 0 or self.crosses


class BatchNorm(nn.Module):
    """Batch norm over rows that count. Its running mean and variance are parameters without a gradient, so
    that averages, checkpoints and bundles keep them like everything else."""

    momentum = 0.05

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.running_mean = nn.Parameter(torch.zeros(width), requires_grad=False)
        self.running_variance = nn.Parameter(torch.ones(width), requires_grad=False)

    def forward(self, x: Tensor, counted: Tensor | None) -> Tensor:
        """x (…, C), counted (…) boolean or None for all."""
        if not self.training:
            scale, shift = self.folded()
            return x * scale + shift
        rows = (x.flatten(0, -2) if counted is None else x[counted]).float()
        variance, mean = torch.var_mean(rows, dim=0, unbiased=False)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_variance.lerp_(variance, self.momentum)
        return (x - mean) * torch.rsqrt(variance + 1e-5) * self.weight + self.bias

    def folded(self) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) that the layer comes to outside training."""
        scale = self.weight * torch.rsqrt(self.running_variance + 1e-5)
        return scale, self.bias - self.running_mean * scale


class SelfAttention(nn.Module):
    """Every token of a window looks at all of them."""

    def __init__(self, config: WindowConfig) -> None:
        super().__init__()
        C = config.channels
        self.norm = nn.LayerNorm(C)
        self.qkv = nn.Linear(C, 3 * C, bias=False)
        self.proj = nn.Linear(C, C)


class Crossing(nn.Module):
    """Attention between a category and a window, in one direction or both."""

    def __init__(self, config: WindowConfig) -> None:
        super().__init__()
        C, D = config.channels, config.category_width
        self.norm = nn.LayerNorm(C)
        self.query = nn.Linear(D, C, bias=False)
        self.window = nn.Linear(C, 2 * C, bias=False)
        self.proj = nn.Linear(C, C)
        self.back = config.steering == "both"
        if self.back:
            # With a single key a softmax is always 1 and looks at nothing; a category therefore offers several.
            self.back_norm = nn.LayerNorm(C)
            self.back_query = nn.Linear(C, C, bias=False)
            self.back_slots = nn.Linear(D, 2 * config.slots * C)
            self.back_proj = nn.Linear(C, C)


class Hidden(nn.Module):
    """Linear, norm, dropout, tanh."""

    def __init__(self, inputs: int, config: WindowConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, config.hidden, bias=config.norm == "none")
        kinds: dict[str, Callable[[int], nn.Module]] = {"layer": nn.LayerNorm, "batch": BatchNorm}
        self.norm = kinds[config.norm](config.hidden) if config.norm != "none" else None
        self.activation = nn.Tanh()
        self.skips = config.skip and inputs == config.hidden


class Steering(NamedTuple):
    """What a category comes to, one row each: None where a model has no use for it.

    modulation (N, 2, C); query (N, H, 1, D); keys and values (N, H, slots, D)."""

    modulation: Tensor | None = None
    query: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None

    def repeated(self, times: int) -> Steering:
        """Every row `times` times in a row."""
        return Steering(*(None if part is None else part.repeat_interleave(times, 0) for part in self))


class WindowModel(LanguageModel):
    """Token and position embeddings → (category) → attention → flatten → hidden layers → logits."""

    def __init__(self, config: WindowConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = config.vocabulary
        self.context = config.window
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        self.widen = nn.Linear(config.embedding, config.width) if config.width else None
        # A flattened window knows its places; attention before that needs to be told.
        self.places = nn.Parameter(torch.zeros(config.window, config.channels)) if config.attends else None
        if config.categories:
            self.category = nn.Embedding(config.categories, config.category_width)
        self.modulation = (
            nn.Linear(config.category_width, 2 * config.channels)
            if config.categories and config.adaptive
            else None
        )
        self.crossing = Crossing(config) if config.crosses else None
        self.attention = nn.ModuleList(SelfAttention(config) for _ in range(config.attention))
        sizes = [config.window * config.channels, *([config.hidden] * (config.layers - 1))]
        self.layers = nn.ModuleList(Hidden(size, config) for size in sizes)
        self.head = nn.Linear(config.hidden, config.vocabulary)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layer in self.layers:
            # tanh flattens what passes it; this gain keeps the spread the same from layer to layer
            weight = cast(Hidden, layer).linear.weight
            nn.init.normal_(weight, std=5 / 3 / math.sqrt(weight.shape[1]))
        # the first predictions are even, and no category differs from another yet
        nn.init.normal_(self.head.weight, std=0.1 / math.sqrt(self.config.hidden))
        if self.places is not None:
            nn.init.normal_(self.places, std=0.1)
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, condition: Tensor | None = None, carry: Any = None
    ) -> Output:
        B, T = ids.shape
        config = self.config
        windows = F.pad(ids, (config.window - 1, 0)).unfold(1, config.window, 1)  # (B, T, W)
        steering = Steering()
        if config.categories:
            if condition is None:
                condition = torch.zeros(B, dtype=torch.long, device=ids.device)
            elif self.training and config.category_dropout:
                hidden = torch.rand(B, device=ids.device) < config.category_dropout
                condition = condition.masked_fill(hidden, 0)
            steering = self.steer(self.category(condition)).repeated(T)
        counted = None if targets is None else (targets != IGNORE).flatten()

        def normalise(norm: nn.Module, x: Tensor) -> Tensor:
            result: Tensor = norm(x, counted) if isinstance(norm, BatchNorm) else norm(x)
            return result

        logits = self.predict(windows.reshape(B * T, -1), steering, lambda layer, x: layer(x), normalise)
        logits = logits.view(B, T, -1)
        return Output(logits, loss_of(logits, targets), None)

    def steer(self, vectors: Tensor) -> Steering:
        """Category vectors (N, category_width) → what the layers need of them."""
        config, N = self.config, vectors.shape[0]
        modulation = None if self.modulation is None else self.modulation(vectors).view(N, 2, config.channels)
        if self.crossing is None:
            return Steering(modulation)
        query = _heads(self.crossing.query(vectors)[:, None], config.heads)
        if not self.crossing.back:
            return Steering(modulation, query)
        offered = self.crossing.back_slots(vectors).view(N, config.slots, 2 * config.channels)
        keys, values = (_heads(part, config.heads) for part in offered.chunk(2, -1))
        return Steering(modulation, query, keys, values)

    def predict(self, windows: Tensor, steering: Steering, product: Product, normalise: Normalise) -> Tensor:
        """Windows (N, W) int64 → logits (N, V). `product` and `normalise` carry out linear layers and the norms
        after them, which generation does in its own way."""
        config = self.config
        x = self.embedding(windows)  # (N, W, E)
        if self.widen is not None:
            x = product(self.widen, x)
        if self.places is not None:
            x = x + self.places
        if steering.modulation is not None:
            scale, shift = steering.modulation[:, None].unbind(2)  # (N, 1, C)
            x = F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
        if self.crossing is not None:
            x = self._cross(self.crossing, x, steering, product)
        for block in self.attention:
            block = cast(SelfAttention, block)
            q, k, v = (_heads(part, config.heads) for part in product(block.qkv, block.norm(x)).chunk(3, -1))
            y = self._drop(product(block.proj, _merged(_attend(q, k, v))))
            x = x + y if config.skip else y
        x = x.flatten(1)
        for layer in self.layers:
            layer = cast(Hidden, layer)
            y = product(layer.linear, x)
            if layer.norm is not None:
                y = normalise(layer.norm, y)
            y = layer.activation(self._drop(y))
            x = x + y if layer.skips else y
        return product(self.head, x)

    def _cross(self, crossing: Crossing, x: Tensor, steering: Steering, product: Product) -> Tensor:
        heads = self.config.heads
        keys, values = (
            _heads(part, heads) for part in product(crossing.window, crossing.norm(x)).chunk(2, -1)
        )
        found = _merged(_attend(cast(Tensor, steering.query), keys, values))  # (N, 1, C)
        # What the category found goes to every token: in the place of the tokens it would be all that is left.
        x = x + self._drop(product(crossing.proj, found))
        if crossing.back:
            queries = _heads(product(crossing.back_query, crossing.back_norm(x)), heads)
            y = _attend(queries, cast(Tensor, steering.keys), cast(Tensor, steering.values))
            x = x + self._drop(product(crossing.back_proj, _merged(y)))
        return x

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)

    def decoder(self) -> WindowDecoder:
        return WindowDecoder(self)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(N, T, C) → (N, H, T, C/H)

    Copied, because torch takes another product for one row of a transposed view than for several.
    """
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2).contiguous()


def _merged(x: Tensor) -> Tensor:
    """(N, H, T, D) → (N, T, H·D)"""
    return x.transpose(1, 2).flatten(2)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of (N, H, Q, D) over (N, H, K, D), scores scaled by a head's width."""
    scores = (q @ k.transpose(-1, -2)) * (1.0 / math.sqrt(q.shape[-1]))
    return scores.softmax(-1) @ v


class WindowDecoder(Decoder):
    """One step for n rows: a row's state is its last `window` ids and what its category comes to.

    Batch norms are folded into the products before them.
    """

    prefill_chunk = 1024

    def __init__(self, model: WindowModel) -> None:
        self.config = model.config
        self._model = model
        self._device = model.head.weight.device
        self._products = dict(_products(model))

    def new_state(self, rows: int) -> State:
        config = self.config
        head = (rows, config.heads, 1, config.channels // config.heads) if config.attends else (rows,)
        offered = (rows, config.heads, config.slots, config.channels // config.heads)
        shapes = {
            "modulation": (rows, 2, config.channels) if self._model.modulation is not None else None,
            "query": head if config.crosses else None,
            "keys": offered if config.crosses and config.steering == "both" else None,
            "values": offered if config.crosses and config.steering == "both" else None,
        }
        tensors = {
            name: torch.zeros(shape, device=self._device)
            for name, shape in shapes.items()
            if shape is not None
        }
        ids = torch.zeros(rows, config.window, dtype=torch.long, device=self._device)
        return State({"ids": ids, **tensors})

    @torch.no_grad()
    def admit(self, state: State, row: int, condition: Mapping[int, float] | None) -> None:
        state.clear(row)
        if not self.config.categories:
            return
        weights = torch.zeros(self.config.categories, device=self._device)
        for index, weight in (condition or {0: 1.0}).items():
            weights[index] = weight
        steering = self._model.steer((weights @ self._model.category.weight)[None])
        for name, part in steering._asdict().items():
            if part is not None:
                state.tensors[name][row] = part[0]

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State) -> Tensor:
        n = tokens.shape[0]
        ids = state.tensors["ids"][:n]
        ids.copy_(torch.cat((ids[:, 1:], tokens[:, None]), 1))
        steering = Steering(
            **{name: state.tensors[name][:n] for name in Steering._fields if name in state.tensors}
        )
        return self._model.predict(ids, steering, self._product, self._normalise)

    @torch.no_grad()
    def prefill(self, tokens: Sequence[int], state: State, row: int) -> None:
        ids = state.tensors["ids"][row]
        new = torch.tensor(list(tokens), dtype=torch.long, device=self._device)
        ids.copy_(torch.cat((ids, new))[-self.config.window :])

    def _product(self, layer: nn.Linear, x: Tensor) -> Tensor:
        result = self._products[layer](x.reshape(-1, x.shape[-1]))
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def _normalise(norm: nn.Module, x: Tensor) -> Tensor:
        if isinstance(norm, BatchNorm):
            return x
        result: Tensor = norm(x)
        return result


def _products(model: WindowModel) -> Iterator[tuple[nn.Linear, RowLinear]]:
    norms = {layer.linear: layer.norm for layer in cast(list[Hidden], list(model.layers))}
    for module in model.modules():
        if not isinstance(module, nn.Linear):
            continue
        norm = norms.get(module)
        if isinstance(norm, BatchNorm):
            scale, shift = norm.folded()
            yield module, RowLinear(module.weight * scale[:, None], shift)
        else:
            yield module, RowLinear(module.weight, module.bias)
