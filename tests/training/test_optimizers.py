"""Muon against torch's own, and which parameters go by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from inkwell.models import LanguageModel, build_model
from training.errors import UserError
from training.optimizers import MARK, Muon, _iterated, inner_matrices, make_optimizer, orthogonal
from training.recipe import FitRecipe, load_recipe

CPU = torch.device("cpu")
V = 11
SHAPES: dict[str, dict[str, Any]] = {
    "one-hot lstm": {"architecture": "recurrent", "cell": "lstm", "hidden": 12, "layers": 2},
    "embedded gru": {"architecture": "recurrent", "cell": "gru", "hidden": 12, "layers": 2, "embedding": 8},
    "gpt": {"architecture": "gpt", "layers": 1, "heads": 2, "width": 16, "window": 8, "categories": 3},
    "window": {"architecture": "window", "window": 3, "embedding": 4, "hidden": 16, "layers": 2},
}
INNER = {
    "one-hot lstm": {"layers.0.weight_hh_l0", "layers.1.weight_ih_l0", "layers.1.weight_hh_l0"},
    "embedded gru": {f"layers.{n}.weight_{kind}_l0" for n in (0, 1) for kind in ("ih", "hh")},
    "gpt": {f"blocks.0.{name}.weight" for name in ("qkv", "proj", "up", "down")},
    "window": {"layers.0.linear.weight", "layers.1.linear.weight"},
}


def model_of(name: str) -> LanguageModel:
    torch.manual_seed(3)
    return build_model({**SHAPES[name], "vocabulary": V})


def give_gradients(model: nn.Module, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=random)


@pytest.mark.parametrize("shape", [(40, 40), (90, 30), (30, 90), (1, 20)])
@pytest.mark.parametrize("condition", [1.0, 300.0])
def test_all_directions_of_an_orthogonal_update_are_about_as_long(
    shape: tuple[int, int], condition: float
) -> None:
    random = torch.Generator().manual_seed(1)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=random), full_matrices=False)
    values = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), min(shape))
    found = orthogonal(u @ torch.diag(values) @ v)
    assert found.shape == shape
    lengths = torch.linalg.svdvals(found)
    assert 0.6 < float(lengths.min()) <= float(lengths.max()) < 1.3
    # and they are the directions of the matrix
    assert torch.allclose(u.mT @ found @ v.mT, torch.diag(torch.diag(u.mT @ found @ v.mT)), atol=1e-3)


@pytest.mark.parametrize("shape", [(20, 40), (20, 90), (90, 20)])
def test_long_matrices_take_a_shorter_way_to_the_same(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    long = matrix.mT if shape[0] > shape[1] else matrix
    usual = _iterated(long / long.norm())
    assert torch.allclose(orthogonal(matrix), usual.mT if shape[0] > shape[1] else usual, atol=1e-4)


def test_an_update_of_nothing_is_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(4, 6)), torch.zeros(4, 6))


def test_muon_is_torchs_muon() -> None:
    """Torch's computes in bf16, so the comparison is as coarse as that."""
    torch.manual_seed(5)
    ours, theirs = (nn.Linear(24, 60, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    rate, decay = 0.03, 0.1
    mine = Muon([{"params": [ours.weight], MARK: True}], lr=rate, weight_decay=decay)
    oracle = torch.optim.Muon(
        theirs.parameters(), lr=rate, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for seed in range(4):
        before = ours.weight.detach().clone()
        for module, optimizer in ((ours, mine), (theirs, oracle)):
            give_gradients(module, seed)
            optimizer.step()
        mine_now, theirs_now = ours.weight.detach(), theirs.weight.detach()
        assert float((mine_now - theirs_now).norm()) < 0.05 * float((mine_now - before).norm())


@pytest.mark.parametrize("name", SHAPES)
def test_muon_takes_the_matrices_inside_the_network(name: str) -> None:
    model = model_of(name)
    inner = {id(parameter) for parameter in inner_matrices(model)}
    assert {key for key, value in model.named_parameters() if id(value) in inner} == INNER[name]


@pytest.mark.parametrize("name", SHAPES)
def test_every_trained_parameter_has_one_place(name: str) -> None:
    model = model_of(name)
    for fit in (FitRecipe(), FitRecipe(optimizer="muon")):
        groups = make_optimizer(model, fit, CPU).param_groups
        held = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", SHAPES)
def test_what_muon_leaves_alone_goes_by_adamw(name: str) -> None:
    fit = FitRecipe(optimizer="muon", rate=1e-2, weight_decay=0.1)
    mixed, plain = model_of(name), model_of(name)
    for model, one in ((mixed, fit), (plain, replace(fit, optimizer="adamw"))):
        optimizer = make_optimizer(model, one, CPU)
        for seed in range(3):
            give_gradients(model, seed)
            optimizer.step()
    for (key, value), other in zip(mixed.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(value, other) == (key not in INNER[name]), key


def test_without_muon_the_optimizer_is_torchs_adamw() -> None:
    ours, theirs = model_of("gpt"), model_of("gpt")
    fit = FitRecipe(rate=1e-2, weight_decay=0.1)
    optimizer = make_optimizer(ours, fit, CPU)
    matrices = [p for p in theirs.parameters() if p.dim() >= 2]
    vectors = [p for p in theirs.parameters() if p.dim() < 2]
    oracle = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-2,
        betas=(0.9, fit.beta2),
        fused=True,
    )
    for seed in range(3):
        for model, one in ((ours, optimizer), (theirs, oracle)):
            give_gradients(model, seed)
            one.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_an_unknown_optimizer_is_named_with_what_is_allowed() -> None:
    with pytest.raises(UserError, match=r"optimizer.*sgd.*adamw.*muon"):
        load_recipe("prose", "small", ["fit.optimizer=sgd"])
