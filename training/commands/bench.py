"""`inkwell bench`: the benchmarks of a checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import plain_errors
from training.errors import UserError

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
_SHARED = "measure.py"


@plain_errors
def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which one, or `list`.")] = "list",
    arguments: Annotated[list[str] | None, typer.Argument(help="Its own options; --help shows them.")] = None,
) -> None:
    """Measure speed, always against something people would use instead. Examples:

      inkwell bench list

      inkwell bench engine --only lstm

      inkwell bench compare before.json after.json

    Exit codes: 0 done, 1 `compare` found something slower, 2 no such benchmark or bad options.
    """
    known = {file.stem: file for file in sorted(FOLDER.glob("*.py")) if file.name != _SHARED}
    # `--help` after a name belongs to the benchmark, so it is not an option of this command.
    if name in ("--help", "-h"):
        context.get_help()
        typer.echo()
        name = "list"
    if name == "list":
        for stem, file in known.items():
            typer.echo(f"{stem:12} {_first_line(file)}")
        return
    if name not in known:
        here = ", ".join(known) or "none: they are part of a checkout, not of an installed package"
        raise UserError(f"no benchmark {name!r}; there are {here}")
    raise typer.Exit(subprocess.call([sys.executable, str(known[name]), *(arguments or [])]))


def _first_line(file: Path) -> str:
    return file.read_text(encoding="utf-8").split('"""')[1].strip().splitlines()[0]
