"""How downloaded files become the one file of a corpus. A recipe is a pure function of its inputs."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from training.data.gutenberg import join_books, read_book
from training.data.textio import TextOptions, read_text
from training.errors import DataError

Recipe = Callable[[Sequence[Path]], str]

_MIN_ITEM_CHARS = 20
_BASE = re.compile(r'\bname:\s*"(?P<name>(?:[^"\\]|\\.)*)".*?\bb:\s*"(?P<names>(?:[^"\\]|\\.)*)"', re.S)


def gutenberg(inputs: Sequence[Path]) -> str:
    """Bare books in order, see `gutenberg.py`."""
    return join_books(read_book(path) for path in inputs)


def azgaar_names(inputs: Sequence[Path]) -> str:
    """`name,category` rows from the TypeScript table of name bases (one comma-separated string each)."""
    (path,) = inputs
    bases = [(m["name"], m["names"]) for m in _BASE.finditer(read_text(path, TextOptions()))]
    if not bases:
        raise DataError(f'{path}: no entry of the form name: "…", …, b: "…,…" found')
    return _csv(
        (name.strip(), category) for category, joined in bases for name in joined.split(",") if name.strip()
    )


def fantasygen_names(inputs: Sequence[Path]) -> str:
    """`name,category` rows from a JSON list of {title, values}; names get their capitals back."""
    (path,) = inputs
    table = _json(path)
    rows: list[tuple[str, str]] = []
    for entry in table if isinstance(table, list) else [table]:
        if not isinstance(entry, dict) or not isinstance(entry.get("values"), list) or "title" not in entry:
            raise DataError(f"{path}: every entry needs a title and a list of values")
        rows += [
            (_capitals(str(value)), str(entry["title"])) for value in entry["values"] if str(value).strip()
        ]
    return _csv(rows)


def srd_items(inputs: Sequence[Path]) -> str:
    """JSON Lines of items and spells with a description, one per (name, description), from fixture files."""
    seen: set[tuple[str, str]] = set()
    lines = []
    for path in inputs:
        table = _json(path)
        kind = path.stem.rpartition("_")[2]
        for entry in table if isinstance(table, list) else [table]:
            fields = entry.get("fields") if isinstance(entry, dict) else None
            if not isinstance(entry, dict) or not isinstance(fields, dict):
                raise DataError(f"{path}: every entry needs an object `fields`")
            name, text = str(fields.get("name") or "").strip(), str(fields.get("desc") or "").strip()
            if len(text) < _MIN_ITEM_CHARS or (name, text) in seen:
                continue
            seen.add((name, text))
            record = {
                "id": entry.get("pk"),
                "name": name,
                "kind": kind,
                "category": fields.get("category") or fields.get("school") or "",
                "doc": fields.get("document"),
                "text": text,
            }
            lines.append(json.dumps(record) + "\n")
    return "".join(lines)


RECIPES: dict[str, Recipe] = {
    "gutenberg": gutenberg,
    "azgaar_names": azgaar_names,
    "fantasygen_names": fantasygen_names,
    "srd_items": srd_items,
}


def _json(path: Path) -> object:
    try:
        return json.loads(read_text(path, TextOptions()))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None


def _capitals(name: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in name.split())


def _csv(rows: Iterable[tuple[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)  # CRLF, as RFC 4180 says
    writer.writerow(("name", "category"))
    writer.writerows(rows)
    return buffer.getvalue()
