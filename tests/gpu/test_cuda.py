"""What only runs where there is a CUDA device; elsewhere each of these says that there is none."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from deploy.inventory import detect
from deploy.models_file import loads
from deploy.plan import plan
from deploy.plan_views import render_model_config
from handlers.continuous import ContinuousHandler
from inkwell.bundle import load_bundle
from inkwell.session import TextEngine

DEVICE = torch.device("cuda", 0)
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]


@pytest.fixture(params=["char_bundle", "gpt_bundle"])
def bundle(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def texts(engine: TextEngine, *jobs: dict[str, object]) -> dict[str, str]:
    """The text of every job, by its id."""
    events: list[dict[str, object]] = []
    for job in jobs:
        assert engine.submit(job, events) is not None, events
    while not engine.idle:
        engine.advance()
    return {str(event["job"]): str(event["text"]) for event in events if event["event"] == "end"}


def job(number: int, tokens: int = 40) -> dict[str, object]:
    return {
        "id": str(number),
        "prompt": "The",
        "seed": number,
        "max_new_tokens": tokens,
        "min_new_tokens": tokens,
    }


def test_a_seed_gives_the_same_text_alone_and_among_others(bundle: Path) -> None:
    among = texts(TextEngine(load_bundle(bundle, DEVICE), slots=16), *map(job, range(16)))
    assert len(among) == 16
    for number in (0, 7, 15):
        alone = texts(TextEngine(load_bundle(bundle, DEVICE), slots=16), job(number))
        assert alone[str(number)] == among[str(number)]


def test_a_step_computes_what_it_does_on_the_cpu(bundle: Path) -> None:
    """Within the rounding of single precision, on a model with widened weights."""
    here, there = load_bundle(bundle).model.eval(), load_bundle(bundle, DEVICE).model.eval()
    ids = torch.arange(1, 9)[None] % here.vocabulary
    with torch.no_grad():
        mine, theirs = here(ids).logits, there(ids.to(DEVICE)).logits
    assert theirs.device.type == DEVICE.type
    assert torch.allclose(mine, theirs.cpu(), atol=2e-2, rtol=1e-3)


def test_rows_leave_no_memory_behind(bundle: Path) -> None:
    engine = TextEngine(load_bundle(bundle, DEVICE), slots=16)
    texts(engine, *map(job, range(16)))
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        texts(engine, *map(job, range(16)))
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before + 2**20


def test_the_handler_takes_the_device_that_it_is_given(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").symlink_to(bundle)
    context = SimpleNamespace(
        system_properties={"model_dir": str(tmp_path), "gpu_id": DEVICE.index or 0},
        model_yaml_config={"handler": {"slots": 4}},
    )
    handler, threads = ContinuousHandler(), torch.get_num_threads()
    try:
        handler.initialize(context)
    finally:
        torch.set_num_threads(threads)
    assert handler._desk is not None
    assert handler._desk.engine.device.type == DEVICE.type


def test_a_model_trained_on_the_device_is_a_bundle_for_any(bundle: Path) -> None:
    model = copy.deepcopy(load_bundle(bundle, DEVICE).model).train()
    ids = torch.arange(1, 17)[None] % model.vocabulary
    ids = ids.to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = model(ids[:, :-1], ids[:, 1:]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_devices_here_are_found_and_planned_for() -> None:
    here = detect()
    assert len(here.gpus) >= torch.cuda.device_count() > 0
    total = torch.cuda.get_device_properties(0).total_memory // 2**20
    assert here.gpus[0].memory_mb == pytest.approx(total, rel=0.1)
    made = plan(loads('[models.prose]\nfamily = "prose"\ngpus = 1'), here, {})
    assert made.placements["prose"].device == "gpu"
    assert "deviceType: gpu" in render_model_config(made.placements["prose"])
