"""Checkpoints of the NumPy trainer: one safetensors file, plain values as JSON in its header, no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from training.chars.rnn import Array
from training.errors import DataError
from training.progress import Fitted

FORMAT = "numpy-rnn-1"


@dataclass(frozen=True)
class Standing:
    """Where a run stood, besides its arrays: (epoch, window), smooth loss, optimiser steps, averages taken."""

    fitted: Fitted
    position: tuple[int, int]
    smooth: float
    adam_steps: int
    averaged: int


def save(path: Path, standing: Standing, arrays: Mapping[str, Array]) -> None:
    """Write everything that the next step depends on, as a whole or not at all."""
    header = {"format": FORMAT} | {name: json.dumps(value) for name, value in asdict(standing).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_suffix(".part")
    save_file(dict(arrays), staging, metadata=header)
    with staging.open("rb") as file:
        os.fsync(file.fileno())
    staging.replace(path)


def load(path: Path, sizes: Mapping[str, tuple[int, ...]]) -> tuple[Standing, dict[str, Array]]:
    """What `save` wrote. `sizes` are the shapes of arrays that must be there. Raises DataError."""
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            arrays: dict[str, Array] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("format") != FORMAT:
            raise ValueError(f"its format is {header.get('format')!r}, not {FORMAT!r}")
        values = {name: json.loads(text) for name, text in header.items() if name != "format"}
        fitted = Fitted(**values.pop("fitted"))
        epoch, window = values.pop("position")
        standing = Standing(fitted=fitted, position=(epoch, window), **values)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} is not a checkpoint of the NumPy trainer: {error}; start without --resume"
        ) from error
    for name, size in sizes.items():
        found = arrays[name].shape if name in arrays else None
        if found != size:
            raise DataError(
                f"{path} is of another model or batch: {name} has shape {found}, {size} is needed; "
                "start without --resume"
            )
    fitted.curve = [(int(step), train, held) for step, train, held in fitted.curve]
    return standing, arrays
