"""Draws files of rounds, written by `--json` of a benchmark: units of work per second, side by side.

One group of bars for each figure, one bar for each side, on a logarithmic scale, since sides may lie a hundred
times apart; the thin line on a bar goes from its slowest to its fastest round. Figures that only one side has are
left out, and those of another unit than `--unit`, which is that of the first figure unless it is given.

    inkwell bench engine --json engine.json
    inkwell bench plot engine.png engine.json [more.json …] [--unit token]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from compare import Recorded, Unfit, read
from measure import Figure, console

mpl.use("Agg")  # files only; never a window
import matplotlib.pyplot as plt

WIDTH = 0.8
"""Of a group of bars; the distance between groups is 1."""


def drawn(files: Sequence[Recorded], unit: str | None) -> dict[str, dict[str, Figure]]:
    """Figures by what and side, in the order of the files. Raises `Unfit` when there is nothing to compare."""
    found: dict[str, dict[str, Figure]] = {}
    for file in files:
        for figure in file.figures.values():
            unit = figure.unit if unit is None else unit
            if figure.unit == unit:
                found.setdefault(figure.what, {})[figure.side] = figure
    several = {what: sides for what, sides in found.items() if len(sides) > 1}
    if not several:
        units = sorted({figure.unit for file in files for figure in file.figures.values()})
        raise Unfit(f"no figure has two sides with the unit {unit!r}; the files have {', '.join(units)}")
    return several


def draw(groups: dict[str, dict[str, Figure]], note: str, path: Path) -> None:
    """Bars of work per second into an image file; its ending decides the format."""
    sides = list(dict.fromkeys(side for group in groups.values() for side in group))
    unit = next(iter(next(iter(groups.values())).values())).unit
    figure, axes = plt.subplots(figsize=(max(6.0, 0.9 + 0.22 * len(groups) * (len(sides) + 1)), 4.8))
    for number, side in enumerate(sides):
        places, rates, below, above = [], [], [], []
        for index, group in enumerate(groups.values()):
            if side in group:
                rounds = [group[side].work / seconds for seconds in group[side].seconds]
                rate = statistics.median(rounds)
                places.append(index + (number + 0.5) * WIDTH / len(sides) - WIDTH / 2)
                rates.append(rate)
                below.append(rate - min(rounds))
                above.append(max(rounds) - rate)
        bars = axes.bar(places, rates, WIDTH / len(sides), label=side, yerr=(below, above), ecolor="#555")
        axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates], rotation=90, padding=4, fontsize=7)
    axes.set_yscale("log")
    axes.margins(y=0.2)
    axes.set_ylabel(f"{unit}s per second")
    axes.set_xticks(range(len(groups)), list(groups), rotation=30, ha="right", fontsize=8)
    axes.legend(fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.text(0.01, 0.01, note, fontsize=6, color="#555")
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=140)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the image: .png, .svg or .pdf")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--unit", help="of work: token, step, …")
    options = parser.parse_args(arguments)
    try:
        files = [read(path) for path in options.files]
        groups = drawn(files, options.unit)
        first = files[0]
        note = (
            f"{first.machine['processor']}, {first.machine['cores']} cores; torch {first.versions['torch']}; "
            f"{first.clock} seconds, medians"
        )
        draw(groups, note, options.out)
    except (Unfit, OSError, ValueError) as error:
        parser.error(str(error))
    console.print(f"{options.out}: {len(groups)} figures", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
