"""`inkwell data build`: texts of all kinds to a corpus file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from training.commands.data_common import fetch_corpus, plain_errors
from training.data.corpus import Corpus, Kind, save_jsonl
from training.data.fetch import open_source
from training.data.grouping import DEFAULT_MAPPING, UnmappedRule, apply_grouping, load_grouping
from training.data.load import LoadOptions, load_reported
from training.data.read_txt import Division
from training.data.read_wiki import WikiOptions, is_wiki_dump, mapping_template, read_wiki
from training.data.report import DropLog, DropReport
from training.data.souls import SoulsOptions
from training.data.sources import SOURCES_DIR
from training.data.textio import TextOptions, write_atomically
from training.errors import UserError

BuildKind = Literal["auto", "souls", "text", "stories", "names", "wiki", "jsonl", "source"]
Unmapped = Literal["keep", "unknown", "drop", "error"]
EXAMPLES = (
    "Examples: [bold]inkwell data build souls unpacked/ --out souls.jsonl --report drops.json[/bold]  ·  "
    "[bold]inkwell data build names names.csv --out names.jsonl --group[/bold]  ·  "
    "[bold]inkwell data build names book-of-names.epub --out names.jsonl[/bold]  ·  "
    "[bold]inkwell data build wiki dump.xml.bz2 --out names.jsonl --groups folk.toml --unmapped drop[/bold]  ·  "
    "[bold]inkwell data build source anna --out anna.jsonl[/bold]"
)


@plain_errors
def build(
    kind: Annotated[
        BuildKind,
        typer.Argument(
            help="souls: game texts; text: one stream; stories: documents; names: also those under headings in "
            "EPUB, PDF and HTML; wiki: a MediaWiki export; jsonl; source: a corpus of the catalogue; "
            "auto: by the file."
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
    headings: Annotated[
        bool, typer.Option(help="names: also in TXT the names stand under headings, several in a line.")
    ] = False,
    namespaces: Annotated[
        str, typer.Option(help="wiki: numbers of the namespaces to take; 0 are articles.")
    ] = "0",
    list_categories: Annotated[
        Path | None,
        typer.Option(help="wiki: also write all raw categories as a file of groups to be edited."),
    ] = None,
    group: Annotated[bool, typer.Option(help="Replace categories by groups.")] = False,
    groups: Annotated[
        Path | None, typer.Option(help="The TOML file of groups. [default: the one that ships with it]")
    ] = None,
    unmapped: Annotated[Unmapped, typer.Option(help="Labels that are in no group.")] = "keep",
    min_count: Annotated[int, typer.Option(help="Smaller groups become 'unknown'.")] = 1,
    mirror: Annotated[Path | None, typer.Option(help="source: take files from this folder.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="source: where corpora are kept.")] = None,
    sources: Annotated[Path, typer.Option(help="Folder of catalogue files.", hidden=True)] = SOURCES_DIR,
) -> None:
    """Make a corpus file out of texts, and say what was left out and why."""
    console = Console()
    if kind == "source":
        corpus = open_source(fetch_corpus(path, mirror, data_dir, False, sources), limit)
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
            wiki=_wiki_options(kind, namespaces, group, groups, unmapped),
            names=kind == "names" and (headings or Path(path).suffix.lower() not in _FLAT),
        )
        if list_categories is not None:
            _list_categories(Path(path), options.wiki, list_categories, console)
        corpus, drops = load_reported(Path(path), _corpus_kind(kind), options, name)
        _check_kind(kind, Path(path), corpus)
        console.print(drops.render())
    if group or (groups is not None and kind != "wiki") or min_count > 1:
        known = kind == "wiki"  # its categories were mapped as they were read
        corpus = _group(corpus, groups or DEFAULT_MAPPING, "keep" if known else unmapped, min_count, console)
    save_jsonl(corpus, out)
    _show_kept(corpus, console)
    if report is not None:
        write_atomically(report, [json.dumps(_report(corpus, drops), ensure_ascii=False, indent=2), "\n"])
    console.print(
        Text(
            f"{out}: {corpus.kind}, {len(corpus)} documents, {corpus.characters} characters, {corpus.sha256}"
        ),
        soft_wrap=True,
    )


def _show_kept(corpus: Corpus, console: Console) -> None:
    """What the corpus is made of, and a few of its documents: the quickest way to see a mistake."""
    categories = list(corpus.categories.items())
    if categories:
        more = f" and {len(categories) - 12:,} more" if len(categories) > 12 else ""
        listed = ", ".join(f"{name} {count:,}" for name, count in categories[:12])
        console.print(Text(f"kept by category: {listed}{more}"), soft_wrap=True)
    if len(corpus) > 2:
        for at in (0, len(corpus) // 2, len(corpus) - 1):
            text = " ".join(corpus.documents[at].text[:200].split())
            console.print(
                Text(f"  {text[:100]}{'…' if len(text) > 100 else ''}", style="dim"), soft_wrap=True
            )


def _corpus_kind(kind: BuildKind) -> Kind | None:
    if kind == "text":
        return "stream"
    return "documents" if kind in ("souls", "stories", "names", "wiki") else None


_SUFFIXES: dict[str, tuple[str, ...]] = {
    "souls": (".xml", ".fmg", ".msgbnd", ".dcx"),
    "jsonl": (".jsonl", ".ndjson"),
    "wiki": (".xml", ".bz2", ".gz"),
}
_FLAT = (".txt", ".text", ".md", ".csv", ".tsv", ".jsonl", ".ndjson")
"""Files that hold one name per line or row, unless `--headings` says otherwise."""


def _check_kind(kind: BuildKind, path: Path, corpus: Corpus) -> None:
    allowed = _SUFFIXES.get(kind)
    if allowed and path.is_file() and path.suffix.lower() not in allowed:
        raise UserError(f"{path}: `build {kind}` reads {', '.join(allowed)}; use `build auto`")
    if kind == "names" and len(corpus) == 1:
        raise UserError(f"{path}: only one name found; say how names are divided (--division line)")


def _wiki_options(
    kind: BuildKind, namespaces: str, group: bool, groups: Path | None, unmapped: Unmapped
) -> WikiOptions:
    """A wiki's pages have many categories each, so the mapping is needed while they are read."""
    try:
        numbers = tuple(int(part) for part in namespaces.split(",") if part.strip())
    except ValueError:
        raise UserError(f"--namespaces {namespaces!r} must be whole numbers separated by commas") from None
    mapped = kind == "wiki" and (group or groups is not None)
    mapping = load_grouping(groups or DEFAULT_MAPPING) if mapped else None
    return WikiOptions(numbers, mapping, unmapped)


def _list_categories(path: Path, options: WikiOptions, out: Path, console: Console) -> None:
    if not is_wiki_dump(path):
        raise UserError(f"--list-categories: {path} is no MediaWiki export (.xml, .xml.bz2, .xml.gz)")
    _, categories, _ = read_wiki(path, WikiOptions(options.namespaces), DropLog())
    write_atomically(out, [mapping_template(categories)])
    console.print(Text(f"{out}: {len(categories)} categories, to be edited and given as --groups"))


def _report(corpus: Corpus, drops: DropReport | None) -> dict[str, object]:
    built = {"name": corpus.name, "kind": corpus.kind, "documents": len(corpus), "sha256": corpus.sha256}
    return {"corpus": {**built, "characters": corpus.characters}, "drops": drops.to_dict() if drops else None}


def _group(
    corpus: Corpus,
    path: Path,
    unmapped: UnmappedRule,
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
