"""Figures of a corpus at a glance."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from statistics import mean, median

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from training.data.corpus import Corpus
from training.data.split import key_of

_SHOWN_CATEGORIES = 40


@dataclass(frozen=True)
class Figures:
    """Lengths are in characters. `copies` counts documents whose text stands there before, case aside."""

    name: str
    kind: str
    sha256: str
    documents: int
    characters: int
    utf8_bytes: int
    words: int
    different_words: int
    symbols: str
    shortest: int
    median: float
    mean: float
    longest: int
    copies: int
    categories: dict[str, int]
    groups: dict[str, int]

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data."""
        return asdict(self)

    def render(self) -> RenderableType:
        """A rich rendering for the terminal."""
        table = Table(box=None, show_header=False, pad_edge=False)
        for label, value in (
            ("kind", self.kind),
            ("sha256", self.sha256),
            ("documents", f"{self.documents} ({self.copies} copies)"),
            ("characters", f"{self.characters} ({self.utf8_bytes} bytes)"),
            ("words", f"{self.words}, {self.different_words} different"),
            ("length", f"{self.shortest} to {self.longest}, median {self.median:g}, mean {self.mean:.1f}"),
            ("symbols", f"{len(self.symbols)}: {self.symbols!r}"),
            ("groups", ", ".join(f"{name} ({count})" for name, count in self.groups.items()) or "none"),
        ):
            table.add_row(label, Text(value))
        parts: list[RenderableType] = [Text(self.name, style="bold"), table]
        if self.categories:
            shown = list(self.categories.items())[:_SHOWN_CATEGORIES]
            more = len(self.categories) - len(shown)
            listed = ", ".join(f"{name} ({count})" for name, count in shown) + (
                f" and {more} more" if more else ""
            )
            parts.append(Text(f"{len(self.categories)} categories: {listed}"))
        return Group(*parts)


def describe(corpus: Corpus) -> Figures:
    """Count everything in one pass over the documents."""
    lengths = [len(document.text) for document in corpus.documents]
    symbols: set[str] = set()
    words: Counter[str] = Counter()
    keys: set[str] = set()
    for document in corpus.documents:
        symbols.update(document.text)
        words.update(document.text.lower().split())
        keys.add(key_of(document.text))
    groups = Counter(document.group for document in corpus.documents if document.group is not None)
    return Figures(
        name=corpus.name,
        kind=corpus.kind,
        sha256=corpus.sha256,
        documents=len(corpus),
        characters=corpus.characters,
        utf8_bytes=sum(len(document.text.encode()) for document in corpus.documents),
        words=words.total(),
        different_words=len(words),
        symbols="".join(sorted(symbols)),
        shortest=min(lengths),
        median=median(lengths),
        mean=mean(lengths),
        longest=max(lengths),
        copies=len(corpus) - len(keys),
        categories=corpus.categories,
        groups=dict(groups),
    )
