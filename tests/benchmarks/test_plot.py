"""`inkwell bench plot`: what is drawn is what the files say."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import measure
import plot

FIGURES = [
    measure.Figure("lstm, 1 rows", "native", (1.0, 2.0, 4.0), 100, "token"),
    measure.Figure("lstm, 1 rows", "torch", (10.0, 10.0, 10.0), 100, "token"),
    measure.Figure("gru, 1 rows", "native", (2.0, 2.0, 2.0), 100, "token"),
    measure.Figure("a step", "native", (2.0, 2.0, 2.0), 5, "step"),
]


@pytest.fixture
def rounds(tmp_path):
    path = tmp_path / "engine.json"
    measure.record(path, "engine", FIGURES, argparse.Namespace(cpu_time=True, rounds=3))
    return path


def test_figures_with_several_sides_are_drawn(rounds):
    groups = plot.drawn([plot.read(rounds)], None)
    assert {what: list(sides) for what, sides in groups.items()} == {"lstm, 1 rows": ["native", "torch"]}


def test_bars_are_the_median_rates(rounds, tmp_path, monkeypatch):
    drawn = []
    usual = plot.plt.Axes.bar
    monkeypatch.setattr(
        plot.plt.Axes,
        "bar",
        lambda axes, *given, **more: drawn.append(given[1]) or usual(axes, *given, **more),
    )
    out = tmp_path / "bars.svg"
    plot.main([str(out), str(rounds), "--unit", "token"])
    assert drawn == [[50.0], [10.0]]
    text = out.read_text()
    assert "<svg" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--unit", "meal"], "'meal'; the files have step, token"),
        (["nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_what_cannot_be_drawn_is_refused(rounds, tmp_path, capsys, words, said):
    with pytest.raises(SystemExit, match="2"):
        plot.main([str(tmp_path / "x.png"), str(rounds), *words])
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x.png").exists()


def test_a_strange_image_format_is_refused(rounds, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        plot.main([str(tmp_path / "x.docx"), str(rounds)])
    assert "docx" in capsys.readouterr().err
