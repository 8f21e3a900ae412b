"""`inkwell train`."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from training.archive import check_name
from training.commands.common import BUNDLES, device_named, models_file, plain_errors
from training.errors import TrainingError, UserError
from training.produce import produce
from training.progress import Progress as Step
from training.recipe import FAMILIES, Recipe, load_recipe, presets_of, with_corpus

console = Console()


@plain_errors
def train(
    family: Annotated[str | None, typer.Argument(help=f"One of {', '.join(FAMILIES)}.")] = None,
    preset: Annotated[str, typer.Option(help="Size and settings; --list shows them.")] = "small",
    corpus: Annotated[str | None, typer.Option(help="Text to learn from. [default: the preset's]")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model. [default: the family's]")] = None,
    out: Annotated[Path | None, typer.Option(help="Bundle directory. [default: bundles/NAME]")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: fit.steps=500")] = None,
    start_from: Annotated[Path | None, typer.Option("--from", help="Fine-tune this bundle.")] = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help="Learn what this bundle predicts; may be given again.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    resume: Annotated[bool, typer.Option(help="Go on where a broken run stopped.")] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Train what models.toml wants and is not there.")
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="List families and presets, and leave.")] = False,
) -> None:
    """Train a model and write it as a bundle. Examples:

      inkwell train prose

      inkwell train names --corpus my-names.csv --name elves

      inkwell train prose --corpus novel.txt --set fit.steps=3000 --set model.hidden=512

      inkwell train prose --from bundles/prose --corpus letters.txt --name letters

      inkwell train prose --teacher bundles/large --name small

      torchrun --nproc-per-node 2 -m training train stories --preset paper

    Exit codes: 0 done, 2 bad option, 3 bad corpus or bundle.
    """
    if show:
        _list_presets()
    elif missing:
        _train_missing()
    elif family is None:
        raise UserError(f"name a family: {', '.join(FAMILIES)}; or use --missing")
    else:
        recipe = load_recipe(family, preset, [*_taught_by(teacher), *(set_ or [])])
        if corpus is not None:
            recipe = with_corpus(recipe, corpus)
        if start_from is not None and not start_from.is_dir():
            raise UserError(f"--from {str(start_from)!r} is not a bundle directory")
        chosen = name or family
        check_name(chosen)
        device_named(device)
        target = out or BUNDLES / chosen
        _check_replaceable(target)
        _train(recipe, chosen, target, device, resume, start_from)


def _taught_by(teachers: list[str] | None) -> list[str]:
    return [f"fit.teachers={json.dumps(teachers)}"] if teachers else []


def _check_replaceable(out: Path) -> None:
    """A bundle takes the place of what is at `out`; that must not be anything but an older bundle."""
    if out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise UserError(f"--out {str(out)!r} is a folder with other things in it; name a new one")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {str(out)!r} is a file; name a folder")


def _train_missing() -> None:
    wanted = models_file().models.values()
    todo = [entry for entry in wanted if not (BUNDLES / entry.name / "config.json").is_file()]
    for number, entry in enumerate(todo, 1):
        console.print(
            f"[bold]{entry.name}[/]  ({number} of {len(todo)}: family {entry.family}, preset {entry.preset})"
        )
        _train(load_recipe(entry.family, entry.preset), entry.name, BUNDLES / entry.name, "auto", False, None)
    if not todo:
        console.print(f"all {len(wanted)} models are trained", highlight=False)


def _train(recipe: Recipe, name: str, out: Path, device: str, resume: bool, start_from: Path | None) -> None:
    began = time.monotonic()
    runs = Path("runs") / name
    with ExitStack() as stack:
        bar = stack.enter_context(_bar())
        task = bar.add_task(name, total=recipe.fit.steps, loss="…", held="…", speed="")
        log = stack.enter_context(_log(runs, append=resume))
        columns = csv.writer(log)

        def hear(step: Step) -> None:
            fields = {"loss": f"{step.loss:.3f}", "speed": f"{step.tokens_per_second:,.0f} tokens/s"}
            if step.best is not None:
                fields["held"] = f"{step.best:.3f}"
            bar.update(task, completed=step.step, **fields)  # type: ignore[arg-type]
            if step.validation is not None:
                columns.writerow(
                    [step.step, step.loss, step.validation, step.rate, round(step.tokens_per_second)]
                )
                log.flush()
            for warning in step.warnings:
                bar.console.print(f"  step {step.step}: {warning}", style="yellow", highlight=False)

        try:
            bundle = produce(recipe, out, name, device, resume, start_from, hear, runs)
        except KeyboardInterrupt:
            console.print(
                f"stopped; `inkwell train {recipe.family} --name {name} --resume` goes on", highlight=False
            )
            raise typer.Exit(130) from None
        except FloatingPointError as error:
            raise TrainingError(str(error)) from error
        bar.update(task, completed=recipe.fit.steps)
    if bundle is None:
        return
    held = bundle.metrics.get("validation")
    result = (
        f", held out: {held['nats_per_token']:.3f} nats/token, {held['bits_per_byte']:.3f} bits/byte"
        if held
        else ""
    )
    count = bundle.model.parameter_count()
    console.print(
        f"  {out}: {count:,} parameters, {time.monotonic() - began:.0f} s{result}",
        highlight=False,
        soft_wrap=True,
    )


def _bar() -> Progress:
    return Progress(
        TextColumn("  {task.description:8}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  held out {task.fields[held]}  {task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def _log(runs: Path, append: bool) -> Iterator[TextIO]:
    """runs/NAME/log.csv: one row per evaluation."""
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / "log.csv"
    fresh = not (append and path.is_file())
    with path.open("w" if fresh else "a", newline="", encoding="utf-8") as file:
        if fresh:
            csv.writer(file).writerow(["step", "train_nats", "validation_nats", "rate", "tokens_per_second"])
        yield file


def _list_presets() -> None:
    table = Table(box=None)
    for heading in ("family", "preset", "what"):
        table.add_column(heading)
    for family in FAMILIES:
        for preset in presets_of(family):
            table.add_row(family, preset, load_recipe(family, preset).description)
    console.print(table)
