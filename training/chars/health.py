"""Early warnings of the NumPy trainer, by the measures of `training.health`."""

from __future__ import annotations

import math

import numpy as np

from training.chars.rnn import MATRICES, Array, Weights
from training.health import HIGH_UPDATE, LOW_UPDATE, MOST_DEAD, MOST_SATURATED, SATURATED


def warnings_of(hidden: Array, before: Weights, after: Weights) -> tuple[str, ...]:
    """What looks unhealthy in one step: its hidden values (T, B, m), and the weights around it."""
    found = []
    flat = hidden.reshape(-1, hidden.shape[-1])
    saturated = float((np.abs(flat) > SATURATED).mean())
    dead = float((flat.std(0) < 1e-4).mean())
    if saturated > MOST_SATURATED:
        found.append(f"hidden: {saturated:.0%} of activations are saturated")
    if dead > MOST_DEAD:
        found.append(f"hidden: {dead:.0%} of units do not move")
    ratios = []
    for name in MATRICES:
        size = float(before.parts[name].std())
        change = float((after.parts[name] - before.parts[name]).std())
        ratios.append(change / size if size > 0 else math.inf)
    middle = sorted(ratios)[len(ratios) // 2]
    if middle < LOW_UPDATE or middle > HIGH_UPDATE:
        found.append(f"update:data ratio is {middle:.1e}; about 1e-3 is healthy")
    return tuple(found)
