"""The sides of `inkwell bench sampling` draw from the same distribution, or the comparison would mean nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import sampling

ROWS = 4000


def one_row(settings):
    """A case of many rows that are all alike, with few tokens: its draws are a histogram."""
    case = sampling.Case.make(1, 12, settings)
    return sampling.Case(case.logits.expand(ROWS, -1), case.history.expand(ROWS, -1), case.params)


def expected(case):
    """The distribution by the textbook, for one row."""
    logits, params = case.logits[0].double(), case.params
    for token in set(case.history[0].tolist()) if params.penalised else ():
        logits[token] *= params.repetition_penalty if logits[token] < 0 else 1 / params.repetition_penalty
    probabilities = (logits / params.temperature).softmax(-1)
    order = probabilities.argsort(descending=True).tolist()
    kept = order[: params.top_k or None]
    within, total = [], 0.0
    mass = sum(float(probabilities[token]) for token in kept)
    for token in kept:
        if total < params.top_p:
            within.append(token)
        total += float(probabilities[token]) / mass
    only = torch.zeros_like(probabilities)
    only[within] = probabilities[within]
    return only / only.sum()


@pytest.mark.parametrize("side", sampling.SIDES)
@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.8},
        {"temperature": 0.8, "top_k": 5},
        {"temperature": 1.5, "top_k": 8, "top_p": 0.9, "repetition_penalty": 1.2},
    ],
)
def test_every_side_draws_what_the_settings_say(side, settings):
    case = one_row(settings)
    torch.manual_seed(3)
    drawn = torch.bincount(sampling.SIDES[side](case)(), minlength=12).double() / ROWS
    wanted = expected(case)
    assert not drawn[wanted == 0].any(), "a token that is filtered out was drawn"
    assert torch.allclose(drawn, wanted, atol=4 * (0.25 / ROWS) ** 0.5)


def test_a_run_prints_ratios_and_records_every_round(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sampling.MATCHING, 90, "rnn 200, V 90")
    file = tmp_path / "rounds.json"
    words = ("--rows", "2", "--rounds", "2", "--draws", "1", "--threads", "1", "--only", "90")
    sampling.main([*words, "--json", str(file)])
    out = capsys.readouterr().out
    assert "microseconds per step" in out
    assert "beside a decode step" in out
    values = json.loads(file.read_text())
    assert values["benchmark"] == "sampling"
    sides = {(one["what"], one["side"]): one["seconds"] for one in values["figures"]}
    assert {side for what, side in sides if what.startswith("2 x 90")} == set(sampling.SIDES)
    assert all(len(seconds) == 2 for seconds in sides.values())


def test_processor_time_of_several_threads_is_refused():
    with pytest.raises(SystemExit, match="--threads 1"):
        sampling.main(["--cpu-time", "--threads", "2"])
