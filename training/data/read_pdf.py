"""PDF: lines with the size of their letters, larger ones being headings."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from training.data.blocks import Block, Chapter
from training.data.report import DropLog
from training.errors import DataError, UserError

MOST_PAGES = 5000
MOST_LEVELS = 6
_LARGER = 1.12  # of the usual size: what is no heading may still be set a little larger
_MOST_HEADING_CHARS = 80
_LEAST_PAGES_OF_FURNITURE = 4


class Line(NamedTuple):
    """One line of a page; `size` is the height of most of its letters in points."""

    text: str
    size: float


def read_pdf(path: Path, log: DropLog) -> list[Chapter]:
    """The whole text as one chapter.

    Lines that stand on more than half of the pages (running titles) and page numbers are left out. Raises
    DataError for what is no PDF, is locked by a password, or has no text in it, and UserError without pypdf.
    """
    pages = _pages(path)
    furniture = _furniture(pages)
    kept: list[Line] = []
    for number, lines in enumerate(pages, 1):
        for line in lines:
            if line.text in furniture:
                log.drop(
                    "line", "running title, on more than half of the pages", f"page {number}: {line.text}"
                )
            elif line in (lines[0], lines[-1]) and line.text.strip("-–— ").isdigit():
                log.drop("line", "page number", f"page {number}: {line.text}")
            else:
                kept.append(line)
    if not kept:
        raise DataError(f"{path}: holds no text; are its pages scanned pictures? Those need OCR first")
    log.file(path.name, f"PDF, {len(pages)} pages, {len(kept)} lines")
    return [Chapter(path.stem, path.stem, tuple(_blocks(kept)))]


def _pages(path: Path) -> list[list[Line]]:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError as error:
        raise UserError(
            f"{path}: reading PDF needs pypdf ({error}); pip install 'inkwell[sources]'"
        ) from None
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it mends many small faults, and tells of each
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise DataError(f"{path}: is locked by a password")
        if len(reader.pages) > MOST_PAGES:
            raise DataError(f"{path}: has {len(reader.pages)} pages; {MOST_PAGES} are allowed")
        return [_lines(page) for page in reader.pages]
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (PyPdfError, ValueError, KeyError, TypeError, RecursionError, NotImplementedError) as error:
        # a broken file can fail anywhere in the library
        raise DataError(
            f"{path}: not a PDF that can be read ({str(error) or type(error).__name__})"
        ) from None


def _lines(page: Any) -> list[Line]:
    """Lines in the order in which the page draws them, which for columns is column by column."""
    pieces: list[tuple[str, float]] = []

    def visit(text: str, outer: Sequence[float], inner: Sequence[float], _font: object, size: float) -> None:
        # the size on the page is that of the font, scaled by both matrices
        scale = (abs(inner[3]) or abs(inner[1]) or 1.0) * (abs(outer[3]) or abs(outer[1]) or 1.0)
        pieces.append((text, round(float(size) * scale, 1)))

    page.extract_text(visitor_text=visit)
    lines: list[Line] = []
    parts: list[tuple[str, float]] = []
    for text, size in pieces:
        first, *more = text.split("\n")
        parts.append((first, size))
        for following in more:
            _close(parts, lines)
            parts = [(following, size)]
    _close(parts, lines)
    return lines


def _close(parts: list[tuple[str, float]], lines: list[Line]) -> None:
    text = " ".join("".join(part for part, _ in parts).split())
    if not text:
        return
    sizes: Counter[float] = Counter()
    for part, size in parts:
        sizes[size] += len(part.strip())
    lines.append(Line(text, sizes.most_common(1)[0][0]))


def _furniture(pages: Sequence[Sequence[Line]]) -> set[str]:
    """Texts that stand at the top or bottom of more than half of the pages."""
    if len(pages) < _LEAST_PAGES_OF_FURNITURE:
        return set()
    counts = Counter(text for lines in pages for text in {line.text for line in (*lines[:2], *lines[-2:])})
    return {text for text, count in counts.items() if count > len(pages) / 2}


def _blocks(lines: Sequence[Line]) -> list[Block]:
    """Lines as blocks: those larger than the usual size are headings, the largest of level 1."""
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    usual = sizes.most_common(1)[0][0]
    larger = sorted({line.size for line in lines if line.size >= usual * _LARGER}, reverse=True)
    levels = {size: min(level, MOST_LEVELS) for level, size in enumerate(larger, 1)}
    blocks: list[Block] = []
    open_lines: list[str] = []
    for line in lines:
        level = levels.get(line.size, 0)
        if level and len(line.text) <= _MOST_HEADING_CHARS:
            if open_lines:
                blocks.append(Block("paragraph", "\n".join(open_lines)))
                open_lines = []
            blocks.append(Block("heading", line.text, level))
        else:
            open_lines.append(line.text)
    if open_lines:
        blocks.append(Block("paragraph", "\n".join(open_lines)))
    return blocks
