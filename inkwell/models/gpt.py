"""The GPT family: pre-norm transformer with rotary positions and a sliding window of attention.

Positions are relative (Su et al. 2021) and every layer sees the last `window` tokens, in training as in
generation. A text may therefore grow without end: the key/value cache is a ring of `window` entries per row,
and nothing unseen in training happens when it wraps.

A category, where a model has them, steers every block through adaptive layer norm (Peebles and Xie 2023):
scale and shift computed from the category's vector, zero at the start of training. Category 0 is "unknown":
training drops categories to it at random, so one model generates with and without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkwell.config import check
from inkwell.linear import RowLinear, row_sigmoid
from inkwell.models.base import Decoder, LanguageModel, Output, State, loss_of
from inkwell.models.rotary import rotate, rotated_heads, rotations

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "swish": F.silu}
_ROW_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "swish": lambda x: x * row_sigmoid(x),
}


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a GPT."""

    vocabulary: int
    layers: int = 4
    heads: int = 4
    width: int = 128
    window: int = 128
    rate: int = 4  # feed-forward width as a multiple of `width`
    activation: Literal["gelu", "swish"] = "gelu"
    dropout: float = 0.0
    tied: bool = True
    categories: int = 0  # 0: none; else their number including "unknown"
    category_dropout: float = 0.1  # share of training rows whose category is hidden

    def __post_init__(self) -> None:
        check(self.vocabulary >= 2, "vocabulary", self.vocabulary, "2 or more")
        for name in ("layers", "heads", "width", "window", "rate"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        check(
            self.width % self.heads == 0 and (self.width // self.heads) % 2 == 0,
            "width",
            self.width,
            f"a multiple of 2 x heads ({2 * self.heads})",
        )
        for name in ("dropout", "category_dropout"):
            check(0.0 <= getattr(self, name) < 1.0, name, getattr(self, name), "0 or more, below 1")
        check(self.categories == 0 or self.categories >= 2, "categories", self.categories, "0, or 2 and more")

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class Norm(nn.Module):
    """Layer norm whose scale and shift may come from a condition: mod is None or a pair of (B, 1, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, mod: tuple[Tensor, Tensor] | None) -> Tensor:
        x = F.layer_norm(x, self.weight.shape, self.weight, self.bias)
        return x if mod is None else x * (1 + mod[0]) + mod[1]


class Block(nn.Module):
    """Attention and feed-forward, each on a normed copy and added back."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.norm_attention = Norm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)
        self.norm_feed = Norm(config.width)
        self.up = nn.Linear(config.width, config.rate * config.width)
        self.down = nn.Linear(config.rate * config.width, config.width)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, mods: Tensor | None
    ) -> Tensor:
        B, T, C = x.shape
        config = self.config
        mod_a = None if mods is None else (mods[:, None, 0], mods[:, None, 1])
        mod_f = None if mods is None else (mods[:, None, 2], mods[:, None, 3])
        qkv = self.qkv(self.norm_attention(x, mod_a)).view(B, T, 3, config.heads, config.head_width)
        q, k, v = rotated_heads(qkv, *rotation)  # each (B, H, T, D)
        rate = config.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate, is_causal=mask is None)
        y = y.transpose(1, 2).reshape(B, T, C)
        x = x + F.dropout(self.proj(y), config.dropout, self.training)
        hidden = _ACTIVATIONS[config.activation](self.up(self.norm_feed(x, mod_f)))
        return x + F.dropout(self.down(hidden), config.dropout, self.training)


class GPTModel(LanguageModel):
    """Token embedding → blocks → norm → logits."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = config.vocabulary
        self.context = config.window * config.layers
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.categories:
            self.category = nn.Embedding(config.categories, config.width)
            self.modulation = nn.Linear(config.width, config.layers * 4 * config.width)
        self._initialise()
        if config.tied:
            self.head.weight = self.embedding.weight

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        # residual branches start small in proportion to their number (Radford et al. 2019)
        for block in self.blocks:
            for layer in (cast(Block, block).proj, cast(Block, block).down):
                nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * self.config.layers))
        if self.config.categories:
            nn.init.normal_(self.category.weight, std=1.0)
            nn.init.zeros_(self.modulation.weight)

    def modulations(self, vectors: Tensor) -> Tensor:
        """Category vectors (B, C) → scales and shifts (B, layers, 4, C)."""
        mods: Tensor = self.modulation(vectors)
        return mods.view(-1, self.config.layers, 4, self.config.width)

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, condition: Tensor | None = None, carry: Any = None
    ) -> Output:
        B, T = ids.shape
        config = self.config
        x = F.dropout(self.embedding(ids), config.dropout, self.training)
        rotation = rotations(torch.arange(T, device=ids.device), config.head_width)
        mask = None if config.window >= T else banded(T, config.window, ids.device)
        mods = None
        if config.categories:
            if condition is None:
                condition = torch.zeros(B, dtype=torch.long, device=ids.device)
            elif self.training and config.category_dropout:
                hidden = torch.rand(B, device=ids.device) < config.category_dropout
                condition = condition.masked_fill(hidden, 0)
            mods = self.modulations(self.category(condition))
        for index, block in enumerate(self.blocks):
            x = block(x, rotation, mask, None if mods is None else mods[:, index])
        logits = self.head(self.norm(x, None))
        return Output(logits, loss_of(logits, targets), None)

    def decoder(self) -> GPTDecoder:
        return GPTDecoder(self)


def banded(length: int, window: int, device: torch.device) -> Tensor:
    """Boolean mask (T, T): token i sees tokens i − window + 1 … i."""
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (distance >= 0) & (distance < window)


class _BlockWeights:
    """One block's products packed for generation."""

    def __init__(self, block: Block) -> None:
        self.norm_attention, self.norm_feed = block.norm_attention, block.norm_feed
        self.qkv = RowLinear(block.qkv.weight, block.qkv.bias)
        self.proj = RowLinear(block.proj.weight, block.proj.bias)
        self.up = RowLinear(block.up.weight, block.up.bias)
        self.down = RowLinear(block.down.weight, block.down.bias)


class GPTDecoder(Decoder):
    """One step for n rows over a ring of `window` keys and values per row.

    Attention always spans the whole ring with unused entries masked, so that a row's sums have the same
    terms in the same order whatever the length of its neighbours.
    """

    prefill_chunk = 64

    def __init__(self, model: GPTModel) -> None:
        self.config = model.config
        self._model = model
        self._device = model.head.weight.device
        self._blocks = [_BlockWeights(cast(Block, block)) for block in model.blocks]
        self._head = RowLinear(model.head.weight)
        # Angles grow with the position; beyond this many they are computed on the spot.
        self._cos, self._sin = rotations(torch.arange(4096, device=self._device), self.config.head_width)
        self._slots = torch.arange(self.config.window, device=self._device)
        self._activate = _ROW_ACTIVATIONS[self.config.activation]

    def new_state(self, rows: int) -> State:
        config = self.config
        shape = (rows, config.heads, config.window, config.head_width)
        tensors = {"position": torch.zeros(rows, dtype=torch.long, device=self._device)}
        for i in range(config.layers):
            tensors[f"k{i}"] = torch.zeros(shape, device=self._device)
            tensors[f"v{i}"] = torch.zeros(shape, device=self._device)
        if config.categories:
            tensors["mods"] = torch.zeros(rows, config.layers, 4, config.width, device=self._device)
        return State(tensors)

    @torch.no_grad()
    def admit(self, state: State, row: int, condition: Mapping[int, float] | None) -> None:
        # Old keys and values stay where they are: position 0 masks them all.
        state.tensors["position"][row] = 0
        if self.config.categories:
            weights = torch.zeros(self.config.categories, device=self._device)
            for index, weight in (condition or {0: 1.0}).items():
                weights[index] = weight
            vector = weights @ self._model.category.weight
            state.tensors["mods"][row] = self._model.modulations(vector[None])[0]

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        if int(positions.max()) < self._cos.shape[0]:
            return self._cos[positions], self._sin[positions]
        return rotations(positions, self.config.head_width)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State) -> Tensor:
        n, config = tokens.shape[0], self.config
        positions = state.tensors["position"][:n]
        cos, sin = (part[:, None] for part in self._rotation(positions))  # (n, 1, D/2)
        ring = positions % config.window
        rows = torch.arange(n, device=self._device)
        visible = (self._slots <= positions[:, None])[:, None, None, :]  # (n, 1, 1, W)
        mods = state.tensors["mods"][:n] if config.categories else None
        x = self._model.embedding.weight[tokens]  # (n, C)
        for i, block in enumerate(self._blocks):
            normed = block.norm_attention(x, None if mods is None else (mods[:, i, 0], mods[:, i, 1]))
            q, k, v = (
                block.qkv(normed).view(n, 3, config.heads, config.head_width).unbind(1)
            )  # each (n, H, D)
            keys, values = state.tensors[f"k{i}"][:n], state.tensors[f"v{i}"][:n]
            keys[rows, :, ring] = rotate(k, cos, sin)
            values[rows, :, ring] = v
            y = self._attend(rotate(q, cos, sin)[:, :, None], keys, values, visible)  # (n, H, 1, D)
            x = x + block.proj(y.reshape(n, config.width))
            normed = block.norm_feed(x, None if mods is None else (mods[:, i, 2], mods[:, i, 3]))
            x = x + block.down(self._activate(block.up(normed)))
        positions.add_(1)
        return self._head(self._model.norm(x, None))

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
        """q (…, Q, D) over keys and values (…, W, D), visible broadcastable to (…, Q, W)."""
        scores = (q @ keys.transpose(-1, -2)) * (1.0 / math.sqrt(self.config.head_width))
        return scores.masked_fill(~visible, float("-inf")).softmax(-1) @ values

    @torch.no_grad()
    def prefill(self, tokens: Sequence[int], state: State, row: int) -> None:
        """One pass over up to `prefill_chunk` tokens of one row, whose company cannot matter here."""
        config, T = self.config, len(tokens)
        start = int(state.tensors["position"][row])
        positions = torch.arange(start, start + T, device=self._device)
        cos, sin = self._rotation(positions)
        # The ring as it was, then the new keys: each new token sees what is at most `window` - 1 behind it.
        past = min(start, config.window)
        past_positions = torch.arange(start - past, start, device=self._device)
        past_ring = past_positions % config.window
        distance = positions[:, None] - torch.cat((past_positions, positions))
        visible = (distance >= 0) & (distance < config.window)
        # Of the new keys only the last `window` stay.
        keep = slice(max(0, T - config.window), T)
        ring = positions[keep] % config.window
        mods = state.tensors["mods"][row] if config.categories else None
        x = self._model.embedding.weight[torch.tensor(tokens, device=self._device)]  # (T, C)
        for i, block in enumerate(self._blocks):
            normed = block.norm_attention(x, None if mods is None else (mods[i, 0], mods[i, 1]))
            qkv = block.qkv(normed).view(T, 3, config.heads, config.head_width)
            q, k, v = qkv.permute(1, 2, 0, 3)  # each (H, T, D)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            keys, values = state.tensors[f"k{i}"][row], state.tensors[f"v{i}"][row]  # (H, W, D)
            all_keys = torch.cat((keys[:, past_ring], k), dim=1)
            all_values = torch.cat((values[:, past_ring], v), dim=1)
            y = self._attend(q, all_keys, all_values, visible)  # (H, T, D)
            keys[:, ring], values[:, ring] = k[:, keep], v[:, keep]
            x = x + block.proj(y.transpose(0, 1).reshape(T, config.width))
            normed = block.norm_feed(x, None if mods is None else (mods[i, 2], mods[i, 3]))
            x = x + block.down(self._activate(block.up(normed)))
        state.tensors["position"][row] += T
