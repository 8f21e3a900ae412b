"""What a runtime is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inkwell.errors import RuntimeUnavailable
from inkwell.models.base import Decoder, LanguageModel


@dataclass(frozen=True)
class Verdict:
    """What a runtime that rounds cost one model, measured on held-out text against float32.

    `scheme` is the way of rounding that was measured; another one has to be measured anew. `kl` is the mean
    Kullback-Leibler divergence from float32 in nats per token, `limit` the most it might have been, and
    `bits_per_byte_lost` how much more the text costs than float32's prediction of it. A verdict without figures
    says by `reason` why there are none.
    """

    scheme: int
    passed: bool
    kl: float | None = None
    bits_per_byte_lost: float | None = None
    tokens: int = 0
    limit: float | None = None
    reason: str | None = None


class Runtime(ABC):
    """A way to compute decode steps whose rows cannot influence each other."""

    name: str
    scheme: int | None = None
    """Version of its way of rounding; None for one whose predictions are the model's own."""
    stands_in_for: str | None = None
    """A runtime that this machine must lack for `auto` to take this one."""

    @abstractmethod
    def decoder(self, model: LanguageModel) -> Decoder:
        """The model prepared for generation. Raises RuntimeUnavailable with the reason when that cannot be."""

    def missing(self) -> str | None:
        """Why this machine cannot have it, whatever the model; None where it can. Looks, and builds nothing."""
        return None

    def trusted(self, verdict: Any) -> bool:
        """Whether `auto` may take it, by what the bundle's runtimes.json has under its name."""
        if self.scheme is None:
            return True
        return (
            isinstance(verdict, dict)
            and verdict.get("passed") is True
            and verdict.get("scheme") == self.scheme
        )


def maker_of(model: LanguageModel, makers: Mapping[type, Callable[..., Decoder]]) -> Callable[..., Decoder]:
    """What makes decoders of the model's kind on a CPU. Raises RuntimeUnavailable."""
    make = makers.get(type(model))
    if make is None:
        known = ", ".join(kind.__name__ for kind in makers)
        raise RuntimeUnavailable(f"it knows {known}, not {type(model).__name__}")
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise RuntimeUnavailable(f"it runs on a CPU, and the model is on {device}")
    return make
