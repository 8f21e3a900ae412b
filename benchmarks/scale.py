"""Beyond one machine: a simulation of many gateways and workers, with the costs measured on one.

Draws the pictures of docs/scale.md and writes its tables; takes some minutes, and the same seed gives the same
figures. `--measure` measures the costs anew first: the time of an engine's step by its rows, what a request and a
token cost a gateway's processor, what looking at a worker costs it, and, to check the simulation by, one gateway
and one worker under 64 clients.

    inkwell bench scale [--measure] [--write]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from measure import console, show
from scaling import experiments
from scaling.measuring import MEASURED, Measured, measure
from scaling.shape import Costs

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/scale.md"
IMAGES = ROOT / "docs/images/scale"
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def check_table(found: Measured) -> Table:
    """The simulation beside what was measured, both in texts a second of the worker's processor."""
    rows = []
    for check in found.checks:
        costs = replace(found.costs, request_s=0.0, token_s=0.0, look_s=0.0, lag_s=0.0)
        record = experiments.one_machine(costs, check.clients, check.tokens, check.slots)
        rate = record.rate(record.seconds / 6, record.seconds)
        rows.append(
            (
                f"{check.tokens}",
                f"{check.rate:,.1f}",
                f"{rate:,.1f}",
                f"{rate / check.rate - 1:+.0%}",
            )
        )
    return ("tokens of each text", "measured, texts/s", "simulated", "off by"), rows


def sweep_table(points: Sequence[experiments.Point]) -> Table:
    rows = [
        (
            f"{point.workers:,}",
            f"{point.gateways}",
            f"{point.share:.0%}",
            f"{point.offered:,.0f}",
            f"{point.done:,.0f}",
            f"{point.first_50 * 1000:,.0f}",
            f"{point.first_99 * 1000:,.0f}",
            f"{point.token_99 * 1000:.1f}",
        )
        for point in points
    ]
    head = ("workers", "gateways", "load", "requests/s asked", "done", "first token p50 ms", "p99 ms")
    return (*head, "per token p99 ms"), rows


def watch_table(costs: Costs) -> Table:
    rows = []
    for workers in (10, 30, 100, 300, 1000):
        share = workers * costs.look_s / 5.0
        rows.append((f"{workers:,}", f"{share:.1%}", f"{workers / 5:,.0f}"))
    return ("workers", "of a gateway's processor", "looks/s of each gateway"), rows


def blind_table(costs: Costs) -> Table:
    rows = [
        (f"{gateways}", f"{same * 1000:,.1f}", f"{own * 1000:,.1f}")
        for gateways, same, own in experiments.blindness(costs)
    ]
    return ("gateways", "p99 ms, all begin with the same worker", "each has its own order"), rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="measure this machine first")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/scale.md")
    parser.add_argument("--out", type=Path, default=IMAGES, help="where the pictures go")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the tables go")
    options = parser.parse_args()
    if options.measure:
        measure().write(MEASURED)
    found = Measured.read(MEASURED)
    costs = found.costs
    # The pictures need matplotlib, which measuring does not.
    from scaling import pictures

    points = list(experiments.sweep(costs))
    pictures.sweep(points, options.out / "load.svg")
    lost = {
        f"at {share:.0%} of what the workers can do": experiments.zone_lost(costs, share)
        for share in (0.5, 0.75)
    }
    pictures.zone(lost, 60.0, options.out / "zone.svg")
    ways = {
        "demand, pods start in 40 s": (True, 40.0),
        "demand, 150 s": (True, 150.0),
        "waiting only, 40 s": (False, 40.0),
        "waiting only, 150 s": (False, 150.0),
    }
    slow = {
        name: experiments.rush(costs, demand=demand, start_s=start_s, over_s=300.0)
        for name, (demand, start_s) in ways.items()
    }
    pictures.rush(slow, options.out / "rush.svg")
    sizes = (10, 30, 100, 300, 1000)
    pictures.limits(sizes, [n * costs.look_s / 5 for n in sizes], 1, options.out / "watching.svg")
    tables: dict[str, Table] = {
        "machine": (
            ("measured on", "when", "load average"),
            [(found.machine, found.when, f"{found.load:g}")],
        ),
        "costs": found.table(),
        "check": check_table(found),
        "sweep": sweep_table(points),
        "watching": watch_table(costs),
        "blind": blind_table(costs),
        "zone": zone_table(lost),
        "rush": rush_table(slow),
    }
    for name, (head, rows) in tables.items():
        show(name, head, list(rows))
    if options.write:
        text = options.page.read_text(encoding="utf-8")
        for name, table in tables.items():
            text = put(text, name, table)
        options.page.write_text(text, encoding="utf-8")
        console.print(f"wrote {options.page}")


def zone_table(records: dict[str, experiments.Record]) -> Table:
    rows = []
    for name, record in records.items():
        times, waits = record.timeline(0.99, 5.0)
        after = times >= 60.0
        worst = float(max(waits[after]))
        slow = times[after][waits[after] > 1.0]
        well = float(slow[-1] + 5.0 - 60.0) if len(slow) else 0.0
        rows.append(
            (
                name,
                f"{record.arrived:,}",
                f"{record.resumed:,}",
                f"{record.broken:,}",
                f"{worst:.1f}",
                f"{well:.0f}",
            )
        )
    head = ("load", "requests", "resumed elsewhere", "asked again by clients", "worst p99 s")
    return (*head, "s until p99 is below 1 s"), rows


def rush_table(records: dict[str, experiments.Record]) -> Table:
    rows = []
    for name, record in records.items():
        _, waits = record.timeline(0.99, 10.0)
        state = record.state
        first = state[(state[:, 1] > state[0, 1]).argmax(), 0] - 60.0
        slow = float((waits > 1.0).sum() * 10)
        rows.append((name, f"{first:.0f}", f"{max(waits):.1f}", f"{slow:.0f}", f"{state[:, 1].max():.0f}"))
    head = ("scaled by", "s to the first new worker", "worst p99 s", "s with p99 above 1 s", "most workers")
    return head, rows


def put(text: str, name: str, table: Table) -> str:
    """`text` with the table between the marks of `name` replaced."""
    head, rows = table
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    marks = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- /table -->)", re.DOTALL)
    body = "\n".join(lines) + "\n"
    changed, count = marks.subn(lambda found: found[1] + body + found[2], text)
    if count != 1:
        raise SystemExit(f"docs/scale.md: marks of the table {name!r} are there {count} times; once is right")
    return changed


if __name__ == "__main__":
    main()
