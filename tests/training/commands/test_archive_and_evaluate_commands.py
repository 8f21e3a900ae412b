"""`inkwell archive` and `inkwell evaluate`."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from deploy import store
from inkwell.bundle import load_bundle


@pytest.fixture
def made(program, trained):
    """A folder of one's own with the trained bundles and a models file for them."""
    shutil.copytree(trained.folder / "bundles", program.folder / "bundles")
    file = program.folder / "models.toml"
    file.write_text('[models.prose]\nfamily = "prose"\nslots = 7\n[models.names]\nfamily = "names"\n')
    program.environment["INKWELL_MODELS_FILE"] = str(file)
    return program


def listed(program, folder="model_store"):
    return store.read_index(program.folder / folder)


def test_all_models_of_the_file_are_packed(made):
    out = made.succeed("archive").stdout
    assert set(listed(made)) == {"prose.mar", "names.mar"}
    for name in ("prose", "names"):
        store.verify(made.folder / "model_store", listed(made), f"{name}.mar", name)
        assert f"{name}.mar: " in out


def test_one_model_can_be_named_and_put_elsewhere(made):
    made.succeed("archive", "names", "--store", "there")
    assert set(listed(made, "there")) == {"names.mar"}
    assert not (made.folder / "model_store").exists()


def test_only_what_is_missing_is_built(made):
    made.succeed("archive", "prose")
    first = listed(made)["prose.mar"].sha256
    out = made.succeed("archive", "--missing").stdout
    assert "names.mar" in out
    assert "prose.mar" not in out
    assert listed(made)["prose.mar"].sha256 == first


def test_an_archive_older_than_its_bundle_is_built_again(made):
    made.succeed("archive")
    file = made.folder / "model_store" / "prose.mar"
    os.utime(file, (1, 1))
    out = made.succeed("archive", "--missing").stdout
    assert "prose.mar" in out
    assert "names.mar" not in out


def test_an_archive_that_serving_would_refuse_is_built_again(made):
    made.succeed("archive")
    with (made.folder / "model_store" / "prose.mar").open("ab") as file:
        file.write(b"x")
    index = made.folder / "model_store" / "index.json"
    lines = json.loads(index.read_text())
    del lines["archives"]["names.mar"]
    index.write_text(json.dumps(lines))
    made.succeed("archive", "--missing")
    for name in ("prose", "names"):
        store.verify(made.folder / "model_store", listed(made), f"{name}.mar", name)


@pytest.mark.parametrize(
    ("code", "words", "part"),
    [
        (2, ["nobody"], "no model 'nobody'"),
        (2, ["model_store/prose.mar"], "is an archive already"),
        (3, ["damaged"], "weights.safetensors"),
    ],
)
def test_what_cannot_be_packed_is_named(made, code, words, part):
    made.succeed("archive", "prose")
    damaged = shutil.copytree(made.folder / "bundles" / "prose", made.folder / "bundles" / "damaged")
    (damaged / "weights.safetensors").write_bytes(b"")
    assert part in made.fail(code, "archive", *words)


def test_a_model_that_was_never_trained_is_named(program):
    file = program.folder / "models.toml"
    file.write_text('[models.prose]\nfamily = "prose"\n')
    program.environment["INKWELL_MODELS_FILE"] = str(file)
    text = program.fail(3, "archive")
    assert "bundles/prose" in text
    assert "Train it" in text


def test_evaluation_writes_its_figures_into_the_bundle(made):
    figures = json.loads(made.succeed("evaluate", "prose", "--samples", 4, "--json").stdout)
    assert figures["validation"]["nats_per_token"] > 0
    assert figures["validation"]["bits_per_byte"] > 0
    assert {name.split("_")[0] for name in figures["memorisation"]} == {"generated", "held"}
    bundle = load_bundle(made.folder / "bundles" / "prose")
    assert bundle.metrics["validation"]["nats_per_token"] == figures["validation"]["nats_per_token"]
    assert bundle.metrics["memorisation"] == figures["memorisation"]
    assert (made.folder / "bundles" / "prose" / "novelty.npz").is_file()


def test_another_corpus_is_measured_and_not_written(made):
    before = load_bundle(made.folder / "bundles" / "prose").metrics
    (made.folder / "other.txt").write_text("The sailors asked for a grey lantern in the morning. " * 10)
    figures = json.loads(
        made.succeed("evaluate", "prose", "--corpus", "other.txt", "--samples", 0, "--json").stdout
    )
    assert set(figures) == {"corpus"}
    assert figures["corpus"]["bytes"] == 530
    assert load_bundle(made.folder / "bundles" / "prose").metrics == before


def test_figures_are_a_table_for_people(made):
    out = made.succeed("evaluate", "names", "--samples", 4, "--no-write").stdout
    assert "validation: bits per byte" in out
    assert "memorisation" in out


def test_what_cannot_be_evaluated_is_named(made):
    made.succeed("archive", "prose")
    assert "is an archive" in made.fail(2, "evaluate", "model_store/prose.mar")
    assert "no model 'nobody'" in made.fail(2, "evaluate", "nobody")
    config = made.folder / "bundles" / "prose" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "training": {}}))
    assert "no training recipe" in made.fail(3, "evaluate", "prose")
