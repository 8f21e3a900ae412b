"""`inkwell bench train` on tiny shapes: both sides really train, in turns, and the table says how fast."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import train
from tutorials.training import loop

TINY = {
    "lstm tiny": train.Shape(
        {"architecture": "recurrent", "cell": "lstm", "hidden": 16, "layers": 2, "vocabulary": 12}, 4, 8, 2
    ),
    "gru tiny": train.Shape(
        {
            "architecture": "recurrent",
            "cell": "gru",
            "hidden": 16,
            "layers": 1,
            "embedding": 8,
            "vocabulary": 12,
        },
        4,
        8,
        1,
    ),
    "gpt tiny": train.Shape(
        {"architecture": "gpt", "layers": 2, "heads": 2, "width": 16, "window": 8, "vocabulary": 12}, 4, 8, 1
    ),
}


@pytest.mark.parametrize("shape", TINY.values(), ids=TINY)
def test_the_tutorials_loop_learns(shape):
    """It follows a text that repeats, so it is a training loop and not only its cost."""
    torch.manual_seed(1)
    row = (torch.arange(shape.length + 1) % 3).expand(shape.batch, -1)
    module = train.tutorial(shape)
    run = loop(module, itertools.repeat((row[:, :-1], row[:, 1:])), 400, False, False)
    run()
    logits, _ = module(row[:, :-1], None)
    right = (logits.argmax(-1) == row[:, 1:])[:, 1:].double().mean()
    assert right > 0.9


def test_an_endless_stream_goes_on_after_its_end():
    shape = TINY["gru tiny"]
    batches = list(itertools.islice(train.endless(train.stream(shape)), 250))
    assert all(ids.shape == (4, 8) for ids, _ in batches)
    assert torch.equal(batches[0][0][:, 1:], batches[0][1][:, :-1])


def test_sides_take_turns_and_each_round_has_all_steps():
    shape, turns = TINY["lstm tiny"], []
    ticks = itertools.count()
    times = train.in_turns(shape, False, {"other": lambda: turns.append(next(ticks))}, 3, lambda: next(ticks))
    assert len(turns) == 4, "one to warm up"
    assert {name: len(timing.seconds) for name, timing in times.items()} == {"inkwell": 3, "other": 3}
    assert times["other"].seconds == (2, 2, 2), "the clock is read before and after, and once within"


def test_a_run_prints_speeds_and_records_every_round(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "SHAPES", TINY)
    file = tmp_path / "rounds.json"
    train.main(["--threads", "1", "--rounds", "2", "--only", "tiny", "--json", str(file)])
    out = capsys.readouterr().out
    assert "tokens/s" in out
    if not train.has_bf16(torch.device("cpu")):
        assert "no bf16" in out
    figures = json.loads(file.read_text())["figures"]
    found = {(one["what"], one["side"]): one for one in figures}
    assert {what.split(",")[0] for what, _ in found} == set(TINY)
    assert found["lstm tiny, fp32", "inkwell"]["work"] == 4 * 8 * 2
    assert all(len(one["seconds"]) == 2 for one in figures)


@pytest.mark.parametrize("words", [("--only", "nothing"), ("--rounds", "0"), ("--steps", "0")])
def test_bad_options_are_refused(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        train.main(list(words))
    assert words[0] in capsys.readouterr().err
