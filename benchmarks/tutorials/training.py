"""Training as tutorials write it: a module of torch's own parts, AdamW, one loop.

The recurrent module is an embedding, `nn.LSTM` or `nn.GRU`, and a linear layer; the state is carried from window to
window. The transformer is a minimal nanoGPT (Karpathy 2022): learned positions, fused attention, GELU, layer norms
and linear layers without bias, tied output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Windows = Iterator[tuple[Tensor, Tensor]]
"""Ids and targets, each (B, T) int64, without end."""
RATE, CLIP = 1e-3, 1.0


class Recurrent(nn.Module):
    """Embedding → nn.LSTM or nn.GRU → linear."""

    def __init__(self, cell: str, vocabulary: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.recurrent = kind(embedding, hidden, num_layers=layers, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, state = self.recurrent(self.embedding(ids), state)
        return self.head(y), state


class Block(nn.Module):
    """Attention and feed-forward, each on a normed copy and added back."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)
        self.c_fc = nn.Linear(width, 4 * width, bias=False)
        self.c_down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        parts = self.c_attn(self.ln_1(x)).split(width, dim=2)
        q, k, v = (part.view(rows, length, self.heads, -1).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(rows, length, width))
        return x + self.c_down(F.gelu(self.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    """Token and position embedding → blocks → norm → logits."""

    def __init__(self, vocabulary: int, layers: int, heads: int, width: int, window: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(window, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        self.head.weight = self.wte.weight

    def forward(self, ids: Tensor, state: None) -> tuple[Tensor, None]:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x)), state


def detached(state: Any) -> Any:
    """A carried state without its history."""
    if state is None or isinstance(state, Tensor):
        return None if state is None else state.detach()
    return tuple(map(detached, state))


def loop(module: nn.Module, windows: Windows, steps: int, bf16: bool, compiled: bool) -> Callable[[], object]:
    """`steps` more steps each time it is called."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE)
    forward: Callable[..., Any] = torch.compile(module) if compiled else module
    state: Any = None

    def run() -> None:
        nonlocal state
        for _ in range(steps):
            ids, targets = next(windows)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                logits, state = forward(ids, state)
                loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
            state = detached(state)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), CLIP)
            optimizer.step()
            loss.item()  # who trains looks at it

    return run
