"""All families in one table: architecture name → configuration and model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from inkwell.config import from_mapping
from inkwell.errors import ConfigError
from inkwell.models.base import IGNORE, Decoder, LanguageModel, Output, State
from inkwell.models.gpt import GPTConfig, GPTModel
from inkwell.models.recurrent import RecurrentConfig, RecurrentModel, detach_carry
from inkwell.models.window import WindowConfig, WindowModel

ARCHITECTURES: dict[str, tuple[type, type]] = {
    "recurrent": (RecurrentConfig, RecurrentModel),
    "gpt": (GPTConfig, GPTModel),
    "window": (WindowConfig, WindowModel),
}

__all__ = [
    "ARCHITECTURES",
    "IGNORE",
    "Decoder",
    "LanguageModel",
    "Output",
    "State",
    "build_model",
    "detach_carry",
    "model_settings",
]


def build_model(settings: Mapping[str, Any], where: str = "model") -> LanguageModel:
    """The untrained model that `settings` describes: {"architecture": name, …its configuration}."""
    values = dict(settings)
    name = values.pop("architecture", None)
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ConfigError(f"{where}: architecture is {name!r}; allowed are {', '.join(ARCHITECTURES)}")
    config_class, model_class = ARCHITECTURES[name]
    model: LanguageModel = model_class(from_mapping(config_class, values, where))
    return model


def model_settings(model: LanguageModel) -> dict[str, Any]:
    """The inverse of `build_model`."""
    for name, (_, model_class) in ARCHITECTURES.items():
        if type(model) is model_class:
            return {"architecture": name, **asdict(model.config)}  # type: ignore[call-overload]
    raise TypeError(f"{type(model).__name__} is not in the table of architectures")
