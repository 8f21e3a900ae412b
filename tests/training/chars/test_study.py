"""The study end to end on a small text."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inkwell.errors import ConfigError
from inkwell.models import build_model
from inkwell.sampling import SamplingParams
from training.chars.study import StudyOptions, run_study, texts
from training.data.split import SplitOptions
from training.errors import UserError
from training.prepare import model_values, prepare
from training.recipe import Recipe

OPTIONS = StudyOptions(
    epochs=2, points=4, batches=(5, 20), temperatures=(0.2, 1.5), nuclei=(0.5,), texts=3, tokens=80
)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_study_writes_curves_growth_and_samples(recipe: Recipe, tmp_path: Path) -> None:
    said: list[str] = []
    points = run_study(recipe, tmp_path, OPTIONS, said.append)
    curves = rows(tmp_path / "curves.csv")
    pairs = {(batch, order) for batch in (5, 20) for order in ("none", "random", "chunk")}
    assert {(int(row["batch"]), row["order"]) for row in curves} == pairs
    assert len(curves) == len(points)
    assert len(said) == len(pairs)

    size = prepare(recipe).splits.train.characters
    for batch, order in pairs:
        run = [point for point in points if (point.batch, point.order) == (batch, order)]
        assert run[-1].validation < run[0].validation
        # equal text for all: two epochs, less a tail that fills no window or no chunk
        assert 0.75 * 2 * size < run[-1].characters <= 2 * size
    few = min(p.validation for p in points if p.batch == 5)
    many = min(p.validation for p in points if p.batch == 20)
    assert few < many  # over so short a text more steps count for more than smooth ones

    growth = rows(tmp_path / "growth.csv")
    assert [len(row["text"]) for row in growth] == [80] * len(growth)
    assert len({row["text"] for row in growth}) == len(growth) == 4

    sampling = rows(tmp_path / "sampling.csv")
    assert [(row["temperature"], row["top_p"]) for row in sampling] == [
        ("0.2", "1.0"),
        ("1.5", "1.0"),
        ("1.0", "0.5"),
    ]
    cold, hot, nucleus = (float(row["known"]) for row in sampling)
    assert hot < cold
    assert hot < nucleus


def test_a_study_needs_held_out_text(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compares validation losses"):
        run_study(replace(recipe, split=SplitOptions(val=0.0)), tmp_path)


def test_texts_of_rows_made_together_equal_texts_made_alone(recipe: Recipe) -> None:
    prepared = prepare(recipe)
    torch.manual_seed(3)
    model = build_model(model_values(recipe, prepared))
    settings = [SamplingParams(seed=seed, temperature=0.9) for seed in range(3)]
    together = texts(model, prepared.tokenizer, "\n", settings, 30)
    assert together == [texts(model, prepared.tokenizer, "\n", [one], 30)[0] for one in settings]
    assert len(set(together)) == 3


@pytest.mark.parametrize(("name", "value"), [("epochs", 0.0), ("orders", ("none", "sideways")), ("texts", 0)])
def test_options_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name} is"):
        StudyOptions(**{name: value})  # type: ignore[arg-type]
