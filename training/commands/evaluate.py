"""`inkwell evaluate`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.common import device_named, find_model, plain_errors
from training.errors import UserError
from training.evaluation import evaluate_bundle

console = Console()


@plain_errors
def evaluate(
    model: Annotated[str, typer.Argument(help="A model's name or bundle directory.")],
    corpus: Annotated[str | None, typer.Option(help="Another corpus than the model was trained on.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Texts to generate for the memorisation share.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    write: Annotated[bool, typer.Option(help="Write the figures into the bundle's metrics.json.")] = True,
) -> None:
    """Measure a model on held-out text: nats per token, bits per byte, and how much it copies. Examples:

      inkwell evaluate prose

      inkwell evaluate bundles/names --samples 500 --json

    Exit codes: 0 done, 2 bad option, 3 bad bundle or corpus.
    """
    path = find_model(model)
    if path.suffix == ".mar":
        raise UserError(f"{path} is an archive; name the bundle directory it was made from")
    device_named(device)
    began = time.monotonic()
    figures = evaluate_bundle(Path(path), corpus, samples, device, write)
    if as_json:
        typer.echo(json.dumps(figures, ensure_ascii=False, indent=2))
        return
    table = Table(title=f"{path}", title_justify="left", box=None)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for group, values in figures.items():
        for name, value in values.items():
            shown = f"{value:.4f}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"
            table.add_row(
                f"{group}: {name.replace('_', ' ')}", shown if isinstance(value, (int, float)) else str(value)
            )
    console.print(table)
    console.print(f"{time.monotonic() - began:.1f} s", style="dim", highlight=False)
