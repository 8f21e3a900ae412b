"""Plain text: one stream, or documents divided by `<|endoftext|>`, by blank lines, or one per line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from training.data.corpus import Document
from training.data.report import DropLog
from training.data.textio import MAX_LINE_CHARS, TextOptions, iter_text, split_pieces
from training.errors import DataError, UserError

Division = Literal["auto", "stream", "endoftext", "blank", "line"]
DIVISIONS = ("auto", "stream", "endoftext", "blank", "line")
END_OF_TEXT = "<|endoftext|>"

_LOOK_CHARS = 65_536
_SHORT_LINE = 40  # names and titles
_LONG_LINE = 200  # whole stories: nobody wraps prose this wide
_BLANK_LINE = re.compile(r"\n[ \t]*\n")


def guess_division(beginning: str) -> Division:
    """How text that begins so is divided.

    The end-of-text mark decides; without blank lines, lines that are all short (names) or very long on
    average (a story each) are documents; everything else is running text.
    """
    if END_OF_TEXT in beginning:
        return "endoftext"
    if not _BLANK_LINE.search(beginning.strip()):
        lines = [line for line in beginning.split("\n") if line.strip()]
        if len(lines) > 1 and (
            max(map(len, lines)) <= _SHORT_LINE or sum(map(len, lines)) / len(lines) > _LONG_LINE
        ):
            return "line"
    return "stream"


def read_txt(
    path: Path, text: TextOptions, division: Division, log: DropLog, limit: int | None = None
) -> tuple[Division, Iterator[Document]]:
    """How the file was divided, and its documents (a stream is one).

    Raises DataError for bytes that are not text and for a document over the line limit.
    """
    if division not in DIVISIONS:
        raise UserError(f"division is {division!r}; allowed are {', '.join(DIVISIONS)}")
    pieces = iter_text(path, text)
    if division == "auto":
        seen: list[str] = []
        size = 0
        for piece in pieces:
            seen.append(piece)
            size += len(piece)
            if size >= _LOOK_CHARS:
                break
        division = guess_division("".join(seen)[:_LOOK_CHARS])
        pieces = chain(seen, pieces)
    if division == "stream":
        return division, _one(pieces, path)
    texts = _divide(pieces, division, str(path))
    return division, islice(_documents(texts, path.stem, log), limit)


def _one(pieces: Iterable[str], path: Path) -> Iterator[Document]:
    whole = "".join(pieces)
    if not whole.strip():
        raise DataError(f"{path}: holds only white space")
    yield Document(whole, id=path.stem, group=path.stem)


def _divide(pieces: Iterable[str], division: Division, where: str) -> Iterator[str]:
    if division == "line":
        return split_pieces(pieces, "\n", where, MAX_LINE_CHARS)
    if division == "endoftext":
        return split_pieces(pieces, END_OF_TEXT, where, MAX_LINE_CHARS)
    return _paragraphs(split_pieces(pieces, "\n", where, MAX_LINE_CHARS), where)


def _paragraphs(lines: Iterable[str], where: str) -> Iterator[str]:
    """Runs of lines between blank ones; a line end inside a document stays a line end."""
    open_lines: list[str] = []
    size = 0
    for line in lines:
        if line.strip():
            open_lines.append(line)
            size += len(line)
            if size > MAX_LINE_CHARS:
                raise DataError(
                    f"{where}: a paragraph is longer than {MAX_LINE_CHARS} characters; is this a stream?"
                )
        elif open_lines:
            yield "\n".join(open_lines)
            open_lines, size = [], 0
    if open_lines:
        yield "\n".join(open_lines)


def _documents(texts: Iterable[str], stem: str, log: DropLog) -> Iterator[Document]:
    for number, text in enumerate(texts):
        stripped = text.strip()
        if stripped:
            yield Document(stripped, id=f"{stem}/{number}")
        else:
            log.drop("document", "only white space", f"{stem}/{number}")
