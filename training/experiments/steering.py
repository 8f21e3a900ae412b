"""How should a category steer a window model: by cross-attention, adaptive layer norm, both, or not at all?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from training.experiments.runs import Row, train
from training.recipe import Recipe

WAYS: dict[str, dict[str, Any]] = {
    "none": {"categories": 0},
    "cross-attention": {"categories": 1, "steering": "query", "adaptive": False},
    "cross-attention both ways": {"categories": 1, "steering": "both", "adaptive": False},
    "adaptive norm": {"categories": 1, "steering": "none", "adaptive": True},
    "both": {"categories": 1, "steering": "both", "adaptive": True},
}
SHAPE: dict[str, Any] = {
    "architecture": "window",
    "window": 16,
    "embedding": 48,
    "attention": 1,
    "heads": 4,
    "layers": 2,
    "hidden": 192,
    "skip": True,
    "dropout": 0.1,
}


def steering(recipe: Recipe, shape: dict[str, Any] | None = None, device: str = "auto") -> list[Row]:
    """One row per way. The recipe's corpus must have categories; its model is replaced by a window model."""
    rows = []
    for name, settings in WAYS.items():
        trained = train(replace(recipe, model={**(shape or SHAPE), **settings}), device=device)
        rows.append({"steering": name, **trained.row()})
    return rows
