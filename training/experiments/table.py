"""The rows of an experiment on the screen and in a file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from training.data.textio import write_atomically
from training.experiments.runs import Row


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All columns, in the order in which they first stand in a row."""
    return list(dict.fromkeys(name for row in rows for name in row))


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The rows as CSV; what a row does not have stays empty."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns_of(rows), restval="")
    writer.writeheader()
    writer.writerows({name: "" if _nothing(value) else value for name, value in row.items()} for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, [buffer.getvalue()])


def table_of(rows: Sequence[Row], title: str) -> Table:
    """The rows as a table; the smallest bits per byte stand out."""
    table = Table(title=title, title_justify="left", box=None)
    columns = columns_of(rows)
    for name in columns:
        numbers = any(isinstance(row.get(name), (int, float)) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numbers else "left")
    best = min((row.get("bits_per_byte", math.inf) for row in rows), default=math.inf)
    for row in rows:
        style = "bold" if row.get("bits_per_byte") == best else None
        table.add_row(*(_shown(row.get(name)) for name in columns), style=style)
    return table


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _shown(value: Any) -> str:
    if _nothing(value):
        return "–"
    if isinstance(value, float):
        return (
            f"{value:,.0f}"
            if abs(value) >= 1000
            else f"{value:.3f}"
            if abs(value) >= 0.01 or not value
            else f"{value:.1e}"
        )
    return f"{value:,}" if isinstance(value, int) else str(value)
