"""One door to all readers: a path in, a `Corpus` and a report of what was left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from training.data import books
from training.data import corpus as canonical
from training.data.corpus import KINDS, Corpus, Document, Kind, Source
from training.data.fmg_file import is_fmg_path
from training.data.pages import read_index
from training.data.read_csv import read_csv
from training.data.read_jsonl import read_jsonl
from training.data.read_txt import Division, read_txt
from training.data.read_wiki import WikiOptions, is_wiki_dump, read_wiki
from training.data.report import DropLog, DropReport
from training.data.souls import SoulsOptions, build_souls
from training.data.textio import TextOptions, iter_lines, sha256_file
from training.errors import DataError, UserError

TEXT_SUFFIXES = (".txt", ".text", ".md")
TABLE_SUFFIXES = (".csv", ".tsv")
JSONL_SUFFIXES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class LoadOptions:
    """How a path is read; what does not concern a format is not looked at.

    division: TXT only, see `read_txt`. text_column, title_column, category_column: CSV columns or JSONL
    fields. limit: stop after so many documents (not for streams and game texts). names: names under headings
    instead of whole texts, from EPUB, PDF, HTML and TXT.
    """

    text: TextOptions = field(default_factory=TextOptions)
    division: Division = "auto"
    text_column: str | None = None
    title_column: str | None = None
    category_column: str | None = None
    delimiter: str | None = None
    header: bool = True
    limit: int | None = None
    souls: SoulsOptions = field(default_factory=SoulsOptions)
    wiki: WikiOptions = field(default_factory=WikiOptions)
    names: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit is {self.limit}; it must be 1 or more")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UserError(f"delimiter is {self.delimiter!r}; it must be one character")


def load(
    path: Path, kind: Kind | None = None, options: LoadOptions | None = None, name: str | None = None
) -> Corpus:
    """The corpus in a file or folder, the reader chosen by its suffix. See `load_reported`."""
    return load_reported(path, kind, options, name)[0]


def load_reported(
    path: Path, kind: Kind | None = None, options: LoadOptions | None = None, name: str | None = None
) -> tuple[Corpus, DropReport]:
    """Corpus and cleaning report of a file or folder.

    A folder holds game texts (`*.fmg*`), pages (`*.html`), or text files that become one document each. `kind`
    decides between stream and documents where the format leaves it open. Raises DataError and UserError.
    """
    options = options or LoadOptions()
    if kind is not None and kind not in KINDS:
        raise UserError(f"kind is {kind!r}; allowed are {', '.join(KINDS)}")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir():
        return _folder(path, kind, options, name)
    suffix = path.suffix.lower()
    if is_wiki_dump(path):
        _documents_only(path, kind, "a wiki's export")
        return _wiki(path, options, name)
    if books.is_book(path) or (options.names and suffix in TEXT_SUFFIXES):
        return _book(path, kind, options, name)
    if is_fmg_path(path) or suffix == ".xml":
        _documents_only(path, kind, "game texts")
        return build_souls(path, options.souls, name)
    if suffix in JSONL_SUFFIXES and canonical.is_canonical(next(iter_lines(path, TextOptions()), "")):
        corpus = canonical.load_jsonl(path)
        if kind is not None and kind != corpus.kind:
            raise UserError(f"{path}: is a corpus of kind {corpus.kind}, not {kind}")
        return corpus, DropLog().freeze(corpus.name, len(corpus), len(corpus), "documents")
    log = DropLog()
    if suffix in TEXT_SUFFIXES:
        division = _division(kind, options.division)
        used, documents = read_txt(path, options.text, division, log, options.limit)
        log.file(path.name, f"text, {'one stream' if used == 'stream' else f'documents divided by {used}'}")
        return _finish(path, "stream" if used == "stream" else "documents", documents, log, name)
    if suffix in TABLE_SUFFIXES:
        _documents_only(path, kind, "a table")
        documents = read_csv(
            path,
            options.text,
            log,
            options.text_column,
            options.category_column,
            options.delimiter,
            options.header,
            options.limit,
        )
        return _finish(path, "documents", documents, log, name)
    if suffix in JSONL_SUFFIXES:
        documents = read_jsonl(
            path,
            options.text,
            log,
            options.text_column or "text",
            options.title_column,
            options.category_column or "category",
            options.limit,
        )
        return _finish(path, kind or "documents", documents, log, name)
    known = ", ".join(
        [
            *TEXT_SUFFIXES,
            *TABLE_SUFFIXES,
            *JSONL_SUFFIXES,
            *books.BOOK_SUFFIXES,
            *(".fmg.xml", ".fmg", ".msgbnd", ".dcx", "a wiki's .xml, .xml.bz2, .xml.gz"),
        ]
    )
    raise DataError(
        f"{path}: no reader for {suffix or 'a file without a suffix'!r}; there are readers for {known}"
    )


def _folder(
    path: Path, kind: Kind | None, options: LoadOptions, name: str | None
) -> tuple[Corpus, DropReport]:
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    if any(is_fmg_path(p) for p in files):
        _documents_only(path, kind, "game texts")
        return build_souls(path, options.souls, name)
    if books.is_book(path):
        return _book(path, kind, options, name)
    texts = [p for p in files if p.suffix.lower() in TEXT_SUFFIXES]
    if not texts:
        raise DataError(
            f"{path}: holds neither game texts (*.fmg.xml, *.fmg, *.msgbnd, *.dcx), nor pages (*.html), "
            "nor text files (*.txt)"
        )
    log = DropLog()
    documents: list[Document] = []
    for file in texts:
        documents += read_txt(file, options.text, "stream", log)[1]
        log.file(file.relative_to(path).as_posix(), "text, one document")
    sources = tuple(Source(f.relative_to(path).as_posix(), sha256=sha256_file(f)) for f in texts)
    corpus = Corpus(kind or "stream", tuple(documents[: options.limit]), name or path.resolve().name, sources)
    return corpus, log.freeze(corpus.name, len(texts), len(corpus), "files")


def _book(path: Path, kind: Kind | None, options: LoadOptions, name: str | None) -> tuple[Corpus, DropReport]:
    log = DropLog()
    if path.suffix.lower() in TEXT_SUFFIXES:
        chapters = [books.text_chapter(path, options.text)]
    else:
        chapters = books.read_chapters(path, log)
    if options.names:
        _documents_only(path, kind, "a list of names")
        documents, kind = books.names(chapters, path, log), "documents"
    else:
        documents = books.whole_texts(chapters)
    return _finish(path, kind or "stream", documents[: options.limit], log, name)


def _wiki(path: Path, options: LoadOptions, name: str | None) -> tuple[Corpus, DropReport]:
    log = DropLog()
    documents, _, read = read_wiki(path, options.wiki, log, options.limit)
    corpus, _ = _finish(path, "documents", documents, log, name or path.name.partition(".xml")[0])
    return corpus, log.freeze(corpus.name, read, len(corpus), "pages")


def _division(kind: Kind | None, division: Division) -> Division:
    if kind == "stream" and division not in ("auto", "stream"):
        raise UserError(f"division {division!r} makes documents, kind asks for a stream")
    if kind == "documents" and division == "stream":
        raise UserError("division 'stream' makes a stream, kind asks for documents")
    return "stream" if kind == "stream" else division


def _documents_only(path: Path, kind: Kind | None, what: str) -> None:
    if kind == "stream":
        raise UserError(f"{path}: {what} can only be read as documents, kind asks for a stream")


def _finish(
    path: Path, kind: Kind, documents: Iterable[Document], log: DropLog, name: str | None
) -> tuple[Corpus, DropReport]:
    kept = tuple(_checked(documents, path))
    if not kept:
        raise DataError(f"{path}: holds no text")
    usual = path.stem if path.is_file() else path.resolve().name
    corpus = Corpus(kind, kept, name or usual, tuple(_sources(path)))
    report = log.freeze(corpus.name, 0, len(kept), "documents")
    lost = sum(drop.count for drop in report.drops)
    return corpus, log.freeze(corpus.name, len(kept) + lost, len(kept), "records")


def _sources(path: Path) -> Iterable[Source]:
    if path.is_file():
        yield Source(path.name, sha256=sha256_file(path))
        return
    for page in read_index(path):
        if page.file:
            yield Source(page.file, page.url, page.sha256)


def _checked(documents: Iterable[Document], path: Path) -> Iterable[Document]:
    iterator = iter(documents)
    while True:
        try:
            yield next(iterator)
        except StopIteration:
            return
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
