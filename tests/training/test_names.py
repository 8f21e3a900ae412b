"""The road of names: every preset trains and writes names that end, categories can be told apart, nothing leaks."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inkwell.bundle import Bundle
from inkwell.models import IGNORE, build_model
from inkwell.models.window import WindowModel
from inkwell.session import TextEngine, final_event
from inkwell.tokenizer import BPETokenizer, CharTokenizer
from training.batches import DocumentWindows
from training.classifier import Classifier, grams
from training.data.grouping import Grouping
from training.data.split import key_of
from training.errors import DataError
from training.evaluation import category_figures, evaluate_bundle, generate_texts
from training.experiments.names import conditioning, echoes, grouping
from training.health import Health
from training.prepare import model_values, open_corpus, prepare
from training.produce import produce
from training.recipe import Recipe, load_recipe, presets_of

ROAD = ("mlp", "deep-mlp", "attention", "cross", "cross-skip", "both", "adaln", "bpe")
BRIEF = ["fit.steps=6", "fit.warmup=2", "fit.evaluate_every=6", "fit.evaluate_tokens=200", "fit.threads=1"]

# Two made-up peoples whose names nobody could confuse, and a third whose labels belong to the first.
PEOPLES = {
    "Bears": ("brum", "bror", "grum", "bog", "rum", "gor"),
    "Cubs": ("brum", "bror", "grum", "bog", "rum", "gor"),
    "Élan": ("élia", "n'ea", "ëli", "saé", "lia", "eïn"),
}


def invented(path: Path, count: int = 5) -> Path:
    lines = ["name,category"]
    for category, parts in PEOPLES.items():
        for a in parts:
            for b in parts[:count]:
                joint = " " if category == "Cubs" else ""
                lines.append(f"{a}{joint}{b}".capitalize() + f",{category}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def recipe_of(corpus: Path, *changes: str) -> Recipe:
    settings = [
        "model.layers=1",
        "model.width=32",
        "model.dropout=0.0",
        "fit.steps=90",
        "fit.batch=24",
        "fit.rate=0.01",
        "fit.warmup=5",
        "fit.evaluate_every=45",
        "fit.threads=1",
        "split.val=0.2",
    ]
    return replace(load_recipe("names", "small", [*settings, *changes]), corpus=str(corpus))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def peoples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invented(tmp_path_factory.mktemp("corpus") / "peoples.csv")


@pytest.fixture(scope="module")
def trained(peoples: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("trained")
    bundle = produce(recipe_of(peoples), place / "bundle", device="cpu", runs=place / "runs")
    assert bundle is not None
    return bundle


def test_the_road_is_walked_by_presets_of_the_window_family() -> None:
    presets = presets_of("names")
    assert {name for name, values in presets.items() if values["model"]["architecture"] == "window"} == set(
        ROAD
    )
    shapes: list[Any] = [presets[name]["model"] for name in ROAD]
    assert [bool(shape.get("categories")) for shape in shapes] == [False] * 3 + [True] * 5
    assert [bool(shape.get("attention")) for shape in shapes] == [False] * 2 + [True] * 6


@pytest.mark.parametrize("preset", ROAD)
def test_every_preset_trains_and_its_bundle_writes(preset: str, tmp_path: Path) -> None:
    recipe = load_recipe("names", preset, BRIEF)
    bundle = produce(recipe, tmp_path / "bundle", device="cpu", runs=tmp_path / "runs")
    assert bundle is not None
    assert bundle.config.model["architecture"] == "window"
    assert bool(bundle.categories) == bool(recipe.model.get("categories"))
    curve = bundle.metrics["training"]["curve"]
    assert all(math.isfinite(loss) for _, *losses in curve for loss in losses)
    assert bundle.metrics["validation"]["nats_per_token"] < math.log(bundle.model.vocabulary) + 0.5
    assert len(generate_texts(bundle, 4)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("preset", ROAD)
def test_names_of_every_preset_end(preset: str, tmp_path: Path) -> None:
    recipe = load_recipe("names", preset, ["fit.steps=300", "fit.threads=1"])
    bundle = produce(recipe, tmp_path / "bundle", device="cpu", runs=tmp_path / "runs")
    assert bundle is not None
    assert bundle.metrics["validation"]["nats_per_token"] < 0.72 * math.log(bundle.model.vocabulary)
    engine = TextEngine(bundle)
    ends = [final_event(engine.generate({"seed": seed})) for seed in range(40)]
    assert sum(end["finish_reason"] == "eos_token" for end in ends) >= 36
    # the failure that must not come back: a model that has learned to write nothing but end marks
    assert sum(len(end["text"]) >= 2 for end in ends) >= 36


def test_windows_of_names_are_padded_with_targets_that_do_not_count() -> None:
    source = DocumentWindows([[5], [5, 6, 7, 8]], None, batch=2, length=9, seed=0, shuffle=False)
    (batch,) = source.epoch(0)
    by_length = {
        int((targets != IGNORE).sum()): (ids, targets) for ids, targets in zip(*batch[:2], strict=True)
    }
    ids, targets = by_length[2]
    # the end mark is a target once, where the name ends; the same id as padding is none
    assert targets.tolist() == [5, 0, IGNORE, IGNORE, IGNORE]
    assert ids.tolist() == [0, 5, 0, 0, 0]
    # and the first letter is a target too, from a window of nothing but padding
    assert by_length[5][1].tolist() == [5, 6, 7, 8, 0]


def test_diagnostics_see_the_layers_of_a_deep_perceptron() -> None:
    recipe = load_recipe("names", "deep-mlp", ["model.norm='none'"])
    model = build_model(model_values(recipe, prepare(recipe)))
    assert isinstance(model, WindowModel)
    with torch.no_grad():
        model.layers[1].linear.weight.mul_(40)  # type: ignore[union-attr, operator]
    health, ids = Health(model), torch.randint(0, 30, (8, 12))
    with health.watching(True):
        model(ids, ids)
    assert set(health.saturation) == {f"layers.{i}.activation" for i in range(4)}
    warnings = [text for text in health.warnings() if "saturated" in text]
    assert any(text.startswith("layers.1.activation") for text in warnings)
    assert not any(text.startswith("layers.0") for text in warnings)


def test_a_window_model_uses_the_corpus_categories() -> None:
    recipe = load_recipe("names", "both")
    prepared = prepare(recipe)
    assert len(prepared.categories) == len(open_corpus(recipe).categories)
    assert model_values(recipe, prepared)["categories"] == len(prepared.categories) + 1


def test_diacritics_and_apostrophes_survive_corpus_and_tokenizers(peoples: Path, trained: Bundle) -> None:
    recipe = recipe_of(peoples)
    names = [document.text for document in open_corpus(recipe).documents]
    assert "Éliaélia" in names
    assert "N'ean'ea" in names
    assert {unicodedata.normalize("NFC", name) for name in names} == set(names)
    for tokenizer in (prepare(recipe).tokenizer, BPETokenizer.fit(names, 300), trained.tokenizer):
        for name in names:
            assert tokenizer.decode(tokenizer.encode(name)) == name
    letters = CharTokenizer.fit(names)
    assert letters.encode("Nea") != letters.encode("N'ea")
    assert letters.encode(unicodedata.normalize("NFD", "Éliaélia")) == letters.encode("Éliaélia")
    written = "".join(generate_texts(trained, 60, category="Élan"))
    assert set("éëï'") & set(written)


def test_no_name_stands_on_both_sides_of_the_split() -> None:
    for preset in ("small", "bpe", "mlp"):
        splits = prepare(load_recipe("names", preset)).splits
        assert splits.val is not None
        train = {key_of(document.text) for document in splits.train.documents}
        assert not train & {key_of(document.text) for document in splits.val.documents}


def test_a_second_word_is_a_shape(trained: Bundle) -> None:
    engine = TextEngine(trained)
    for seed in range(12):
        for shape, words in ((r"\S+ \S+", 2), (r"\S+ an em \S+", 4)):
            end = final_event(engine.generate({"seed": seed, "category": "Cubs", "regex": shape}))
            assert len(end["text"].split(" ")) == words, end
    asked = {"seed": 3, "prompt": "Brum", "regex": r"\S* an \S+", "category": "Bears"}
    end = final_event(engine.generate(asked))
    assert end["text"].split(" ")[1] == "an"


def test_names_can_be_asked_for_with_and_without_category_and_mixed(trained: Bundle) -> None:
    engine = TextEngine(trained)

    def letters(**fields: Any) -> set[str]:
        return set(
            "".join(final_event(engine.generate({"seed": s, **fields}))["text"] for s in range(40)).lower()
        )

    bears, elves = letters(category="Bears"), letters(category="Élan")
    assert "b" in bears - elves
    assert "é" in elves - bears
    free, mixed = letters(), letters(category={"Bears": 1, "Élan": 1})
    assert {"b", "é"} <= free
    assert {"b", "é"} & mixed


def test_guidance_strengthens_the_category(trained: Bundle) -> None:
    texts = {
        strength: generate_texts(trained, 60, category="Élan", guidance=strength, temperature=1.5)
        for strength in (0.0, 1.0, 3.0)
    }
    share = {g: sum(not set("bgm") & set(text.lower()) for text in found) for g, found in texts.items()}
    assert share[0.0] < share[1.0] <= share[3.0]


def test_classifier_is_the_minimum_of_its_loss() -> None:
    texts = ["anna", "hanna", "nan", "otto", "toto", "tot", "bibi", "ibi", "bib"]
    labels = ["n"] * 3 + ["t"] * 3 + ["b"] * 3
    judge = Classifier.fit(texts, labels, strength=3.0)
    assert judge.labels == ("b", "n", "t")
    assert judge.accuracy(texts, labels) == 1.0
    weight, bias = judge._weight.clone().requires_grad_(), judge._bias.clone().requires_grad_()
    wanted = torch.tensor([judge.labels.index(label) for label in labels])
    scores = judge._features(texts).to_dense() @ weight + bias
    loss = torch.nn.functional.cross_entropy(scores, wanted) + weight.square().sum() / (2 * 3.0 * len(texts))
    loss.backward()
    assert weight.grad is not None
    assert float(weight.grad.abs().max()) < 1e-3
    assert judge.predict([]) == []
    assert math.isnan(judge.accuracy([], []))
    assert judge.predict(["nna"]) == ["n"]
    assert judge.predict(["xyz"])[0] in judge.labels  # nothing known in it


def test_classifier_looks_at_runs_of_letters_with_their_ends() -> None:
    assert sorted(grams("Ab")) == sorted(
        ["\x02", "a", "b", "\x03", "\x02a", "ab", "b\x03", "\x02ab", "ab\x03", "\x02ab\x03"]
    )
    with pytest.raises(DataError, match="two categories or more; found Elf"):
        Classifier.fit(["a", "b"], ["Elf", "Elf"])


def test_evaluation_judges_categories(trained: Bundle, peoples: Path) -> None:
    assert trained.path is not None
    figures = evaluate_bundle(trained.path, samples=4, device="cpu", write=False)["categories"]
    prepared = prepare(recipe_of(peoples), trained.tokenizer, trained.categories)
    assert prepared.validation is not None
    assert figures["texts"] == len(prepared.validation)
    assert figures["ratio"] == pytest.approx(
        figures["classifier_on_generated"] / figures["classifier_on_held_out"]
    )
    # three peoples, all but certain to be told apart; one guess in three would be chance
    assert figures["classifier_on_held_out"] > 0.8
    assert figures["classifier_on_generated"] > 0.6
    assert 0 < figures["unique_share"] <= 1
    without = category_figures(trained, prepared, guidance=0.0)
    assert without["classifier_on_generated"] < figures["classifier_on_generated"]


def test_new_names_are_those_that_training_did_not_see(trained: Bundle, peoples: Path) -> None:
    prepared = prepare(recipe_of(peoples), trained.tokenizer, trained.categories)
    figures = category_figures(trained, prepared, temperature=0.0)
    assert prepared.validation is not None
    asked = [document.category or "" for document in prepared.validation.documents]
    written = generate_texts(trained, len(asked), categories=asked, temperature=0.0)
    known = {key_of(document.text) for document in prepared.splits.train.documents}
    assert figures["new_share"] == sum(key_of(text) not in known for text in written) / len(written)
    assert figures["unique_share"] == len(set(zip(asked, written, strict=True))) / len(written)
    assert figures["unique_share"] <= 3 / len(asked)


def test_grouping_is_measured_on_the_same_names(peoples: Path) -> None:
    mapping = Grouping(("Bears", "Elves"), {"bears": "Bears", "cubs": "Bears", "élan": "Elves"})
    rows = grouping(recipe_of(peoples, "fit.steps=40", "fit.evaluate_every=40"), mapping, device="cpu")
    assert [(row["labels"], row["categories"]) for row in rows] == [
        ("none", 0),
        ("raw labels", 3),
        ("groups", 2),
    ]
    assert len({round(row["nats_per_token"] / row["bits_per_byte"], 9) for row in rows}) == 1
    assert "ratio" not in rows[0]
    assert all(0 < row["classifier_on_held_out"] <= 1 for row in rows[1:])
    assert rows[0]["nats_per_token"] > rows[1]["nats_per_token"]


def test_strengths_of_guidance_make_rows(trained: Bundle) -> None:
    rows = conditioning(trained, strengths=(0.0, 2.0), temperature=1.5)
    assert [row["guidance"] for row in rows] == [0.0, 2.0]
    assert rows[0]["classifier_on_held_out"] == rows[1]["classifier_on_held_out"]
    assert rows[0]["classifier_on_generated"] < rows[1]["classifier_on_generated"]


def test_names_that_repeat_their_category_are_counted() -> None:
    pairs = [
        ("Brownbear", "Bears"),
        ("Old Bear", "Bears"),
        ("Grum", "Bears"),
        ("Elfrun", "Elf"),
        ("Rat", "Sea Rats"),
    ]
    rows = echoes(pairs)
    assert [(row["category"], row["names"]) for row in rows] == [("Bears", 3), ("Elf", 1), ("Sea Rats", 1)]
    # words of three letters stand in too many names to mean anything
    assert [row["echoes"] for row in rows] == [pytest.approx(2 / 3), 0.0, 0.0]
