"""`inkwell data scrape` and `inkwell data product`: bring pages here, and multiply names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from training.commands.data_common import fetch_corpus, plain_errors
from training.data.corpus import Corpus, save_jsonl
from training.data.fetch import open_source
from training.data.load import LoadOptions, load
from training.data.pages import PageStore
from training.data.polite import Polite
from training.data.product import ProductOptions
from training.data.product import product as multiply
from training.data.scrape import ScrapeOptions, Scraper

SCRAPE_EXAMPLES = (
    "Examples: [bold]inkwell data scrape https://example.org/names/ --out pages --contact me@example.org "
    "--match /names/[/bold]  ·  then [bold]inkwell data build names pages --out names.jsonl[/bold]"
)
PRODUCT_EXAMPLES = (
    "Example: [bold]inkwell data product forenames_by_country surnames_by_country --out people.jsonl "
    "--count 20000[/bold]  ·  then [bold]inkwell train names --corpus people.jsonl --set split.by_group=true[/bold]"
)


@plain_errors
def scrape(
    url: Annotated[str, typer.Argument(help="The page to begin with; its links are followed.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pages and their list.")],
    contact: Annotated[
        str,
        typer.Option(help="Your e-mail address or web page: the site's owner sees it in every request."),
    ],
    pages: Annotated[int, typer.Option(min=1, help="At most so many pages.")] = 200,
    depth: Annotated[int, typer.Option(min=0, help="At most so many links away from the first page.")] = 3,
    match: Annotated[
        str, typer.Option(help="Only addresses in which this regular expression is found.")
    ] = "",
    delay: Annotated[
        float, typer.Option(min=0, help="Seconds between requests; robots.txt may ask for more.")
    ] = 1.0,
    patience: Annotated[
        float, typer.Option(min=0, help="The longest pause, in seconds, that the site may ask for.")
    ] = 120.0,
    total_mb: Annotated[float, typer.Option(min=0.001, help="Megabytes of all answers together.")] = 100.0,
    page_mb: Annotated[float, typer.Option(min=0.001, help="Megabytes of one page.")] = 5.0,
    fresh_hours: Annotated[
        float, typer.Option(min=0, help="Pages that came within this time are not asked for again.")
    ] = 24.0,
    queries: Annotated[bool, typer.Option(help="Also addresses with a '?'.")] = False,
) -> None:
    """Bring the pages of one site here, as its robots.txt allows: slowly, one host, with limits.

    Run again, it goes on where it stopped and asks only for what has changed. Whether you may use what comes is
    for you to know: look for the site's licence first.
    """
    console = Console()
    options = ScrapeOptions(pages, int(total_mb * 1e6), depth, match, queries, fresh_hours * 3600)
    with Polite(contact, delay, int(page_mb * 1e6), patience) as polite:
        scraper = Scraper(
            PageStore(out), polite, options, lambda line: console.print(Text(line), soft_wrap=True)
        )
        report = scraper.run(url)
    console.print(report.render())
    console.print(
        Text(f"{out}: {report.kept} pages, {polite.received / 1e6:.2f} MB received"), soft_wrap=True
    )


@plain_errors
def product(
    given: Annotated[str, typer.Argument(help="First names: a file, or a corpus of the catalogue.")],
    family: Annotated[str, typer.Argument(help="Surnames: a file, or a corpus of the catalogue.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The corpus file to write (.jsonl).")],
    count: Annotated[int, typer.Option(min=2, help="Full names over all parts.")] = 10_000,
    val: Annotated[float, typer.Option(help="Fraction for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Fraction for testing.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Decides which halves go where, and which meet.")] = 42,
    any_pair: Annotated[
        bool, typer.Option("--any-pair", help="Also pairs of different categories; the first name's holds.")
    ] = False,
    mirror: Annotated[Path | None, typer.Option(help="Catalogue: take files from this folder.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Catalogue: where corpora are kept.")] = None,
) -> None:
    """First names times surnames, after the split: no half of a held-out name is seen in training."""
    console = Console()
    options = ProductOptions(count, val, test, seed, not any_pair)
    corpus, report = multiply(_names(given, mirror, data_dir), _names(family, mirror, data_dir), options)
    save_jsonl(corpus, out)
    console.print(report.render())
    console.print(
        Text(f"{out}: {len(corpus)} full names; train with --set split.by_group=true"), soft_wrap=True
    )


def _names(name: str, mirror: Path | None, data_dir: Path | None) -> Corpus:
    if Path(name).exists():
        return load(Path(name), "documents", LoadOptions(division="line"))
    return open_source(fetch_corpus(name, mirror, data_dir, False))
