"""What the experiments' commands share: options, the recipe they change, and the table they end with."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from training.commands.common import device_named, plain_errors
from training.errors import UserError
from training.experiments.runs import Row
from training.experiments.table import table_of, write_csv
from training.recipe import Recipe, load_recipe, with_corpus

console = Console()

Steps = Annotated[int | None, typer.Option(min=1, help="Steps of every run. [default: the preset's]")]
Corpus = Annotated[str | None, typer.Option(help="Text to learn from. [default: the preset's]")]
Preset = Annotated[str, typer.Option(help="The preset that every run starts from.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: model.hidden=128")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="CSV. [default: experiments/NAME.csv]")]


def recipe_of(
    family: str, preset: str, corpus: str | None, steps: int | None, changes: list[str] | None
) -> Recipe:
    """The preset with what the options change; fewer steps warm up and measure sooner."""
    recipe = load_recipe(family, preset, changes or [])
    if corpus is not None:
        recipe = with_corpus(recipe, corpus)
    if steps is not None:
        fit = replace(
            recipe.fit,
            steps=steps,
            warmup=min(recipe.fit.warmup, steps // 4),
            evaluate_every=min(recipe.fit.evaluate_every, max(1, steps // 4)),
        )
        recipe = replace(recipe, fit=fit)
    return recipe


def answer(name: str, title: str, out: Path | None, run: Callable[[], list[Row]]) -> None:
    """Run, write the rows as CSV, and show them."""
    began = time.monotonic()
    rows = run()
    path = out or Path("experiments") / f"{name}.csv"
    write_csv(rows, path)
    console.print(table_of(rows, escape(title)))
    console.print(f"{path}, {time.monotonic() - began:.1f} s", style="dim", highlight=False)


def numbers(text: str, name: str, kind: Callable[[str], float]) -> list[float]:
    """Numbers separated by commas. Raises UserError naming the option."""
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"{name} {text!r} must be numbers separated by commas") from None


def _shared(
    preset: Preset = "small",
    corpus: Corpus = None,
    steps: Steps = None,
    set_: Changes = None,
    device: Device = "auto",
    out: Out = None,
) -> None:
    """The options that every command has which trains."""


def _family(family: Annotated[str, typer.Option(help="The family that every run starts from.")]) -> None:
    """The option of those that train any family."""


def trains(
    name: str, *, family: str = "", only: str = "", note: str = ""
) -> Callable[[Callable[..., list[Row]]], Callable[..., None]]:
    """Make a command out of `run(recipe, device, **own options)`: it gets the options that all of them share, reads
    the recipe they ask for, and shows the rows. `family` is the default of `--family`; `only` is the one family
    that the question is about. `note` goes into the table's title."""

    def wrap(run: Callable[..., list[Row]]) -> Callable[..., None]:
        own = [p for p in _parameters(run) if p.name not in ("recipe", "device")]
        asked = [p.replace(default=family) for p in _parameters(_family)] if family else []

        def command(**values: Any) -> None:
            kind = values.get("family") or only
            device_named(values["device"])
            recipe = recipe_of(kind, values["preset"], values["corpus"], values["steps"], values["set_"])
            mine = {p.name: values[p.name] for p in own}
            title = f"{kind}.{values['preset']}{note}, {recipe.fit.steps} steps each"
            answer(name, title, values["out"], lambda: run(recipe, values["device"], **mine))

        shown = [*own, *asked, *_parameters(_shared)]
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in shown]
        )
        command.__annotations__ = {p.name: p.annotation for p in shown}
        command.__name__, command.__doc__ = run.__name__, run.__doc__
        return plain_errors(command)

    return wrap


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())
