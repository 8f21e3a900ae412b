"""The loss of a model over a whole set of windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from inkwell.models import IGNORE, LanguageModel
from training.batches import Source
from training.device import autocast


@dataclass(frozen=True)
class Total:
    """Sum of losses over a set: nats, and counted targets."""

    nats: float
    targets: int

    @property
    def per_token(self) -> float:
        return self.nats / self.targets if self.targets else math.nan

    def bits_per_byte(self, size: int) -> float:
        """The whole loss in bits over the UTF-8 bytes of the text."""
        return self.nats / math.log(2) / size


@torch.no_grad()
def evaluate(
    model: LanguageModel,
    source: Source,
    device: torch.device,
    most_tokens: int | None = None,
    bf16: bool = False,
) -> Total:
    """Loss over a source's first epoch, state carried where the windows go on; at most about `most_tokens`."""
    was_training = model.training
    model.eval()
    nats, targets, carry = 0.0, 0, None
    with autocast(device, bf16):
        for batch in source.epoch(0):
            output = model(
                batch.ids.to(device),
                condition=None if batch.condition is None else batch.condition.to(device),
                carry=carry if batch.goes_on else None,
            )
            carry = output.carry
            wanted = batch.targets.to(device).flatten()
            losses = nn.functional.cross_entropy(
                output.logits.float().flatten(0, 1), wanted, ignore_index=IGNORE, reduction="sum"
            )
            nats += float(losses)
            targets += int((wanted != IGNORE).sum())
            if most_tokens is not None and targets >= most_tokens:
                break
    model.train(was_training)
    return Total(nats, targets)
