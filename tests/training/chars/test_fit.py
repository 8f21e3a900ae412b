"""Whole runs of the NumPy trainer: what they leave behind, how they report, and how they go on after a break."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inkwell.models import build_model
from inkwell.models.recurrent import RecurrentModel
from inkwell.session import TextEngine, final_event
from training.chars.convert import from_torch
from training.chars.fit import NumpyTrainer, fit_numpy, stream_ids, train_windows
from training.chars.rnn import CharRNN, Shape, Weights
from training.errors import DataError, UserError
from training.prepare import Prepared, model_values, prepare, windows
from training.produce import produce
from training.progress import Fitted, Progress
from training.recipe import FitRecipe, Recipe, load_recipe, presets_of
from training.scoring import evaluate


def changed(recipe: Recipe, **fit: object) -> Recipe:
    return replace(recipe, fit=replace(recipe.fit, **fit))  # type: ignore[arg-type]


def fresh_model(recipe: Recipe, prepared: Prepared) -> RecurrentModel:
    torch.manual_seed(recipe.fit.seed)
    model = build_model(model_values(recipe, prepared))
    assert isinstance(model, RecurrentModel)
    return model


def train(
    recipe: Recipe, runs: Path, resume: bool = False, heard: list[Progress] | None = None
) -> tuple[RecurrentModel, Fitted, Prepared]:
    prepared = prepare(recipe)
    model = fresh_model(recipe, prepared)
    fitted = fit_numpy(model, recipe, prepared, runs, None if heard is None else heard.append, resume)
    return model, fitted, prepared


def same(a: RecurrentModel, b: RecurrentModel) -> bool:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_training_beats_the_frequencies_of_characters(recipe: Recipe, tmp_path: Path) -> None:
    _, fitted, prepared = train(recipe, tmp_path)
    counts = np.bincount(stream_ids(prepared, prepared.splits.train)).astype(float)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    assert fitted.best < 0.8 * entropy


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_torch_measures_the_loss_that_numpy_reported(recipe: Recipe, tmp_path: Path, ema: float) -> None:
    recipe = changed(recipe, ema=ema)
    model, fitted, prepared = train(recipe, tmp_path)
    part = prepared.validation
    assert part is not None
    total = evaluate(model, windows(recipe, prepared, part, False), torch.device("cpu"))
    assert total.per_token == pytest.approx(fitted.best, rel=1e-5)
    assert fitted.best == min(held for _, _, held in fitted.curve)


def test_the_training_loss_of_a_window_is_torchs(recipe: Recipe) -> None:
    prepared = prepare(recipe)
    model = fresh_model(recipe, prepared)
    weights = from_torch(model)
    window = next(train_windows(recipe.fit, stream_ids(prepared, prepared.splits.train)).epoch(0))
    network = CharRNN(weights)
    loss, _ = network.gradients(window.ids, window.targets, network.start(4), Weights.zeros(weights.shape))
    output = model(torch.from_numpy(window.ids.T.copy()), torch.from_numpy(window.targets.T.copy()))
    assert loss == pytest.approx(float(output.loss.detach()), rel=1e-6)


def test_the_served_bundle_writes_what_numpy_would_write(recipe: Recipe, tmp_path: Path) -> None:
    bundle = produce(recipe, tmp_path / "bundle", runs=tmp_path / "runs")
    assert bundle is not None
    assert isinstance(bundle.model, RecurrentModel)
    job = {"prompt": "the king", "temperature": 0, "max_new_tokens": 40, "seed": 1}
    served = final_event(TextEngine(bundle).generate(job))["text"]

    network = CharRNN(from_torch(bundle.model))
    state, fed, written = network.start(1), bundle.tokenizer.encode("\nthe king"), []
    for _ in range(40):
        logits, state = network.forward(np.array(fed)[:, None], state)
        fed = [int(logits[-1].argmax())]
        written += fed
    assert bundle.tokenizer.decode(written) == served


@pytest.mark.parametrize(
    "fit",
    [
        {"randomise": "none"},
        {"randomise": "shift", "fresh": 0.2, "ema": 0.95},
        {"randomise": "chunk", "weight_decay": 0.1},
        {"randomise": "random", "batch": 1},
    ],
)
def test_a_resumed_run_equals_an_unbroken_one_to_the_bit(
    recipe: Recipe, tmp_path: Path, fit: dict[str, object]
) -> None:
    recipe = changed(recipe, **fit)
    whole, expected, prepared = train(recipe, tmp_path / "whole")

    def break_off(progress: Progress) -> None:
        if progress.step == 93:  # between two measurements, so that work since step 80 is lost
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_numpy(fresh_model(recipe, prepared), recipe, prepared, tmp_path / "broken", break_off)
    heard: list[Progress] = []
    resumed, fitted, _ = train(recipe, tmp_path / "broken", resume=True, heard=heard)
    assert heard[0].step == 81
    assert same(resumed, whole)
    assert fitted.curve == expected.curve
    assert (fitted.best, fitted.best_step, fitted.tokens) == (
        expected.best,
        expected.best_step,
        expected.tokens,
    )


def test_without_a_checkpoint_resuming_begins_at_the_start(recipe: Recipe, tmp_path: Path) -> None:
    first, _, _ = train(recipe, tmp_path / "a")
    second, _, _ = train(recipe, tmp_path / "b", resume=True)
    assert same(first, second)


def test_a_checkpoint_of_another_size_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    train(recipe, tmp_path)
    with pytest.raises(DataError, match=r"state has shape \(4, 32\), \(5, 32\) is needed"):
        train(changed(recipe, batch=5), tmp_path, resume=True)


def test_a_checkpoint_of_the_torch_trainer_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    produce(replace(recipe, trainer="torch"), tmp_path / "bundle", runs=tmp_path / "runs")
    with pytest.raises(DataError, match="not a checkpoint of the NumPy trainer"):
        train(recipe, tmp_path / "runs", resume=True)


def test_every_step_is_reported_and_measured_when_due(recipe: Recipe, tmp_path: Path) -> None:
    heard: list[Progress] = []
    _, fitted, _ = train(changed(recipe, steps=100), tmp_path, heard=heard)
    assert [p.step for p in heard] == list(range(1, 101))
    assert [p.step for p in heard if p.validation is not None] == [40, 80, 100]
    assert heard[-1].best == fitted.best
    assert fitted.tokens == 100 * 4 * 20
    assert [step for step, _, _ in fitted.curve] == [40, 80, 100]


def test_the_reported_loss_is_smoothed_by_a_thousandth(recipe: Recipe, tmp_path: Path) -> None:
    heard: list[Progress] = []
    _, _, prepared = train(recipe, tmp_path, heard=heard)
    # of untrained, small weights over V symbols, the first loss is about log V; one step moves it a thousandth
    assert heard[0].loss == pytest.approx(math.log(prepared.tokenizer.size), abs=0.5)
    assert 0 < abs(heard[1].loss - heard[0].loss) < 2e-3 * heard[0].loss
    assert heard[-1].loss < heard[0].loss


def test_patience_ends_a_run_that_no_longer_gets_better(recipe: Recipe, tmp_path: Path) -> None:
    _, fitted, _ = train(changed(recipe, rate=1e-12, evaluate_every=1, patience=3, steps=200), tmp_path)
    assert fitted.stopped_early
    assert fitted.steps == fitted.best_step + 3 < 200


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_rate(recipe: Recipe, tmp_path: Path) -> None:
    prepared = prepare(recipe)
    model = fresh_model(recipe, prepared)
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"a lower fit\.rate helps"):
        fit_numpy(model, recipe, prepared, tmp_path)


@pytest.mark.parametrize(("name", "value"), [("accumulate", 2), ("precision", "bf16"), ("compile", True)])
def test_settings_the_trainer_does_not_have_are_refused_by_name(
    recipe: Recipe, tmp_path: Path, name: str, value: object
) -> None:
    with pytest.raises(UserError, match=rf"fit\.{name} is {value!r}"):
        train(changed(recipe, **{name: value}), tmp_path)


def test_documents_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="kind is 'documents'"):
        train(replace(recipe, kind="documents", separator="line"), tmp_path)


def test_training_goes_on_from_the_weights_it_is_given(recipe: Recipe, tmp_path: Path) -> None:
    first = produce(recipe, tmp_path / "first", runs=tmp_path / "a")
    assert first is not None
    short = changed(recipe, steps=2, rate=1e-6, warmup=0, evaluate_every=1)
    tuned = produce(short, tmp_path / "tuned", start_from=tmp_path / "first", runs=tmp_path / "b")
    assert tuned is not None
    held = tuned.metrics["validation"]["nats_per_token"]
    assert held == pytest.approx(first.metrics["validation"]["nats_per_token"], abs=1e-3)


def test_a_model_that_learns_nothing_new_is_warned_of() -> None:
    weights = Weights.random(Shape(symbols=6, hidden=8), seed=1, scale=50.0)
    ids = np.random.default_rng(1).integers(0, 6, 2000)
    fit = FitRecipe(steps=2, batch=2, length=10, evaluate_every=1, rate=1e-9, warmup=0)
    fitted = NumpyTrainer(weights, fit, train_windows(fit, ids)).run()
    assert any("of activations are saturated" in warning for warning in fitted.warnings)
    assert any("update:data ratio" in warning for warning in fitted.warnings)


def test_a_healthy_run_has_no_warnings(recipe: Recipe, tmp_path: Path) -> None:
    _, fitted, _ = train(recipe, tmp_path)
    assert fitted.warnings == []


@pytest.mark.parametrize("preset", sorted(presets_of("chars")))
def test_every_preset_builds_and_takes_a_step(preset: str, story: Path, tmp_path: Path) -> None:
    recipe = load_recipe("chars", preset, ["fit.steps=2", f"corpus={str(story)!r}"])
    model, fitted, prepared = train(recipe, tmp_path)
    assert fitted.steps == 2
    assert model.config.hidden == 200
    assert fitted.best < math.log(prepared.tokenizer.size) + 0.2


def test_the_paper_preset_reads_the_text_in_order_with_the_published_adam() -> None:
    fit = load_recipe("chars", "paper").fit
    assert (fit.length, fit.batch, fit.randomise, fit.carry, fit.fresh) == (25, 10, "none", True, 0.0)
    assert (fit.rate, fit.beta2, fit.weight_decay, fit.ema) == (1e-3, 0.999, 0.0, 0.0)
