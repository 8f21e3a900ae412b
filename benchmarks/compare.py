"""Tells a regression from noise: two files of rounds, written by `--json` of the same benchmark.

For each figure that both files have: the ratio of the medians, new over old, of the seconds per unit of work
(above 1 is slower), and a bootstrap interval for it (Efron 1979: both sides' rounds drawn again with replacement,
with a fixed seed). The verdict is "slower" or "faster" when the interval leaves out 1, else "no difference seen".
When nothing has changed, a verdict is wrong at most about as often as the confidence allows; with five rounds, the
least that is judged, about half as often. So of a hundred figures at 99 % one may seem to differ.

Rounds of one run know nothing of what differs between runs: another load, another place in memory. `--against SIDE`
divides each round by the same round of that side first (sides of a benchmark take turns), which cancels what the
machine did to both.

Exit codes: 0 nothing is slower by more than the tolerance, 1 something is, 2 the files cannot be compared.

    inkwell bench compare OLD NEW [--tolerance 5] [--confidence 99] [--against torch]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import RECORD, Figure, console, show

LEAST = 5
"""Fewer rounds are not judged: of three against three, one in ten pairs lies apart by chance alone."""
BUSY = 1.5
"""Load average per core from which on a file is said to come from a machine with other work: a benchmark itself
brings about one per core."""
RESAMPLES = 4000
SAME, FASTER, SLOWER, FEW = "no difference seen", "faster", "slower", "too few rounds"


class Unfit(Exception):  # noqa: N818  what the user is told, not a defect
    """A file that cannot be read, or two that cannot be compared; the message says why."""


@dataclass(frozen=True)
class Recorded:
    """What one file holds."""

    path: Path
    benchmark: str
    clock: str
    load: float | None
    machine: dict[str, Any]
    versions: dict[str, Any]
    options: dict[str, Any]
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Verdict:
    """How a figure changed: new over old, and the interval of that ratio. Above 1 is slower."""

    name: str
    ratio: float
    low: float
    high: float
    verdict: str

    def breaks(self, tolerance: float) -> bool:
        """Whether it is slower, beyond noise, by more than this share."""
        return self.verdict == SLOWER and self.ratio > 1 + tolerance


def read(path: Path) -> Recorded:
    """A file of `measure.record`; Unfit names the file and what is wrong with it."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unfit(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Unfit(f"{path} is no JSON: {error}") from error
    if not isinstance(values, dict) or values.get("format") != RECORD:
        got = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise Unfit(f"{path}: format is {got!r}; it must be {RECORD}, as `--json` of a benchmark writes it")
    try:
        figures = [
            Figure(**{**one, "seconds": tuple(map(float, one["seconds"]))}) for one in values["figures"]
        ]
        found = Recorded(
            path,
            benchmark=str(values["benchmark"]),
            clock=str(values["clock"]),
            load=values["load"],
            machine=dict(values["machine"]),
            versions=dict(values["versions"]),
            options=dict(values["options"]),
            figures={figure.name: figure for figure in figures},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unfit(f"{path}: {error!r} while reading its figures; write it again with `--json`") from error
    for figure in figures:
        if not figure.seconds or min(figure.seconds) <= 0 or not figure.work > 0:
            raise Unfit(f"{path}: {figure.name!r} has no rounds, or seconds or work that are not above 0")
    return found


def mismatches(old: Recorded, new: Recorded) -> list[str]:
    """What makes the two hard to compare, one warning each. Unfit when they cannot be compared at all."""
    for what in ("benchmark", "clock"):
        if getattr(old, what) != getattr(new, what):
            before, after = getattr(old, what), getattr(new, what)
            raise Unfit(f"{what} differs: {before!r} in {old.path}, {after!r} in {new.path}")
    if not old.figures.keys() & new.figures.keys():
        raise Unfit(f"{old.path} and {new.path} have no figure in common")
    warnings = [
        f"busy: the load average of the machine was {one.load:.1f} at the end of {one.path}"
        for one in (old, new)
        if one.load is not None and one.load > BUSY * one.machine["cores"]
    ]
    for kind, before, after in (
        ("machine", old.machine, new.machine),
        ("versions", old.versions, new.versions),
        ("options", old.options, new.options),
    ):
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                warnings.append(f"{kind}: {name} was {before.get(name)!r}, is {after.get(name)!r}")
    for only, where in (
        (old.figures.keys() - new.figures.keys(), old),
        (new.figures.keys() - old.figures.keys(), new),
    ):
        warnings.extend(f"only in {where.path}: {name}" for name in sorted(only))
    return warnings


def against(found: Recorded, side: str) -> dict[str, np.ndarray]:
    """Per figure of the other sides, its rounds divided by those of `side`, both per unit of work."""
    base = {figure.what: figure for figure in found.figures.values() if figure.side == side}
    if not base:
        known = ", ".join(sorted({figure.side for figure in found.figures.values()}))
        raise Unfit(f"{found.path}: no figure of the side {side!r}; there are {known}")
    ratios = {}
    for name, figure in found.figures.items():
        other = base.get(figure.what)
        if other is None or figure.side == side:
            continue
        if len(other.seconds) != len(figure.seconds):
            raise Unfit(f"{found.path}: {name!r} and {other.name!r} have different numbers of rounds")
        ratios[name] = per_work(figure) / per_work(other)
    return ratios


def per_work(figure: Figure) -> np.ndarray:
    """Seconds per unit of work of each round."""
    return np.array(figure.seconds) / figure.work


def judge(name: str, old: np.ndarray, new: np.ndarray, confidence: float, seed: int = 0) -> Verdict:
    """Compare the rounds (n,) and (m,) of one figure; `confidence` is 0 to 1, both sides of the interval."""
    ratio = float(np.median(new) / np.median(old))
    random = np.random.default_rng(seed)
    drawn = [
        np.median(rounds[random.integers(0, len(rounds), (RESAMPLES, len(rounds)))], axis=1)
        for rounds in (new, old)
    ]
    tail = (1 - confidence) / 2
    low, high = map(float, np.quantile(drawn[0] / drawn[1], [tail, 1 - tail]))
    verdict = SLOWER if low > 1 else FASTER if high < 1 else SAME
    return Verdict(name, ratio, low, high, verdict if min(len(old), len(new)) >= LEAST else FEW)


def compare(old: Recorded, new: Recorded, confidence: float, side: str | None = None) -> list[Verdict]:
    """A verdict for every figure of both files, in the order of the new one."""
    if side is None:
        before, after = ({n: per_work(f) for n, f in found.figures.items()} for found in (old, new))
    else:
        before, after = against(old, side), against(new, side)
    return [judge(name, before[name], rounds, confidence) for name, rounds in after.items() if name in before]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--tolerance", type=float, default=5.0, help="per cent that a figure may be slower by"
    )
    parser.add_argument("--confidence", type=float, default=99.0, help="of each interval, per cent")
    parser.add_argument("--against", help="divide by the same round of this side first")
    options = parser.parse_args(arguments)
    if not options.tolerance >= 0:
        parser.error(f"--tolerance {options.tolerance:g}: 0 or more is allowed")
    if not 50 <= options.confidence < 100:
        parser.error(f"--confidence {options.confidence:g}: 50 or more and below 100 is allowed")
    try:
        old, new = read(options.old), read(options.new)
        warnings = mismatches(old, new)
        found = compare(old, new, options.confidence / 100, options.against)
        if not found:
            raise Unfit("no figure of both files can be compared against that side")
    except Unfit as error:
        console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        return 2
    for warning in warnings:
        console.print(warning, style="yellow", highlight=False, markup=False, soft_wrap=True)
    broken = [one for one in found if one.breaks(options.tolerance / 100)]
    title = f"{new.benchmark}: seconds, new ÷ old" + (
        f", each ÷ {options.against}" if options.against else ""
    )
    show(
        title,
        ("figure", "ratio", f"{options.confidence:g} % interval", "verdict"),
        [(one.name, f"{one.ratio:.3f}", f"{one.low:.3f} to {one.high:.3f}", one.verdict) for one in found],
    )
    expected = len(found) * (1 - options.confidence / 100)
    console.print(
        f"{len(found)} figures, of which {expected:.1f} may seem to differ by chance; slower by more than "
        f"{options.tolerance:g} %: {len(broken)}",
        highlight=False,
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
