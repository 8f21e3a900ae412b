"""`inkwell experiment`: questions that a finished model answers."""

from __future__ import annotations

from typing import Annotated

import typer

from inkwell.bundle import Bundle, open_bundle
from training.commands.common import find_model, plain_errors
from training.commands.experiment_common import Out, answer, numbers
from training.errors import UserError


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

    bundle = _open(model)
    title = f"{bundle.config.name}: {samples} texts of {tokens} tokens for each way to begin"
    answer("seed-words", title, out, lambda: run(bundle, samples, tokens, seed))


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

    bundle = _open(model)
    if not bundle.categories:
        raise UserError(f"model {bundle.config.name!r} has no categories")
    chosen = numbers(strengths, "--strengths", float)
    answer("conditioning", f"{bundle.config.name}: by strength of guidance", out, lambda: run(bundle, chosen))


@plain_errors
def memory(
    model: Annotated[str, typer.Argument(help="A model of running text: name or bundle directory.")],
    contexts: Annotated[
        str, typer.Option(help="How many tokens before are shown.")
    ] = "1,2,4,8,16,32,64,128,256",
    places: Annotated[int, typer.Option(min=10, help="Held-out tokens of each kind to predict.")] = 400,
    out: Out = None,
) -> None:
    """How far back does a model look? The same held-out tokens, predicted from their last 1, 2, 4, … tokens.

    Example:

      inkwell experiment memory prose --contexts 1,4,16,64,256
    """
    from training.experiments.memory import memory as run

    bundle = _open(model)
    lengths = [int(length) for length in numbers(contexts, "--contexts", int)]
    title = f"{bundle.config.name}: nats per token by tokens that stand before"
    answer("memory", title, out, lambda: run(bundle, lengths, places))


@plain_errors
def echoes(
    model: Annotated[str, typer.Argument(help="A model of names with categories.")] = "names",
    each: Annotated[int, typer.Option("--samples", "-n", min=1, help="Names of each category.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    out: Out = None,
) -> None:
    """Do names repeat what their category is called: "bear" among the Bears?

    Example:

      inkwell experiment echoes names --samples 50
    """
    from training.evaluation import generate_texts
    from training.experiments.names import echoes as run

    bundle = _open(model)
    if not bundle.categories:
        raise UserError(f"model {bundle.config.name!r} has no categories")
    asked = [category for category in bundle.categories for _ in range(each)]
    found = zip(generate_texts(bundle, len(asked), seed, asked), asked, strict=True)
    answer("echoes", f"{bundle.config.name}: {each} names of each category", out, lambda: run(found))


@plain_errors
def neighbours(
    model: Annotated[str, typer.Argument(help="Any model: name or bundle directory.")],
    tokens: Annotated[list[str], typer.Argument(help="Tokens; a word takes its first one.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Neighbours of each.")] = 10,
    out: Out = None,
) -> None:
    """Which tokens has a model come to think alike? The nearest by cosine.

    Example:

      inkwell experiment neighbours stories king ship a
    """
    from training.figures.embedding import neighbours as run
    from training.figures.inside import labels_of

    bundle = _open(model)
    rows = []
    for word in tokens:
        # a piece that begins a word holds the space before it
        ids = min((bundle.tokenizer.encode(text) for text in (word, f" {word}")), key=len)
        if not ids:
            raise UserError(
                f"{word!r} is no token of {bundle.config.name!r}: it knows none of its characters"
            )
        near = run(bundle, ids[0], count)
        labels = labels_of(bundle, [token for token, _ in near])
        listed = {
            str(rank): f"{label} {cosine:.2f}"
            for rank, (label, (_, cosine)) in enumerate(zip(labels, near, strict=True), 1)
        }
        rows.append({"token": labels_of(bundle, ids[:1])[0], **listed})
    answer("neighbours", f"{bundle.config.name}: nearest tokens and their cosines", out, lambda: rows)


def _open(model: str) -> Bundle:
    return open_bundle(find_model(model))


COMMANDS = {
    "seed-words": seed_words,
    "conditioning": conditioning,
    "memory": memory,
    "echoes": echoes,
    "neighbours": neighbours,
}
