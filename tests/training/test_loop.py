"""The training loop: learns, resumes to the bit, and gives the same however its batches are cut up."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from deploy.ports import free_run
from training.batches import DocumentWindows, StreamReading
from training.device import pick_device
from training.distributed import Processes, processes
from training.errors import DataError, UserError
from training.loop import Trainer
from training.optimizers import learning_rate, make_optimizer
from training.progress import Progress
from training.recipe import FitRecipe
from training.scoring import Total, evaluate
from training.settings import process_group

from . import toys

HERE = Path(__file__).parent
CPU = torch.device("cpu")


def values_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def test_the_rate_warms_up_peaks_and_falls_along_a_cosine() -> None:
    fit = FitRecipe(steps=110, warmup=10, rate=2.0, final_rate=0.1)
    rates = [learning_rate(fit, step) for step in range(110)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == 2.0
    assert rates[60] == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate(fit, 110) == learning_rate(fit, 500) == pytest.approx(0.2)
    assert learning_rate(FitRecipe(steps=5, warmup=0, rate=1.0), 0) == 1.0
    assert learning_rate(FitRecipe(steps=5, warmup=5, rate=1.0, final_rate=0.0), 5) == 1.0


def test_only_matrices_decay() -> None:
    model = toys.model_of(toys.GPT)
    decaying, steady = make_optimizer(model, toys.fit_of(weight_decay=0.3), CPU).param_groups
    assert (decaying["weight_decay"], steady["weight_decay"]) == (0.3, 0.0)
    assert {p.dim() for p in decaying["params"]} == {2}
    assert {p.dim() for p in steady["params"]} == {1}
    assert len(decaying["params"]) + len(steady["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(("kind", "settings"), [("stream", toys.LSTM), ("documents", toys.GPT)])
def test_the_loss_falls_on_a_toy_corpus(kind: str, settings: dict[str, Any]) -> None:
    heard: list[Progress] = []
    fit = toys.fit_of(steps=150, evaluate_every=50, rate=2e-2)
    fitted = Trainer(
        toys.model_of(settings), fit, toys.source_of(kind, fit), None, callback=heard.append
    ).run()
    assert [p.step for p in heard] == list(range(1, 151))
    assert heard[0].loss == pytest.approx(math.log(toys.V), abs=0.6)
    # three equally likely steps: ln 3 = 1.10 is the best a stream allows; documents are nearly certain
    assert heard[-1].loss < (1.4 if kind == "stream" else 0.8)
    assert (fitted.steps, fitted.stopped_early, len(fitted.curve)) == (150, False, 3)
    assert fitted.tokens > 5_000


def naive_nats(model: Any, rows: list[tuple[list[int], int | None]]) -> tuple[float, int]:
    """Sum over texts of −log p(next), each text read from its beginning in one go."""
    nats, count = 0.0, 0
    for ids, category in rows:
        with torch.no_grad():
            condition = None if category is None else torch.tensor([category])
            logs = model(torch.tensor([ids[:-1]]), condition=condition).logits[0].double().log_softmax(-1)
        nats -= sum(float(logs[place, target]) for place, target in enumerate(ids[1:]))
        count += len(ids) - 1
    return nats, count


def test_evaluation_is_the_plain_sum_over_texts() -> None:
    model = toys.model_of(toys.GPT).train()
    texts, conditions = toys.documents(30)
    total = evaluate(model, DocumentWindows(texts, conditions, 4, 64, 1, shuffle=False), CPU)
    assert model.training
    model.eval()
    nats, count = naive_nats(model, [([0, *t, 0], c) for t, c in zip(texts, conditions, strict=True)])
    assert total.targets == count
    assert total.nats == pytest.approx(nats, rel=1e-5)


def test_evaluation_carries_the_state_along_a_stream() -> None:
    model = toys.model_of(toys.LSTM).eval()
    ids = toys.stream_ids(203)
    total = evaluate(model, StreamReading(ids, 4, 9), CPU)
    stretch = -(-202 // 4)
    rows = [(ids[at : min(at + stretch, 202) + 1].tolist(), None) for at in range(0, 202, stretch)]
    nats, count = naive_nats(model, rows)
    assert total.targets == count == 202
    assert total.nats == pytest.approx(nats, rel=1e-5)
    some = evaluate(model, StreamReading(ids, 4, 9), CPU, most_tokens=40)
    assert some.targets == 72


def test_totals_give_nats_per_token_and_bits_per_byte() -> None:
    total = Total(nats=80 * math.log(2), targets=40)
    assert total.per_token == pytest.approx(2 * math.log(2))
    assert total.bits_per_byte(20) == pytest.approx(4.0)
    assert math.isnan(Total(0.0, 0).per_token)


@pytest.mark.parametrize(
    ("kind", "settings", "changes"),
    [
        ("stream", {**toys.LSTM, "dropout": 0.3}, {"fresh": 0.2}),
        (
            "stream",
            {**toys.LSTM, "dropout": 0.2, "locked": True, "weight_drop": 0.2},
            {"ema": 0.9, "accumulate": 2},
        ),
        (
            "stream",
            {**toys.LSTM, "cell": "gru", "embedding": 12, "tied": True},
            {"randomise": "chunk", "carry": False},
        ),
        ("documents", {**toys.GPT, "dropout": 0.2}, {"carry": False, "ema": 0.95}),
        ("stream", {**toys.LSTM, "dropout": 0.2}, {"optimizer": "muon"}),
        ("documents", toys.GPT, {"carry": False, "optimizer": "muon", "ema": 0.9}),
        ("documents", toys.GPT, {"accumulate": 4, "patience": 9}),
    ],
)
def test_a_resumed_run_ends_with_the_same_bits(
    kind: str, settings: dict[str, Any], changes: dict[str, Any], tmp_path: Path
) -> None:
    fit = toys.fit_of(steps=13, evaluate_every=3, **changes)
    validation = StreamReading(toys.stream_ids(80, seed=9), 2, 9) if kind == "stream" else None

    def trainer(directory: Path, seed: int = 0, **more: Any) -> Trainer:
        return Trainer(
            toys.model_of(settings, seed),
            fit,
            toys.source_of(kind, fit),
            validation,
            directory,
            callback=more.get("callback"),
        )

    whole = trainer(tmp_path / "whole")
    expected = whole.run()

    with pytest.raises(toys.BrokenOffError):
        trainer(tmp_path / "broken", callback=toys.stop_at_8).run()
    # the second process begins with other weights, other optimiser state, another random state
    torch.rand(17)
    resumed = trainer(tmp_path / "broken", seed=5)
    fitted = resumed.run(resume=True)
    assert_equal(values_of(resumed.model), values_of(whole.model))
    assert (fitted.best, fitted.best_step, fitted.steps, fitted.tokens) == (
        expected.best,
        expected.best_step,
        expected.steps,
        expected.tokens,
    )
    assert [(step, v) for step, _, v in fitted.curve] == [(step, v) for step, _, v in expected.curve]
    last = [load_file(tmp_path / run / "checkpoint.safetensors") for run in ("whole", "broken")]
    assert_equal(*last)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    fit = toys.fit_of(steps=6)
    first = Trainer(toys.model_of(toys.LSTM), fit, toys.source_of("stream", fit), None, tmp_path)
    first.run()
    again = Trainer(toys.model_of(toys.LSTM, 4), fit, toys.source_of("stream", fit), None, tmp_path)
    assert again.run(resume=True).steps == 6
    assert_equal(values_of(again.model), values_of(first.model))


def test_resuming_without_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    fit = toys.fit_of(steps=3)
    runs = [
        Trainer(toys.model_of(toys.LSTM), fit, toys.source_of("stream", fit), None, directory)
        for directory in (None, tmp_path / "empty")
    ]
    for trainer in runs:
        trainer.run(resume=True)
    assert_equal(values_of(runs[0].model), values_of(runs[1].model))


def damaged_header(path: Path, **changes: str | None) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    header.update({k: v for k, v in changes.items() if v is not None})
    for name in [k for k, v in changes.items() if v is None]:
        del header[name]
    save_file(load_file(path), path, metadata=header)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(os.urandom(4000)),
        lambda path: save_file({"x": torch.ones(1)}, path),
        lambda path: damaged_header(path, fitted="{"),
        lambda path: damaged_header(path, fitted=json.dumps({"steps": 1})),
        lambda path: damaged_header(path, position=None),
        lambda path: damaged_header(path, averaged="many"),
        lambda path: damaged_header(path, carry='"carry.999"'),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name(damage: Any, tmp_path: Path) -> None:
    fit = toys.fit_of(steps=3)
    Trainer(toys.model_of(toys.LSTM), fit, toys.source_of("stream", fit), None, tmp_path).run()
    damage(tmp_path / "checkpoint.safetensors")
    again = Trainer(toys.model_of(toys.LSTM), fit, toys.source_of("stream", fit), None, tmp_path)
    with pytest.raises(DataError, match=r"checkpoint.safetensors is not a checkpoint of this version"):
        again.run(resume=True)


@pytest.mark.parametrize("other", [{**toys.LSTM, "hidden": 10}, {**toys.LSTM, "layers": 3}, toys.GPT])
def test_a_checkpoint_of_another_model_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    fit = toys.fit_of(steps=3)
    Trainer(toys.model_of(toys.LSTM), fit, toys.source_of("stream", fit), None, tmp_path).run()
    again = Trainer(toys.model_of(other), fit, toys.source_of("stream", fit), None, tmp_path)
    with pytest.raises(DataError, match="is of another model"):
        again.run(resume=True)


def test_a_checkpoint_is_written_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = toys.fit_of(steps=6)
    Trainer(toys.model_of(toys.LSTM), fit, toys.source_of("stream", fit), None, tmp_path).run()
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def fail(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("training.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        Trainer(toys.model_of(toys.LSTM), fit, toys.source_of("stream", fit), None, tmp_path).run()
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "settings"), [("stream", toys.LSTM), ("documents", {**toys.GPT, "category_dropout": 0})]
)
@pytest.mark.parametrize("accumulate", [2, 8])
def test_an_accumulated_batch_is_one_big_batch(kind: str, settings: dict[str, Any], accumulate: int) -> None:
    ends = []
    for parts in (1, accumulate):
        fit = toys.fit_of(accumulate=parts)
        trainer = Trainer(toys.model_of(settings), fit, toys.source_of(kind, fit), None)
        trainer.run()
        ends.append(values_of(trainer.model))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, atol=1e-4, rtol=1e-3)


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best() -> None:
    fit = toys.fit_of(steps=500, evaluate_every=4, patience=3, rate=2e-2)
    # what is held out contradicts what is learned
    held_out = StreamReading(toys.stream_ids(300)[::-1].copy(), 4, 9)
    trainer = Trainer(toys.model_of(toys.LSTM), fit, toys.source_of("stream", fit), held_out)
    fitted = trainer.run()
    assert fitted.stopped_early
    assert fitted.steps == fitted.best_step + 3 * 4 < 500
    assert fitted.best == min(v for _, _, v in fitted.curve)
    assert evaluate(trainer.model, held_out, CPU).per_token == pytest.approx(fitted.best, rel=1e-6)
    assert not trainer.model.training


def test_averaged_weights_are_the_ones_that_are_measured_and_kept() -> None:
    fit = toys.fit_of(steps=9, evaluate_every=9, ema=0.5)
    recorded: list[dict[str, torch.Tensor]] = []
    held_out = StreamReading(toys.stream_ids(100, seed=4), 2, 9)
    model = toys.model_of(toys.LSTM)
    start = values_of(model)
    trainer = Trainer(
        model,
        fit,
        toys.source_of("stream", fit),
        held_out,
        callback=lambda _: recorded.append(values_of(model)),
    )
    fitted = trainer.run()
    average = start
    for count, values in enumerate(recorded, 1):
        decay = min(0.5, count / (count + 9))
        average = {name: decay * average[name] + (1 - decay) * values[name] for name in average}
    for name, value in values_of(model).items():
        torch.testing.assert_close(value, average[name], atol=1e-6, rtol=1e-5)
    assert evaluate(model, held_out, CPU).per_token == pytest.approx(fitted.best, rel=1e-6)


def test_a_loss_that_explodes_ends_training_with_advice() -> None:
    fit = toys.fit_of(steps=50, rate=1e30, warmup=0, clip=1e30)
    with pytest.raises(
        FloatingPointError, match=r"the loss became (nan|inf) at step \d+; a lower fit.rate helps"
    ):
        Trainer(toys.model_of(toys.GPT), fit, toys.source_of("documents", fit), None).run()


def test_a_cleared_row_begins_anew() -> None:
    ends = {}
    for fresh in (0.0, 0.9):
        fit = toys.fit_of(fresh=fresh)
        trainer = Trainer(toys.model_of(toys.LSTM), fit, toys.source_of("stream", fit), None)
        trainer.run()
        ends[fresh] = values_of(trainer.model)
    assert any(not torch.equal(ends[0.0][name], ends[0.9][name]) for name in ends[0.0])


def test_devices_are_picked_by_name_or_by_what_is_there() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else pick_device().type)


@pytest.mark.slow
def test_two_processes_fit_what_one_process_fits(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2"),
            *(
                "--master-addr=127.0.0.1",
                f"--master-port={free_run(1)}",
                str(HERE / "ddp_fit.py"),
                str(tmp_path),
            ),
        ],
        cwd=HERE.parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for kind, settings in (("stream", toys.LSTM), ("documents", {**toys.GPT, "category_dropout": 0.0})):
        for accumulate in (1, 2):
            fit = toys.fit_of(accumulate=accumulate)
            trainer = Trainer(toys.model_of(settings), fit, toys.source_of(kind, fit), None)
            fitted = trainer.run()
            several = load_file(tmp_path / f"{kind}-{accumulate}.safetensors")
            assert int(several.pop("tokens")) == fitted.tokens
            for name, value in values_of(trainer.model).items():
                torch.testing.assert_close(several[name], value, atol=1e-5, rtol=1e-4)


def test_outside_of_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with processes(CPU) as group:
        assert group == Processes(0, 1, 0)
        model = torch.nn.Linear(1, 1)
        assert group.wrap(model, CPU) is model
        assert group.total(7, CPU) == 7


def test_torchruns_variables_are_read_or_refused() -> None:
    assert process_group({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}) == (1, 4, 0)
    assert process_group({"RANK": "1"}) is None
    with pytest.raises(UserError, match="must be integers"):
        process_group({"RANK": "x", "WORLD_SIZE": "4", "LOCAL_RANK": "0"})


def test_bf16_where_it_is_missing_becomes_fp32_and_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("training.loop.has_bf16", lambda device: False)
    told: list[tuple[str, ...]] = []
    ends = {}
    for precision in ("bf16", "fp32"):
        told.clear()
        fit = toys.fit_of(steps=3, precision=precision)
        model = toys.model_of(toys.LSTM)
        source = toys.source_of("stream", fit)
        trainer = Trainer(
            model, fit, source, None, tmp_path / precision, CPU, lambda p: told.append(p.warnings)
        )
        fitted = trainer.run()
        ends[precision] = (values_of(model), list(told), fitted.warnings)
    assert_equal(ends["bf16"][0], ends["fp32"][0])
    assert "no bf16 instructions" in ends["bf16"][1][0][0]
    assert sum(any("bf16" in warning for warning in step) for step in ends["bf16"][1]) == 1
    assert any("bf16" in warning for warning in ends["bf16"][2])
    assert not any("bf16" in warning for step in ends["fp32"][1] for warning in step)
