"""How a model was trained, and whether it is healthy: loss curve, and the diagnostics of one watched step."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from inkwell.bundle import Bundle
from training.figures.album import BLUE, MARKERS, ORANGE, PALETTE, VERMILION, Album, below, canvas
from training.figures.watch import Step, watched_step
from training.health import HIGH_UPDATE, LOW_UPDATE

MOST_LINES = 8
Point = tuple[int, float, float]


def curve_of(bundle: Bundle, runs: Path) -> list[Point]:
    """(step, training loss, held-out loss) from the bundle's metrics, else from the log of its run."""
    curve = bundle.metrics.get("training", {}).get("curve") or []
    if curve:
        return [(int(step), float(train), float(held)) for step, train, held in curve]
    log = runs / bundle.config.name / "log.csv"
    if not log.is_file():
        return []
    with log.open(encoding="utf-8", newline="") as file:
        return [
            (int(row["step"]), float(row["train_nats"]), float(row["validation_nats"]))
            for row in csv.DictReader(file)
        ]


def draw(bundle: Bundle, album: Album, seed: int, runs: Path = Path("runs")) -> None:
    """training.png, .svg; training-curve.csv and training-step.csv"""
    curve = curve_of(bundle, runs)
    step = watched_step(bundle, seed)
    figure, axes = canvas(11.0, 6.6, 2, 2)
    _curve(axes[0][0], curve)
    stuck = {name: step.stuck(name) for name in step.activations}
    notes = [f"{share:.0%} {where}" for share, where in stuck.values()]
    _histograms(axes[0][1], step.activations, "Activations", notes)
    ratios = [f"ratio {step.gradient_ratio[name]:.1e}" for name in step.gradients]
    _histograms(axes[1][0], step.gradients, "Gradients", ratios)
    _updates(axes[1][1], step)
    figure.suptitle(f"{bundle.config.name}: how it was trained, and one more step over {step.text}")
    album.save("training", figure)
    album.table("training-curve", ["step", "train_nats", "held_out_nats"], curve)
    album.table(
        "training-step",
        ["layer", "what", "mean", "spread", "stuck", "gradient_to_data", "update_to_data"],
        [
            *(
                [name, "activation", float(values.mean()), float(values.std()), stuck[name][0], "", ""]
                for name, values in step.activations.items()
            ),
            *(
                [
                    name,
                    "matrix",
                    float(values.mean()),
                    float(values.std()),
                    "",
                    step.gradient_ratio[name],
                    step.update_ratio[name],
                ]
                for name, values in step.gradients.items()
            ),
        ],
    )


def _curve(place: Any, curve: list[Point]) -> None:
    place.set_title("Loss while it was trained")
    place.set_xlabel("step")
    place.set_ylabel("nats per token")
    if not curve:
        place.annotate(
            "no curve was kept with this bundle", (0.5, 0.5), xycoords="axes fraction", ha="center"
        )
        return
    steps = [step for step, _, _ in curve]
    held = [value for _, _, value in curve]
    place.plot(
        steps, [value for _, value, _ in curve], "o-", color=BLUE, markersize=4, label="training (smoothed)"
    )
    place.plot(steps, held, "s--", color=ORANGE, markersize=4, label="held out")
    best = int(np.argmin(held))
    place.scatter(
        [steps[best]],
        [held[best]],
        s=110,
        marker="*",
        color=VERMILION,
        zorder=3,
        label=f"best, {held[best]:.3f}",
    )
    place.legend(fontsize=8)


def _histograms(place: Any, values: dict[str, Tensor], title: str, notes: list[str]) -> None:
    """Densities of up to MOST_LINES layers, evenly taken, on common bins."""
    chosen = _evenly(list(zip(values, notes, strict=True)))
    place.set_title(title)
    place.set_yticks([])
    if not chosen:
        place.annotate("nothing to show", (0.5, 0.5), xycoords="axes fraction", ha="center")
        return
    limit = max(3 * float(values[name].std()) for name, _ in chosen)
    limit = limit if math.isfinite(limit) and limit > 0 else 1.0
    bins = np.linspace(-limit, limit, 61)
    middle = (bins[1:] + bins[:-1]) / 2
    for number, (name, note) in enumerate(chosen):
        density, _ = np.histogram(values[name].numpy(), bins=bins)
        share = density / max(1, values[name].numel())
        place.plot(
            middle,
            share,
            color=PALETTE[number % 8],
            linestyle=("-", "--", "-.", ":")[number % 4],
            label=f"{name}: {note}",
        )
    place.legend(fontsize=6.5)
    place.set_xlabel("value")
    place.set_ylabel("share")


def _updates(place: Any, step: Step) -> None:
    chosen = _evenly(list(step.update_ratio), 24)
    for row, name in enumerate(chosen[::-1]):
        ratio = step.update_ratio[name]
        healthy = LOW_UPDATE <= ratio <= HIGH_UPDATE
        place.scatter(
            [ratio], [row], color=BLUE if healthy else VERMILION, marker=MARKERS[0 if healthy else 5], s=36
        )
    place.set_yticks(range(len(chosen)), chosen[::-1], fontsize=6.5)
    place.set_xscale("log")
    place.xaxis.set_major_formatter("{x:.0e}")
    place.axvline(1e-3, color=ORANGE, linestyle="--", label="1e-3, the usual advice while learning")
    place.axvspan(LOW_UPDATE, HIGH_UPDATE, color=BLUE, alpha=0.07, label="no warning in here")
    place.set_title("Update against data, at the last learning rate")
    place.set_xlabel("std of update / std of values")
    below(place)


def _evenly(items: list[Any], most: int = MOST_LINES) -> list[Any]:
    step = max(1, -(-len(items) // most))
    return items[::step]
