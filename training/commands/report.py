"""`inkwell report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.commands.common import find_model, plain_errors
from training.data.load import load
from training.data.textio import write_atomically
from training.errors import UserError

console = Console()


@plain_errors
def report(
    source: Annotated[Path, typer.Argument(help="The corpus: text, CSV, JSONL, or a folder of game files.")],
    generated: Annotated[Path | None, typer.Option(help="A file of generated texts to compare.")] = None,
    model: Annotated[str | None, typer.Option(help="Or generate them with this model.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=2, help="How many texts to generate.")] = 200,
    url: Annotated[str | None, typer.Option(help="Generate through this server instead of here.")] = None,
    seed: Annotated[int, typer.Option(help="First seed of the sample.")] = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The page to write; the data goes beside it.")
    ] = Path("report.html"),
) -> None:
    """Describe a corpus, and what a model made of it, as a page and as JSON. Examples:

      inkwell report training/corpora/stories.txt

      inkwell report training/corpora/souls --model souls --count 500 --out souls.html

      inkwell report training/corpora/souls --model souls --url http://127.0.0.1:8000

      inkwell report corpus.txt --generated samples.txt

    Exit codes: 0 done, 2 bad option, 3 bad corpus or model, or no answer from the server.
    """
    try:
        from training.report.page import make_report, render
        from training.report.sample import local_sample, served_sample
    except ImportError as error:
        raise UserError(
            f"the report needs matplotlib, scikit-learn and jinja2 ({error}); pip install 'inkwell[report]'"
        ) from error
    if generated is not None and model is not None:
        raise UserError("give --generated or --model, not both")
    if url is not None and model is None:
        raise UserError("--url needs --model")
    corpus = load(source)
    texts = [document.text for document in corpus.documents]
    other: list[str] | None = None
    extra: dict[str, object] = {}
    if generated is not None:
        other = [document.text for document in load(generated, "documents").documents]
        extra["how"] = f"Source {source}, generated texts from {generated}."
    elif model is not None:
        sample = (
            served_sample(url, model, count, seed) if url else local_sample(find_model(model), count, seed)
        )
        other = list(sample.texts)
        extra["how"] = f"Source {source}; {sample.speed()}"
        extra["seconds_per_text"] = sample.seconds_each
        extra["seconds_per_sentence"] = sample.seconds_per_sentence
        console.print(sample.speed(), highlight=False, soft_wrap=True)
    made = make_report(texts, other, corpus.name, extra)
    write_atomically(out, [render(made)])
    data = out.with_suffix(".json")
    write_atomically(
        data, [json.dumps({k: v for k, v in made.items() if k != "lengths"}, ensure_ascii=False, indent=1)]
    )
    table = Table(box=None)
    for heading in ("", *(side for side in ("source", "generated") if side in made)):
        table.add_column(heading, justify="right" if heading else "left")
    for key in ("texts", "sentences", "words", "unique_words"):
        table.add_row(
            key.replace("_", " "), *(f"{made[s][key]:,}" for s in ("source", "generated") if s in made)
        )
    console.print(table)
    if "missing" in made:
        console.print(made["missing"], style="yellow", highlight=False, soft_wrap=True)
    console.print(f"{out} and {data}", highlight=False)
