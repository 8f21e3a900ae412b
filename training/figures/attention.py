"""Where attention models look: one map per layer and head."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from inkwell.bundle import Bundle
from inkwell.models.gpt import Block, GPTModel, banded
from inkwell.models.rotary import rotate, rotations
from inkwell.models.window import SelfAttention, WindowModel
from training.figures.album import Album, canvas
from training.figures.inside import condition_of, labels_of, write

MOST_TOKENS = 24
_MOST_LAYERS, _MOST_HEADS = 6, 8


def attends(bundle: Bundle) -> bool:
    """Whether there is anything to draw."""
    model = bundle.model
    return isinstance(model, GPTModel) or (isinstance(model, WindowModel) and bool(len(model.attention)))


def attention_maps(bundle: Bundle, ids: list[int], category: int = 0) -> Tensor:
    """Weights (layers, heads, T, T): row i is what token i looks at, and adds up to 1. A window model gives
    its last window, in which tokens see each other in both directions."""
    model = bundle.model
    if isinstance(model, GPTModel):
        places = [cast(Block, block).qkv for block in model.blocks]
    elif isinstance(model, WindowModel):
        places = [cast(SelfAttention, block).qkv for block in model.attention]
    else:
        raise TypeError(f"{type(model).__name__} has no attention")
    kept: list[Tensor] = []
    hooks = [
        place.register_forward_hook(lambda _module, _inputs, output: kept.append(output.detach().float()))
        for place in places
    ]
    try:
        with torch.no_grad():
            model(torch.tensor([ids]), condition=condition_of(model, category))
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(model, GPTModel):
        return torch.stack([_of_block(model, qkv) for qkv in kept])
    size = min(len(ids), model.config.window)
    return torch.stack([_of_window(model, qkv[-1], size) for qkv in kept])


def _of_block(model: GPTModel, qkv: Tensor) -> Tensor:
    """(1, T, 3C) → (H, T, T)"""
    config, T = model.config, qkv.shape[1]
    q, k, _ = qkv.view(T, 3, config.heads, config.head_width).permute(1, 2, 0, 3)
    rotation = rotations(torch.arange(T), config.head_width)
    scores = rotate(q, *rotation) @ rotate(k, *rotation).transpose(-1, -2) / math.sqrt(config.head_width)
    visible = banded(T, config.window, scores.device)
    weights: Tensor = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return weights


def _of_window(model: WindowModel, qkv: Tensor, size: int) -> Tensor:
    """(W, 3C) → (H, size, size): the places that hold the text; what went to padding is left out."""
    config = model.config
    q, k, _ = qkv.view(config.window, 3, config.heads, -1).permute(1, 2, 0, 3)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights: Tensor = scores.softmax(-1)
    return weights[:, -size:, -size:]


def draw(bundle: Bundle, album: Album, seed: int, prompt: str = "") -> None:
    """attention.png, .svg, .csv"""
    ids, _, category = write(bundle, prompt, MOST_TOKENS, seed, min_new_tokens=6)
    ids = ids[:MOST_TOKENS]
    maps = attention_maps(bundle, ids, category)
    labels = labels_of(bundle, ids)[-maps.shape[-1] :]
    layers, heads = min(_MOST_LAYERS, maps.shape[0]), min(_MOST_HEADS, maps.shape[1])
    figure, axes = canvas(2.6 * heads + 0.8, 2.5 * layers + 0.7, layers, heads)
    image: Any = None
    for layer in range(layers):
        for head in range(heads):
            place = axes[layer][head]
            weights = maps[layer, head].sqrt()
            image = place.imshow(
                weights.masked_fill(weights == 0, float("nan")).numpy(),
                vmin=0.0,
                vmax=1.0,
                interpolation="nearest",
            )
            place.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=8)
            place.set_xticks(range(len(labels)), labels, fontsize=5, rotation=90)
            place.set_yticks(range(len(labels)), labels, fontsize=5)
    figure.colorbar(image, ax=axes.ravel().tolist(), label="√ weight", shrink=0.6, pad=0.01)
    figure.suptitle(f"{bundle.config.name}: what each token (row) looks at (column)")
    album.save("attention", figure)
    album.table(
        "attention",
        ["layer", "head", "from_place", "from", "to_place", "to", "weight"],
        (
            [layer + 1, head + 1, i, labels[i], j, labels[j], float(maps[layer, head, i, j])]
            for layer in range(maps.shape[0])
            for head in range(maps.shape[1])
            for i in range(len(labels))
            for j in range(len(labels))
            if maps[layer, head, i, j] > 0
        ),
    )
