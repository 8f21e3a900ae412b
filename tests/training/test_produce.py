"""From a recipe to a bundle, and the figures of a finished one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inkwell.bundle import load_bundle
from inkwell.novelty import NoveltyIndex
from inkwell.session import TextEngine
from training.errors import DataError, UserError
from training.evaluation import evaluate_bundle, generate_texts
from training.prepare import prepare
from training.produce import measure, produce
from training.recipe import load_recipe

from . import toys

TEXT = (
    "The harbour lay quiet under the lantern. Old sailors said the lantern had burned since the first winter. "
    "In the morning a grey ship stood in the harbour. Its captain asked for bread and for a lantern.\n"
) * 6
FIT = ["fit.steps=4", "fit.batch=4", "fit.length=16", "fit.evaluate_every=2", "fit.warmup=1", "fit.threads=1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prose.txt").write_text(TEXT)
    toys.write_names(tmp_path)
    return tmp_path


@pytest.fixture
def prose(folder):
    changes = [
        *FIT,
        "model.hidden=12",
        "model.layers=1",
        "model.embedding=0",
        f"corpus={folder / 'prose.txt'}",
    ]
    return load_recipe("prose", "small", changes)


@pytest.fixture
def names(folder):
    changes = [*FIT, "model.width=16", "model.heads=2", "model.layers=1", f"corpus={folder / 'names.csv'}"]
    return load_recipe("names", "small", changes)


def make(recipe, folder, name="made", **more):
    return produce(recipe, folder / name, name, device="cpu", runs=folder / "runs" / name, **more)


def parameters(bundle):
    return {name: value.detach().clone() for name, value in bundle.model.named_parameters()}


def equal(one, two):
    return all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_bundle_carries_what_serving_and_people_want(prose, folder):
    bundle = make(prose, folder)
    again = load_bundle(folder / "made")
    assert equal(parameters(bundle), parameters(again))
    assert again.config.kind == "stream"
    assert again.config.start == "\n"
    assert again.config.defaults == prose.defaults
    assert again.limits.max_new_tokens == 2000
    assert again.config.training["recipe"] == json.loads(json.dumps(prose.as_mapping()))
    assert set(again.metrics) == {"training", "corpus", "validation"}
    assert again.metrics["corpus"]["characters"] == len(TEXT)
    assert [step for step, *_ in again.metrics["training"]["curve"]] == [2, 4]
    assert again.metrics["corpus"]["sha256"] in again.card
    assert f"{again.model.parameter_count():,}" in again.card
    events = list(TextEngine(again, slots=1).generate({"prompt": "The", "max_new_tokens": 5}))
    assert events[-1]["generated_tokens"] == 5


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others(prose, folder):
    first, second = make(prose, folder, "first"), make(prose, folder, "second")
    other = make(replace(prose, fit=replace(prose.fit, seed=2)), folder, "other")
    assert equal(parameters(first), parameters(second))
    assert not equal(parameters(first), parameters(other))


def test_the_figure_is_that_of_the_weights_that_were_kept(prose, folder):
    bundle = make(prose, folder)
    held = measure(bundle.model, prose, prepare(prose, bundle.tokenizer), torch.device("cpu"))
    assert held["nats_per_token"] == pytest.approx(bundle.metrics["validation"]["nats_per_token"], rel=1e-5)
    # nats over tokens and bits over bytes are the same loss
    nats = held["bits_per_byte"] * held["bytes"] * torch.log(torch.tensor(2.0)).item()
    assert nats == pytest.approx(held["nats_per_token"] * held["tokens"], rel=1e-5)


def test_a_part_that_was_not_held_out_cannot_be_measured(prose, folder):
    bundle = make(prose, folder)
    with pytest.raises(UserError, match=r"no test part; use --set split\.test=0\.1"):
        measure(bundle.model, prose, prepare(prose, bundle.tokenizer), torch.device("cpu"), "test")


def test_the_index_of_the_training_text_ships_unless_told_otherwise(prose, folder):
    make(prose, folder, "with")
    make(replace(prose, novelty=False), folder, "without")
    assert NoveltyIndex.load(folder / "with" / "novelty.npz").check("The harbour lay quiet").longest > 10
    assert not (folder / "without" / "novelty.npz").exists()


def test_words_can_be_left_out(prose, folder):
    assert make(prose, folder, "with").words.words
    assert not make(replace(prose, seed_words=False), folder, "without").words.words


def test_categories_are_those_of_the_corpus_in_order(names, folder):
    bundle = make(names, folder)
    assert bundle.categories == ("elf", "ork")
    assert bundle.config.model["categories"] == 3
    assert "elf, ork" in bundle.card


def test_fine_tuning_keeps_tokens_categories_and_shape(names, folder):
    base = make(names, folder, "base")
    (folder / "more.csv").write_text("name,category\n" + "\n".join(f"Lin{c},ork" for c in "abcdefghijkl"))
    more = replace(names, corpus=str(folder / "more.csv"), model={**names.model, "width": 64})
    tuned = make(more, folder, "tuned", start_from=folder / "base")
    assert tuned.categories == base.categories
    assert tuned.config.model == base.config.model
    assert tuned.tokenizer.encode("Aelwen") == base.tokenizer.encode("Aelwen")


def test_an_interrupted_training_leaves_the_older_bundle_as_it_was(prose, folder):
    old = parameters(make(prose, folder))

    def interrupt(step):
        if step.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(replace(prose, fit=replace(prose.fit, seed=5)), folder, callback=interrupt)
    assert equal(old, parameters(load_bundle(folder / "made")))
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_resumed_training_ends_with_the_weights_of_an_unbroken_one(prose, folder):
    prose = replace(prose, fit=replace(prose.fit, steps=8))
    whole = make(prose, folder, "whole")

    def interrupt(step):
        if step.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(prose, folder, "broken", callback=interrupt)
    resumed = make(prose, folder, "broken", resume=True)
    assert resumed.metrics["training"]["steps"] == 8
    assert equal(parameters(whole), parameters(resumed))


# Figures of a finished bundle


def test_evaluation_agrees_with_training_and_writes_once(names, folder):
    bundle = make(names, folder)
    figures = evaluate_bundle(folder / "made", samples=6, device="cpu")
    trained = bundle.metrics["validation"]["nats_per_token"]
    assert figures["validation"]["nats_per_token"] == pytest.approx(trained, rel=1e-5)
    after = load_bundle(folder / "made")
    assert after.metrics["memorisation"] == figures["memorisation"]
    assert (folder / "made" / "novelty.npz").is_file()
    assert equal(parameters(bundle), parameters(after))


def test_evaluation_without_writing_leaves_the_bundle_alone(prose, folder):
    make(prose, folder)
    before = (folder / "made" / "metrics.json").read_bytes()
    evaluate_bundle(folder / "made", samples=0, device="cpu", write=False)
    assert (folder / "made" / "metrics.json").read_bytes() == before


def test_without_an_index_memorisation_is_measured_against_the_corpus(prose, folder):
    make(prose, folder, "with")
    make(replace(prose, novelty=False), folder, "without")
    with_index = evaluate_bundle(folder / "with", samples=3, device="cpu", write=False)
    without = evaluate_bundle(folder / "without", samples=3, device="cpu", write=False)
    assert with_index["memorisation"] == without["memorisation"]


def test_all_categories_take_turns_in_samples(names, folder):
    bundle = make(names, folder)
    engine = TextEngine(bundle, slots=1)
    expected = [
        next(
            e["text"]
            for e in engine.generate({"seed": 10 + n, "category": ("elf", "ork")[n % 2]})
            if e["event"] == "end"
        )
        for n in range(4)
    ]
    assert generate_texts(bundle, 4, first_seed=10) == expected


def test_a_sample_that_cannot_be_made_is_an_error(names, folder):
    bundle = make(names, folder)
    with pytest.raises(DataError, match=r"generation failed: .*temperature"):
        generate_texts(bundle, 1, temperature=-1)
