"""`inkwell figures`."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from training.cli import app


@pytest.fixture
def folder(tmp_path, monkeypatch, char_bundle):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(char_bundle, tmp_path / "bundles" / "prose")
    return tmp_path


def run(*words, code=0):
    result = CliRunner().invoke(app, ["figures", *map(str, words)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_each_model_gets_a_folder_of_its_name(folder, gpt_bundle):
    out = run("prose", gpt_bundle, "--only", "confidence", "--out", "pictures", "--formats", "png").stdout
    assert sorted(str(path.relative_to(folder)) for path in (folder / "pictures").rglob("*.png")) == [
        "pictures/names/confidence.png",
        "pictures/prose/confidence.png",
    ]
    assert "pictures/prose: 1 files" in out.replace("\\", "/")


def test_the_beginning_of_texts_can_be_chosen(folder):
    run("prose", "--only", "confidence", "--prompt", "The har", "--formats", "csv", "--seed", 3)
    text = (folder / "figures" / "prose" / "confidence.csv").read_text(encoding="utf-8")
    assert "The har" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody",), "no model 'nobody'"),
        (("prose", "--only", "moods"), "'moods' is no group"),
        (("prose", "--formats", "gif"), "'gif'"),
        (("prose", "--only", "attention"), "no attention"),
    ],
)
def test_bad_options_are_told_in_one_sentence(folder, words, said):
    result = run(*words, code=2)
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
