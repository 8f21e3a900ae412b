"""Warnings appear when a training is sick, and only then."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from inkwell.models import build_model
from training.health import Health

V = 9


def warnings_of(
    change: Any = None, rate: float = 2e-3, hidden: int = 24, **settings: Any
) -> tuple[tuple[str, ...], Health]:
    torch.manual_seed(0)
    model = build_model(
        {
            "architecture": "recurrent",
            "vocabulary": V,
            "cell": "rnn",
            "hidden": hidden,
            "layers": 2,
            **settings,
        }
    )
    if change is not None:
        with torch.no_grad():
            change(model)
    health, optimizer = Health(model), torch.optim.AdamW(model.parameters(), lr=rate)
    ids = torch.randint(0, V, (8, 30))
    with health.watching(True):
        loss = model(ids, ids).loss
    assert loss is not None
    loss.backward()
    with health.updating(True):
        optimizer.step()
    return health.warnings(), health


def test_a_healthy_training_gives_no_warning() -> None:
    found, health = warnings_of()
    assert found == ()
    assert set(health.saturation) == {"layers.0", "layers.1"}
    assert all(1e-5 < ratio < 3e-2 for ratio in health.update_ratios.values())


def test_saturated_activations_are_named() -> None:
    found, health = warnings_of(lambda m: m.layers[1].weight_ih_l0.mul_(200))
    assert any(w.startswith("layers.1: ") and "saturated" in w for w in found)
    assert not any(w.startswith("layers.0") for w in found)
    assert health.saturation["layers.1"] > 0.5


def test_units_that_never_move_are_named() -> None:
    def still(model: Any) -> None:
        for name, parameter in model.layers[0].named_parameters():
            parameter[:8] = 0.0 if "weight" in name else 0.3

    found, _ = warnings_of(still)
    assert found == ("layers.0: 33% of units do not move",)


@pytest.mark.parametrize(("rate", "ratio"), [(1.0, "e+0"), (1e-7, "e-0")])
def test_steps_of_the_wrong_size_are_reported(rate: float, ratio: str) -> None:
    found, _ = warnings_of(rate=rate)
    assert len(found) == 1
    assert found[0].startswith("update:data ratio is ")
    assert ratio in found[0]


def test_watching_leaves_no_hook_behind_and_may_be_off() -> None:
    model = build_model({"architecture": "recurrent", "vocabulary": V, "hidden": 4})
    health = Health(model)
    with health.watching(False), health.updating(False):
        model(torch.zeros(1, 3, dtype=torch.long))
    assert health.saturation == {}
    with pytest.raises(ZeroDivisionError), health.watching(True):
        raise ZeroDivisionError
    assert all(not module._forward_hooks for module in model.modules())


def test_each_look_starts_with_a_clean_sheet() -> None:
    model = build_model({"architecture": "recurrent", "vocabulary": V, "hidden": 4, "cell": "rnn"})
    health = Health(model)
    with torch.no_grad():
        model.layers[0].weight_ih_l0.mul_(500)  # type: ignore[attr-defined]
    for _ in range(3):
        with health.watching(True):
            model(torch.randint(0, V, (4, 9)))
        assert len(health.warnings()) >= 1
        assert len(set(health.warnings())) == len(health.warnings())


def test_small_steps_at_the_end_of_the_schedule_are_no_warning() -> None:
    model = torch.nn.Linear(8, 8)
    health = Health(model)
    with health.watching(True), health.updating(True, share=0.0), torch.no_grad():
        model.weight.add_(1e-9 * torch.randn(8, 8))
    assert health.warnings() == ()
    with health.watching(True), health.updating(True, share=1.0), torch.no_grad():
        model.weight.add_(1e-9 * torch.randn(8, 8))
    assert "update:data" in health.warnings()[0]
