"""What each fault did to the requests: one row per fault, printed as a table and kept as JSON and Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fault_clients import Outcome
from rich.console import Console
from rich.table import Table

HEADINGS = ("fault", "accepted", "completed", "retried", "refused", "failed", "lost", "recovery s")


@dataclass
class Fault:
    """One fault. `accepted` requests are those that were not refused; each of them is completed, failed (an
    honest error) or lost (anything else: a wrong text, a broken reply, silence). `retried` counts jobs that the
    gateway sent again; `recovery_s` is from the fault until service was as before."""

    name: str
    accepted: int = 0
    completed: int = 0
    retried: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0
    recovery_s: float | None = None
    notes: dict[str, object] = field(default_factory=dict)

    def count(self, outcomes: Iterable[Outcome]) -> Fault:
        """Add the outcomes of a run."""
        kinds = Counter(outcome.kind for outcome in outcomes)
        self.completed += kinds["completed"]
        self.refused += kinds["refused"]
        self.failed += kinds["failed"]
        self.lost += kinds["lost"]
        self.accepted += kinds.total() - kinds["refused"]
        return self

    def row(self) -> tuple[str, ...]:
        counts = (self.accepted, self.completed, self.retried, self.refused, self.failed, self.lost)
        recovery = "" if self.recovery_s is None else f"{self.recovery_s:.2f}"
        return (self.name, *map(str, counts), recovery)


def table(faults: Sequence[Fault]) -> Table:
    shown = Table(title="Faults", title_justify="left")
    for index, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="left" if index == 0 else "right")
    for fault in faults:
        shown.add_row(*fault.row(), style="red" if fault.lost else None)
    return shown


def markdown(faults: Sequence[Fault]) -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * (len(HEADINGS) - 1)]
    lines += ["| " + " | ".join(fault.row()) + " |" for fault in faults]
    noted = [f"* {fault.name}: {_notes(fault)}" for fault in faults if fault.notes]
    return "\n".join(lines + (["", *noted] if noted else [])) + "\n"


def _notes(fault: Fault) -> str:
    return ", ".join(f"{name} {value}" for name, value in fault.notes.items())


def write(faults: Sequence[Fault], folder: Path) -> None:
    """`faults.json` and `faults.md` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps([asdict(fault) for fault in faults], indent=1, ensure_ascii=False)
    (folder / "faults.json").write_text(document + "\n", encoding="utf-8")
    (folder / "faults.md").write_text(markdown(faults), encoding="utf-8")


def show(faults: Sequence[Fault]) -> None:
    console = Console(width=120)
    console.print()
    console.print(table(faults))
    for fault in faults:
        if fault.notes:
            console.print(f"{fault.name}: {_notes(fault)}", highlight=False, markup=False)
