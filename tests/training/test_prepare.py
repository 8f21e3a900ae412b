"""From a recipe to windows: what the tokenizer knows, what is held out, what is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from inkwell.models import IGNORE, build_model
from inkwell.tokenizer import END_ID, BPETokenizer, CharTokenizer
from training.batches import Share
from training.device import pick_device
from training.errors import UserError
from training.prepare import byte_count, model_values, prepare, windows
from training.produce import measure
from training.recipe import Recipe, recipe_from

TEXT = (
    "\n\n".join(f"The {n}th ship left the harbour at dawn with rope, bread and tar." for n in range(60))
    + "\n\nЯ é 🦊"
)
NAMES = "name,category\n" + "".join(
    f"{a}{b}{c},{group}\n" for a, group in zip("KLMN", "xyyz", strict=True) for b in "aeiou" for c in "rst"
)


@pytest.fixture
def stream(tmp_path: Path) -> Recipe:
    (tmp_path / "book.txt").write_text(TEXT, encoding="utf-8")
    model = {"architecture": "recurrent", "hidden": 8, "layers": 1}
    fit = {"batch": 4, "length": 16, "accumulate": 1}
    values = {
        "family": "prose",
        "corpus": str(tmp_path / "book.txt"),
        "kind": "stream",
        "model": model,
        "fit": fit,
    }
    return recipe_from({**values, "start": "\n§"}, "test")


@pytest.fixture
def names(tmp_path: Path) -> Recipe:
    (tmp_path / "names.csv").write_text(NAMES, encoding="utf-8")
    model = {"architecture": "gpt", "layers": 1, "heads": 2, "width": 8, "window": 8, "categories": 1}
    values = {
        "family": "names",
        "corpus": str(tmp_path / "names.csv"),
        "model": model,
        "fit": {"batch": 8, "length": 16},
    }
    return recipe_from(values, "test")


def test_every_character_of_the_corpus_has_an_id_held_out_or_not(stream: Recipe) -> None:
    prepared = prepare(stream)
    assert isinstance(prepared.tokenizer, CharTokenizer)
    assert set(prepared.tokenizer.characters) >= set("Яé🦊§\n")
    assert prepared.validation is not None
    assert model_values(stream, prepared)["vocabulary"] == prepared.tokenizer.size


def test_a_held_out_stream_is_scored_to_its_last_byte(stream: Recipe) -> None:
    prepared = prepare(stream)
    held = prepared.validation
    assert held is not None
    text = "".join(document.text for document in held.documents)
    assert byte_count(held) == len(text.encode())
    source = windows(stream, prepared, held, train=False)
    targets = sum(int((batch.targets != IGNORE).sum()) for batch in source.epoch(0))
    assert targets == len(prepared.tokenizer.encode(text))
    model = build_model(model_values(stream, prepared))
    figures = measure(model, stream, prepared, pick_device("cpu"))
    assert (figures["tokens"], figures["bytes"]) == (targets, byte_count(held))
    assert figures["bits_per_byte"] == pytest.approx(
        figures["nats_per_token"] * targets / byte_count(held) / 0.6931471806
    )


def test_categories_are_numbered_by_name_from_1(names: Recipe) -> None:
    prepared = prepare(names)
    assert prepared.categories == ("x", "y", "z")
    assert model_values(names, prepared)["categories"] == 4
    tokenizer = prepared.tokenizer
    first = {"K": 1, "L": 2, "M": 2, "N": 3}
    for batch in windows(names, prepared, prepared.splits.train, train=True).epoch(0):
        assert batch.condition is not None
        for targets, condition in zip(batch.targets.tolist(), batch.condition.tolist(), strict=True):
            assert condition == first[tokenizer.decode([targets[0]])]
            assert END_ID in targets


def test_categories_can_be_left_out_and_must_exist(names: Recipe, tmp_path: Path) -> None:
    without = replace(names, model={**names.model, "categories": 0})
    assert prepare(without).categories == ()
    (tmp_path / "plain.csv").write_text("name\n" + "\n".join(f"Bel{c}" for c in "abcdefgh"), encoding="utf-8")
    with pytest.raises(UserError, match="has no categories"):
        prepare(replace(names, corpus=str(tmp_path / "plain.csv")))


def test_fine_tuning_keeps_tokenizer_and_categories(names: Recipe) -> None:
    tokenizer = CharTokenizer("KLMNaeiourstxyz")
    prepared = prepare(names, tokenizer, ("y", "x", "new"))
    assert prepared.tokenizer is tokenizer
    assert prepared.categories == ("y", "x", "new")
    seen = set()
    for batch in windows(names, prepared, prepared.splits.train, train=True).epoch(0):
        assert batch.condition is not None
        seen.update(batch.condition.tolist())
    assert seen == {0, 1, 2}


def test_bpe_is_learned_from_the_training_part(stream: Recipe) -> None:
    prepared = prepare(replace(stream, tokenizer=replace(stream.tokenizer, kind="bpe", size=300)))
    assert isinstance(prepared.tokenizer, BPETokenizer)
    assert prepared.tokenizer.size <= 300
    assert prepared.tokenizer.decode(prepared.tokenizer.encode(TEXT)) == TEXT


def test_shares_of_processes_are_parts_of_the_same_batches(stream: Recipe) -> None:
    prepared = prepare(stream)
    whole, *parts = (
        list(windows(stream, prepared, prepared.splits.train, True, share).epoch(1))
        for share in (Share(), Share(0, 2), Share(1, 2))
    )
    for index, batch in enumerate(whole):
        assert sorted(batch.ids.tolist()) == sorted(row for part in parts for row in part[index].ids.tolist())


def test_nothing_held_out_is_said(stream: Recipe) -> None:
    recipe = replace(stream, split=replace(stream.split, val=0.0))
    prepared = prepare(recipe)
    assert prepared.validation is None
    model = build_model(model_values(recipe, prepared))
    with pytest.raises(UserError, match=r"holds out no validation part; use --set split.val=0.1"):
        measure(model, recipe, prepared, pick_device("cpu"))
