"""CSV and TSV: one column is the text, another may be the category."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from training.data.corpus import Document
from training.data.report import DropLog
from training.data.textio import MAX_LINE_CHARS, TextOptions, iter_lines
from training.errors import DataError

TEXT_COLUMNS = ("text", "name", "story", "sentence")
CATEGORY_COLUMNS = ("category", "label", "group")


def read_csv(
    path: Path,
    text: TextOptions,
    log: DropLog,
    text_column: str | None = None,
    category_column: str | None = None,
    delimiter: str | None = None,
    header: bool = True,
    limit: int | None = None,
) -> Iterator[Document]:
    """Documents of a table. Columns are named, or numbered from 1 where there is no header.

    Without `text_column` the first of text, name, story, sentence is taken, or the only column; without
    `category_column` category, label or group if there is one. Raises DataError naming the line.
    """
    delimiter = delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
    lines = (line + "\n" for line in iter_lines(path, text))
    csv.field_size_limit(MAX_LINE_CHARS)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    return islice(_documents(rows, path, log, text_column, category_column, header), limit)


class _Rows(Protocol):
    """What `csv.reader` returns (its own type has no public name)."""

    line_num: int

    def __next__(self) -> list[str]: ...


def _documents(
    rows: _Rows,
    path: Path,
    log: DropLog,
    text_column: str | None,
    category_column: str | None,
    header: bool,
) -> Iterator[Document]:
    try:
        first = next(rows)
    except StopIteration:
        raise DataError(f"{path}: holds no row") from None
    except csv.Error as error:
        raise DataError(f"{path}, line 1: {error}") from None
    columns = [cell.strip() for cell in first] if header else [str(i + 1) for i in range(len(first))]
    text_at = _find(columns, text_column, TEXT_COLUMNS, path, "text column")
    if text_at is None:
        if len(columns) != 1:
            raise DataError(
                f"{path}: which column holds the text? None of {', '.join(TEXT_COLUMNS)} is there; "
                f"the columns are {', '.join(columns)}"
            )
        text_at = 0
    category_at = _find(columns, category_column, CATEGORY_COLUMNS, path, "category column")
    pending = [] if header else [first]
    number = 0
    while True:
        try:
            row = pending.pop() if pending else next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}, line {rows.line_num}: {error}") from None
        if not any(cell.strip() for cell in row):
            log.drop("row", "blank line", f"line {rows.line_num}")
            continue
        if len(row) != len(columns):
            raise DataError(
                f"{path}, line {rows.line_num}: {len(row)} fields where the table has {len(columns)} columns"
            )
        number += 1
        text = " ".join(row[text_at].split()) if "\n" not in row[text_at] else row[text_at].strip()
        if not text:
            log.drop("row", "no text", f"line {rows.line_num}: {row}")
            continue
        category = row[category_at].strip() or None if category_at is not None else None
        yield Document(text, category, f"{path.stem}/{number}")


def _find(
    columns: list[str], wanted: str | None, usual: tuple[str, ...], path: Path, what: str
) -> int | None:
    lowered = [column.lower() for column in columns]
    if wanted is not None:
        if wanted in columns:
            return columns.index(wanted)
        if wanted.lower() in lowered:
            return lowered.index(wanted.lower())
        raise DataError(f"{path}: {what} {wanted!r} is not there; the columns are {', '.join(columns)}")
    return next((lowered.index(name) for name in usual if name in lowered), None)
