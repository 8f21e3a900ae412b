"""`inkwell experiment`: one question each, answered with a table."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from inkwell.bundle import open_bundle
from training.commands.common import device_named, find_model, plain_errors
from training.errors import UserError
from training.experiments.runs import Row
from training.experiments.table import table_of, write_csv
from training.recipe import Recipe, load_recipe, with_corpus

console = Console()
app = typer.Typer(
    help="Small experiments: a question, a table, a CSV.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Steps = Annotated[int | None, typer.Option(min=1, help="Steps of every run. [default: the preset's]")]
Corpus = Annotated[str | None, typer.Option(help="Text to learn from. [default: the preset's]")]
Preset = Annotated[str, typer.Option(help="The preset that every run starts from.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: model.hidden=128")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="CSV. [default: experiments/NAME.csv]")]


def _recipe(
    family: str, preset: str, corpus: str | None, steps: int | None, changes: list[str] | None
) -> Recipe:
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


def _answer(name: str, title: str, out: Path | None, run: Callable[[], list[Row]]) -> None:
    began = time.monotonic()
    rows = run()
    path = out or Path("experiments") / f"{name}.csv"
    write_csv(rows, path)
    console.print(table_of(rows, escape(title)))
    console.print(f"{path}, {time.monotonic() - began:.1f} s", style="dim", highlight=False)


def _numbers(text: str, name: str, kind: Callable[[str], float]) -> list[float]:
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"{name} {text!r} must be numbers separated by commas") from None


@app.command("seed-words")
@plain_errors
def seed_words(
    model: Annotated[str, typer.Argument(help="A model of running text: name or bundle directory.")],
    samples: Annotated[int, typer.Option("--samples", "-n", min=2, help="Texts for each way.")] = 64,
    tokens: Annotated[int, typer.Option(min=4, help="Tokens of each text.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    out: Out = None,
) -> None:
    """What should a text begin with? Nothing, an unfamiliar word, the first word of a sentence, a familiar word:
    how plausible are the texts, and how much do they copy?

    Example:

      inkwell experiment seed-words prose --samples 200
    """
    from training.experiments.seed_words import seed_words as run

    bundle = open_bundle(find_model(model))
    title = f"{bundle.config.name}: {samples} texts of {tokens} tokens for each way to begin"
    _answer("seed-words", title, out, lambda: run(bundle, samples, tokens, seed))


@app.command("carry")
@plain_errors
def carry(
    family: Annotated[str, typer.Option(help="A family of running text.")] = "prose",
    preset: Preset = "small",
    corpus: Corpus = None,
    steps: Steps = None,
    set_: Changes = None,
    device: Device = "auto",
    out: Out = None,
) -> None:
    """Should a recurrent model keep its state from window to window, in training and in reading?

    Example:

      inkwell experiment carry --steps 300
    """
    from training.experiments.carry import carry as run

    device_named(device)
    recipe = _recipe(family, preset, corpus, steps, set_)
    _answer("carry", f"{family}.{preset}, {recipe.fit.steps} steps each", out, lambda: run(recipe, device))


@app.command("bpe-sizes")
@plain_errors
def bpe_sizes(
    sizes: Annotated[str, typer.Option(help="Vocabularies, 0 for characters.")] = "0,300,600,1200,2400",
    family: Annotated[str, typer.Option(help="The family that every run starts from.")] = "stories",
    preset: Preset = "small",
    corpus: Corpus = None,
    steps: Steps = None,
    set_: Changes = None,
    device: Device = "auto",
    out: Out = None,
) -> None:
    """How large should a vocabulary be? Every run reads the same number of bytes per step.

    Example:

      inkwell experiment bpe-sizes --sizes 0,500,2000 --steps 200
    """
    from training.experiments.bpe_sizes import bpe_sizes as run

    device_named(device)
    recipe = _recipe(family, preset, corpus, steps, set_)
    chosen = [int(size) for size in _numbers(sizes, "--sizes", int)]
    _answer(
        "bpe-sizes",
        f"{family}.{preset}, {recipe.fit.steps} steps each",
        out,
        lambda: run(recipe, chosen, device),
    )


@app.command("gru-gpt")
@plain_errors
def gru_gpt(
    layers: Annotated[int, typer.Option(min=1, help="Layers of the GPT.")] = 4,
    heads: Annotated[int, typer.Option(min=1, help="Heads of the GPT.")] = 4,
    rates: Annotated[str, typer.Option(help="Learning rates to try with both. [default: the preset's]")] = "",
    family: Annotated[str, typer.Option(help="The family whose recurrent model is one side.")] = "stories",
    preset: Preset = "small",
    corpus: Corpus = None,
    steps: Steps = None,
    set_: Changes = None,
    device: Device = "auto",
    out: Out = None,
) -> None:
    """A GRU against a GPT with as many parameters, over the same text and steps.

    Example:

      inkwell experiment gru-gpt --steps 200 --rates 3e-3,1e-3
    """
    from training.experiments.gru_gpt import gru_gpt as run

    device_named(device)
    recipe = _recipe(family, preset, corpus, steps, set_)
    chosen = _numbers(rates, "--rates", float)
    title = f"{family}.{preset}, {recipe.fit.steps} steps each"
    _answer("gru-gpt", title, out, lambda: run(recipe, layers, heads, chosen, device))


@app.command("steering")
@plain_errors
def steering(
    preset: Preset = "small",
    corpus: Corpus = None,
    steps: Steps = None,
    set_: Changes = None,
    device: Device = "auto",
    out: Out = None,
) -> None:
    """How should a category steer a model of names: cross-attention, adaptive norm, both, or not at all?

    Example:

      inkwell experiment steering --steps 300
    """
    from training.experiments.steering import steering as run

    device_named(device)
    recipe = _recipe("names", preset, corpus, steps, set_)
    _answer(
        "steering",
        f"names.{preset}, window model, {recipe.fit.steps} steps each",
        out,
        lambda: run(recipe, device=device),
    )


@app.command("grouping")
@plain_errors
def grouping(
    preset: Preset = "small",
    corpus: Corpus = None,
    steps: Steps = None,
    set_: Changes = None,
    min_count: Annotated[int, typer.Option(min=1, help="Labels with fewer names are merged.")] = 1,
    device: Device = "auto",
    out: Out = None,
) -> None:
    """Do categories help a model of names, and does grouping them?

    Example:

      inkwell experiment grouping --corpus names.csv --steps 300
    """
    from training.experiments.names import grouping as run

    device_named(device)
    recipe = _recipe("names", preset, corpus, steps, set_)
    title = f"names.{preset}, {recipe.fit.steps} steps each"
    _answer("grouping", title, out, lambda: run(recipe, min_count=min_count, device=device))


@app.command("conditioning")
@plain_errors
def conditioning(
    model: Annotated[str, typer.Argument(help="A model of names with categories.")] = "names",
    strengths: Annotated[
        str, typer.Option(help="Strengths of guidance; 0 asks for no category.")
    ] = "0,1,2,4",
    out: Out = None,
) -> None:
    """How well do names fit the category that was asked for, by strength of guidance?

    Example:

      inkwell experiment conditioning names --strengths 0,1,2
    """
    from training.experiments.names import conditioning as run

    bundle = open_bundle(find_model(model))
    if not bundle.categories:
        raise UserError(f"model {bundle.config.name!r} has no categories")
    chosen = _numbers(strengths, "--strengths", float)
    _answer(
        "conditioning", f"{bundle.config.name}: by strength of guidance", out, lambda: run(bundle, chosen)
    )


@app.command("chars")
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

    sizes = tuple(int(size) for size in _numbers(batches, "--batches", int))
    recipe = _recipe("chars", preset, corpus, None, set_)
    run_study(
        recipe,
        out,
        StudyOptions(batches=sizes, epochs=epochs),
        lambda line: console.print(line, highlight=False),
    )
    for path in draw_study(out):
        console.print(str(path), highlight=False)
