"""What was posted, and what may have been: a small SQLite file.

A row is written as `reserved`, and is on the disk, before anything is sent. Whatever happens then, the next
run sees it and never sends that text as a new post.

    reserved ─► posted     the platform has it
             ├► refused    the platform will not take this text
             ├► failed     it was certainly not sent; the text may be tried again
             └► unknown    a run died while sending and nobody can tell; counts as posted
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from training.bot.errors import BotError
from training.bot.similar import normalised, similarity

State = Literal["reserved", "posted", "refused", "failed", "unknown"]

_VERSION = 1
_TAKEN = "('reserved', 'posted', 'unknown')"
_SCHEMA = f"""
CREATE TABLE posts (
    id INTEGER PRIMARY KEY,
    platform TEXT NOT NULL,
    account TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    normal TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'posted', 'refused', 'failed', 'unknown')),
    reserved_at REAL NOT NULL,
    settled_at REAL,
    remote_id TEXT,
    url TEXT,
    model TEXT,
    seed INTEGER,
    reason TEXT
);
CREATE UNIQUE INDEX one_of_each ON posts (platform, account, normal) WHERE state IN {_TAKEN};
CREATE INDEX by_time ON posts (platform, account, reserved_at);
PRAGMA user_version = {_VERSION};
"""


@dataclass(frozen=True)
class Row:
    """One post. Times are seconds since 1970; `key` names it to the platform, the same at each attempt."""

    id: int
    platform: str
    account: str
    key: str
    text: str
    normal: str
    state: State
    reserved_at: float
    settled_at: float | None
    remote_id: str | None
    url: str | None
    model: str | None
    seed: int | None
    reason: str | None


_FIELDS = ", ".join(field.name for field in fields(Row))


class History:
    """Open with `History.open`; close it, or use it as a context manager."""

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Callable[[], float]) -> None:
        self._db = connection
        self._path = path
        self._clock = clock

    @classmethod
    def open(cls, path: Path, clock: Callable[[], float] = time.time) -> History:
        """The history at `path`, made when it is not there. Raises BotError naming the file."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(path, timeout=10, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise BotError(f"the history {path} cannot be opened: {error}") from error
        try:
            # The row must be on the disk before the post is on its way.
            db.execute("PRAGMA synchronous = FULL")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            elif version != _VERSION:
                raise BotError(f"{path} has version {version}; this Inkwell reads {_VERSION}")
        except sqlite3.Error as error:
            db.close()
            raise BotError(f"the history {path} cannot be opened: {error}") from error
        except BotError:
            db.close()
            raise
        return cls(db, path, clock)

    @contextmanager
    def alone(self, wait_s: float = 5.0) -> Iterator[None]:
        """Hold the history for one run. Raises BotError when another run has it for longer than `wait_s`.

        The lock is one of the operating system, in a file of its own, so it ends with the process.
        """
        lock = sqlite3.connect(f"{self._path}.lock", timeout=wait_s, isolation_level=None)
        try:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                raise BotError(f"another run is posting with the history {self._path}") from error
            yield
        finally:
            lock.close()

    def reserve(
        self, platform: str, account: str, key: str, text: str, *, model: str | None, seed: int | None
    ) -> Row:
        """Write down that `text` is about to be sent. Raises BotError when it is there already."""
        values = (platform, account, key, text, normalised(text), self._clock(), model, _small(seed))
        try:
            cursor = self._db.execute(
                "INSERT INTO posts (platform, account, key, text, normal, state, reserved_at, model, seed) "
                "VALUES (?, ?, ?, ?, ?, 'reserved', ?, ?, ?)",
                values,
            )
        except sqlite3.IntegrityError as error:
            raise BotError(f"this text is in the history {self._path} already") from error
        return self._one("id = ?", cursor.lastrowid)

    def settle(
        self,
        row: Row,
        state: State,
        *,
        remote_id: str | None = None,
        url: str | None = None,
        reason: str | None = None,
    ) -> Row:
        """Write down how it ended."""
        self._db.execute(
            "UPDATE posts SET state = ?, settled_at = ?, remote_id = ?, url = ?, reason = ? WHERE id = ?",
            (state, self._clock(), remote_id, url, reason, row.id),
        )
        return self._one("id = ?", row.id)

    def reserved(self, platform: str, account: str) -> list[Row]:
        """What runs left behind that died while sending, oldest first."""
        return self._rows("state = 'reserved' AND platform = ? AND account = ?", platform, account)

    def age(self, row: Row) -> float:
        """Seconds since the row was reserved."""
        return self._clock() - row.reserved_at

    def resembling(
        self, platform: str, account: str, text: str, threshold: float
    ) -> tuple[Row, float] | None:
        """A post of this account that is `text` again, or at least `threshold` like it; with the likeness."""
        normal = normalised(text)
        best: tuple[Row, float] | None = None
        for row in self._rows(f"platform = ? AND account = ? AND state IN {_TAKEN}", platform, account):
            found = similarity(normal, row.normal)
            if found >= threshold and (best is None or found > best[1]):
                best = (row, found)
        return best

    def refused(self, platform: str, account: str, text: str) -> bool:
        """Whether the platform would not take exactly this text before."""
        where = "platform = ? AND account = ? AND normal = ? AND state = 'refused'"
        return bool(self._rows(where, platform, account, normalised(text)))

    def latest(self, count: int, platform: str | None = None) -> list[Row]:
        """The last `count` rows, newest first."""
        where = "1 = 1" if platform is None else "platform = ?"
        rows = self._rows(where, *([] if platform is None else [platform]))
        return rows[::-1][:count]

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, where: str, *values: Any) -> list[Row]:
        query = f"SELECT {_FIELDS} FROM posts WHERE {where} ORDER BY id"  # noqa: S608 - phrases of this file
        found = self._db.execute(query, values)
        return [Row(*row) for row in found]

    def _one(self, where: str, *values: Any) -> Row:
        return self._rows(where, *values)[0]


def _small(seed: int | None) -> int | None:
    # SQLite's integers end at 2**63 - 1, which is also the largest seed.
    return None if seed is None or not 0 <= seed < 2**63 else seed
