"""Every group of figures from every family: pictures that are small enough, and tables that hold the numbers."""

from __future__ import annotations

import csv
import json
import math
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from inkwell.bundle import load_bundle
from training.errors import UserError
from training.figures import album as albums
from training.figures import temperature
from training.figures.album import Album, canvas, visible
from training.figures.groups import GROUPS, Wish, chosen_groups, draw_figures
from training.figures.temperature import measure
from training.figures.training import curve_of
from training.figures.watch import watched_step
from training.report import page

SMALL = Wish(seed=1, prompt="The", samples=5)


def rows_of(path: Path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=["char_bundle", "bpe_bundle", "gpt_bundle", "window_bundle"])
def drawn(request, tmp_path_factory):
    """All figures of one bundle."""
    bundle = load_bundle(request.getfixturevalue(request.param))
    album = Album(tmp_path_factory.mktemp("album"))
    draw_figures(bundle, album, wish=SMALL)
    return bundle, album


def test_all_groups_that_fit_are_drawn_as_picture_and_numbers(drawn):
    bundle, album = drawn
    names = {path.name for path in album.written}
    fitting = set(GROUPS) - (set() if bundle.config.model["architecture"] != "recurrent" else {"attention"})
    for group in fitting:
        assert {f"{group}.png", f"{group}.svg"} <= names
        tables = [name for name in names if name.startswith(group) and name.endswith(".csv")]
        assert tables, group
        for name in tables:
            assert rows_of(album.folder / name) or name == "training-curve.csv", name


def test_pictures_can_be_read_and_are_small(drawn):
    _, album = drawn
    for path in album.written:
        if path.suffix == ".png":
            assert path.stat().st_size <= albums.MOST_BYTES
            with Image.open(path) as picture:
                assert min(picture.size) > 200
                assert len(picture.getcolors(256)) > 3
        elif path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_steps_of_the_table_are_those_of_the_text(drawn):
    bundle, album = drawn
    rows = rows_of(album.folder / "dynamics.csv")
    assert [int(row["step"]) for row in rows] == list(range(len(rows)))
    limit = math.log(bundle.model.vocabulary) + 1e-6
    assert all(0 <= float(row["entropy_nats"]) <= limit for row in rows)
    units = rows_of(album.folder / "dynamics-units.csv")
    assert len(units) == bundle.model.head.in_features


def test_likeliest_tokens_fall_in_probability(drawn):
    _, album = drawn
    rows = rows_of(album.folder / "confidence.csv")
    for before, after in pairwise(rows):
        if int(after["rank"]) > 0:
            assert float(after["probability"]) <= float(before["probability"])
    assert len({row["context"] for row in rows}) > 1


def test_the_temperature_table_covers_every_temperature(drawn):
    _, album = drawn
    rows = rows_of(album.folder / "temperature.csv")
    degrees = [float(row["temperature"]) for row in rows]
    assert degrees == sorted(degrees)
    assert len(degrees) == 5
    assert all(
        float(row["perplexity"]) == pytest.approx(math.exp(float(row["nats"])), rel=1e-4) for row in rows
    )


def test_the_map_shows_every_token_once(drawn):
    bundle, album = drawn
    ids = [int(row["id"]) for row in rows_of(album.folder / "embedding.csv")]
    assert ids[0] == 0
    assert len(ids) == len(set(ids))
    assert len(ids) == bundle.model.vocabulary or bundle.tokenizer.kind == "bpe"


def test_the_same_seed_draws_the_same_numbers(char_bundle, tmp_path):
    found = []
    for name in ("one", "two"):
        album = Album(tmp_path / name, ("csv",))
        draw_figures(load_bundle(char_bundle), album, ("diversity", "importance"), SMALL)
        found.append({path.name: path.read_bytes() for path in album.written})
    assert found[0] == found[1]


def test_colder_texts_are_less_surprising_to_their_model(char_bundle):
    figures = dict(measure(load_bundle(char_bundle), 0, 8, (0.2, 2.0)))
    assert figures[0.2].nats < figures[2.0].nats


def test_a_watched_step_changes_nothing_of_the_bundle(gpt_bundle):
    bundle = load_bundle(gpt_bundle)
    before = {name: value.detach().clone() for name, value in bundle.model.named_parameters()}
    step = watched_step(bundle, steps=2)
    assert all(torch.equal(value, before[name]) for name, value in bundle.model.named_parameters())
    assert not bundle.model.training
    assert step.text == "texts of its own"  # this bundle names no recipe
    assert set(step.activations) == {"blocks.0.up", "blocks.1.up"}
    assert all(0 < ratio < 1 for ratio in step.update_ratio.values())
    for name, values in step.gradients.items():
        weights = before[name]
        assert step.gradient_ratio[name] == pytest.approx(float(values.std() / weights.std()), rel=0.2)


def test_a_curve_comes_from_the_metrics_or_else_from_the_log(char_bundle, tmp_path):
    bundle = load_bundle(char_bundle)
    assert curve_of(bundle, tmp_path) == []
    log = tmp_path / "prose" / "log.csv"
    log.parent.mkdir()
    log.write_text(
        "step,train_nats,validation_nats,rate,tokens_per_second\n10,2.5,2.75,0.1,9\n", encoding="utf-8"
    )
    assert curve_of(bundle, tmp_path) == [(10, 2.5, 2.75)]
    bundle.metrics = {"training": {"curve": [[20, 1.5, 1.75]]}}
    assert curve_of(bundle, tmp_path) == [(20, 1.5, 1.75)]


def test_tokens_without_a_shape_are_made_visible():
    assert visible("") == "■"
    assert visible(" a\n") == "␣a↵"
    assert visible("\x00") == "\\0"


def test_dollar_signs_and_foreign_letters_are_drawn(tmp_path):
    figure, axes = canvas(2, 2)
    axes[0][0].set_title("$5 and $6, 灯, 🐉")
    album = Album(tmp_path)
    album.save("price", figure)
    assert [path.name for path in album.written] == ["price.png", "price.svg"]


def test_a_picture_too_large_is_drawn_with_fewer_dots(tmp_path, monkeypatch):
    def saved():
        figure, axes = canvas(4, 4)
        axes[0][0].imshow(torch.rand(64, 64, generator=torch.Generator().manual_seed(1)).numpy())
        album = Album(tmp_path, ("png",))
        album.save("noise", figure)
        return album.written[0].stat().st_size

    free = saved()
    monkeypatch.setattr(albums, "MOST_BYTES", free - 1)
    assert saved() < free


def test_unknown_groups_and_formats_are_told():
    with pytest.raises(UserError, match="'moods' is no group"):
        chosen_groups(["embedding", "moods"])
    with pytest.raises(UserError, match="'gif'"):
        Album(Path("x"), ("png", "gif"))
    with pytest.raises(UserError, match="allowed are png, svg, csv, json"):
        Album(Path("x"), ())


def test_attention_of_a_model_without_it_is_an_error_only_when_asked_for(char_bundle, tmp_path):
    with pytest.raises(UserError, match="no attention"):
        draw_figures(load_bundle(char_bundle), Album(tmp_path), ["attention"], SMALL)


def test_the_gallery_shows_pictures_that_are_there():
    root = Path(page.__file__).resolve().parents[2]
    text = (root / "docs" / "gallery.md").read_text(encoding="utf-8")
    pictures = set(re.findall(r"\((images/gallery/[^)]+\.png)\)", text))
    assert len(pictures) >= 8
    assert [name for name in sorted(pictures) if not (root / "docs" / name).is_file()] == []
    groups = set(re.findall(r"--only ([a-z]+)", text))
    assert groups == set(GROUPS)


def test_the_numbers_can_be_had_as_json_too(tmp_path):
    album = Album(tmp_path, ("csv", "json"))
    album.table("n", ["token", "value"], ([t, v] for t, v in (("a", 0.5), ("$", math.nan))))
    assert [path.name for path in album.written] == ["n.csv", "n.json"]
    assert json.loads((tmp_path / "n.json").read_text(encoding="utf-8")) == [
        {"token": "a", "value": 0.5},
        {"token": "$", "value": None},
    ]


def test_the_texts_behind_the_temperatures_are_kept(char_bundle, tmp_path):
    album = Album(tmp_path, ("csv",))
    temperature.draw(load_bundle(char_bundle), album, seed=3, samples=4)
    rows = rows_of(tmp_path / "temperature-texts.csv")
    assert len(rows) == 4 * len(temperature.TEMPERATURES)
    assert {row["seed"] for row in rows} == {"3", "4", "5", "6"}
    assert all(row["text"] for row in rows)
