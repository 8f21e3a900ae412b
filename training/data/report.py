"""What a reader left out and why: collected while reading, then frozen, shown and saved."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

EXAMPLES = 3
_EXAMPLE_CHARS = 90


@dataclass(frozen=True)
class Drop:
    """One reason: how many of which unit (entry, item, sentence, row) it cost, with examples."""

    unit: str
    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class DropReport:
    """Everything a reader took in, kept, changed and left out. `notes` are counts of changes, not losses;
    `stages` what became of what, in order, where several entries make one document."""

    title: str
    read: int
    kept: int
    unit: str
    drops: tuple[Drop, ...] = ()
    notes: tuple[tuple[str, int], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    stages: tuple[tuple[str, int], ...] = ()

    def dropped(self, reason: str, unit: str | None = None) -> int:
        """How many were left out for `reason` (of one unit, or of all)."""
        return sum(d.count for d in self.drops if d.reason == reason and unit in (None, d.unit))

    def noted(self, note: str) -> int:
        """The count of one note, 0 when it never happened."""
        return dict(self.notes).get(note, 0)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data."""
        return asdict(self)

    def render(self) -> RenderableType:
        """A rich rendering for the terminal."""
        stages = (*self.stages, ("documents", self.kept)) if self.stages else ()
        way = " → ".join(f"{count:,} {what}" for what, count in stages)
        read = way or f"{self.read:,} {self.unit} read, {self.kept:,} documents kept"
        files = f" in {len(self.files)} files" if len(self.files) > 1 else ""
        parts: list[RenderableType] = [Text(f"{self.title}{files}: {read}", style="bold")]
        if self.drops:
            table = Table(box=None, pad_edge=False, expand=True)
            table.add_column("left out", justify="right", no_wrap=True, min_width=8)
            table.add_column("unit", no_wrap=True, min_width=8)
            table.add_column("why", ratio=3)
            table.add_column("for example", ratio=4)
            units = list(dict.fromkeys(drop.unit for drop in self.drops))
            for drop in sorted(self.drops, key=lambda d: (units.index(d.unit), -d.count)):
                # Text, not markup: game texts hold square brackets
                table.add_row(f"{drop.count:,}", drop.unit, drop.reason, Text(drop.examples[0]))
            parts.append(table)
        if self.notes:
            table = Table("count", "changed or noticed", box=None, pad_edge=False)
            table.columns[0].justify = "right"
            for note, count in self.notes:
                table.add_row(f"{count:,}", Text(note))
            parts.append(table)
        return Group(*parts)


@dataclass
class DropLog:
    """The growing form of a report."""

    _drops: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)
    _notes: dict[str, int] = field(default_factory=dict)
    _files: list[tuple[str, str]] = field(default_factory=list)
    _stages: list[tuple[str, int]] = field(default_factory=list)

    def drop(self, unit: str, reason: str, example: str) -> None:
        """Count one loss; the first different examples are kept."""
        count, examples = self._drops.get((unit, reason), (0, []))
        shown = " ".join(example.split())
        if len(shown) > _EXAMPLE_CHARS:
            shown = shown[: _EXAMPLE_CHARS - 1] + "…"
        if len(examples) < EXAMPLES and shown not in examples:
            examples.append(shown)
        self._drops[(unit, reason)] = (count + 1, examples)

    def note(self, what: str, count: int = 1) -> None:
        """Count a change that lost no document."""
        self._notes[what] = self._notes.get(what, 0) + count

    def file(self, path: str, what: str) -> None:
        """Remember how a file was understood."""
        self._files.append((path, what))

    def stage(self, what: str, count: int) -> None:
        """How many there were of something on the way from what was read to documents."""
        self._stages.append((what, count))

    def freeze(self, title: str, read: int, kept: int, unit: str) -> DropReport:
        """The finished report."""
        return DropReport(
            title=title,
            read=read,
            kept=kept,
            unit=unit,
            drops=tuple(Drop(u, r, n, tuple(e)) for (u, r), (n, e) in self._drops.items()),
            notes=tuple(self._notes.items()),
            files=tuple(self._files),
            stages=tuple(self._stages),
        )
