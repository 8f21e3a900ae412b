"""JSON Lines of any origin: objects with a text field, or plain strings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from training.data.corpus import Document
from training.data.report import DropLog
from training.data.textio import TextOptions, iter_lines
from training.errors import DataError


def read_jsonl(
    path: Path,
    text: TextOptions,
    log: DropLog,
    text_field: str = "text",
    title_field: str | None = None,
    category_field: str | None = "category",
    limit: int | None = None,
) -> Iterator[Document]:
    """Documents of a JSON Lines file. With `title_field` the text is `Title. Text`.

    `id` and `group` are taken where they are there. Raises DataError naming the line.
    """
    return islice(_documents(path, text, log, text_field, title_field, category_field), limit)


def _documents(
    path: Path,
    options: TextOptions,
    log: DropLog,
    text_field: str,
    title_field: str | None,
    category_field: str | None,
) -> Iterator[Document]:
    for number, line in enumerate(iter_lines(path, options), start=1):
        if not line.strip():
            log.drop("line", "blank line", f"line {number}")
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON ({error})") from None
        fields = {text_field: value} if isinstance(value, str) else value
        if not isinstance(fields, dict):
            raise DataError(f"{where}: an object or a string is needed, found {type(value).__name__}")
        if text_field not in fields:
            raise DataError(f"{where}: no field {text_field!r}; the fields are {', '.join(map(str, fields))}")
        body = (_string(fields, text_field, where) or "").strip()
        title = (_string(fields, title_field, where) or "").strip() if title_field else ""
        if not body:
            log.drop("line", "no text", f"line {number}: {line}")
            continue
        if title:
            body = f"{title if title[-1] in '.!?…' else title + '.'} {body}"
        category = _string(fields, category_field, where) if category_field else None
        try:
            yield Document(
                body,
                (category or "").strip() or None,
                _string(fields, "id", where) or f"{path.stem}/{number}",
                _string(fields, "group", where),
            )
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None


def _string(fields: dict[str, object], key: str, where: str) -> str | None:
    value = fields.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{where}: field {key!r} must be text, found {value!r}")
