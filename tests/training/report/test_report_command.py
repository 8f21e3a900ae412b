"""`inkwell report`, from a corpus to a page."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.cli import app

STORIES = (
    "The harbour lay quiet. Nobody came.\n\nA ship came in late. It was dark.\n\nThe lantern went out.\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stories.txt").write_text(STORIES, encoding="utf-8")
    return tmp_path


def run(*words, code=0):
    result = CliRunner().invoke(app, ["report", *map(str, words)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_a_corpus_alone_is_described(folder):
    out = run("stories.txt").stdout
    assert "report.html and report.json" in out
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert data["source"]["sentences"] == 5
    assert "generated" not in data
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_file_of_texts_is_compared(folder):
    (folder / "made.txt").write_text("The harbour lay quiet.\n\nA ship went out.\n", encoding="utf-8")
    run("stories.txt", "--generated", "made.txt", "--out", "pages/both.html")
    data = json.loads((folder / "pages" / "both.json").read_text(encoding="utf-8"))
    assert data["generated"]["sentences"] == 2
    assert 0.0 < data["distances"]["js_words"] < 1.0
    assert "How far apart" in (folder / "pages" / "both.html").read_text(encoding="utf-8")


def test_a_model_writes_the_other_side(folder, bpe_bundle):
    out = run("stories.txt", "--model", bpe_bundle, "--count", 6, "--seed", 3).stdout
    assert "6 texts" in out
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert 1 <= data["generated"]["texts"] <= 6
    assert data["seconds_per_text"] > 0
    assert "ms per sentence" in data["how"]
    assert "SoulsGen took 1,800 ms per sentence" in out
    assert 0 < data["seconds_per_sentence"] <= data["seconds_per_text"]


def test_the_same_seed_writes_the_same_texts(folder, bpe_bundle):
    made = []
    for _ in range(2):
        run("stories.txt", "--model", bpe_bundle, "--count", 3, "--seed", 3)
        made.append(json.loads((folder / "report.json").read_text(encoding="utf-8"))["samples"])
    assert made[0] == made[1]


def test_options_that_do_not_go_together_are_told(folder, bpe_bundle):
    result = run("stories.txt", "--model", bpe_bundle, "--generated", "stories.txt", code=2)
    assert "not both" in result.stderr
    assert "--url needs --model" in run("stories.txt", "--url", "http://127.0.0.1:1", code=2).stderr


def test_what_is_not_there_is_named(folder):
    assert "absent.txt" in run("absent.txt", code=3).stderr
    assert "no model 'nobody'" in run("stories.txt", "--model", "nobody", code=2).stderr
    assert not Path("report.html").exists()


def test_a_server_that_does_not_answer_is_an_error_in_one_sentence(folder):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    result = run("stories.txt", "--model", "prose", "--url", f"http://127.0.0.1:{port}", "-n", 2, code=3)
    assert f"no server answers at http://127.0.0.1:{port}" in result.stderr
    assert "or leave out --url to generate here" in result.stderr
    assert "Traceback" not in result.output
