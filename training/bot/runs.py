"""How the runs of a schedule ended, in a table beside the posts: the last hundred of them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from pathlib import Path

from training.bot.errors import BotError

KEPT = 100
_SCHEMA = """CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,
    platform TEXT NOT NULL,
    started REAL NOT NULL,
    attempts INTEGER NOT NULL,
    code INTEGER NOT NULL,
    message TEXT NOT NULL
)"""


@dataclass(frozen=True)
class Run:
    """One run. `started` is in seconds since 1970, `code` the exit code that a single run would have had."""

    platform: str
    started: float
    attempts: int
    code: int
    message: str


_FIELDS = ", ".join(field.name for field in fields(Run))


class RunLog:
    """The runs in the history file at `path`. Raises BotError naming the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None)
            self._db.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise BotError(f"the history {path} cannot be opened: {error}") from error

    def add(self, run: Run) -> None:
        """Write down how a run ended, and forget the oldest beyond those that are kept."""
        try:
            self._db.execute(
                f"INSERT INTO runs ({_FIELDS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 - names of this file
                (run.platform, run.started, run.attempts, run.code, run.message),
            )
            self._db.execute("DELETE FROM runs WHERE id <= (SELECT MAX(id) FROM runs) - ?", (KEPT,))
        except sqlite3.Error as error:
            raise BotError(f"the history {self._path} cannot be written: {error}") from error

    def latest(self, count: int, platform: str | None = None) -> list[Run]:
        """The last `count` runs, newest first."""
        rows = self._db.execute(
            f"SELECT {_FIELDS} FROM runs WHERE ? IS NULL OR platform = ? ORDER BY id DESC LIMIT ?",  # noqa: S608
            (platform, platform, count),
        )
        return [Run(*row) for row in rows]

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
