"""Recipes and presets: strict, and changed from the command line by name."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from inkwell.models import build_model
from training.errors import UserError
from training.recipe import CORPORA, FAMILIES, FitRecipe, load_recipe, presets_of, recipe_from, with_corpus

PRESETS = [(family, name) for family in FAMILIES for name in presets_of(family)]


@pytest.mark.parametrize(("family", "preset"), PRESETS)
def test_every_preset_is_a_recipe_of_a_model_that_exists(family: str, preset: str) -> None:
    recipe = load_recipe(family, preset)
    assert recipe.family == family
    assert recipe.description
    values = {**recipe.model, "vocabulary": 90}
    if values.get("categories") == 1:  # as many as the corpus has
        values["categories"] = 5
    if values.get("width", 0) < 512:
        assert build_model(values).parameter_count() > 0
    assert recipe_from({k: v for k, v in recipe.as_mapping().items() if v is not None}, "again") == recipe


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_small_preset_whose_corpus_lies_here(family: str) -> None:
    assert (CORPORA / load_recipe(family).corpus).exists()


def test_changes_are_read_as_toml() -> None:
    recipe = load_recipe(
        "prose",
        changes=[
            "fit.steps=7",
            "fit.rate = 1e-2",
            "model.hidden=64",
            "description=plain words",
            "split.val=0.2",
        ],
    )
    assert (recipe.fit.steps, recipe.fit.rate, recipe.model["hidden"]) == (7, 0.01, 64)
    assert (recipe.description, recipe.split.val) == ("plain words", 0.2)
    assert load_recipe("prose", changes=['corpus="x.txt"']).corpus == "x.txt"
    assert load_recipe("prose", changes=["tokenizer.kind=bpe"]).tokenizer.kind == "bpe"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("fit.steps", "'fit.steps' must look like fit.steps=500"),
        ("=3", "must look like"),
        ("fit.stepps=3", "unknown key 'stepps'"),
        ("fit.steps=0", "steps is 0; allowed is 1 or more"),
        ("fit.steps=many", "steps is 'many'"),
        ("fit.accumulate=5", r"accumulate is 5; allowed is a divisor of batch \(12\)"),
        ("fit.ema=1.0", "ema is 1.0; allowed is 0 or more, below 1"),
        ("fit.rate=0", "rate is 0.0; allowed is above 0"),
        ("fit.randomise=always", "randomise is 'always'; allowed are 'none'"),
        ("fit=3", "fit is 3; a table"),
        ("colour.red=3", "unknown key 'colour'"),
        ("corpus.name=3", "'corpus' is a value, not a table"),
        ("trainer=jax", "trainer is 'jax'; allowed are 'torch', 'numpy'"),
        ("model=3", "model is 3; a table"),
        ("split.val=1.5", "val is 1.5"),
    ],
)
def test_changes_that_do_not_fit_are_refused(change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe("prose", changes=[change])


def test_unknown_families_and_presets_are_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match="family is 'poem'; allowed are prose, names"):
        load_recipe("poem")
    with pytest.raises(UserError, match="preset is 'huge'; family 'prose' has small"):
        load_recipe("prose", "huge")


def test_a_corpus_can_be_another_file(tmp_path: Any) -> None:
    recipe = load_recipe("prose")
    changed = with_corpus(recipe, str(tmp_path))
    assert changed.corpus == str(tmp_path)
    assert with_corpus(changed, recipe.corpus) == recipe


def test_fit_values_have_bounds() -> None:
    assert FitRecipe(batch=8, accumulate=4).accumulate == 4


def test_every_setting_of_fit_stands_on_the_page_with_its_value() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", page, re.MULTILINE))
    defaults = asdict(FitRecipe())
    assert sorted(rows) == sorted(defaults)
    for name, value in defaults.items():
        told = rows[name].strip("`").split(" (")[0].replace(",", "")
        if isinstance(value, bool):
            assert told == str(value).lower()
        elif isinstance(value, (int, float)):
            assert float(told) == value, name
        else:
            assert told == (value or "none"), name
