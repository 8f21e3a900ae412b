"""`inkwell bench start`: what a worker's start is said to cost is what its process and its engine have."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import start
from serving.stack import random_bundle

from inkwell.bundle import load_bundle
from inkwell.native.library import open_library
from inkwell.runtimes import RUNTIMES
from inkwell.session import TextEngine

TINY = {"architecture": "recurrent", "cell": "gru", "hidden": 24, "layers": 1, "vocabulary": 40}
SLOTS = 3


@pytest.fixture
def library(monkeypatch):
    """The core as a file that workers are told to use, so that none compiles; None without a compiler."""
    monkeypatch.delenv("INKWELL_NATIVE_LIBRARY", raising=False)
    if RUNTIMES["native"].missing() is not None:
        return None
    file = open_library().file
    monkeypatch.setenv("INKWELL_NATIVE_LIBRARY", str(file))
    return file


def one(imported=1.0, ready=2.0, mib=300, after=310, slot=2048):
    return start.Start(imported, ready, mib * start.MIB, after * start.MIB, 2, slot)


@pytest.fixture
def found():
    workers = {("small", "torch"): [one(), one(ready=2.2), one(ready=2.4)], ("large", "torch"): [one()] * 3}
    workers["large", "onnx"] = [one(ready=3.5, after=600)] * 3
    weights = {"small": 10 * start.MIB, "large": 100 * start.MIB}
    floor = {"small": [one(ready=1.1)] * 3, "large": [one(ready=1.0)] * 3}
    return start.Found(weights, floor, workers)


def test_a_run_measures_real_workers_and_records_every_round(library, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(start.MODELS, "tiny", TINY)
    real, seen = start.report, []
    monkeypatch.setattr(start, "report", lambda *given: seen.append(given[0]) or real(*given))
    runtimes = ["torch"] if library is None else ["native", "torch"]
    words = [
        "--only",
        "tiny",
        "--rounds",
        "1",
        "--slots",
        str(SLOTS),
        "--json",
        str(tmp_path / "rounds.json"),
    ]
    start.main([*words, *(word for name in runtimes for word in ("--runtime", name))])

    (found,) = seen
    assert list(found.workers) == [("tiny", name) for name in runtimes]
    bundle = load_bundle(random_bundle(TINY, tmp_path / "tiny"))
    for (_, runtime), (worker,) in found.workers.items():
        engine = TextEngine(bundle, SLOTS, runtime=runtime)
        assert worker.bytes_per_slot == engine.describe()["bytes_per_slot"] > 0
        assert 0 < worker.imported_s < worker.ready_s
        assert found.floor["tiny"][0].resident < worker.resident
        assert found.weights["tiny"] < worker.resident_after_text
        assert worker.threads >= 1
    assert found.compiling_s == (0.0 if "native" in runtimes else None)

    out = capsys.readouterr().out
    assert "tiny, torch" in out
    assert f"Memory with {SLOTS} slots" in out
    figures = json.loads((tmp_path / "rounds.json").read_text())["figures"]
    assert {(figure["what"], figure["side"]): figure["seconds"] for figure in figures} == {
        ("tiny", start.FLOOR): [found.floor["tiny"][0].ready_s],
        **{("tiny", side): [starts[0].ready_s] for (_, side), starts in found.workers.items()},
        **{
            ("tiny, of it imports", side): [starts[0].imported_s]
            for (_, side), starts in found.workers.items()
        },
    }


def test_a_runtime_that_cannot_run_is_named_and_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("INKWELL_NATIVE_LIBRARY", raising=False)
    monkeypatch.setenv("INKWELL_NATIVE_COMPILER", "")
    random_bundle(TINY, tmp_path / "bundle")
    with pytest.raises(SystemExit, match="no worker can run here"):
        start.measure({"tiny": tmp_path}, ["native"], 1, SLOTS, 1)
    assert "without tiny on native" in (out := capsys.readouterr().out)
    assert "compiling is switched off" in out


def test_a_worker_that_fails_ends_the_benchmark_with_its_reason(tmp_path):
    with pytest.raises(SystemExit, match=r"torch ended with 1 and said: (?s:.*)not a bundle directory"):
        start.start("torch", tmp_path, SLOTS, 1)


def test_tables_give_medians_beside_the_floor(found):
    rows = {row[0]: row[1:] for row in start.times_table(found)}
    assert rows["small, torch"] == (2.2, 1.0, pytest.approx(1.2), "±9%", "2.00x")
    assert rows["large, onnx"][-1] == "3.50x"
    assert rows[start.FLOOR][0] == pytest.approx(1.05)
    rows = {row[0]: row[1:] for row in start.memory_table(found)}
    assert rows["small, torch"] == ("10.0", "300", "310", "300", "2.0", 2)
    assert rows["large, onnx"][3] == "500"
    assert rows[start.FLOOR] == ("", "300", "", "", "", 2)


def test_goals_name_who_misses_them(found):
    in_time, small = start.goals(found)
    assert in_time == "goal, ready in at most 3 s: reached by 2 of 3; missed by large, onnx (3.50 s)"
    assert small.endswith("reached by 2 of 3; missed by large, onnx (500 MiB)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "mamba"), "'mamba': no model is named so; there are lstm"),
        (("--bundle", "nowhere"), "--bundle nowhere: no bundle"),
        (("--rounds", "0"), "--rounds: '0' is not a whole number of 1 or more"),
        (("--only", "gru", "--bundle", "nowhere"), "not allowed with"),
        (("--runtime", "tpu"), "'tpu'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        start.main(list(words))
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_first_start_compiles_the_core(library, tmp_path, monkeypatch):
    if library is None:
        pytest.skip("there is no C++ compiler here")
    monkeypatch.delenv("INKWELL_NATIVE_LIBRARY")
    random_bundle(TINY, tmp_path / "bundle")
    assert start.compiling(tmp_path, 0.0, SLOTS, 1) > 0
