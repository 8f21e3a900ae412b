"""`inkwell experiment`: one question each, answered with a table.

Here are those that train models; those that look at a finished one, and those about the plainest network, stand
beside.
"""

from __future__ import annotations

from typing import Annotated

import typer

from training.commands import experiment_chars, experiment_models
from training.commands.experiment_common import numbers, trains
from training.experiments.runs import Row
from training.recipe import Recipe

app = typer.Typer(
    help="Small experiments: a question, a table, a CSV.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command("carry")
@trains("carry", family="prose")
def carry(recipe: Recipe, device: str) -> list[Row]:
    """Should a recurrent model keep its state from window to window, in training and in reading?

    Example:

      inkwell experiment carry --steps 300
    """
    from training.experiments.carry import carry as run

    return run(recipe, device)


@app.command("bpe-sizes")
@trains("bpe-sizes", family="stories")
def bpe_sizes(
    recipe: Recipe,
    device: str,
    sizes: Annotated[str, typer.Option(help="Vocabularies, 0 for characters.")] = "0,300,600,1200,2400",
) -> list[Row]:
    """How large should a vocabulary be? Every run reads the same number of bytes per step.

    Example:

      inkwell experiment bpe-sizes --sizes 0,500,2000 --steps 200
    """
    from training.experiments.bpe_sizes import bpe_sizes as run

    return run(recipe, [int(size) for size in numbers(sizes, "--sizes", int)], device)


@app.command("gru-gpt")
@trains("gru-gpt", family="stories")
def gru_gpt(
    recipe: Recipe,
    device: str,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the GPT.")] = 4,
    heads: Annotated[int, typer.Option(min=1, help="Heads of the GPT.")] = 4,
    rates: Annotated[str, typer.Option(help="Learning rates to try with both. [default: the preset's]")] = "",
) -> list[Row]:
    """A GRU against a GPT with as many parameters, over the same text and steps.

    Example:

      inkwell experiment gru-gpt --steps 200 --rates 3e-3,1e-3
    """
    from training.experiments.gru_gpt import gru_gpt as run

    return run(recipe, layers, heads, numbers(rates, "--rates", float), device)


@app.command("steering")
@trains("steering", only="names", note=", window model")
def steering(recipe: Recipe, device: str) -> list[Row]:
    """How should a category steer a model of names: cross-attention, adaptive norm, both, or not at all?

    Example:

      inkwell experiment steering --steps 300
    """
    from training.experiments.steering import steering as run

    return run(recipe, device=device)


@app.command("grouping")
@trains("grouping", only="names")
def grouping(
    recipe: Recipe,
    device: str,
    min_count: Annotated[int, typer.Option(min=1, help="Labels with fewer names are merged.")] = 1,
) -> list[Row]:
    """Do categories help a model of names, and does grouping them?

    Example:

      inkwell experiment grouping --corpus names.csv --steps 300
    """
    from training.experiments.names import grouping as run

    return run(recipe, min_count=min_count, device=device)


for module in (experiment_models, experiment_chars):
    for name, command in module.COMMANDS.items():
        app.command(name)(command)
