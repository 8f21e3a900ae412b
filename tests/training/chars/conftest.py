"""A small English-like text and recipes over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.recipe import Recipe, recipe_from

WORDS = [
    "the",
    "king",
    "and",
    "queen",
    "of",
    "an",
    "old",
    "grey",
    "castle",
    "went",
    "down",
    "to",
    "sea",
    "ship",
]


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 12,000 characters of sentences made of a few words."""
    random = np.random.default_rng(1)
    sentences = [" ".join(random.choice(WORDS, size=random.integers(4, 12))) + ".\n" for _ in range(300)]
    path = tmp_path_factory.mktemp("corpus") / "story.txt"
    path.write_text("".join(sentences), encoding="utf-8")
    return path


@pytest.fixture
def recipe(story: Path) -> Recipe:
    return make_recipe(story)


def make_recipe(story: Path, **fit: object) -> Recipe:
    """A NumPy recipe of a small model; `fit` changes how it is trained."""
    settings = {
        "steps": 120,
        "batch": 4,
        "length": 20,
        "rate": 5e-3,
        "warmup": 5,
        "beta2": 0.999,
        "evaluate_every": 40,
        "evaluate_tokens": 100_000,
        "threads": 1,
        **fit,
    }
    values = {
        "family": "chars",
        "corpus": str(story),
        "kind": "stream",
        "trainer": "numpy",
        "start": "\n",
        "novelty": False,
        "model": {"architecture": "recurrent", "cell": "rnn", "hidden": 32, "layers": 1, "embedding": 0},
        "fit": settings,
    }
    return recipe_from(values, "test")
