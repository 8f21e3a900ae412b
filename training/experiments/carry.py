"""Does a recurrent model gain from keeping its state from window to window, in training and in reading?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from training.batches import Batch, Source
from training.errors import UserError
from training.experiments.runs import Row, train
from training.prepare import byte_count, prepare, windows
from training.recipe import Recipe
from training.scoring import evaluate


@dataclass(frozen=True)
class Forgetting:
    """The same windows, each as if it were the first."""

    source: Source

    def epoch(self, number: int) -> Iterator[Batch]:
        """All batches, none of which goes on."""
        for batch in self.source.epoch(number):
            yield batch._replace(goes_on=False)

    @property
    def batches(self) -> int:
        return self.source.batches


def carry(recipe: Recipe, device: str = "auto") -> list[Row]:
    """Four rows: trained with and without a carried state, each read with and without. The recipe must be one of
    a recurrent model over a stream."""
    if recipe.model.get("architecture") != "recurrent":
        raise UserError(
            f"architecture is {recipe.model.get('architecture')!r}; only 'recurrent' carries a state"
        )
    prepared = prepare(recipe)
    part = prepared.validation
    if prepared.corpus.kind != "stream" or part is None:
        raise UserError("carrying needs running text with a held-out part; the family 'prose' has both")
    rows = []
    for carried in (True, False):
        fit = replace(recipe.fit, carry=carried)
        trained = train(replace(recipe, fit=fit), prepared, device)
        reading = windows(recipe, prepared, part, False)
        for name, source in (("carried", reading), ("cleared", Forgetting(reading))):
            total = evaluate(trained.model, source, torch.device("cpu"))
            rows.append(
                {
                    "trained": "carried" if carried else "cleared",
                    "read": name,
                    "nats_per_token": total.per_token,
                    "bits_per_byte": total.bits_per_byte(byte_count(part)),
                    "best_step": trained.fitted.best_step,
                    "seconds": round(trained.fitted.seconds, 1),
                }
            )
    return rows
