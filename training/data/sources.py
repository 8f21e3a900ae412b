"""The catalogue of public corpora: one TOML file each in `training/sources/`.

title = "…"; folder = "…"; licence = "…"
[[files]]   name, url, and sha256 and bytes where they are known
[output]    name and recipe when the corpus is made from the files; sha256 where it is known
[corpus]    file and kind, and how to read it
"""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

from training.data.corpus import KINDS, Kind
from training.data.read_txt import Division
from training.data.recipes import RECIPES
from training.errors import DataError, UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SOURCES_DIR = Path(__file__).resolve().parents[1] / "sources"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class RemoteFile:
    """A file of the net. Without `sha256` the first download is trusted and pinned."""

    name: str
    url: str
    sha256: str | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_hash(self.sha256)
        if not self.url.startswith(("https://", "http://")):
            raise ValueError(f"url is {self.url!r}; it must begin with https:// or http://")


@dataclass(frozen=True)
class Output:
    """A file made from the others by a recipe."""

    name: str
    recipe: str
    sha256: str | None = None
    characters: int | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_hash(self.sha256)
        if self.recipe not in RECIPES:
            raise ValueError(f"recipe is {self.recipe!r}; allowed are {', '.join(RECIPES)}")


@dataclass(frozen=True)
class Reading:
    """How the corpus file is read, see `LoadOptions`. `books`: titles at which a stream is cut."""

    file: str
    kind: Kind
    division: Division = "auto"
    text_column: str | None = None
    title_column: str | None = None
    category_column: str | None = None
    books: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; allowed are {', '.join(KINDS)}")
        if self.division not in get_args(Division):
            raise ValueError(f"division is {self.division!r}; allowed are {', '.join(get_args(Division))}")
        object.__setattr__(self, "books", tuple(self.books))


@dataclass(frozen=True)
class SourceSpec:
    """One corpus of the catalogue."""

    name: str
    title: str
    folder: str
    licence: str
    files: tuple[RemoteFile, ...]
    corpus: Reading
    output: Output | None = None

    def __post_init__(self) -> None:
        _check_name(self.folder)
        if not self.files:
            raise ValueError("needs at least one [[files]]")
        names = [file.name for file in self.files] + ([self.output.name] if self.output else [])
        if len(set(names)) != len(names):
            raise ValueError(f"file names must differ, found {', '.join(names)}")
        made = self.output.name if self.output else None
        if self.corpus.file not in (names if made is None else [made]):
            raise ValueError(
                f"[corpus] file is {self.corpus.file!r}; it must be {made or 'one of the files'}"
            )


def _check_name(name: str) -> None:
    # it becomes a path below the data folder
    if not _PLAIN_NAME.fullmatch(name) or name.startswith("."):
        raise ValueError(f"name {name!r} must be letters, digits, '.', '-' and '_', without a folder")


def _check_hash(value: str | None) -> None:
    if value is not None and not _SHA256.fullmatch(value):
        raise ValueError(f"sha256 is {value!r}; 64 hexadecimal digits in lower case are needed")


def read_spec(path: Path) -> SourceSpec:
    """One catalogue file. Raises DataError naming the file and the field."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        table["files"] = tuple(_make(RemoteFile, entry, "[[files]]") for entry in table.get("files", []))
        table["corpus"] = _make(Reading, table.get("corpus", {}), "[corpus]")
        if "output" in table:
            table["output"] = _make(Output, table["output"], "[output]")
        return _make(SourceSpec, {"name": path.stem, **table}, "the file")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: {error}") from None


_Made = TypeVar("_Made", RemoteFile, Output, Reading, SourceSpec)


def _make(cls: type[_Made], table: dict[str, Any], where: str) -> _Made:
    known = {field.name for field in fields(cls)}
    unknown = set(table) - known
    if unknown:
        raise ValueError(
            f"{where} has unknown keys {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}"
        )
    try:
        return cls(**table)
    except TypeError as error:
        raise ValueError(f"{where}: {str(error).partition('() ')[2] or error}") from None


def list_sources(folder: Path = SOURCES_DIR) -> list[SourceSpec]:
    """All corpora of the catalogue by name."""
    return [read_spec(path) for path in sorted(folder.glob("*.toml"))]


def find_source(name: str, folder: Path = SOURCES_DIR) -> SourceSpec:
    """The corpus of that name. Raises UserError that names near ones."""
    path = folder / f"{name}.toml"
    if _PLAIN_NAME.fullmatch(name) and path.is_file():
        return read_spec(path)
    names = sorted(p.stem for p in folder.glob("*.toml"))
    near = difflib.get_close_matches(name, names, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    raise UserError(f"no corpus is named {name!r}; {hint}")
