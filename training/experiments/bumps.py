"""Are the bumps of a loss curve hard places of the text, or chance?

The plainest network reads a text in order, several times. If a bump belongs to the text, it comes back at the same
place in the next epoch, and a judge that has learned from other text finds the place hard too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.chars.fit import SMOOTHING
from training.chars.study import StudyOptions, train_one
from training.errors import UserError
from training.experiments.runs import Row
from training.experiments.scorer import NgramScorer
from training.experiments.table import write_csv
from training.prepare import prepare
from training.recipe import Recipe

SMOOTH = 40
"""Windows that a bump is averaged over: a page rather than a line."""


def bumps(recipe: Recipe, epochs: int = 3, out: Path | None = None) -> list[Row]:
    """One row per epoch: mean loss, how it goes up and down with the epoch before (correlation at the same place)
    and with the judge, and the text of its highest bump. `out` takes the curves as CSV.

    The network reads one row in order. Correlations are of losses averaged over 40 windows, less the straight line
    by which an epoch falls. Raises UserError for fewer than two epochs or a text too short for them.
    """
    if epochs < 2:
        raise UserError(f"epochs is {epochs}; a bump comes back only when a text is read twice or more")
    fit = replace(recipe.fit, batch=1, randomise="none", fresh=0.0)
    recipe = replace(recipe, fit=fit)
    prepared = prepare(recipe)
    if prepared.validation is None:
        raise UserError("the judge reads the held-out part; use --set split.val=0.1")
    smoothed: list[float] = []
    train_one(
        recipe, prepared, StudyOptions(epochs=epochs, points=1, tokens=1), lambda p: smoothed.append(p.loss)
    )
    losses = unsmoothed(np.array(smoothed))
    each = len(losses) // epochs
    if each < 4 * SMOOTH:
        raise UserError(f"the text has {each} windows of {fit.length}; {4 * SMOOTH} are needed")
    text = "".join(document.text for document in prepared.splits.train.documents)
    judge = NgramScorer(document.text for document in prepared.validation.documents)
    hard = _flat(np.array([_judged(judge, text, i, fit.length) for i in range(each)]))
    curves = [_flat(losses[e * each : (e + 1) * each]) for e in range(epochs)]
    rows: list[Row] = []
    for epoch, curve in enumerate(curves):
        top = int(np.argmax(curve))
        rows.append(
            {
                "epoch": epoch + 1,
                "nats_per_token": float(losses[epoch * each : (epoch + 1) * each].mean()),
                "like_epoch_before": correlation(curve, curves[epoch - 1]) if epoch else math.nan,
                "like_judge": correlation(curve, hard),
                "highest_bump": float(curve[top]),
                "where": _excerpt(text, top, fit.length),
            }
        )
    if out is not None:
        names = [f"epoch_{epoch + 1}" for epoch in range(epochs)]
        columns = dict(zip((*names, "judge"), (*curves, hard), strict=True))
        table = [{"window": i, **{n: float(c[i]) for n, c in columns.items()}} for i in range(len(hard))]
        write_csv(table, out)
    return rows


def unsmoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The losses behind a smoothed curve s_t = a s_(t-1) + (1 - a) l_t, whose first value is l_1 itself."""
    found = values.copy()
    found[1:] = (values[1:] - SMOOTHING * values[:-1]) / (1 - SMOOTHING)
    return found


def correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Pearson's; NaN where one side does not move."""
    a, b = left - left.mean(), right - right.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else math.nan


def _flat(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A moving average, less its straight line."""
    mean = np.convolve(values, np.ones(SMOOTH) / SMOOTH, mode="valid")
    places = np.arange(len(mean))
    slope, height = np.polyfit(places, mean, 1)
    flat: NDArray[np.float64] = mean - (slope * places + height)
    return flat


def _judged(judge: NgramScorer, text: str, window: int, length: int) -> float:
    """The judge's bits per character of one window, which it reads with what stands before."""
    begin = window * length
    piece = text[max(0, begin - judge.order) : begin + length]
    before = text[max(0, begin - judge.order) : begin]
    return (judge.bits(piece) - judge.bits(before)) / max(1, len(piece) - len(before))


def _excerpt(text: str, window: int, length: int) -> str:
    middle = (window + SMOOTH // 2) * length
    return " ".join(text[middle : middle + 44].split())
