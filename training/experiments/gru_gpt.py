"""A GRU against a GPT of the same size over the same text and steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from inkwell.models import build_model
from training.errors import UserError
from training.experiments.runs import Row, train
from training.prepare import model_values, prepare
from training.recipe import Recipe


def gru_gpt(
    recipe: Recipe, layers: int = 4, heads: int = 4, rates: Sequence[float] = (), device: str = "auto"
) -> list[Row]:
    """One row per model and learning rate (the recipe's own when none is given): the two families do not learn
    best at the same one. The recipe must be one of a recurrent model; the GPT gets the width that comes nearest
    to its number of parameters, and a window as long as the recipe's."""
    if recipe.model.get("architecture") != "recurrent":
        raise UserError(
            f"architecture is {recipe.model.get('architecture')!r}; start from a 'recurrent' recipe"
        )
    prepared = prepare(recipe)
    wanted = _size({**model_values(recipe, prepared)})
    shape: dict[str, Any] = {
        "architecture": "gpt",
        "layers": layers,
        "heads": heads,
        "window": recipe.fit.length,
        "dropout": float(recipe.model.get("dropout", 0.0)) / 2,
    }
    shape["width"] = nearest_width(shape, prepared.tokenizer.size, wanted)
    rows = []
    for name, model in ((str(recipe.model.get("cell", "lstm")), recipe.model), ("gpt", shape)):
        for rate in rates or (recipe.fit.rate,):
            fit = replace(recipe.fit, rate=rate, carry=name != "gpt" and recipe.fit.carry)
            trained = train(replace(recipe, model=model, fit=fit), prepared, device)
            rows.append({"model": name, "rate": rate, **trained.row()})
    return rows


def nearest_width(shape: dict[str, Any], vocabulary: int, wanted: int) -> int:
    """The width, a multiple of twice the heads, whose GPT comes nearest to `wanted` parameters."""
    step = 2 * int(shape["heads"])

    def size(width: int) -> int:
        return _size({**shape, "width": width, "vocabulary": vocabulary})

    width = step
    while size(width) < wanted:
        width += step
    return min(
        (candidate for candidate in (width - step, width) if candidate > 0),
        key=lambda w: abs(size(w) - wanted),
    )


def _size(values: dict[str, Any]) -> int:
    with torch.device("meta"):  # shapes only
        return build_model(values).parameter_count()
