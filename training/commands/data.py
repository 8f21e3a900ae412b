"""`inkwell data`: fetch, build, list, show and split corpora."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from training.data.corpus import Corpus, Kind, save_jsonl
from training.data.fetch import Fetched, Fetcher, open_source
from training.data.grouping import DEFAULT_MAPPING, apply_grouping, load_grouping
from training.data.load import LoadOptions, load_reported
from training.data.read_txt import Division
from training.data.report import DropReport
from training.data.souls import SoulsOptions
from training.data.sources import SOURCES_DIR, find_source, list_sources
from training.data.split import SplitOptions, split
from training.data.stats import describe
from training.data.textio import TextOptions, write_atomically
from training.errors import TrainingError, UserError
from training.settings import Settings

app = typer.Typer(
    name="data",
    help="Corpora: fetch public ones, build your own, look at them, split them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

BuildKind = Literal["auto", "souls", "text", "stories", "names", "jsonl", "source"]
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _plain_errors(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Errors of our own tree become one red sentence and their exit code."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except TrainingError as error:
            Console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
            raise typer.Exit(error.exit_code) from None

    return run


@app.command("list", epilog="Example: [bold]inkwell data list[/bold]")
@_plain_errors
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
@_plain_errors
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
        fetched = _fetch(spec.name, mirror, data_dir, strict, sources)
        state = "hash verified" if fetched.verified else "hash not in the catalogue"
        Console().print(
            Text(f"{spec.name}: {fetched.path} ({state}; licence: {spec.licence})"), soft_wrap=True
        )


def _fetch(name: str, mirror: Path | None, data_dir: Path | None, strict: bool, sources: Path) -> Fetched:
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


@app.command(
    epilog="Examples: [bold]inkwell data build souls unpacked/ --out souls.jsonl --report drops.json[/bold] ·"
    " [bold]inkwell data build names names.csv --out names.jsonl --group[/bold]  ·  "
    "[bold]inkwell data build source anna --out anna.jsonl[/bold]"
)
@_plain_errors
def build(
    kind: Annotated[
        BuildKind,
        typer.Argument(
            help="souls: game texts; text: one stream; stories: documents; names; jsonl; "
            "source: a corpus of the catalogue; auto: by the file."
        ),
    ],
    path: Annotated[str, typer.Argument(help="File or folder; for `source` the corpus's name.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The corpus file to write (.jsonl).")],
    report: Annotated[Path | None, typer.Option(help="Write what was left out, as JSON.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the corpus (default: from the file).")] = None,
    division: Annotated[
        Division, typer.Option(help="TXT: how documents are divided (auto looks at the file).")
    ] = "auto",
    text_column: Annotated[str | None, typer.Option(help="CSV column or JSONL field of the text.")] = None,
    title_column: Annotated[
        str | None, typer.Option(help="JSONL field put before the text as 'Title. '.")
    ] = None,
    category_column: Annotated[
        str | None, typer.Option(help="CSV column or JSONL field of the category.")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="CSV: one character (default: comma, tab in .tsv).")
    ] = None,
    header: Annotated[
        bool, typer.Option(help="CSV: the first row names the columns, else they are 1, 2, …")
    ] = True,
    encoding: Annotated[str, typer.Option(help="Text encoding where no byte-order mark says it.")] = "utf-8",
    replace: Annotated[
        bool, typer.Option(help="Put U+FFFD for undecodable bytes instead of failing.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after so many documents.")] = None,
    output: Annotated[
        Literal["items", "sentences"], typer.Option(help="souls: one document per item or per sentence.")
    ] = "items",
    category: Annotated[
        Literal["kind", "type", "none"], typer.Option(help="souls: what the category is.")
    ] = "kind",
    lines: Annotated[bool, typer.Option(help="souls: also take talk and other texts without items.")] = True,
    keep_skills: Annotated[bool, typer.Option(help="souls: keep the text under 'Skill:'.")] = False,
    keep_duplicates: Annotated[bool, typer.Option(help="souls: keep items with equal descriptions.")] = False,
    group: Annotated[bool, typer.Option(help="Replace categories by groups.")] = False,
    groups: Annotated[Path, typer.Option(help="The TOML file of groups.")] = DEFAULT_MAPPING,
    unmapped: Annotated[
        Literal["keep", "unknown", "drop", "error"], typer.Option(help="Labels that are in no group.")
    ] = "keep",
    min_count: Annotated[int, typer.Option(help="Smaller groups become 'unknown'.")] = 1,
    mirror: Annotated[Path | None, typer.Option(help="source: take files from this folder.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="source: where corpora are kept.")] = None,
    sources: Annotated[Path, typer.Option(help="Folder of catalogue files.", hidden=True)] = SOURCES_DIR,
) -> None:
    """Make a corpus file out of texts, and say what was left out and why."""
    console = Console()
    if kind == "source":
        corpus = open_source(_fetch(path, mirror, data_dir, False, sources), limit)
        drops = None
    else:
        options = LoadOptions(
            text=TextOptions(encoding, replace),
            division=division,
            text_column=text_column,
            title_column=title_column,
            category_column=category_column,
            delimiter=delimiter,
            header=header,
            limit=limit,
            souls=SoulsOptions(output, category, lines, keep_skills, keep_duplicates),
        )
        corpus, drops = load_reported(Path(path), _corpus_kind(kind), options, name)
        _check_kind(kind, Path(path), corpus)
        console.print(drops.render())
    if group:
        corpus = _group(corpus, groups, unmapped, min_count, console)
    save_jsonl(corpus, out)
    if report is not None:
        write_atomically(report, [json.dumps(_report(corpus, drops), ensure_ascii=False, indent=2), "\n"])
    console.print(
        Text(
            f"{out}: {corpus.kind}, {len(corpus)} documents, {corpus.characters} characters, {corpus.sha256}"
        ),
        soft_wrap=True,
    )


def _corpus_kind(kind: BuildKind) -> Kind | None:
    if kind == "text":
        return "stream"
    return "documents" if kind in ("souls", "stories", "names") else None


_SUFFIXES: dict[str, tuple[str, ...]] = {
    "souls": (".xml", ".fmg", ".msgbnd", ".dcx"),
    "jsonl": (".jsonl", ".ndjson"),
}


def _check_kind(kind: BuildKind, path: Path, corpus: Corpus) -> None:
    allowed = _SUFFIXES.get(kind)
    if allowed and path.is_file() and path.suffix.lower() not in allowed:
        raise UserError(f"{path}: `build {kind}` reads {', '.join(allowed)}; use `build auto`")
    if kind == "names" and len(corpus) == 1:
        raise UserError(f"{path}: only one name found; say how names are divided (--division line)")


def _report(corpus: Corpus, drops: DropReport | None) -> dict[str, object]:
    built = {"name": corpus.name, "kind": corpus.kind, "documents": len(corpus), "sha256": corpus.sha256}
    return {"corpus": {**built, "characters": corpus.characters}, "drops": drops.to_dict() if drops else None}


def _group(
    corpus: Corpus,
    path: Path,
    unmapped: Literal["keep", "unknown", "drop", "error"],
    smallest: int,
    console: Console,
) -> Corpus:
    grouped, report = apply_grouping(corpus, load_grouping(path), unmapped, smallest)
    console.print(
        Text(f"grouped {len(corpus.categories)} labels into {len(report.counts)} groups", style="bold")
    )
    if report.unmapped:
        listed = ", ".join(f"{label} ({count})" for label, count in list(report.unmapped.items())[:20])
        console.print(Text(f"{len(report.unmapped)} labels in no group ({unmapped}): {listed}"))
    if report.small:
        console.print(Text(f"too small, now 'unknown': {', '.join(report.small)}"))
    return grouped


@app.command(epilog="Example: [bold]inkwell data show names.jsonl[/bold]")
@_plain_errors
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
@_plain_errors
def split_command(
    path: Annotated[Path, typer.Argument(help="A corpus file, or any text that can be read.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for train.jsonl, val.jsonl, test.jsonl.")],
    val: Annotated[float, typer.Option(help="Fraction for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Fraction for testing.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Decides which names go where.")] = 42,
    holdout: Annotated[str | None, typer.Option(help="This group becomes the test part.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Read as stream or documents.")] = None,
) -> None:
    """Cut a corpus into train, validation and test parts that share no text."""
    corpus, _ = load_reported(path, kind)
    parts = split(corpus, SplitOptions(val, test, seed, holdout))
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
