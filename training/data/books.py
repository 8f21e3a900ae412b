"""Books and pages (EPUB, PDF, HTML, a folder of scraped pages) to documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.data.blocks import Chapter, decoded, read_html, titled
from training.data.corpus import Document
from training.data.name_lists import from_lines, read_names
from training.data.pages import INDEX, read_index
from training.data.read_epub import read_epub
from training.data.read_pdf import read_pdf
from training.data.report import DropLog
from training.data.textio import TextOptions, read_text
from training.errors import DataError

HTML_SUFFIXES = (".html", ".htm", ".xhtml")
BOOK_SUFFIXES = (".epub", ".pdf", *HTML_SUFFIXES)
MOST_HTML_BYTES = 20_000_000


def is_book(path: Path) -> bool:
    """Whether a path is named like something this file reads: a book, a page, a folder of pages."""
    if path.is_dir():
        return (path / INDEX).is_file() or any(p.suffix.lower() in HTML_SUFFIXES for p in path.rglob("*"))
    return path.suffix.lower() in BOOK_SUFFIXES


def read_chapters(path: Path, log: DropLog) -> list[Chapter]:
    """The chapters of a book, page or folder of pages. Raises DataError when there is none with text."""
    if path.is_dir():
        chapters = [chapter for file, name in _files(path) if (chapter := _html(file, name, log)) is not None]
    elif path.suffix.lower() == ".epub":
        chapters = read_epub(path, log)
    elif path.suffix.lower() == ".pdf":
        chapters = read_pdf(path, log)
    else:
        page = _html(path, path.name, log)
        chapters = [] if page is None else [page]
    if not chapters:
        raise DataError(f"{path}: no page in it holds text")
    return chapters


def _files(folder: Path) -> list[tuple[Path, str]]:
    """Pages in the order of their list, else of their names."""
    listed = [page.file for page in read_index(folder) if page.file]
    names = listed or sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in HTML_SUFFIXES
    )
    return [(folder / name, name) for name in names]


def _html(path: Path, name: str, log: DropLog) -> Chapter | None:
    try:
        size = path.stat().st_size
        if size > MOST_HTML_BYTES:
            raise DataError(f"{path}: has {size} bytes; {MOST_HTML_BYTES} are allowed")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix.lower() == ".txt":
        return from_lines(name, path.stem, decoded(data).splitlines())
    page = read_html(decoded(data))
    if not page.blocks:
        log.drop("page", "no text", name)
        return None
    log.file(name, f"page, {len(page.blocks)} blocks")
    return titled(name, page.title, page.blocks)


def text_chapter(path: Path, options: TextOptions) -> Chapter:
    """A plain text file whose headings stand alone or in capitals."""
    return from_lines(path.name, path.stem, read_text(path, options).splitlines())


def whole_texts(chapters: Sequence[Chapter]) -> list[Document]:
    """One document per chapter."""
    return [Document(c.text, id=c.name, group=c.name) for c in chapters if c.text.strip()]


def names(chapters: Sequence[Chapter], path: Path, log: DropLog) -> list[Document]:
    """One document per name. Raises DataError when nothing looks like one."""
    found = read_names(chapters, log)
    if not found:
        raise DataError(f"{path}: nothing in it looks like a list of names")
    return found
