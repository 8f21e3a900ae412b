"""FMG tables as XML, the way the public unpackers write them.

    <fmg><compression>…</compression><version>DarkSouls3</version><bigendian>False</bigendian>
    <entries><text id="1000001">…</text>…</entries></fmg>

Elements are found by name: some unpackers put `<filename>` first. A null string is written `%null%`.
The file is streamed; document types (and with them entity bombs and external entities) are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from training.data.fmg_file import FmgEntry, FmgFile, normal_version
from training.data.safe_xml import feed
from training.errors import DataError

NULL = "%null%"
CHUNK = 1 << 16
MAX_TEXT_CHARS = 1_000_000


@dataclass
class _Handler:
    path: Path
    entries: list[FmgEntry] = field(default_factory=list)
    header: dict[str, str] = field(default_factory=dict)
    stack: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    size: int = 0
    number: int = 0
    parser: expat.XMLParserType = field(default_factory=expat.ParserCreate)

    def fail(self, what: str) -> DataError:
        return DataError(f"{self.path}, line {self.parser.CurrentLineNumber}: {what}")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.stack and tag != "fmg":
            raise self.fail(f"the outermost element is <{tag}>, not <fmg>")
        self.stack.append(tag)
        if self.stack == ["fmg", "entries", "text"]:
            spelled = attributes.get("id")
            try:
                self.number = int(spelled or "")
            except ValueError:
                raise self.fail(f"<text> has id={spelled!r}; a whole number is needed") from None
        elif len(self.stack) > 3:
            raise self.fail(f"<{tag}> inside <text>; only text is allowed there")
        self.parts, self.size = [], 0

    def data(self, piece: str) -> None:
        self.size += len(piece)
        if self.size > MAX_TEXT_CHARS:
            raise self.fail(f"one text has more than {MAX_TEXT_CHARS} characters")
        self.parts.append(piece)

    def end(self, tag: str) -> None:
        if self.stack == ["fmg", "entries", "text"]:
            text = "".join(self.parts)
            self.entries.append(FmgEntry(self.number, None if text.strip() == NULL else text))
        elif len(self.stack) == 2:
            self.header[tag] = "".join(self.parts).strip()
        self.stack.pop()
        self.parts, self.size = [], 0


def _handler(path: Path) -> _Handler:
    handler = _Handler(path)
    parser = handler.parser
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.data
    return handler


def _feed(handler: _Handler) -> Iterator[FmgEntry]:
    for _ in feed(handler.parser, _chunks(handler.path), str(handler.path)):
        yield from handler.entries
        handler.entries.clear()


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            chunk = stream.read(CHUNK)
            if not chunk:
                raise DataError(f"{path}: the file is empty")
            while chunk:
                yield chunk
                chunk = stream.read(CHUNK)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def iter_entries(path: Path) -> Iterator[FmgEntry]:
    """Entries in file order, in memory that does not grow with the file. Raises DataError with the line."""
    return _feed(_handler(path))


def read_fmg_xml(path: Path) -> FmgFile:
    """The whole file with its normalised version."""
    handler = _handler(path)
    entries = tuple(_feed(handler))
    return FmgFile(path, entries, normal_version(handler.header.get("version", "")))
