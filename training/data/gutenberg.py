"""Project Gutenberg files of all ages to bare text: boilerplate cut, typography made ASCII."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from training.errors import DataError

BOOK_GAP = "\n\n\n"

_STARTS = (
    re.compile(r"^\*\*\* ?START OF (?:THIS|THE) PROJECT GUTENBERG[^*]*\*\*\*[ \t]*$", re.M),
    re.compile(r"^\*END[ *]*THE SMALL PRINT!.*\*END\*[ \t]*$", re.M),
)
_END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THIS|THE) PROJECT GUTENBERG"
    r"|\**[ ]?(?:This is the )?End of (?:the |this |)Project Gutenberg"
    r"|\*+(?:The )?Project Gutenberg(?:'s)? (?:Etext|EBook) of)",
    re.M | re.I,
)
_CREDITS = re.compile(
    r"^(?:produced by|prepared by|scanned by|transcribed (?:from|by)|"
    r"e-?text (?:was )?(?:prepared|produced) by|"
    r"this e-?(?:text|book) was (?:prepared|produced|created|scanned|transcribed) by)",
    re.I,
)
_TYPOGRAPHY = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "‚": "'",
        "“": '"',
        "”": '"',
        "„": '"',
        "—": "--",
        "–": "-",
        "‐": "-",
        "‑": "-",
        "…": "...",
        "\u00a0": " ",
        "\ufeff": None,
    }
)


def strip_boilerplate(text: str, where: str) -> str:
    """The book between header and footer, without the line that credits the transcriber.

    Raises DataError when no start mark is there: a footer-less excerpt is fine, a wrong file is not.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    marks = [found for pattern in _STARTS if (found := pattern.search(text)) is not None]
    if not marks:
        raise DataError(f"{where}: no Project Gutenberg start mark; is this the right file?")
    footer = _END.search(text, min(mark.end() for mark in marks))
    end = len(text) if footer is None else footer.start()
    # of two marks the later opens the book, unless it is the small print behind it
    body = text[max(mark.end() for mark in marks if mark.end() <= end) : end].strip()
    while _CREDITS.match(body):
        _, _, body = body.partition("\n\n")
        body = body.lstrip()
    return body


def plain_typography(text: str) -> str:
    """Curly quotes, dashes and ellipses as ASCII, no white space at line ends; letters keep their accents."""
    lines = text.translate(_TYPOGRAPHY).split("\n")
    return "\n".join(line.rstrip() for line in lines)


def read_book(path: Path) -> str:
    """Bare text of one file; UTF-8, or else Latin-1 as the older files are."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return plain_typography(strip_boilerplate(text, str(path)))


def join_books(books: Iterable[str]) -> str:
    """Books one after the other, two blank lines between them."""
    return BOOK_GAP.join(books)
