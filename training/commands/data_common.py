"""What the verbs about corpora share: errors without tracebacks, and fetching with progress bars."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.text import Text

from training.data.fetch import Fetched, Fetcher
from training.data.sources import SOURCES_DIR, find_source
from training.errors import TrainingError, UserError
from training.settings import Settings

_P = ParamSpec("_P")
_R = TypeVar("_R")


def plain_errors(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Errors of our own tree become one red sentence and their exit code."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except TrainingError as error:
            Console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
            raise typer.Exit(error.exit_code) from None

    return run


def fetch_corpus(
    name: str, mirror: Path | None, data_dir: Path | None, strict: bool, sources: Path = SOURCES_DIR
) -> Fetched:
    """Bring one corpus of the catalogue here, with bars on standard error while it downloads."""
    settings = Settings.from_env()
    mirror = mirror or settings.data_mirror
    if mirror is not None and not mirror.is_dir():
        raise UserError(f"--mirror {mirror} is not a folder")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars = Progress(*columns, console=console, transient=True)
    tasks: dict[str, TaskID] = {}

    def progress(file: str, have: int, total: int | None) -> None:
        bars.start()  # not before: an empty display would print blank lines when nothing is downloaded
        if file not in tasks:
            tasks[file] = bars.add_task(file, total=total)
        bars.update(tasks[file], completed=have, total=total)

    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    try:
        fetcher = Fetcher(data_dir or settings.data_dir, mirror, strict, say, progress)
        return fetcher.fetch(find_source(name, sources))
    finally:
        if tasks:
            bars.stop()
