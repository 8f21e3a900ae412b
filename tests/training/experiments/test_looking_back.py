"""How far models look back, whether bumps belong to the text, and which tokens are alike."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from inkwell.bundle import Bundle, load_bundle
from training.cli import app
from training.errors import UserError
from training.experiments.bumps import SMOOTH, bumps, correlation, unsmoothed
from training.experiments.memory import memory
from training.produce import produce
from training.recipe import load_recipe

SENTENCES = (
    "The harbour lay quiet under the lantern. Old Marrow said the lantern had burned since the first winter. "
    "When it went out, Marrow went home.\n"
)
TEXT = SENTENCES * 10 + (
    "In the morning Quillon came. A grey ship stood in the harbour, and its captain asked for Quillon. "
    "Nobody had seen Quillon. The lantern was lit. " * 4
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "prose.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(corpus) -> Bundle:
    sets = [
        "fit.steps=6",
        "fit.batch=2",
        "fit.length=16",
        "fit.evaluate_every=3",
        "fit.warmup=1",
        "fit.threads=1",
    ]
    recipe = load_recipe("prose", "small", [*sets, "model.hidden=16", "model.layers=1", "split.val=0.35"])
    recipe = replace(recipe, corpus=str(corpus))
    produce(recipe, corpus.parent / "bundle", runs=corpus.parent / "runs")
    return load_bundle(corpus.parent / "bundle")


def test_every_length_of_context_predicts_the_same_tokens(model):
    rows = memory(model, (4, 1, 80), places=30)
    assert [row["context"] for row in rows] == [1, 4, 80]
    assert math.isnan(rows[0]["gain"])
    assert rows[1]["gain"] == pytest.approx(rows[0]["nats_per_token"] - rows[1]["nats_per_token"])
    for row in rows:
        assert 0 < row["nats_per_token"] < 10
        assert row["said_before"] > 0  # Quillon stands in the held-out part alone, and again and again


def test_a_model_that_forgets_gains_nothing_from_a_longer_past(model):
    """Recurrent weights of zero leave the last token alone: what stands before it cannot matter."""
    forgetful = model.model
    kept = {name: value.clone() for name, value in forgetful.state_dict().items()}
    try:
        with torch.no_grad():
            for name, value in forgetful.named_parameters():
                size = value.shape[0] // 4
                if "weight_hh" in name:
                    value.zero_()
                elif "bias_ih" in name:
                    value[size : 2 * size] = -1e4  # the forget gate is shut
        rows = memory(model, (1, 8), places=30)
    finally:
        forgetful.load_state_dict(kept)
    assert rows[1]["nats_per_token"] == pytest.approx(rows[0]["nats_per_token"], abs=1e-5)
    assert memory(model, (1, 8), places=30)[1]["gain"] != pytest.approx(0.0, abs=1e-5)


def test_contexts_longer_than_the_texts_are_refused(model):
    with pytest.raises(UserError, match="--contexts must stay below that"):
        memory(model, (10_000,))
    with pytest.raises(UserError, match="contexts are"):
        memory(model, (0, 4))


def test_losses_come_back_out_of_a_smoothed_curve():
    losses = np.random.default_rng(1).random(500)
    smooth = losses.copy()
    for at in range(1, len(losses)):
        smooth[at] = 0.999 * smooth[at - 1] + 0.001 * losses[at]
    assert np.allclose(unsmoothed(smooth), losses, atol=1e-9)


def test_correlation_is_pearsons():
    random = np.random.default_rng(2)
    left = random.random(50)
    right = left + random.random(50)
    assert correlation(left, right) == pytest.approx(np.corrcoef(left, right)[0, 1])
    assert correlation(left, 3 * left + 1) == pytest.approx(1)
    assert math.isnan(correlation(left, np.ones(50)))


def test_a_hard_place_is_hard_in_every_epoch_and_to_the_judge(tmp_path):
    noise = "".join(np.random.default_rng(3).choice(list("abcdefghijklmnop"), 1500))
    path = tmp_path / "text.txt"
    path.write_text(SENTENCES * 14 + noise + SENTENCES * 22, encoding="utf-8")
    sets = ["model.hidden=16", "fit.length=16", "fit.warmup=0", "split.val=0.2"]
    recipe = replace(load_recipe("chars", "small", sets), corpus=str(path))
    rows = bumps(recipe, 2, tmp_path / "curves.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert math.isnan(rows[0]["like_epoch_before"])
    assert rows[1]["like_epoch_before"] > 0.5
    assert rows[1]["like_judge"] > 0.5
    assert rows[1]["where"].replace(" ", "") in noise or rows[1]["where"][:20] in noise
    with (tmp_path / "curves.csv").open(newline="") as file:
        curves = list(csv.DictReader(file))
    assert set(curves[0]) == {"window", "epoch_1", "epoch_2", "judge"}


def test_bumps_need_two_epochs_and_a_text_that_is_long_enough(corpus):
    recipe = replace(load_recipe("chars", "small", ["model.hidden=6"]), corpus=str(corpus))
    with pytest.raises(UserError, match="epochs is 1"):
        bumps(recipe, 1)
    with pytest.raises(UserError, match=f"{4 * SMOOTH} are needed"):
        bumps(replace(recipe, fit=replace(recipe.fit, length=64)), 2)


def run(*words):
    result = CliRunner().invoke(app, ["experiment", *map(str, words)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_commands_print_their_tables(model, bpe_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = run("memory", model.path, "--contexts", "1,4", "--places", 20)
    assert "said before" in out
    assert (tmp_path / "experiments" / "memory.csv").is_file()
    near = run("neighbours", bpe_bundle, "the", "ship", "-n", 3)
    assert len([line for line in near.splitlines() if "0." in line or "1." in line]) >= 2


def test_bumps_are_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(SENTENCES * 40, encoding="utf-8")
    sets = [part for change in ("model.hidden=6", "fit.length=16") for part in ("--set", change)]
    out = run("bumps", "--corpus", "text.txt", "--epochs", 2, *sets)
    assert "like judge" in out
    assert {path.name for path in Path("experiments").iterdir()} == {
        "bumps.csv", "bumps-curves.csv", "bumps.png", "bumps.svg",
    }  # fmt: skip
