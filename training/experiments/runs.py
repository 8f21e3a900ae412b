"""What experiments share: one recipe trained without leaving anything on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from inkwell.models import LanguageModel, build_model
from training.device import pick_device
from training.errors import UserError
from training.loop import Trainer
from training.prepare import Prepared, byte_count, model_values, prepare, windows
from training.produce import measure
from training.progress import Fitted
from training.recipe import Recipe

Row = dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """A model at its best step, what it learned from, and how that went."""

    recipe: Recipe
    prepared: Prepared
    model: LanguageModel
    fitted: Fitted

    def held_out(self) -> dict[str, float]:
        """Figures of the whole held-out part: nats per token, bits per byte, tokens, bytes."""
        return measure(self.model, self.recipe, self.prepared, torch.device("cpu"))

    def row(self) -> Row:
        """The columns that every comparison of models has."""
        held = self.held_out()
        return {
            "parameters": self.model.parameter_count(),
            "nats_per_token": held["nats_per_token"],
            "bits_per_byte": held["bits_per_byte"],
            "best_step": self.fitted.best_step,
            "seconds": round(self.fitted.seconds, 1),
            "tokens_per_second": round(self.fitted.tokens / max(1e-9, self.fitted.seconds)),
        }


def train(recipe: Recipe, prepared: Prepared | None = None, device: str = "auto") -> Trained:
    """Train `recipe` by the loop that `inkwell train` uses. Raises UserError when it holds nothing out."""
    prepared = prepared or prepare(recipe)
    if prepared.validation is None:
        raise UserError("an experiment compares held-out losses; use --set split.val=0.1")
    if recipe.trainer != "torch":
        raise UserError(
            f"trainer is {recipe.trainer!r}; experiments use 'torch', as families other than chars do"
        )
    torch.manual_seed(recipe.fit.seed)
    model = build_model(model_values(recipe, prepared), "recipe.model")
    source = windows(recipe, prepared, prepared.splits.train, True)
    held = windows(recipe, prepared, prepared.validation, False)
    fitted = Trainer(model, recipe.fit, source, held, device=pick_device(device)).run()
    return Trained(recipe, prepared, model.cpu(), fitted)


def bytes_per_token(prepared: Prepared) -> float:
    """UTF-8 bytes that one token of the training text stands for."""
    tokens = sum(len(prepared.tokenizer.encode(d.text)) for d in prepared.splits.train.documents)
    return byte_count(prepared.splits.train) / max(1, tokens)
