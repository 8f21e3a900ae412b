"""`inkwell experiment`: the plainest network, trained by hand in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import plain_errors
from training.commands.experiment_common import (
    Changes,
    Corpus,
    Out,
    Preset,
    answer,
    console,
    numbers,
    recipe_of,
)
from training.errors import UserError


@plain_errors
def chars(
    batches: Annotated[str, typer.Option(help="Batch sizes to compare.")] = "1,10,50",
    epochs: Annotated[
        float, typer.Option(min=0.001, help="How often each run reads the training text.")
    ] = 2.0,
    preset: Preset = "small",
    corpus: Corpus = None,
    set_: Changes = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for three tables and two figures.")] = Path(
        "experiments/chars"
    ),
) -> None:
    """The study of the character RNN: batch size, reading order, temperature and nucleus.

    Example:

      inkwell experiment chars --epochs 1 --batches 10,50
    """
    try:
        from training.figures.study import draw_study
    except ImportError as error:
        raise UserError(
            f"the study's figures need matplotlib ({error}); pip install 'inkwell[report]'"
        ) from error
    from training.chars.study import StudyOptions, run_study

    sizes = tuple(int(size) for size in numbers(batches, "--batches", int))
    recipe = recipe_of("chars", preset, corpus, None, set_)
    run_study(
        recipe,
        out,
        StudyOptions(batches=sizes, epochs=epochs),
        lambda line: console.print(line, highlight=False),
    )
    for path in draw_study(out):
        console.print(str(path), highlight=False)


@plain_errors
def bumps(
    epochs: Annotated[int, typer.Option(min=2, help="How often the text is read.")] = 3,
    preset: Preset = "small",
    corpus: Corpus = None,
    set_: Changes = None,
    out: Out = None,
    curves: Annotated[
        Path, typer.Option(help="The curves that are compared, as CSV; a figure is drawn beside it.")
    ] = Path("experiments/bumps-curves.csv"),
) -> None:
    """Are the bumps of a loss curve hard places of the text? Do they come back at the same place, and does a judge
    find it hard that has learned from other text?

    Example:

      inkwell experiment bumps --epochs 3
    """
    try:
        from training.figures.study import draw_bumps
    except ImportError as error:
        raise UserError(f"the figure needs matplotlib ({error}); pip install 'inkwell[report]'") from error
    from training.experiments.bumps import bumps as run

    recipe = recipe_of("chars", preset, corpus, None, set_)
    answer("bumps", f"chars.{preset}, read {epochs} times in order", out, lambda: run(recipe, epochs, curves))
    for path in draw_bumps(curves):
        console.print(str(path), highlight=False)


COMMANDS = {"chars": chars, "bumps": bumps}
