"""`inkwell train`, with models small enough to train in a second."""

from __future__ import annotations

import csv
import json

import pytest

from deploy.models_file import load
from inkwell.bundle import load_bundle
from training.commands import train as command


def weights(folder):
    return {name: value.detach().clone() for name, value in load_bundle(folder).model.named_parameters()}


def log_of(program, name):
    with (program.folder / "runs" / name / "log.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_training_leaves_a_bundle_and_a_log(trained):
    bundle = load_bundle(trained.folder / "bundles" / "prose")
    assert bundle.config.name == bundle.config.family == "prose"
    assert bundle.metrics["training"]["steps"] == 4
    assert bundle.metrics["validation"]["nats_per_token"] > 0
    assert bundle.words.words
    assert "corpus" in bundle.card
    assert [row["step"] for row in log_of(trained, "prose")] == ["2", "4"]


def test_categories_come_from_the_table(trained):
    assert load_bundle(trained.folder / "bundles" / "names").categories == ("dwarf", "elf")


def test_what_was_made_is_said(program):
    out = program.succeed(
        "train", "prose", "--corpus", "prose.txt", "--name", "mine", "--out", "here", sets=program.small_prose
    ).stdout
    assert "here: " in out
    assert "nats/token" in out
    assert load_bundle(program.folder / "here").config.name == "mine"


def test_an_interrupted_run_is_resumed_where_it_stopped(program):
    words = ("train", "prose", "--corpus", "prose.txt", "--name", "long")
    process = program.start(*words, sets={**program.small_prose, "fit.steps": 100_000})
    log = program.folder / "runs" / "long" / "log.csv"
    # the first row is written after the first checkpoint
    out, err = program.interrupt_when(process, lambda: log.is_file() and bool(log_of(program, "long")))
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert "inkwell train prose --name long --resume" in out
    assert not (program.folder / "bundles").exists()

    done = int(log_of(program, "long")[-1]["step"])
    more = {**program.small_prose, "fit.steps": done + 6}
    program.succeed(*words, "--resume", sets=more)
    steps = [int(row["step"]) for row in log_of(program, "long")]
    assert steps[-1] == done + 6
    # Nothing is done twice but what came after the last checkpoint.
    assert steps == sorted(set(steps))
    assert load_bundle(program.folder / "bundles" / "long").metrics["training"]["steps"] == done + 6


def test_a_run_of_another_model_cannot_be_resumed(program):
    words = ("train", "prose", "--corpus", "prose.txt")
    program.succeed(*words, sets=program.small_prose)
    text = program.fail(3, *words, "--resume", sets={**program.small_prose, "model.hidden": 24})
    assert "start without --resume" in text


def test_fine_tuning_takes_over_the_shape_the_characters_and_the_weights(trained, tmp_path):
    base = trained.folder / "bundles" / "prose"
    (tmp_path / "letters.txt").write_text("The old ship went home to the quiet harbour. " * 20)
    trained.succeed(
        "train", "prose", "--from", base, "--corpus", tmp_path / "letters.txt", "--name", "letters",
        "--out", tmp_path / "letters", sets={**trained.small_prose, "fit.rate": 1e-9, "fit.steps": 1},
    )  # fmt: skip
    before, after = load_bundle(base), load_bundle(tmp_path / "letters")
    assert after.tokenizer.encode("harbour") == before.tokenizer.encode("harbour")
    assert after.config.model == before.config.model
    old, new = weights(base), weights(tmp_path / "letters")
    assert max(float((old[name] - new[name]).abs().max()) for name in old) < 1e-6


def test_only_models_without_a_bundle_are_trained(program, monkeypatch):
    file = program.folder / "models.toml"
    file.write_text('[models.prose]\nfamily = "prose"\n[models.other]\nfamily = "prose"\n')
    program.environment["INKWELL_MODELS_FILE"] = str(file)
    recipe = command.load_recipe(
        "prose", "small", [f"{k}={v}" for k, v in program.small_prose.items()] + ["corpus=prose.txt"]
    )
    monkeypatch.setattr(command, "load_recipe", lambda *_: recipe)
    first = program.succeed("train", "--missing").stdout
    assert "prose (1 of 2" in " ".join(first.split())
    made = program.folder / "bundles" / "prose" / "config.json"
    stamp = made.stat().st_mtime_ns
    assert "all 2 models are trained" in program.succeed("train", "--missing").stdout
    assert made.stat().st_mtime_ns == stamp
    assert len(load(file).models) == 2


def test_families_and_presets_are_listed(program):
    shown = program.succeed("train", "--list").stdout
    for family, preset in (("prose", "paper"), ("names", "azgaar"), ("chars", "small")):
        assert any(family in line and preset in line for line in shown.splitlines())


@pytest.mark.parametrize(
    ("code", "words", "parts"),
    [
        (2, ["train"], ["name a family", "prose"]),
        (2, ["train", "poems"], ["'poems'", "prose, names"]),
        (2, ["train", "prose", "--preset", "huge"], ["'huge'", "small"]),
        (2, ["train", "prose", "--set", "fit.steps"], ["'fit.steps'", "fit.steps=500"]),
        (2, ["train", "prose", "--set", "fit.stepz=3"], ["stepz"]),
        (2, ["train", "prose", "--set", "fit.steps=0"], ["steps", "0", "1 or more"]),
        (2, ["train", "prose", "--set", "fit.steps=many"], ["steps", "many"]),
        (2, ["train", "prose", "--set", "family.x=1"], ["'family' is a value"]),
        (2, ["train", "prose", "--corpus", "nothing.txt"], ["'nothing.txt'", "prose.txt"]),
        (2, ["train", "prose", "--name", "My Model"], ["'My Model'", "lower-case"]),
        (2, ["train", "prose", "--name", "../up"], ["'../up'"]),
        (2, ["train", "prose", "--device", "abacus"], ["'abacus'", "auto, cpu"]),
        (2, ["train", "prose", "--from", "nowhere"], ["'nowhere'", "not a bundle"]),
        (2, ["train", "prose", "--teacher", "nobody"], ["'nobody'", "not a bundle"]),
        (2, ["train", "names", "--set", "fit.written=1"], ["fit.written is 1", "--teacher"]),
        (2, ["train", "names", "--corpus", "prose.txt"], ["has no categories"]),
        (3, ["train", "prose", "--corpus", "empty.txt"], ["empty.txt", "only white space"]),
        (3, ["train", "prose", "--corpus", "picture.png"], ["no reader for '.png'"]),
        (3, ["train", "prose", "--corpus", "latin.txt"], ["latin.txt"]),
        (3, ["train", "prose", "--corpus", "prose.txt", "--from", "broken"], ["config.json is missing"]),
    ],
)
def test_what_cannot_be_used_is_named_before_training_begins(program, code, words, parts):
    (program.folder / "empty.txt").write_text(" \n")
    (program.folder / "picture.png").write_bytes(b"\x89PNG")
    (program.folder / "latin.txt").write_bytes("Ärger im Hafen".encode("latin-1"))
    (program.folder / "broken").mkdir()
    text = program.fail(code, *words)
    assert text.startswith("error: ")
    for part in parts:
        assert part in text
    assert not (program.folder / "bundles").exists()


@pytest.mark.parametrize("size", [1, 3, 11, 40])
def test_a_corpus_too_small_to_train_on_is_said_without_a_traceback(program, size):
    (program.folder / "tiny.txt").write_text("The harbour lay quiet under the lantern."[:size])
    result = program("train", "prose", "--corpus", "tiny.txt", sets=program.small_prose)
    assert result.exit_code in (0, 2, 3), result.output
    if result.exit_code:
        assert "tiny" in result.stderr
    else:
        assert (program.folder / "bundles" / "prose" / "config.json").is_file()


def test_a_loss_that_runs_away_is_an_error_that_says_what_helps(program, monkeypatch):
    def explode(*_):
        raise FloatingPointError("the loss became nan at step 3; a lower fit.rate helps")

    monkeypatch.setattr(command, "produce", explode)
    assert "a lower fit.rate helps" in program.fail(1, "train", "prose", "--corpus", "prose.txt")


def test_a_folder_with_other_things_is_never_replaced(program):
    mine = program.folder / "documents"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear all")
    words = ("train", "prose", "--corpus", "prose.txt", "--out")
    assert "other things in it" in program.fail(2, *words, "documents", sets=program.small_prose)
    assert "is a file" in program.fail(2, *words, "prose.txt", sets=program.small_prose)
    assert (mine / "letter.txt").read_text() == "dear all"


def test_an_older_bundle_is_replaced_and_an_empty_folder_filled(program):
    (program.folder / "new").mkdir()
    words = ("train", "prose", "--corpus", "prose.txt", "--out", "new")
    program.succeed(*words, sets=program.small_prose)
    program.succeed(*words, sets={**program.small_prose, "fit.steps": 6})
    assert json.loads((program.folder / "new" / "metrics.json").read_text())["training"]["steps"] == 6
