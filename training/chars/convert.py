"""Weights between the hand-written RNN and `RecurrentModel`, which serves them."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from inkwell.models import LanguageModel
from inkwell.models.recurrent import RecurrentModel
from training.chars.rnn import Array, Shape, Weights
from training.errors import UserError


def check_model(model: LanguageModel) -> RecurrentModel:
    """The model, if it is what NumPy trains: one tanh layer over one-hot input, without dropout. UserError
    names the setting otherwise."""
    if not isinstance(model, RecurrentModel):
        raise UserError(f"trainer 'numpy' trains architecture 'recurrent' only, not {type(model).__name__}")
    wanted = {"cell": "rnn", "layers": 1, "embedding": 0}
    wanted |= {"dropout": 0.0, "dropout_input": 0.0, "weight_drop": 0.0, "tied": False}
    for name, value in wanted.items():
        found = getattr(model.config, name)
        if found != value:
            raise UserError(f"model.{name} is {found!r}; trainer 'numpy' allows {value!r} only")
    return model


def from_torch(model: RecurrentModel) -> Weights:
    """A copy of the model's weights. torch has two biases where one is enough; b is their sum."""
    layer, head = model.layers[0], model.head
    dtype = head.weight.detach().numpy().dtype
    weights = Weights.zeros(Shape(model.config.vocabulary, model.config.hidden), dtype)
    weights.U[:] = _array(layer.weight_ih_l0).T
    weights.W[:] = _array(layer.weight_hh_l0)
    weights.b[:] = _array(layer.bias_ih_l0) + _array(layer.bias_hh_l0)
    weights.V[:] = _array(head.weight)
    weights.c[:] = _array(head.bias)
    return weights


@torch.no_grad()
def into_torch(weights: Weights, model: RecurrentModel) -> None:
    """Copy `weights` into the model; its second bias becomes zero."""
    layer = model.layers[0]
    pairs = (
        (layer.weight_ih_l0, weights.U.T),
        (layer.weight_hh_l0, weights.W),
        (layer.bias_ih_l0, weights.b),
        (layer.bias_hh_l0, np.zeros_like(weights.b)),
        (model.head.weight, weights.V),
        (model.head.bias, weights.c),
    )
    for parameter, value in pairs:
        cast(Tensor, parameter).copy_(torch.from_numpy(np.ascontiguousarray(value)))


def _array(parameter: object) -> Array:
    return cast(Tensor, parameter).detach().numpy()
