"""`inkwell data`: fetch, build, list, show and split corpora."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from training.commands import data_build, data_make
from training.commands.data_common import fetch_corpus, plain_errors
from training.data.corpus import Kind, save_jsonl
from training.data.load import load_reported
from training.data.sources import SOURCES_DIR, find_source, list_sources
from training.data.split import Copies, SplitOptions, split
from training.data.stats import describe
from training.settings import Settings

app = typer.Typer(
    name="data",
    help="Corpora: fetch public ones, build your own, look at them, split them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command("list", epilog="Example: [bold]inkwell data list[/bold]")
@plain_errors
def list_command(
    sources: Annotated[Path, typer.Option(help="Folder of catalogue files.", hidden=True)] = SOURCES_DIR,
) -> None:
    """The public corpora that can be fetched."""
    here = Settings.from_env().data_dir
    table = Table("name", "kind", "what", "licence", "here", box=None, pad_edge=False)
    for spec in list_sources(sources):
        there = (here / spec.name / spec.corpus.file).is_file()
        table.add_row(spec.name, spec.corpus.kind, spec.title, spec.licence, "yes" if there else "")
    Console().print(table)


@app.command(
    epilog="Examples: [bold]inkwell data fetch names_makemore[/bold]  ·  "
    "[bold]inkwell data fetch psammead --mirror ~/corpora[/bold]"
)
@plain_errors
def fetch(
    names: Annotated[list[str], typer.Argument(help="Corpora of `inkwell data list`.")],
    mirror: Annotated[
        Path | None,
        typer.Option(
            help="Take files from this folder instead of the net (hashes are checked all the same)."
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where corpora are kept.")] = None,
    strict: Annotated[
        bool, typer.Option(help="Fail when a made file differs from its recorded hash.")
    ] = False,
    sources: Annotated[Path, typer.Option(help="Folder of catalogue files.", hidden=True)] = SOURCES_DIR,
) -> None:
    """Bring public corpora here. Downloads go on where they were cut off."""
    specs = [find_source(name, sources) for name in names]
    for spec in specs:
        fetched = fetch_corpus(spec.name, mirror, data_dir, strict, sources)
        state = "hash verified" if fetched.verified else "hash not in the catalogue"
        Console().print(
            Text(f"{spec.name}: {fetched.path} ({state}; licence: {spec.licence})"), soft_wrap=True
        )


app.command(epilog=data_build.EXAMPLES)(data_build.build)
app.command(epilog=data_make.SCRAPE_EXAMPLES)(data_make.scrape)
app.command(epilog=data_make.PRODUCT_EXAMPLES)(data_make.product)


@app.command(epilog="Example: [bold]inkwell data show names.jsonl[/bold]")
@plain_errors
def show(
    path: Annotated[Path, typer.Argument(help="A corpus file, or any text that can be read.")],
    kind: Annotated[Kind | None, typer.Option(help="Read as stream or documents.")] = None,
    samples: Annotated[int, typer.Option(help="How many documents to show.", min=0)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Figures as JSON.")] = False,
) -> None:
    """Figures of a corpus: sizes, lengths, symbols, categories, copies."""
    corpus, _ = load_reported(path, kind)
    figures = describe(corpus)
    if as_json:
        typer.echo(json.dumps(figures.to_dict(), ensure_ascii=False, indent=2))
        return
    console = Console()
    console.print(figures.render())
    for document in corpus.documents[:samples]:
        text = " ".join(document.text[:200].split())
        console.print(Text.assemble((f"[{document.category}] " if document.category else "", "cyan"), text))


@app.command(
    "split",
    epilog="Examples: [bold]inkwell data split names.jsonl --out splits/ --val 0.1 --test 0.1[/bold]  ·  "
    "[bold]inkwell data split souls.jsonl --out splits/ --holdout ds1[/bold]",
)
@plain_errors
def split_command(
    path: Annotated[Path, typer.Argument(help="A corpus file, or any text that can be read.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for train.jsonl, val.jsonl, test.jsonl.")],
    val: Annotated[float, typer.Option(help="Fraction for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Fraction for testing.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Decides which names go where.")] = 42,
    holdout: Annotated[str | None, typer.Option(help="This group becomes the test part.")] = None,
    by_group: Annotated[
        bool, typer.Option("--by-group", help="The groups train, val and test are the parts already.")
    ] = False,
    copies: Annotated[
        Copies, typer.Option(help="Out before documents are split, or kept as published figures keep them.")
    ] = "out",
    kind: Annotated[Kind | None, typer.Option(help="Read as stream or documents.")] = None,
) -> None:
    """Cut a corpus into train, validation and test parts that share no text."""
    corpus, _ = load_reported(path, kind)
    parts = split(corpus, SplitOptions(val, test, seed, holdout, by_group, copies))
    table = Table("part", "documents", "characters", "sha256", box=None, pad_edge=False)
    for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test)):
        if part is not None:
            save_jsonl(part, out / f"{name}.jsonl")
            table.add_row(name, str(len(part)), str(part.characters), part.sha256[:16])
    console = Console()
    console.print(table)
    if parts.copies or parts.leaking:
        console.print(
            f"left out: {parts.copies} copies, {parts.leaking} that stand in the held-out group too"
        )
    if parts.shared:
        console.print(f"{parts.shared} held-out documents are trained on as well", style="yellow")
