"""The character RNN's study as figures: loss by batch size and reading order, and known words by sampling."""

from __future__ import annotations

import csv
from pathlib import Path

from training.errors import DataError
from training.figures.album import BLUE, GREY, ORANGE, PALETTE, VERMILION, Album, canvas, styled

_STYLES = {"none": "-", "shift": "--", "chunk": "-.", "random": ":"}


def draw_study(folder: Path) -> list[Path]:
    """Draw what `training.chars.study.run_study` wrote to `folder`: study-curves and study-sampling."""
    album = Album(folder, ("png", "svg"))
    with styled():
        _curves(album, _rows(folder / "curves.csv"))
        _sampling(album, _rows(folder / "sampling.csv"))
    return album.written


def draw_bumps(path: Path) -> list[Path]:
    """Draw the curves that `training.experiments.bumps` wrote to `path`, beside them."""
    rows = _rows(path)
    album = Album(path.parent, ("png", "svg"))
    with styled():
        figure, axes = canvas(10.0, 4.6, 2, 1, sharex=True)
        upper, lower = axes[0][0], axes[1][0]
        windows = [int(row["window"]) for row in rows]
        epochs = [name for name in rows[0] if name.startswith("epoch")]
        for number, name in enumerate(epochs):
            nats = [float(row[name]) for row in rows]
            colour, late = PALETTE[(len(epochs) - 1 - number) % len(PALETTE)], number > 0
            upper.plot(
                windows, nats, color=colour if late else GREY, linewidth=1.1, label=name.replace("_", " ")
            )
        # the first epoch falls steeply while letters are learned; its beginning would squeeze all else
        most = 1.5 * max(abs(float(row[epochs[-1]])) for row in rows)
        upper.set_ylim(-most, most)
        upper.set_ylabel("nats")
        upper.set_title("Loss above the straight line of its epoch")
        upper.legend(fontsize=8, ncols=len(epochs), loc="upper right")
        lower.plot(windows, [float(row["judge"]) for row in rows], color=VERMILION, linewidth=1.1)
        lower.set_title("A judge that has learned from other text")
        lower.set_ylabel("bits")
        lower.set_xlabel("place in the text, windows")
        lower.margins(x=0.01)
        figure.suptitle("The same places of the text are hard every time")
        album.save("bumps", figure)
    return album.written


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"{path} is missing; the experiment writes it")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _curves(album: Album, rows: list[dict[str, str]]) -> None:
    figure, axes = canvas(10.0, 4.2, 1, 2, sharey=True)
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    orders = list(dict.fromkeys(row["order"] for row in rows))
    for place, key, title in (
        (axes[0][0], "train", "Training text"),
        (axes[0][1], "validation", "Held-out text"),
    ):
        for batch, colour in zip(batches, PALETTE * len(batches), strict=False):
            for order in orders:
                chosen = [row for row in rows if row["batch"] == batch and row["order"] == order]
                place.plot(
                    [int(row["characters"]) for row in chosen],
                    [float(row[key]) for row in chosen],
                    color=colour,
                    linestyle=_STYLES.get(order, "-"),
                    label=f"batch {batch}, {order}",
                )
        place.set_title(title)
        place.set_xlabel("characters read")
    axes[0][0].set_ylabel("nats per character")
    axes[0][1].legend(fontsize=8)
    figure.suptitle("Batch size and reading order")
    album.save("study-curves", figure)


def _sampling(album: Album, rows: list[dict[str, str]]) -> None:
    figure, axes = canvas(10.0, 3.4, 1, 2, sharey=True)
    whole = [row for row in rows if float(row["top_p"]) == 1.0]
    nuclei = [row for row in rows if float(row["top_p"]) < 1.0]
    for place, chosen, key, colour in (
        (axes[0][0], whole, "temperature", BLUE),
        (axes[0][1], nuclei, "top_p", ORANGE),
    ):
        place.plot([float(r[key]) for r in chosen], [float(r["known"]) for r in chosen], "o-", color=colour)
        place.set_xlabel("temperature" if key == "temperature" else "nucleus (top-p) at temperature 1")
        place.set_ylim(0, 1.02)
    axes[0][0].set_ylabel("share of words known from training")
    figure.suptitle("How sampling shapes the words")
    album.save("study-sampling", figure)
