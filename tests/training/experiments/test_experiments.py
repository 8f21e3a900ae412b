"""The experiments on corpora and models small enough to train in a second."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from inkwell.models import build_model
from training.batches import StreamReading
from training.cli import app
from training.errors import UserError
from training.experiments.bpe_sizes import bpe_sizes
from training.experiments.carry import Forgetting, carry
from training.experiments.gru_gpt import gru_gpt, nearest_width
from training.experiments.runs import bytes_per_token, train
from training.experiments.seed_words import seed_words, unfamiliar
from training.experiments.steering import WAYS, steering
from training.experiments.table import columns_of, table_of, write_csv
from training.prepare import prepare
from training.produce import produce
from training.recipe import load_recipe

PROSE = (
    "The harbour lay quiet under the lantern. Old sailors said the lantern had burned since the first winter. "
    "When the lantern went out, the harbour went dark and the sailors went home.\n"
    "In the morning a grey ship stood in the harbour. Its captain asked for bread and for a lantern.\n"
) * 6
SMALL = [
    "fit.steps=3",
    "fit.batch=4",
    "fit.length=16",
    "fit.evaluate_every=2",
    "fit.warmup=1",
    "fit.threads=1",
    "model.hidden=12",
    "model.layers=1",
]


def recipe_of(family, folder, *changes):
    return replace(load_recipe(family, "small", [*SMALL, *changes]), corpus=str(folder))


@pytest.fixture(scope="module")
def prose(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "prose.txt"
    path.write_text(PROSE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def stories(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "stories.txt"
    path.write_text(
        "\n<|endoftext|>\n".join(f"{n}. {PROSE[n * 7 : n * 7 + 300]}" for n in range(30)), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "names.csv"
    rows = [f"{first}{last},{kind}" for kind, firsts in (("elf", ("Ael", "Lir")), ("ork", ("Bor", "Gru")))
            for first in firsts for last in ("iel", "orn", "wen", "dok", "gar", "lin", "ath", "ush")]  # fmt: skip
    path.write_text("name,category\n" + "\n".join(rows), encoding="utf-8")
    return path


def test_training_for_an_experiment_is_training(prose):
    """The same recipe gives the parameters that `produce` gives."""
    recipe = recipe_of("prose", prose, "model.embedding=0", "novelty=false")
    found = train(recipe)
    made = produce(recipe, prose.parent / "bundle", runs=prose.parent / "runs")
    for name, value in made.model.named_parameters():
        assert torch.equal(value, dict(found.model.named_parameters())[name]), name
    assert found.row()["bits_per_byte"] == pytest.approx(made.metrics["validation"]["bits_per_byte"])
    assert found.row()["parameters"] == made.model.parameter_count()


def test_an_experiment_needs_held_out_text_and_torch(prose):
    with pytest.raises(UserError, match=r"split\.val"):
        train(recipe_of("prose", prose, "split.val=0.0", "split.test=0.0"))
    with pytest.raises(UserError, match="'numpy'"):
        train(replace(recipe_of("prose", prose, "model.embedding=0"), trainer="numpy"))


def test_forgetting_gives_the_same_windows_without_their_past():
    reading = StreamReading(torch.arange(1, 60).numpy(), 2, 8)
    for kept, forgotten in zip(reading.epoch(0), Forgetting(reading).epoch(0), strict=True):
        assert torch.equal(kept.ids, forgotten.ids)
        assert torch.equal(kept.targets, forgotten.targets)
        assert not forgotten.goes_on
    assert any(batch.goes_on for batch in reading.epoch(0))


def test_carrying_is_compared_in_training_and_in_reading(prose):
    rows = carry(recipe_of("prose", prose, "model.embedding=0", "fit.steps=30", "fit.rate=0.01"))
    assert [(row["trained"], row["read"]) for row in rows] == [
        ("carried", "carried"),
        ("carried", "cleared"),
        ("cleared", "carried"),
        ("cleared", "cleared"),
    ]
    assert len({round(row["bits_per_byte"], 6) for row in rows}) == 4
    for row in rows:
        assert 0 < row["bits_per_byte"] < 10


def test_only_recurrent_models_of_running_text_carry(prose, names):
    with pytest.raises(UserError, match="'gpt'"):
        carry(replace(recipe_of("prose", prose), model={"architecture": "gpt", "layers": 1}))
    with pytest.raises(UserError, match="running text"):
        carry(replace(recipe_of("prose", names, "model.embedding=0"), kind="documents"))


def test_every_vocabulary_reads_the_same_number_of_bytes(stories):
    recipe = recipe_of("stories", stories, "model.embedding=12", "tokenizer.size=300")
    rows = bpe_sizes(recipe, (0, 260, 400))
    assert [row["of"] for row in rows] == ["characters", "pieces", "pieces"]
    assert rows[1]["vocabulary"] < rows[2]["vocabulary"]
    usual = bytes_per_token(prepare(recipe)) * 16
    for row in rows:
        assert row["window"] * row["bytes_per_token"] == pytest.approx(usual, abs=row["bytes_per_token"])
    with pytest.raises(UserError, match="size is 40"):
        bpe_sizes(recipe, (40,))


def test_the_gpt_gets_the_width_nearest_to_the_gru(stories):
    shape = {"architecture": "gpt", "layers": 2, "heads": 2, "window": 16}
    sizes = {
        width: build_model({**shape, "width": width, "vocabulary": 50}).parameter_count()
        for width in range(4, 80, 4)
    }
    for wanted in (1, 3000, 20_000):
        best = min(sizes, key=lambda width: abs(sizes[width] - wanted))
        assert nearest_width(shape, 50, wanted) == best


def test_gru_and_gpt_are_compared_at_each_rate(stories):
    recipe = recipe_of("stories", stories, "model.embedding=12", "tokenizer.size=300")
    rows = gru_gpt(recipe, layers=1, heads=1, rates=(1e-2, 1e-3))
    assert [(row["model"], row["rate"]) for row in rows] == [
        ("gru", 1e-2), ("gru", 1e-3), ("gpt", 1e-2), ("gpt", 1e-3),
    ]  # fmt: skip
    assert rows[0]["parameters"] == pytest.approx(rows[2]["parameters"], rel=0.2)
    with pytest.raises(UserError, match="'recurrent'"):
        gru_gpt(replace(recipe, model={"architecture": "gpt"}))


def test_every_way_of_steering_is_trained(names):
    shape = {"architecture": "window", "window": 6, "embedding": 8, "attention": 1, "heads": 2, "hidden": 8}
    recipe = replace(load_recipe("names", "small", SMALL[:6]), corpus=str(names))
    rows = steering(recipe, shape)
    assert [row["steering"] for row in rows] == list(WAYS)
    sizes = [row["parameters"] for row in rows]
    assert sizes[0] == min(sizes)
    assert sizes[-1] == max(sizes)
    assert len(set(sizes)) == 5


@pytest.fixture(scope="module")
def model(prose, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    recipe = recipe_of("prose", prose, "model.embedding=0")
    return produce(recipe, folder / "bundles" / "prose", runs=folder / "runs")


def test_ways_to_begin_are_judged_side_by_side(model):
    rows = {row["begins with"]: row for row in seed_words(model, samples=3, tokens=12)}
    assert list(rows) == [
        "nothing", "unfamiliar word", "first word of a sentence", "familiar word",
        "(held-out text)", "(training text)",
    ]  # fmt: skip
    known = {word.strip(".,").casefold() for word in PROSE.split()}
    assert rows["unfamiliar word"]["example"].split()[0][:4] not in known
    for name in list(rows)[:4]:
        assert 0 < rows[name]["nats_per_token"] < 20
        assert 0 < rows[name]["judge_bits"] < 20
    # real text is far more plausible to the judge than what three steps of training can write
    assert rows["(training text)"]["judge_bits"] < rows["nothing"]["judge_bits"]
    assert math.isnan(rows["(held-out text)"]["judge_bits"])


def test_an_unfamiliar_word_is_in_no_training_text():
    import random

    made = {unfamiliar(("harbour", "lantern"), {"harbour", "lantern"}, random.Random(n)) for n in range(20)}
    assert len(made) > 10
    assert not made & {"harbour", "lantern"}
    assert all(word.isalpha() for word in made)


def test_models_without_seed_words_are_told(gpt_bundle):
    from inkwell.bundle import load_bundle

    with pytest.raises(UserError, match="no seed words"):
        seed_words(load_bundle(gpt_bundle), samples=2)


def test_rows_of_different_columns_make_one_table(tmp_path):
    rows = [{"way": "a", "bits_per_byte": 2.0}, {"way": "b", "bits_per_byte": 1.0, "note": math.nan}]
    assert columns_of(rows) == ["way", "bits_per_byte", "note"]
    write_csv(rows, tmp_path / "new" / "rows.csv")
    assert (tmp_path / "new" / "rows.csv").read_text(encoding="utf-8").split() == [
        "way,bits_per_byte,note",
        "a,2.0,",
        "b,1.0,",
    ]
    assert [str(row.style) for row in table_of(rows, "title").rows] == ["None", "bold"]


def run(*words, code=0):
    result = CliRunner().invoke(app, ["experiment", *map(str, words)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_a_command_prints_a_table_and_writes_it(prose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = [part for change in (*SMALL[1:], "model.embedding=0") for part in ("--set", change)]
    out = run("carry", "--corpus", prose, "--steps", 2, *sets).stdout
    assert "bits per byte" in out
    with (tmp_path / "experiments" / "carry.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(1 <= int(row["best_step"]) <= 2 for row in rows)


def test_seed_words_are_compared_by_command(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = run("seed-words", model.path, "-n", 2, "--tokens", 6, "--out", "words.csv").stdout
    assert "familiar word" in out
    assert (tmp_path / "words.csv").is_file()


def test_the_character_study_is_drawn(prose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = ["--set", "model.hidden=6", "--set", "fit.length=8", "--set", "fit.warmup=0"]
    run("chars", "--corpus", prose, "--batches", "10", "--epochs", 0.2, *sets, "--out", "study")
    assert {path.name for path in (tmp_path / "study").iterdir()} >= {
        "curves.csv", "sampling.csv", "study-curves.png", "study-sampling.svg",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bpe-sizes", "--sizes", "many"), "--sizes 'many'"),
        (("memory", "nobody"), "no model 'nobody'"),
        (("echoes", "nobody"), "no model 'nobody'"),
        (("gru-gpt", "--rates", "x"), "--rates 'x'"),
        (("carry", "--family", "poems"), "'poems'"),
        (("seed-words", "nobody"), "no model 'nobody'"),
        (("carry", "--device", "tpu9"), "--device 'tpu9'"),
    ],
)
def test_bad_options_are_told_in_one_sentence(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    result = run(*words, code=2)
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
