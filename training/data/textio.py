"""Bytes to text, once for all readers: encodings, byte-order marks, line ends, NUL bytes, long lines."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError, UserError

CHUNK = 1 << 16
MAX_LINE_CHARS = 4_000_000  # a line of a list of names, stories or records is never this long

_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class TextOptions:
    """How bytes become text. `replace` turns undecodable bytes into U+FFFD instead of failing."""

    encoding: str = "utf-8"
    replace: bool = False

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise UserError(
                f"encoding {self.encoding!r} is not known; try utf-8, latin-1 or cp1252"
            ) from None


def iter_text(path: Path, options: TextOptions) -> Iterator[str]:
    """Text of a file in pieces: a byte-order mark is honoured and removed, all line ends become LF.

    Raises DataError with the byte offset for undecodable bytes and NULs, and for an empty file.
    """
    encoding, skip = options.encoding, 0
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None
    with stream:
        head = stream.read(4)
        if not head:
            raise DataError(f"{path}: the file is empty")
        for mark, name in _BOMS:
            if head.startswith(mark):
                encoding, skip = name, len(mark)
                break
        stream.seek(skip)
        decoder = codecs.getincrementaldecoder(encoding)("replace" if options.replace else "strict")
        newlines = io.IncrementalNewlineDecoder(None, translate=True)
        offset = skip
        while True:
            chunk = stream.read(CHUNK)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                at = offset - pending + error.start
                raise DataError(
                    f"{path}: byte {at} (0x{error.object[error.start]:02x}) is not {encoding}; "
                    "give the file's encoding (--encoding latin-1) or --replace to put U+FFFD there"
                ) from None
            if "\0" in text:
                at = offset + max(chunk.find(b"\0"), 0)
                raise DataError(f"{path}: NUL at byte {at}; this is not a text file")
            offset += len(chunk)
            text = newlines.decode(text, final=not chunk)
            if text:
                yield text
            if not chunk:
                return


def read_text(path: Path, options: TextOptions) -> str:
    """The whole text of a file, see `iter_text`."""
    return "".join(iter_text(path, options))


def iter_lines(
    path: Path, options: TextOptions, max_line_chars: int | None = MAX_LINE_CHARS
) -> Iterator[str]:
    """Lines without their ends, in bounded memory. Raises DataError for a line over `max_line_chars`."""
    return split_pieces(iter_text(path, options), "\n", str(path), max_line_chars)


def split_pieces(pieces: Iterable[str], separator: str, where: str, max_chars: int | None) -> Iterator[str]:
    """Split a text that arrives in pieces at `separator`; a last part that is empty is left out."""
    kept: list[str] = []  # parts of the open record: joining only at its end keeps long records linear
    size = 0
    tail = ""  # the last len(separator)-1 characters, which may begin a separator
    number = 1
    for piece in pieces:
        buffer = tail + piece
        start = 0
        while (found := buffer.find(separator, start)) >= 0:
            kept.append(buffer[start:found])
            size += found - start
            _check_size(size, max_chars, where, number)
            yield "".join(kept)
            kept, size, number = [], 0, number + 1
            start = found + len(separator)
        hold = min(len(separator) - 1, len(buffer) - start)
        cut = len(buffer) - hold
        kept.append(buffer[start:cut])
        size += cut - start
        tail = buffer[cut:]
        _check_size(size, max_chars, where, number)
    last = "".join(kept) + tail
    if last:
        yield last


def _check_size(size: int, max_chars: int | None, where: str, number: int) -> None:
    if max_chars is not None and size > max_chars:
        raise DataError(
            f"{where}: record {number} is longer than {max_chars} characters; "
            "is this running text? Then read it as a stream (--kind stream)"
        )


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes. Raises DataError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def write_atomically(path: Path, parts: Iterable[str]) -> None:
    """Write UTF-8 text with LF line ends under a temporary name, then rename: never half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            for part in parts:
                stream.write(part)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        with contextlib.suppress(OSError):  # the reason was told above: there is no folder to clean
            temporary.unlink(missing_ok=True)
