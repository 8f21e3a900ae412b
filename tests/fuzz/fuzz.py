"""Coverage-guided fuzzing of every target for a bounded time, with a table of what was done at the end.

    python tests/fuzz/fuzz.py [--seconds 60] [--only regex --only post]

Each target runs in a process of its own under atheris, beginning with the inputs in `corpus/`. What it learns is
kept in `build/fuzz/TARGET` for the next time; an input that does harm is written there as `crash-…`, and the
program ends with status 1. Copied into `corpus/TARGET/found-…`, it becomes a test of its own.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "build" / "fuzz"
NAMES = (
    "request", "post", "regex", "bundle", "archive", "fmg_xml", "fmg_binary", "corpus", "keys", "models",
)  # fmt: skip
# Modules whose branches guide the search: ours, and those of the standard library that read for us.
INSTRUMENTED = ["api", "handlers", "inkwell", "training", "deploy", "zipfile", "csv", "re"]
_STATUS = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")
_UNITS = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_SLOWEST = re.compile(r"stat::slowest_unit_time_sec:\s+(\d+)")


@dataclass
class Result:
    """What one target's run came to; coverage counts branches that were reached in the instrumented modules."""

    name: str
    inputs: int
    coverage: int
    kept: int
    slowest_s: int
    findings: list[Path]
    status: int


def run(name: str, seconds: int) -> Result:
    """Fuzz one target in a process of its own."""
    work = WORK / name
    work.mkdir(parents=True, exist_ok=True)
    before = set(_artifacts(name))
    command = [
        sys.executable, str(HERE / "fuzz.py"), "--inside", name, str(work), str(HERE / "corpus" / name),
        f"-max_total_time={seconds}", f"-artifact_prefix={WORK}/{name}-", "-print_final_stats=1",
        "-max_len=8192", "-len_control=20", "-timeout=30", "-rss_limit_mb=3000", "-use_value_profile=1",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    log = done.stdout + done.stderr
    (WORK / f"{name}.log").write_text(log, encoding="utf-8")
    statuses = _STATUS.findall(log)
    coverage, _, kept = map(int, statuses[-1]) if statuses else (0, 0, 0)
    return Result(
        name,
        _number(_UNITS, log),
        coverage,
        kept,
        _number(_SLOWEST, log),
        sorted(set(_artifacts(name)) - before),
        done.returncode,
    )


def _artifacts(name: str) -> list[Path]:
    return [p for p in WORK.glob(f"{name}-*") if p.is_file()]


def _number(pattern: re.Pattern[str], log: str) -> int:
    found = pattern.findall(log)
    return int(found[-1]) if found else 0


def inside(name: str, arguments: list[str]) -> None:
    """The fuzzing process itself: never returns."""
    import atheris

    sys.path[:0] = [str(ROOT), str(HERE)]
    with atheris.instrument_imports(include=INSTRUMENTED):
        from fuzz_targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def show(console: Console, results: list[Result]) -> None:
    table = Table(title="Fuzzing", title_justify="left")
    for heading in ("target", "inputs", "branches reached", "kept", "slowest s", "findings"):
        table.add_column(heading, justify="left" if heading == "target" else "right")
    for result in results:
        bad = bool(result.findings) or result.status != 0
        found = str(len(result.findings)) if result.status == 0 or result.findings else "did not run"
        counts = (result.inputs, result.coverage, result.kept, result.slowest_s)
        table.add_row(result.name, *(f"{count:,}" for count in counts), found, style="red" if bad else None)
    total = sum(result.inputs for result in results)
    table.add_row("all", f"{total:,}", "", "", "", str(sum(len(r.findings) for r in results)))
    console.print(table)
    for result in results:
        for path in result.findings:
            console.print(f"{result.name}: {path.relative_to(ROOT)}", style="red")
        if result.status != 0:
            log = (WORK / f"{result.name}.log").read_text(encoding="utf-8", errors="replace")
            lines = [line for line in log.splitlines() if not line.startswith("#")]
            console.print("\n".join(lines[-25:]), markup=False, highlight=False)


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", action="append", choices=NAMES, help="these targets only")
    options = parser.parse_args()
    console = Console()
    results = []
    for name in options.only or NAMES:
        with console.status(f"fuzzing {name} for {options.seconds} s …"):
            results.append(run(name, options.seconds))
    show(console, results)
    if any(result.findings or result.status != 0 for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
