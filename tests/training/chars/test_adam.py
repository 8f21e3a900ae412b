"""Adam and clipping against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.chars.adam import Adam, clip
from training.chars.rnn import Shape, Weights

SHAPE = Shape(symbols=5, hidden=4)


def gradient(step: int) -> np.ndarray:
    return np.random.default_rng(step).normal(0.0, 10.0 ** -(step % 5), SHAPE.count)


@pytest.mark.parametrize(("beta2", "decay"), [(0.999, 0.0), (0.99, 0.1)])
def test_adam_takes_the_same_steps_as_torch(beta2: float, decay: float) -> None:
    weights = Weights.random(SHAPE, seed=1, scale=1.0, dtype=np.float64)
    weights.b[:], weights.c[:] = 0.5, -0.5
    size = weights.matrices.size
    matrices = torch.nn.Parameter(torch.from_numpy(weights.flat[:size].copy()))
    biases = torch.nn.Parameter(torch.from_numpy(weights.flat[size:].copy()))
    groups = [{"params": [matrices], "weight_decay": decay}, {"params": [biases], "weight_decay": 0.0}]
    theirs = torch.optim.AdamW(groups, betas=(0.9, beta2), eps=1e-8)
    ours = Adam(weights, beta2=beta2)
    for step in range(40):
        rate = 0.01 / (1 + step)
        for group in theirs.param_groups:
            group["lr"] = rate
        values = gradient(step)
        matrices.grad, biases.grad = (
            torch.from_numpy(values[:size].copy()),
            torch.from_numpy(values[size:].copy()),
        )
        theirs.step()
        ours.step(Weights(SHAPE, values), rate, decay)
    expected = torch.cat([matrices.detach(), biases.detach()]).numpy()
    np.testing.assert_allclose(weights.flat, expected, rtol=1e-12)


def test_the_first_step_is_as_long_as_the_rate_whatever_the_gradient() -> None:
    weights = Weights.zeros(SHAPE, np.float64)
    Adam(weights).step(Weights(SHAPE, gradient(3)), rate=0.01)
    np.testing.assert_allclose(np.abs(weights.flat), 0.01, rtol=1e-3)


def test_moments_that_fade_away_become_zero_rather_than_denormal() -> None:
    weights = Weights.zeros(SHAPE)
    adam, nothing = Adam(weights), Weights.zeros(SHAPE)
    adam.step(Weights(SHAPE, np.ones(SHAPE.count, np.float32)), rate=0.01)
    for _ in range(767):
        adam.step(nothing, rate=0.01)
    assert not adam.first.any()


@pytest.mark.parametrize("most", [0.5, 1e6])
def test_clipping_is_by_the_common_norm_as_in_torch(most: float) -> None:
    gradients = Weights(SHAPE, gradient(0))
    parameter = torch.nn.Parameter(torch.zeros(SHAPE.count, dtype=torch.float64))
    parameter.grad = torch.from_numpy(gradients.flat.copy())
    norm = torch.nn.utils.clip_grad_norm_([parameter], most)
    assert clip(gradients, most) == pytest.approx(float(norm), rel=1e-12)
    np.testing.assert_allclose(gradients.flat, parameter.grad.numpy(), rtol=1e-5)
    assert np.linalg.norm(gradients.flat) == pytest.approx(min(most, float(norm)), rel=1e-5)
