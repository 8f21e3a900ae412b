"""What the verbs share: errors without tracebacks, and where models live."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
import typer
from rich.console import Console

from deploy import settings as deploy_settings
from deploy.errors import DeployError
from deploy.models_file import ModelsFile, ModelsFileError, load
from inkwell.errors import InkwellError
from inkwell.runtimes import AUTO
from training.device import pick_device
from training.errors import TrainingError, UserError

BUNDLES = Path("bundles")

_P = ParamSpec("_P")
_R = TypeVar("_R")
errors = Console(stderr=True)


def plain_errors(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Show errors that are meant for people as one sentence; the exit code is the error's own."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except (TrainingError, DeployError) as error:
            code = error.exit_code
            text = str(error)
        except InkwellError as error:
            code, text = 3, str(error)
        except ModelsFileError as error:
            code, text = UserError.exit_code, str(error)
        except BrokenPipeError:
            raise  # the reader has left, as in `inkwell generate … | head`: nobody is there to be told
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            code, text = TrainingError.exit_code, f"{where}{error.strerror or error}"
        errors.print(f"error: {text}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(code)

    return run


def device_named(name: str) -> torch.device:
    """`--device`: auto, or a device that torch has here. Raises UserError."""
    try:
        device = pick_device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        allowed = "auto, cpu, and where there is one cuda, cuda:1 or mps"
        raise UserError(f"--device {name!r} cannot be used here ({reason}); allowed are {allowed}") from None
    return device


def models_file(path: Path | None = None) -> ModelsFile:
    """deploy/models.toml, or another one."""
    options = deploy_settings.from_environment().changed(models_file=path)
    return load(options.models_file)


def served_runtime(name: str) -> str:
    """The runtime that models.toml wants for a model, so that a seed gives the text that a server gives; `auto`
    for a model that it does not name, and where there is no such file."""
    path = deploy_settings.from_environment().models_file
    entry = load(path).models.get(name) if path.is_file() else None
    return AUTO if entry is None else entry.runtime


def find_model(name: str) -> Path:
    """A bundle directory or archive: a path as it is, else `bundles/NAME`, else `model_store/NAME.mar`."""
    store = deploy_settings.from_environment().model_store
    places = [Path(name), BUNDLES / name, store / f"{name}.mar"]
    for place in places:
        if place.is_dir() and (place / "config.json").is_file():
            return place
        if place.is_file() and place.suffix == ".mar":
            return place
    known = sorted(path.name for path in BUNDLES.glob("*") if (path / "config.json").is_file())
    hint = f"; here are {', '.join(known)}" if known else f"; `inkwell train {name}` makes one"
    raise UserError(f"no model {name!r}: looked for {', '.join(map(str, places))}{hint}")
