"""Training checkpoints without pickle: one safetensors file, with plain values as JSON in its header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.errors import DataError
from training.progress import Fitted


@dataclass
class Checkpoint:
    """Where a run stood: results so far, (epoch, batch), carried state, and how often weights were averaged."""

    fitted: Fitted
    position: tuple[int, int]
    carry: Any
    averaged: int


def save_checkpoint(
    path: Path, checkpoint: Checkpoint, tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Write everything that the next step depends on, as a whole or not at all."""
    every = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            every[f"optimizer.{index}.{key}"] = value.detach().cpu().contiguous().clone()
    every["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        every["random.cuda"] = torch.cuda.get_rng_state()
    shape = _flatten(checkpoint.carry, every)
    header = {
        "fitted": json.dumps(asdict(checkpoint.fitted)),
        "position": json.dumps(checkpoint.position),
        "carry": json.dumps(shape),
        "averaged": json.dumps(checkpoint.averaged),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_suffix(".part")
    save_file(every, staging, metadata=header)
    with staging.open("rb") as file:
        os.fsync(file.fileno())
    staging.replace(path)


def load_checkpoint(
    path: Path, shapes: Mapping[str, torch.Size], optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[Checkpoint, dict[str, Tensor]]:
    """Read what `save_checkpoint` wrote; the optimizer's and the random generators' states are put in place.

    `shapes` are those of the tensors that must be there. Raises DataError.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        fitted = Fitted(**json.loads(header["fitted"]))
        position = tuple(json.loads(header["position"]))
        carry = _restore(json.loads(header["carry"]), tensors, device)
        averaged = int(json.loads(header["averaged"]))
        random = tensors["random.cpu"]
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} is not a checkpoint of this version: {error}; start without --resume"
        ) from error
    for name, shape in shapes.items():
        found = tensors[name].shape if name in tensors else None
        if found != shape:
            raise DataError(
                f"{path} is of another model: {name} has shape {None if found is None else tuple(found)}, "
                f"{tuple(shape)} is needed; start without --resume"
            )
    fitted.curve = [(int(step), train, validation) for step, train, validation in fitted.curve]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(random)
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    placed = {name: value.to(device) for name, value in tensors.items() if not name.startswith("random.")}
    return Checkpoint(fitted, (position[0], position[1]), carry, averaged), placed


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Nested lists and tuples of tensors as nested lists of tensor names, the tensors added to `tensors`."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        name = f"carry.{sum(key.startswith('carry.') for key in tensors)}"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return name
    return {"tuple" if isinstance(value, tuple) else "list": [_flatten(part, tensors) for part in value]}


def _restore(shape: Any, tensors: dict[str, Tensor], device: torch.device) -> Any:
    if shape is None:
        return None
    if isinstance(shape, str):
        return tensors[shape].to(device)
    kind, parts = next(iter(shape.items()))
    values = [_restore(part, tensors, device) for part in parts]
    return tuple(values) if kind == "tuple" else values
