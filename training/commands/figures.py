"""`inkwell figures`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from inkwell.bundle import open_bundle
from training.commands.common import find_model, plain_errors
from training.errors import UserError

console = Console()


@plain_errors
def figures(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names, bundles or archives.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Each model gets a folder of its name in here.")
    ] = Path("figures"),
    only: Annotated[
        str,
        typer.Option(
            help="Some of embedding, dynamics, importance, confidence, attention, diversity, temperature, "
            "training, separated by commas. [default: all that fit]"
        ),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same figures.")] = 0,
    prompt: Annotated[str, typer.Option(help="How texts begin. [default: as the model likes]")] = "",
    samples: Annotated[
        int, typer.Option("--samples", "-n", min=4, help="Texts where texts are counted.")
    ] = 32,
    formats: Annotated[str, typer.Option(help="Some of png, svg, csv, json.")] = "png,svg,csv",
) -> None:
    """Look inside a model: pictures, and the numbers behind each as CSV. Examples:

      inkwell figures prose

      inkwell figures stories --only importance,confidence --prompt "Once upon a time"

      inkwell figures prose names souls stories chars --out docs/images/gallery --formats png

    Exit codes: 0 done, 2 bad option, 3 bad model.
    """
    try:
        from training.figures.album import Album
        from training.figures.groups import Wish, chosen_groups, draw_figures
    except ImportError as error:
        raise UserError(
            f"figures need matplotlib and scikit-learn ({error}); pip install 'inkwell[report]'"
        ) from error
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    chosen_groups(wanted)
    chosen = [name.strip() for name in formats.split(",") if name.strip()]
    Album(out, chosen)
    paths = [find_model(name) for name in models]
    torch.manual_seed(seed)
    for path in paths:
        bundle = open_bundle(path)
        album = Album(out / bundle.config.name, chosen)
        draw_figures(
            bundle,
            album,
            wanted,
            Wish(seed, prompt, samples),
            lambda line: console.print(f"  {line}", highlight=False, soft_wrap=True),
        )
        console.print(f"{album.folder}: {len(album.written)} files", highlight=False)
