"""A corpus: what every reader makes and every trainer takes.

Two kinds. A *stream* is running text in one voice (a novel): few long documents, split by position.
*Documents* are many independent texts (names, item descriptions, stories), split by text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from training.data.textio import TextOptions, iter_lines, write_atomically
from training.errors import DataError

Kind = Literal["stream", "documents"]
KINDS: tuple[str, ...] = get_args(Kind)

FORMAT = 1
_HEADER_KEY = "inkwell_corpus"
_DOCUMENT_KEYS = ("text", "category", "id", "group")
_SOURCE_KEYS = ("name", "url", "sha256", "licence")


@dataclass(frozen=True)
class Source:
    """Where text came from; goes into model cards. `sha256` is that of the file that was read."""

    name: str
    url: str | None = None
    sha256: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Document:
    """One text. `category` conditions a model, `id` is the source's own key, `group` names what may be
    held out together (a book, a game)."""

    text: str
    category: str | None = None
    id: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(f"document {self.id or '(no id)'}: text is empty; leave such documents out")
        for field in _DOCUMENT_KEYS:
            value = getattr(self, field)
            if value is None:
                continue
            if "\0" in value:
                raise ValueError(f"document {self.id or '(no id)'}: {field} holds a NUL character")
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                where = f"document {self.id or '(no id)'}: {field}"
                raise ValueError(f"{where} holds a lone surrogate at character {error.start}") from None


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order, with their kind, a name and where they came from."""

    kind: Kind
    documents: tuple[Document, ...]
    name: str
    sources: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; allowed are {', '.join(KINDS)}")
        if not self.documents:
            raise ValueError(f"corpus {self.name!r} has no documents")

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def characters(self) -> int:
        """Characters of all texts together."""
        return sum(len(document.text) for document in self.documents)

    @property
    def categories(self) -> dict[str, int]:
        """Documents per category, most frequent first, then by name; documents without one are left out."""
        counts: dict[str, int] = {}
        for document in self.documents:
            if document.category is not None:
                counts[document.category] = counts.get(document.category, 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def sha256(self) -> str:
        """Hash of kind and documents in order. Name and sources do not count: equal text, equal hash."""
        digest = hashlib.sha256(f"{self.kind}\n".encode())
        for line in _document_lines(self.documents):
            digest.update(line.encode("utf-8"))
        return digest.hexdigest()


def _document_lines(documents: Iterable[Document]) -> Iterator[str]:
    for document in documents:
        fields = {key: value for key in _DOCUMENT_KEYS if (value := getattr(document, key)) is not None}
        yield json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"


def save_jsonl(corpus: Corpus, path: Path) -> None:
    """Write the canonical form: a header line, then one JSON object per document. Atomic."""
    header = {
        _HEADER_KEY: FORMAT,
        "kind": corpus.kind,
        "name": corpus.name,
        "documents": len(corpus),
        "sha256": corpus.sha256,
        "sources": [asdict(source) for source in corpus.sources],
    }
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")) + "\n"
    write_atomically(path, _chain(head, _document_lines(corpus.documents)))


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def is_canonical(first_line: str) -> bool:
    """Whether a JSONL file with this first line was written by `save_jsonl`."""
    try:
        value = json.loads(first_line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and _HEADER_KEY in value


def load_jsonl(path: Path) -> Corpus:
    """Read what `save_jsonl` wrote; count and hash are checked. Raises DataError."""
    # A stream document is a whole book on one line, so the line limit of foreign files cannot hold here.
    lines = iter_lines(path, TextOptions(), max_line_chars=None)
    head = _object(next(lines, ""), path, 1)
    version = head.get(_HEADER_KEY)
    if version != FORMAT:
        raise DataError(f"{path}: {_HEADER_KEY} is {version!r}; this program reads version {FORMAT}")
    kind, name = head.get("kind"), head.get("name")
    if kind not in KINDS or not isinstance(name, str):
        raise DataError(
            f"{path}: header has kind={kind!r}, name={name!r}; kind must be one of {', '.join(KINDS)}"
        )
    documents = []
    for number, line in enumerate(lines, start=2):
        fields = _object(line, path, number)
        _only_strings(fields, _DOCUMENT_KEYS, path, number)
        try:
            documents.append(Document(**fields))  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    if len(documents) != head.get("documents"):
        raise DataError(
            f"{path}: header promises {head.get('documents')} documents, the file holds {len(documents)}; "
            "it was cut or edited"
        )
    sources = []
    listed = head.get("sources", [])
    for source in listed if isinstance(listed, list) else [listed]:
        if not isinstance(source, dict):
            raise DataError(f"{path}: sources must be a list of objects, found {source!r}")
        _only_strings(source, _SOURCE_KEYS, path, 1)
        sources.append(Source(**source))
    try:
        corpus = Corpus(kind, tuple(documents), name, tuple(sources))  # type: ignore[arg-type]
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    if corpus.sha256 != head.get("sha256"):
        raise DataError(f"{path}: content has sha256 {corpus.sha256}, the header says {head.get('sha256')}")
    return corpus


def _object(line: str, path: Path, number: int) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}, line {number}: a JSON object is needed, found {type(value).__name__}")
    return value


def _only_strings(fields: dict[str, object], allowed: tuple[str, ...], path: Path, number: int) -> None:
    for key, value in fields.items():
        if key not in allowed:
            raise DataError(f"{path}, line {number}: unknown field {key!r}; allowed are {', '.join(allowed)}")
        if value is not None and not isinstance(value, str):
            raise DataError(f"{path}, line {number}: field {key!r} must be text, found {value!r}")
