"""What the C++ core should compute, said plainly: weights and rows rounded to int8, everything else in float32."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from inkwell.models.gpt import GPTModel
from inkwell.models.recurrent import RecurrentModel
from inkwell.models.rotary import rotate, rotations


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as whole numbers from -127 to 127 and their scales."""
    peak = x.abs().amax(-1, keepdim=True)
    factor = torch.where(peak > 0, 127 / peak, torch.zeros(()))
    return (x * factor).round(), peak / 127


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    (codes, scales), (weights, steps) = rounded(x), rounded(weight)
    sums = codes.double() @ weights.double().t()
    y = (sums * scales.double() * steps.double().t()).float()
    return y if bias is None else y + bias


@torch.no_grad()
def recurrent_logits(model: RecurrentModel, ids: Tensor) -> Tensor:
    """Logits (B, T, V) for ids (B, T)."""
    config, size = model.config, model.config.hidden
    hidden = [torch.zeros(ids.shape[0], size) for _ in model.layers]
    cell = [torch.zeros(ids.shape[0], size) for _ in model.layers]
    logits = []
    for t in range(ids.shape[1]):
        x = F.one_hot(ids[:, t], config.vocabulary).float()
        if model.embedding is not None:
            x = model.embedding(ids[:, t])
        for index, layer in enumerate(model.layers):
            w: Any = layer
            # the first layer's input product is a table in float32
            inputs = (
                product(x, w.weight_ih_l0, w.bias_ih_l0)
                if index
                else F.linear(x, w.weight_ih_l0, w.bias_ih_l0)
            )
            recurrent = product(hidden[index], w.weight_hh_l0, w.bias_hh_l0)
            if config.cell == "rnn":
                hidden[index] = torch.tanh(inputs + recurrent)
            elif config.cell == "gru":
                (xr, xz, xn), (hr, hz, hn) = inputs.chunk(3, 1), recurrent.chunk(3, 1)
                new, keep = torch.tanh(xn + torch.sigmoid(xr + hr) * hn), torch.sigmoid(xz + hz)
                hidden[index] = new + keep * (hidden[index] - new)
            else:
                i, f, g, o = (inputs + recurrent).chunk(4, 1)
                cell[index] = torch.sigmoid(f) * cell[index] + torch.sigmoid(i) * torch.tanh(g)
                hidden[index] = torch.sigmoid(o) * torch.tanh(cell[index])
            x = hidden[index]
        logits.append(product(x, model.head.weight, model.head.bias))
    return torch.stack(logits, 1)


@torch.no_grad()
def gpt_logits(model: GPTModel, ids: Tensor, conditions: Tensor | None = None) -> Tensor:
    """Logits (B, T, V) for ids (B, T) and category vectors' weights (B, categories)."""
    config = model.config
    B, T = ids.shape
    mods = None if conditions is None else model.modulations(conditions @ model.category.weight)
    x = model.embedding(ids)
    cos, sin = rotations(torch.arange(T), config.head_width)
    distance = torch.arange(T)[:, None] - torch.arange(T)
    hidden = (distance < 0) | (distance >= config.window)

    def linear(layer: Any, y: Tensor) -> Tensor:
        return product(y.flatten(0, 1), layer.weight, layer.bias).view(B, T, -1)

    def norm(layer: Any, y: Tensor, index: int, part: int) -> Tensor:
        mod = None if mods is None else (mods[:, None, index, part], mods[:, None, index, part + 1])
        return layer(y, mod)

    for index, item in enumerate(model.blocks):
        block: Any = item
        qkv = linear(block.qkv, norm(block.norm_attention, x, index, 0))
        q, k, v = qkv.view(B, T, 3, config.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = k.bfloat16().float(), v.bfloat16().float()
        scores = (q @ k.transpose(-1, -2)) / math.sqrt(config.head_width)
        y = scores.masked_fill(hidden, -math.inf).softmax(-1) @ v
        x = x + linear(block.proj, y.transpose(1, 2).reshape(B, T, -1))
        up = linear(block.up, norm(block.norm_feed, x, index, 2))
        x = x + linear(block.down, F.gelu(up) if config.activation == "gelu" else F.silu(up))
    return linear(model.head, model.norm(x, None))
