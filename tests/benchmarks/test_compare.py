"""`inkwell bench compare` with rounds that were made up: what changed is found, and noise is not."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import compare
from measure import Figure, record

FIGURE = "64 rows, inkwell"


def written(path, seconds, side="inkwell", benchmark="sampling", work=1.0, more=(), **options):
    figures = [Figure("64 rows", side, tuple(map(float, seconds)), work, "step"), *more]
    record(path, benchmark, figures, argparse.Namespace(json=path, **options))
    return path


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def rounds():
    """Rounds of a figure that takes 0.1 s with 3 % of noise."""
    random = np.random.default_rng(5)
    return lambda factor=1.0, count=9: factor * 0.1 * np.exp(random.normal(0, 0.03, count))


def run(*words):
    return compare.main([str(word) for word in words])


def test_a_real_regression_is_found_and_ends_with_1(tmp_path, rounds, capsys):
    old, new = written(tmp_path / "old", rounds()), written(tmp_path / "new", rounds(1.2))
    assert run(old, new) == 1
    assert "slower" in capsys.readouterr().out
    verdict = compare.compare(compare.read(old), compare.read(new), 0.99)[0]
    assert verdict.name == FIGURE
    assert verdict.low < 1.2 < verdict.high
    assert verdict.breaks(0.05)
    assert not verdict.breaks(0.5)


def test_a_regression_within_the_tolerance_ends_with_0(tmp_path, rounds, capsys):
    old, new = written(tmp_path / "old", rounds()), written(tmp_path / "new", rounds(1.2))
    assert run(old, new, "--tolerance", 40) == 0
    assert "slower" in capsys.readouterr().out


def test_what_became_faster_is_said_and_ends_with_0(tmp_path, rounds, capsys):
    old, new = written(tmp_path / "old", rounds()), written(tmp_path / "new", rounds(0.8))
    assert run(old, new) == 0
    assert "faster" in capsys.readouterr().out


def test_noise_is_no_regression(tmp_path, rounds, capsys):
    old, new = written(tmp_path / "old", rounds()), written(tmp_path / "new", rounds())
    assert run(old, new) == 0
    assert compare.SAME in capsys.readouterr().out


def test_seconds_are_counted_per_unit_of_work(tmp_path, rounds):
    old, new = written(tmp_path / "old", rounds(), work=10), written(tmp_path / "new", rounds(2), work=20)
    assert run(old, new) == 0
    assert run(old, written(tmp_path / "other", rounds(2), work=10)) == 1


def lognormal(random, count):
    return np.exp(random.normal(0, 0.08, count))


def with_spikes(random, count):
    return np.exp(random.normal(0, 0.03, count)) * np.where(random.random(count) < 0.15, 1.5, 1.0)


def leaning(random, count):
    return 1 + random.gamma(1.0, 0.1, count)


@pytest.mark.parametrize("noise", [lognormal, with_spikes, leaning])
@pytest.mark.parametrize(("count", "confidence"), [(5, 0.95), (20, 0.95), (9, 0.8)])
def test_where_nothing_changed_a_verdict_is_about_as_rare_as_stated(noise, count, confidence, monkeypatch):
    monkeypatch.setattr(compare, "RESAMPLES", 500)
    random = np.random.default_rng(11)
    wrong = sum(
        compare.judge("x", noise(random, count), noise(random, count), confidence, seed).verdict
        != compare.SAME
        for seed in range(500)
    )
    stated = 1 - confidence
    assert stated / 5 < wrong / 500 < 1.3 * stated


def test_three_rounds_are_too_few_to_judge(tmp_path, rounds, capsys):
    old, new = written(tmp_path / "old", rounds(count=3)), written(tmp_path / "new", rounds(2, count=3))
    assert run(old, new) == 0
    assert compare.FEW in capsys.readouterr().out


def test_the_same_files_give_the_same_interval(tmp_path, rounds):
    old, new = (compare.read(written(tmp_path / name, rounds())) for name in ("old", "new"))
    assert compare.compare(old, new, 0.99) == compare.compare(old, new, 0.99)


def test_a_slower_machine_does_not_count_against_another_side(tmp_path, rounds):
    """Both sides take twice as long: against each other nothing has changed."""
    ours, theirs = rounds(), rounds(3)
    old = written(tmp_path / "old", ours, more=[Figure("64 rows", "loop", tuple(theirs))])
    new = written(tmp_path / "new", 2 * ours, more=[Figure("64 rows", "loop", tuple(2 * theirs))])
    worse = written(tmp_path / "worse", 3 * ours, more=[Figure("64 rows", "loop", tuple(2 * theirs))])
    assert run(old, new) == 1
    assert run(old, new, "--against", "loop") == 0
    assert run(old, worse, "--against", "loop") == 1
    assert run(old, worse, "--against", "nobody") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("{", "is no JSON"),
        ("[1]", "format is 'list'"),
        ('{"format": 99}', "format is 99"),
        ('{"format": 1, "figures": []}', "KeyError('benchmark')"),
        ('{"format": 1, "figures": [{"seconds": ["x"]}]}', "could not convert"),
    ],
)
def test_a_file_that_is_no_record_is_refused_with_its_name(tmp_path, rounds, capsys, text, said):
    old, bad = written(tmp_path / "old", rounds()), tmp_path / "bad.json"
    if text is not None:
        bad.write_text(text)
    assert run(old, bad) == 2
    out = capsys.readouterr().out
    assert said in out
    assert "bad.json" in out


def test_rounds_without_time_are_refused(tmp_path, rounds, capsys):
    assert run(written(tmp_path / "old", rounds()), written(tmp_path / "new", [0.1, 0.0])) == 2
    assert "not above 0" in capsys.readouterr().out


def test_another_benchmark_or_clock_is_refused(tmp_path, rounds, capsys):
    old = written(tmp_path / "old", rounds())
    assert run(old, written(tmp_path / "a", rounds(), benchmark="train")) == 2
    assert "benchmark differs: 'sampling'" in capsys.readouterr().out
    assert run(old, written(tmp_path / "b", rounds(), cpu_time=True)) == 2
    assert "clock differs" in capsys.readouterr().out
    assert run(old, written(tmp_path / "c", rounds(), side="loop")) == 2
    assert "no figure in common" in capsys.readouterr().out


def test_another_machine_other_options_and_lost_figures_are_warned_of(tmp_path, rounds, capsys):
    old = written(tmp_path / "old", rounds(), threads=1)
    new = written(tmp_path / "new", rounds(), threads=2, more=[Figure("8 rows", "inkwell", (0.1,))])
    changed(old, load=0.5)
    changed(new, machine={"processor": "another", "cores": 2, "system": "Linux"}, load=7.25)
    assert run(old, new) == 0
    out = capsys.readouterr().out
    assert "is 'another'" in out
    assert "was 7.2 at the end" in out
    assert "was 0.5 at the end" not in out
    assert "options: threads was 1, is 2" in out
    assert "8 rows, inkwell" in out


@pytest.mark.parametrize("words", [("--tolerance", "-1"), ("--confidence", "100"), ("--confidence", "2")])
def test_options_out_of_range_are_refused(tmp_path, rounds, capsys, words):
    old = written(tmp_path / "old", rounds())
    with pytest.raises(SystemExit, match="2"):
        run(old, old, *words)
    assert "allowed" in capsys.readouterr().err


def test_a_record_says_what_was_measured_where_and_how(tmp_path):
    path = written(tmp_path / "a", [0.1, 0.2], work=64.0, threads=2, only=None)
    values = json.loads(path.read_text())
    assert values["benchmark"] == "sampling"
    assert values["clock"] == "wall"
    assert values["options"] == {"threads": 2, "only": None}
    assert values["figures"][0] == {
        "what": "64 rows", "side": "inkwell", "seconds": [0.1, 0.2], "work": 64.0, "unit": "step",
    }  # fmt: skip
    assert {"python", "torch", "numpy"} <= values["versions"].keys()
    assert values["machine"]["cores"]


def test_a_record_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(SystemExit, match="cannot be written"):
        written(tmp_path / "nowhere" / "a", [0.1])
