"""What happens while a text is written: hidden values, their path, how units behave, doubt at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inkwell.bundle import Bundle
from training.figures.album import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, Album, canvas
from training.figures.inside import Reading, read, write

HEAT_UNITS = 40
LEAST_STEPS = 40
MOST_STEPS = 60
ACTIVE, INACTIVE = 0.5, 0.1
"""A unit's mean size above which it counts as very active, and below which as inactive."""
GROUPS = {
    "very active": VERMILION,
    "mixed": BLUE,
    "all +": GREEN,
    "all −": PURPLE,
    "inactive": GREY,
}


@dataclass(frozen=True)
class Units:
    """Per hidden unit: mean (U,), standard deviation (U,), and the name of its group."""

    mean: Tensor
    spread: Tensor
    groups: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        return {name: self.groups.count(name) for name in GROUPS}


def sort_units(hidden: Tensor) -> Units:
    """Which units of (T, U) are very active, mixed, of one sign, or inactive. Each unit is in one group, the
    first that fits: inactive, of one sign, very active, mixed."""
    size = hidden.abs().mean(0)
    groups = []
    for index in range(hidden.shape[1]):
        values = hidden[:, index]
        if size[index] < INACTIVE:
            groups.append("inactive")
        elif bool((values > 0).all()):
            groups.append("all +")
        elif bool((values < 0).all()):
            groups.append("all −")
        elif size[index] > ACTIVE:
            groups.append("very active")
        else:
            groups.append("mixed")
    return Units(hidden.mean(0), hidden.std(0, correction=0), tuple(groups))


def draw(bundle: Bundle, album: Album, seed: int, prompt: str = "") -> None:
    """dynamics.png, .svg, .csv and dynamics-units.csv"""
    # a text that ends at once shows little; names are short by nature
    least = {} if bundle.categories else {"min_new_tokens": min(LEAST_STEPS, bundle.limits.max_new_tokens)}
    ids, _, category = write(bundle, prompt, MOST_STEPS, seed, **least)
    reading = read(bundle, ids[:MOST_STEPS], category)
    units = sort_units(reading.hidden)
    steps = len(reading.ids)
    figure, axes = canvas(11.0, 8.2, 3, 2, width_ratios=(1.7, 1.0), height_ratios=(1.4, 1.0, 1.0))
    _heat(figure, axes[0][0], reading, units)
    path = _path(axes[0][1], reading)
    _lines(axes[1][0], reading, units)
    _groups(axes[1][1], units)
    _entropy(axes[2][0], reading)
    _histogram(axes[2][1], reading)
    figure.suptitle(
        f"{bundle.config.name}: {steps} steps of one text, {reading.hidden.shape[1]} hidden units"
    )
    album.save("dynamics", figure)
    surprise = [float("nan"), *reading.surprise.tolist()]
    album.table(
        "dynamics",
        [
            "step",
            "token",
            "entropy_nats",
            "surprise_nats",
            "pca_1",
            "pca_2",
            "mean",
            "spread",
            "share_positive",
        ],
        zip(
            range(steps),
            reading.labels,
            reading.entropy.tolist(),
            surprise,
            *path.T.tolist(),
            reading.hidden.mean(1).tolist(),
            reading.hidden.std(1, correction=0).tolist(),
            (reading.hidden > 0).float().mean(1).tolist(),
            strict=True,
        ),
    )
    album.table(
        "dynamics-units",
        ["unit", "group", "mean", "spread"],
        zip(range(len(units.groups)), units.groups, units.mean.tolist(), units.spread.tolist(), strict=True),
    )


def _heat(figure: Any, place: Any, reading: Reading, units: Units) -> None:
    most = units.spread.topk(min(HEAT_UNITS, len(units.groups))).indices
    values = reading.hidden[:, most].t().numpy()
    limit = float(np.quantile(np.abs(values), 0.99)) or 1.0
    image = place.imshow(
        values, aspect="auto", cmap="PuOr_r", vmin=-limit, vmax=limit, interpolation="nearest"
    )
    figure.colorbar(image, ax=place, label="value", pad=0.01)
    place.set_title(f"The {len(most)} units that vary most, liveliest on top")
    place.set_ylabel("hidden unit")
    place.set_yticks([])
    _tokens(place, reading)


def _path(place: Any, reading: Reading) -> np.ndarray:
    from sklearn.decomposition import PCA

    values = reading.hidden.numpy().astype(np.float64)
    if min(values.shape) < 2:
        return np.zeros((len(values), 2))
    pca = PCA(n_components=2).fit(values)
    path: np.ndarray = pca.transform(values)
    place.plot(*path.T, color=GREY, linewidth=0.7, alpha=0.7, zorder=1)
    dots = place.scatter(*path.T, c=range(len(path)), s=16, cmap="viridis", zorder=2)
    place.figure.colorbar(dots, ax=place, label="step", pad=0.01)
    for index, name, marker, colour in ((0, "start", "s", ORANGE), (-1, "end", "X", VERMILION)):
        place.scatter(
            *path[index], s=90, marker=marker, color=colour, edgecolors="black", zorder=3, label=name
        )
    place.legend(loc="best", fontsize=8)
    place.set_title(f"Path of the state (PCA, {pca.explained_variance_ratio_.sum():.0%} of its spread)")
    place.set_xticks([])
    place.set_yticks([])
    return path


def _lines(place: Any, reading: Reading, units: Units) -> None:
    chosen = units.spread.topk(min(5, len(units.groups))).indices.tolist()
    for unit, colour, style in zip(
        chosen, (BLUE, ORANGE, GREEN, VERMILION, PURPLE), ("-", "--", "-.", ":", "-"), strict=False
    ):
        place.plot(
            reading.hidden[:, unit].tolist(), color=colour, linestyle=style, linewidth=1.1, label=f"{unit}"
        )
    place.axhline(0.0, color=GREY, linewidth=0.5)
    place.set_title("The five liveliest units, one by one")
    place.set_ylabel("value")
    place.legend(title="unit", loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
    _tokens(place, reading)


def _groups(place: Any, units: Units) -> None:
    counts = units.counts()
    names = list(counts)[::-1]
    place.barh(names, [counts[name] for name in names], color=[GROUPS[name] for name in names])
    for row, name in enumerate(names):
        place.annotate(f" {counts[name]}", (counts[name], row), va="center", fontsize=8)
    place.set_title("How units behave")
    place.set_xlabel(f"units (active: mean size over {ACTIVE}, inactive: below {INACTIVE})")


def _entropy(place: Any, reading: Reading) -> None:
    steps = range(len(reading.ids))
    place.bar(
        steps,
        [0.0, *reading.surprise.tolist()],
        color=SKY,
        width=0.8,
        label="surprise at the token that came",
    )
    place.plot(
        steps, [0.0, *reading.entropy[:-1].tolist()], color=VERMILION, linewidth=1.3, label="doubt before it"
    )
    place.set_title("Doubt (entropy) and surprise, step by step")
    place.set_ylabel("nats")
    place.set_ylim(0.0, 1.25 * max([1e-9, *reading.surprise.tolist(), *reading.entropy.tolist()]))
    place.legend(loc="upper right", fontsize=8, ncols=2)
    _tokens(place, reading)


def _histogram(place: Any, reading: Reading) -> None:
    """Hidden values at five moments of the text."""
    steps = torch.linspace(0, len(reading.ids) - 1, min(5, len(reading.ids))).long().tolist()
    limit = float(reading.hidden.abs().quantile(0.995) if reading.hidden.numel() < 2**23 else 1.0) or 1.0
    bins = np.linspace(-limit, limit, 41)
    for step, colour in zip(steps, (BLUE, ORANGE, GREEN, VERMILION, PURPLE), strict=False):
        values = reading.hidden[step].clamp(-limit, limit).numpy()
        place.hist(values, bins=bins, histtype="step", color=colour, label=f"step {step}")
    place.set_title("Hidden values at five moments")
    place.set_xlabel("value")
    place.set_ylabel("units")
    place.legend(fontsize=7)


def _tokens(place: Any, reading: Reading) -> None:
    """Tokens under the steps, where there is room for them."""
    steps = len(reading.ids)
    step = max(1, -(-steps // 60))
    marks = range(0, steps, step)
    place.set_xticks(marks, [reading.labels[mark][:8] for mark in marks], fontsize=6)
    if any(len(reading.labels[mark]) > 1 for mark in marks):
        place.tick_params(axis="x", labelrotation=90)
    place.set_xlim(-0.5, steps - 0.5)
