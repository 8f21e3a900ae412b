"""The pictures of docs/scale.md, in colours that everybody can tell apart, with marks and dashes beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from scaling.experiments import Point
from scaling.record import Record

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, PINK, SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"
STYLES = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."), (PINK, "D", ":"))


def sweep(points: Sequence[Point], path: Path) -> None:
    """Throughput and waits over the load, a line for each size."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for (colour, mark, line), workers in zip(
        STYLES, sorted({point.workers for point in points}), strict=False
    ):
        mine = [point for point in points if point.workers == workers]
        shares = [100 * point.share for point in mine]
        done = [100 * point.done / (point.offered / point.share) for point in mine]
        waits = [1000 * point.first_99 for point in mine]
        label = f"{workers:,} workers"
        left.plot(shares, done, color=colour, marker=mark, linestyle=line, label=label)
        right.plot(shares, waits, color=colour, marker=mark, linestyle=line, label=label)
    left.axline((0, 0), slope=1, color="0.7", linewidth=0.8, zorder=0)
    left.set(ylabel="done, % of what the workers can do", xlim=(40, 120), ylim=(40, 120))
    right.set(ylabel="first token, 99th percentile, ms", yscale="log")
    for axes in (left, right):
        axes.set_xlabel("asked for, % of what the workers can do")
    _finish(left, path)


def zone(records: Mapping[str, Record], lost_at: float, path: Path) -> None:
    """What a lost zone does to waits and to the number of workers."""
    _, (upper, lower) = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    for (colour, mark, line), (label, record) in zip(STYLES, records.items(), strict=False):
        times, waits = record.timeline(0.99, 5.0)
        upper.plot(times, waits, color=colour, linestyle=line, marker=mark, markevery=6, label=label)
        state = record.state
        lower.plot(state[:, 0], state[:, 2], color=colour, linestyle=line, label=label)
    for axes in (upper, lower):
        axes.axvline(lost_at, color="0.6", linewidth=0.8)
    upper.set(ylabel="first token,\n99th percentile, s", yscale="log")
    lower.set(ylabel="workers that work", xlabel="seconds", ylim=(0, None))
    _finish(upper, path)


def rush(records: Mapping[str, Record], path: Path) -> None:
    """A rising load under different autoscaling."""
    _, (upper, lower) = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    for (colour, mark, line), (label, record) in zip(STYLES, records.items(), strict=False):
        times, waits = record.timeline(0.99, 10.0)
        upper.plot(times, waits, color=colour, linestyle=line, marker=mark, markevery=6, label=label)
        state = record.state
        lower.plot(state[:, 0], state[:, 1], color=colour, linestyle=line, label=label)
    upper.set(ylabel="first token,\n99th percentile, s", yscale="log")
    lower.set(ylabel="workers", xlabel="seconds", ylim=(0, None))
    _finish(upper, path)


def limits(sizes: Sequence[int], watching: Sequence[float], measured_up_to: int, path: Path) -> None:
    """The part of a gateway's processor that looking at workers takes."""
    _, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    shares = 100 * np.array(watching)
    axes.plot(sizes, shares, color=BLUE, marker="o", label="looks at every worker, every 5 s")
    axes.axhline(70, color=ORANGE, linestyle="--", label="where the autoscaler adds gateways")
    axes.axhline(100, color=PINK, linestyle=":", label="the whole processor")
    axes.axvline(measured_up_to, color="0.7", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="% of a gateway's processor")
    _finish(axes, path)


def _finish(axes: Axes, path: Path) -> None:
    axes.legend(frameon=False)
    figure = axes.figure
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without dates and random names the same figures make the same file.
    with mpl.rc_context({"svg.hashsalt": "inkwell"}):
        figure.savefig(path, metadata={"Date": None})  # type: ignore[union-attr]
    plt.close(figure)  # type: ignore[arg-type]
