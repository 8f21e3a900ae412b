"""Small models and corpora for the trainer's tests, importable by a process under torchrun too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from inkwell.models import LanguageModel, build_model
from training.batches import DocumentWindows, Share, Source, StreamWindows
from training.progress import Progress
from training.recipe import FitRecipe

V = 11
LSTM = {"architecture": "recurrent", "vocabulary": V, "cell": "lstm", "hidden": 12, "layers": 2}
GPT = {
    "architecture": "gpt",
    "vocabulary": V,
    "layers": 2,
    "heads": 2,
    "width": 16,
    "window": 8,
    "categories": 3,
}


def stream_ids(length: int = 600, seed: int = 0) -> np.ndarray:
    """Steps of one to three around a ring: easy to learn in part, never wholly."""
    rng = np.random.default_rng(seed)
    return 1 + np.cumsum(rng.integers(1, 4, size=length)) % (V - 1)


def documents(count: int = 48, seed: int = 0) -> tuple[list[list[int]], list[int]]:
    rng = np.random.default_rng(seed)
    texts = [
        (1 + (int(rng.integers(10)) + np.arange(int(rng.integers(1, 14)))) % (V - 1)).tolist()
        for _ in range(count)
    ]
    return texts, [int(c) for c in rng.integers(0, 3, size=count)]


def model_of(settings: dict[str, Any], seed: int = 0) -> LanguageModel:
    torch.manual_seed(seed)
    return build_model(settings)


def source_of(kind: str, fit: FitRecipe, share: Share | None = None) -> Source:
    if kind == "stream":
        return StreamWindows(stream_ids(), fit.batch, fit.length, fit.randomise, fit.seed, share)
    texts, conditions = documents()
    return DocumentWindows(texts, conditions, fit.batch, fit.length, fit.seed, True, share)


def fit_of(**changes: Any) -> FitRecipe:
    values = {
        "steps": 12,
        "batch": 8,
        "length": 9,
        "warmup": 3,
        "rate": 5e-3,
        "evaluate_every": 3,
        "fresh": 0.0,
    }
    return FitRecipe(**{**values, **changes})


def write_names(folder: Path) -> None:
    """names.csv: 24 names of two peoples."""
    rows = [
        f"{a}{b},{kind}"
        for kind in ("elf", "ork")
        for a in ("Ael", "Bor", "Lir")
        for b in ("in", "ok", "wen", "ul")
    ]
    (folder / "names.csv").write_text("name,category\n" + "\n".join(rows))


class BrokenOffError(Exception):
    """Ends a training from within."""


def stop_at_8(progress: Progress) -> None:
    """A callback that breaks off after eight steps."""
    if progress.step == 8:
        raise BrokenOffError
