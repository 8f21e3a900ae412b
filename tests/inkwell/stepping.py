"""Small models of every shape, and their decoders stepped over several rows, for the tests of every runtime."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from inkwell.models import build_model
from inkwell.models.base import State

STEPS = 45  # longer than every window and every ring but one, so that they wrap
V = 37
SHAPES: dict[str, dict[str, Any]] = {
    "rnn-1": {"cell": "rnn", "hidden": 1, "layers": 1},
    "rnn-33": {"cell": "rnn", "hidden": 33, "layers": 3, "embedding": 11},
    "gru-5": {"cell": "gru", "hidden": 5, "layers": 1},
    "gru-48": {"cell": "gru", "hidden": 48, "layers": 2, "embedding": 48, "tied": True},
    "gru-131": {"cell": "gru", "hidden": 131, "layers": 3, "embedding": 7},
    "lstm-24": {"cell": "lstm", "hidden": 24, "layers": 2},
    "lstm-100": {"cell": "lstm", "hidden": 100, "layers": 1, "embedding": 3},
    "lstm-17": {"cell": "lstm", "hidden": 17, "layers": 3},
    "gpt-2": {"heads": 1, "width": 2, "layers": 1, "window": 1},
    "gpt-20-swish": {"heads": 2, "width": 20, "layers": 2, "window": 7, "activation": "swish"},
    "gpt-36-steered": {"heads": 3, "width": 36, "layers": 2, "window": 9, "categories": 3},
    "gpt-66": {"heads": 1, "width": 66, "layers": 2, "window": 16, "rate": 3},
    "gpt-128": {"heads": 4, "width": 128, "layers": 3, "window": 33},
    "gpt-wide-head": {"heads": 1, "width": 150, "layers": 1, "window": 40, "rate": 1, "tied": False},
}


def make_model(shape: str, seed: int = 3, vocabulary: int = V) -> Any:
    """A model with random weights strong enough that its logits differ from token to token."""
    settings = dict(SHAPES[shape])
    settings["architecture"] = "gpt" if shape.startswith("gpt") else "recurrent"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model({**settings, "vocabulary": vocabulary}).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def conditions_of(model: Any, rows: int) -> list[dict[int, float] | None]:
    """Mixed categories for two rows of three, where the model has any."""
    steered = getattr(model.config, "categories", 0)
    return [{1: 0.25, 2: 0.75} if steered and row % 3 else None for row in range(rows)]


def state_of(decoder: Any, conditions: list[dict[int, float] | None]) -> State:
    """A state of as many rows, each under its condition."""
    state: State = decoder.new_state(len(conditions))
    for row, condition in enumerate(conditions):
        decoder.admit(state, row, condition)
    return state


def stepped(decoder: Any, ids: Tensor, conditions: list[dict[int, float] | None]) -> Tensor:
    """Logits (rows, steps, V) of ids (rows, steps)."""
    state = state_of(decoder, conditions)
    return torch.stack([decoder.step(ids[:, t], state).clone() for t in range(ids.shape[1])], 1)


def tokens(rows: int, length: int, vocabulary: int = V) -> Tensor:
    """Random ids (rows, length), the same in every run."""
    return torch.randint(0, vocabulary, (rows, length), generator=torch.Generator().manual_seed(rows))


class Company:
    """64 rows of a model, and what they say over a few steps."""

    def __init__(self, model: Any, decoder: Any) -> None:
        self.decoder = decoder
        self.ids = tokens(64, 12).t()
        self.conditions = conditions_of(model, 64)
        state = self.state(range(64))
        self.logits = [decoder.step(row.contiguous(), state).clone() for row in self.ids]

    def state(self, rows: Iterable[int]) -> State:
        """A fresh state of these rows, in this order."""
        return state_of(self.decoder, [self.conditions[row] for row in rows])
