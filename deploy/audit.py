"""What is known against the packages that are pinned: `make audit`

pip-audit asks the package registry about every pinned version. Not every registry knows: a mirror may serve the
files and nothing else. Then this says so plainly instead of reporting that nothing was found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PINS = Path("constraints.txt")


@dataclass(frozen=True)
class Audit:
    """How many versions the registry knew, the reasons why it did not know others, and what is wrong."""

    known: int
    unknown: dict[str, str]
    findings: list[tuple[str, str, str, str]]


def ask(pins: Path) -> Audit:
    """Run pip-audit over a file of pins. Raises `RuntimeError` when it cannot be run."""
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(pins), "--no-deps", "--disable-pip"),
        *("--format", "json", "--progress-spinner", "off"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return read(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError) as error:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise RuntimeError(f"pip-audit gave no report: {last}") from error


def read(report: dict[str, Any]) -> Audit:
    """A report of pip-audit's in its JSON form."""
    known, unknown = 0, {}
    findings: list[tuple[str, str, str, str]] = []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            unknown[package["name"]] = package["skip_reason"]
            continue
        known += 1
        findings += [
            (package["name"], package["version"], found["id"], ", ".join(found["fix_versions"]) or "none yet")
            for found in package["vulns"]
        ]
    return Audit(known, unknown, findings)


def show(audit: Audit, console: Console) -> int:
    """Print what was found; the exit code: 0 nothing wrong, 1 something, 2 nobody could tell."""
    if audit.findings:
        table = Table("package", "version", "advisory", "fixed in", title="Known vulnerabilities")
        for row in audit.findings:
            table.add_row(*row)
        console.print(table)
    console.print(f"{audit.known} of {audit.known + len(audit.unknown)} pinned packages could be looked up.")
    if audit.findings:
        return 1
    if audit.known:
        console.print("Nothing is known against these.")
        return 0
    reason = next(iter(audit.unknown.values()), "it holds no pins")
    console.print(
        "The registry that pip is set to use does not tell of vulnerabilities, so nothing was audited "
        f"({reason}). Run this where pypi.org itself, or a mirror with its JSON API, can be reached. What holds "
        "meanwhile: every version is pinned, and deploy/requirements.lock has the hash of every file.",
        style="yellow",
    )
    return 2


def main() -> int:
    """Audit the pins of the working directory."""
    console = Console()
    try:
        return show(ask(PINS), console)
    except RuntimeError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())
