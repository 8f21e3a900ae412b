"""The hand-written network against torch and against its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inkwell.models.recurrent import RecurrentConfig, RecurrentModel
from training.chars.check import Problem, gradient_errors, relative_errors
from training.chars.convert import check_model, from_torch, into_torch
from training.chars.rnn import NAMES, CharRNN, Shape, Weights
from training.errors import UserError


@pytest.mark.parametrize("seed", range(4))
def test_gradients_of_every_parameter_match_autograd(seed: int) -> None:
    problem = Problem(Shape(symbols=11, hidden=7), length=9, batch=3, seed=seed)
    loss, ours = problem.by_hand()
    torch_loss, theirs = problem.by_autograd()
    assert loss == pytest.approx(torch_loss, rel=1e-14)
    errors = relative_errors(ours, theirs)
    assert set(errors) == set(NAMES)
    assert max(errors.values()) < 1e-11, errors


def test_gradients_match_autograd_at_the_published_size() -> None:
    errors = gradient_errors(symbols=90, hidden=200, length=25, batch=10)
    assert max(errors.values()) <= 1e-9, errors


@pytest.mark.parametrize(("length", "batch"), [(1, 1), (1, 4), (6, 1), (6, 3)])
def test_gradients_match_differences_of_the_loss(length: int, batch: int) -> None:
    problem = Problem(Shape(symbols=6, hidden=5), length, batch, seed=length + batch)
    errors = relative_errors(problem.by_hand()[1], problem.by_differences())
    assert max(errors.values()) < 1e-6, errors


def test_the_check_notices_a_wrong_gradient() -> None:
    problem = Problem(Shape(symbols=6, hidden=5), length=4, batch=2, seed=1)
    _, wrong = problem.by_hand()
    wrong.W[2, 3] *= 1 + 1e-6
    errors = relative_errors(wrong, problem.by_autograd()[1])
    assert errors["W"] > 1e-7
    assert errors["V"] < 1e-11


def test_single_precision_gradients_stay_close_to_double() -> None:
    problem = Problem(Shape(symbols=40, hidden=64), length=25, batch=10, seed=3, scale=0.1)
    _, exact = problem.by_hand()
    single = Weights(problem.weights.shape, problem.weights.flat.astype(np.float32))
    rounded = Weights.zeros(problem.weights.shape)
    CharRNN(single).gradients(problem.ids, problem.targets, problem.state.astype(np.float32), rounded)
    for name, part in exact.parts.items():
        assert np.abs(rounded.parts[name] - part).max() < 1e-5 * np.abs(part).max(), name


def test_a_symbol_that_is_not_read_has_no_input_gradient() -> None:
    problem = Problem(Shape(symbols=8, hidden=5), length=6, batch=2, seed=2)
    problem.ids[:] = np.where(problem.ids == 3, 4, problem.ids)
    _, gradients = problem.by_hand()
    assert not gradients.U[3].any()
    assert gradients.U[4].any()


def test_a_second_window_does_not_see_the_first_ones_gradients() -> None:
    first, second = (Problem(Shape(symbols=8, hidden=5), 6, 2, seed) for seed in (4, 5))
    network, gradients = CharRNN(second.weights), Weights.zeros(second.weights.shape, np.float64)
    network.gradients(first.ids, first.targets, first.state, gradients)
    network.gradients(second.ids, second.targets, second.state, gradients)
    assert np.array_equal(gradients.flat, second.by_hand()[1].flat)


def test_two_windows_with_the_state_carried_equal_one_long_window() -> None:
    problem = Problem(Shape(symbols=9, hidden=6), length=10, batch=3, seed=6)
    network = CharRNN(problem.weights)
    whole, end = network.forward(problem.ids, problem.state)
    whole = whole.copy()
    first, middle = network.forward(problem.ids[:4], problem.state)
    first = first.copy()
    second, last = network.forward(problem.ids[4:], middle)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-14)
    np.testing.assert_allclose(last, end, rtol=0, atol=1e-14)


def test_negative_targets_count_in_no_loss() -> None:
    problem = Problem(Shape(symbols=9, hidden=6), length=5, batch=2, seed=7)
    network = CharRNN(problem.weights)
    whole, counted, _ = network.nats(problem.ids, problem.targets, problem.state)
    assert counted == 10
    assert whole / counted == pytest.approx(problem.by_hand()[0], rel=1e-13)
    masked = problem.targets.copy()
    masked[3:] = -1
    some, counted, _ = network.nats(problem.ids, masked, problem.state)
    rest, _, _ = network.nats(problem.ids[:3], problem.targets[:3], problem.state)
    assert counted == 6
    assert some == pytest.approx(rest, rel=1e-13)


def test_huge_logits_do_not_overflow() -> None:
    problem = Problem(Shape(symbols=5, hidden=4), length=3, batch=2, seed=8)
    problem.weights.c[:] = [1e4, 0, 0, 0, -1e4]
    problem.targets[:] = 4
    loss, gradients = problem.by_hand()
    assert loss == pytest.approx(2e4, rel=1e-3)
    assert np.isfinite(gradients.flat).all()


def test_the_published_size_has_72280_parameters() -> None:
    assert Shape(symbols=80, hidden=200).count == 80 * 200 + 200 * 200 + 80 * 200 + 200 + 80 == 72_280


def test_random_weights_have_the_asked_spread_and_zero_biases() -> None:
    weights = Weights.random(Shape(symbols=80, hidden=100), seed=1)
    assert float(weights.matrices.std()) == pytest.approx(0.01, rel=0.05)
    assert not weights.b.any()
    assert not weights.c.any()


def test_flat_arrays_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"flat has shape \(3,\)"):
        Weights(Shape(symbols=4, hidden=2), np.zeros(3))


def test_weights_come_back_from_torch_as_they_went() -> None:
    shape = Shape(symbols=12, hidden=5)
    weights = Weights.random(shape, seed=2, scale=0.3)
    weights.b[:], weights.c[:] = 0.25, -0.5
    model = RecurrentModel(RecurrentConfig(12, cell="rnn", hidden=5, layers=1))
    into_torch(weights, model)
    assert np.array_equal(from_torch(model).flat, weights.flat)


def test_both_biases_of_torch_add_up_to_one() -> None:
    model = RecurrentModel(RecurrentConfig(12, cell="rnn", hidden=5, layers=1))
    with torch.no_grad():
        for name, parameter in model.layers[0].named_parameters():
            if name.startswith("bias"):
                parameter.fill_({"bias_ih_l0": 0.25, "bias_hh_l0": 0.5}[name])
    ids = torch.randint(12, (2, 7))
    ours, _ = CharRNN(from_torch(model)).forward(ids.numpy().T, np.zeros((2, 5), np.float32))
    theirs = model(ids).logits.detach().transpose(0, 1).reshape(14, 12)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cell", "gru"), ("layers", 2), ("embedding", 8), ("dropout", 0.1), ("weight_drop", 0.2)],
)
def test_models_that_numpy_does_not_train_are_refused_by_name(name: str, value: object) -> None:
    values = {"cell": "rnn", "hidden": 8, "layers": 1, name: value}
    model = RecurrentModel(RecurrentConfig(12, **values))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"model\.{name} is {value!r}"):
        check_model(model)
