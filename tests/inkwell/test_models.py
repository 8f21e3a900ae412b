"""Every family against torch's modules or a plain float64 oracle, and its stepwise decoder against `forward`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inkwell.errors import ConfigError
from inkwell.models import build_model, detach_carry, model_settings
from inkwell.models.gpt import GPTModel
from inkwell.models.recurrent import RecurrentModel

V = 13
CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
GPT = {"architecture": "gpt", "vocabulary": V, "layers": 2, "heads": 2, "width": 12, "window": 6}


def built(seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    model = build_model({"vocabulary": V, **settings}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def recurrent(**settings: Any) -> RecurrentModel:
    model = built(**{"architecture": "recurrent", "hidden": 9, **settings})
    assert isinstance(model, RecurrentModel)
    return model


def gpt(**settings: Any) -> GPTModel:
    model = built(**{**GPT, **settings})
    assert isinstance(model, GPTModel)
    return model


def stepped(model: Any, ids: Tensor, conditions: list[dict[int, float] | None] | None = None) -> Tensor:
    """Logits (B, T, V) by the decoder, one token at a time."""
    decoder = model.decoder()
    state = decoder.new_state(ids.shape[0])
    for row in range(ids.shape[0]):
        decoder.admit(state, row, None if conditions is None else conditions[row])
    return torch.stack([decoder.step(ids[:, t], state).clone() for t in range(ids.shape[1])], dim=1)


def tokens(rows: int, length: int, seed: int = 1) -> Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("embedding", [0, 7])
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_decoder_gives_the_logits_of_forward(cell: str, embedding: int, layers: int) -> None:
    model = recurrent(cell=cell, embedding=embedding, layers=layers)
    ids = tokens(3, 20)
    with torch.no_grad():
        torch.testing.assert_close(stepped(model, ids), model(ids).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("embedding", [0, 7])
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_forward_is_torchs_module_with_the_same_weights(
    cell: str, embedding: int, layers: int
) -> None:
    model = recurrent(cell=cell, embedding=embedding, layers=layers)
    width = embedding or V
    oracle = CELLS[cell](width, 9, num_layers=layers, batch_first=True)
    with torch.no_grad():
        for index, layer in enumerate(model.layers):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(oracle, f"{kind}_l{index}").copy_(getattr(layer, f"{kind}_l0"))
        ids = tokens(4, 15)
        x = model.embedding(ids) if model.embedding is not None else nn.functional.one_hot(ids, V).float()
        expected = model.head(oracle(x)[0])
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_carried_state_joins_two_windows_into_one(cell: str) -> None:
    model = recurrent(cell=cell, layers=2)
    ids = tokens(2, 12)
    with torch.no_grad():
        first = model(ids[:, :5])
        second = model(ids[:, 5:], carry=detach_carry(first.carry))
        torch.testing.assert_close(torch.cat((first.logits, second.logits), 1), model(ids).logits)


def test_detached_carry_holds_no_gradient() -> None:
    carry = recurrent(cell="lstm", layers=2)(tokens(2, 4)).carry
    assert all(part.requires_grad for state in carry for part in state)
    assert not any(part.requires_grad for state in detach_carry(carry) for part in state)


@pytest.mark.parametrize("cell", CELLS)
def test_weight_drop_of_almost_nothing_changes_nothing(cell: str) -> None:
    dropped = recurrent(cell=cell, weight_drop=1e-12, layers=2)
    plain = recurrent(cell=cell, layers=2)
    plain.load_state_dict(dropped.state_dict())
    ids = tokens(3, 8)
    for carry_length in (0, 4):
        with torch.no_grad():
            carry = plain(tokens(3, carry_length)).carry if carry_length else None
        got = dropped.train()(ids, ids, carry=carry)
        expected = plain.train()(ids, ids, carry=carry)
        torch.testing.assert_close(got.logits, expected.logits)
        torch.testing.assert_close(got.carry, expected.carry)
        for a, b in zip(
            torch.autograd.grad(got.loss, list(dropped.parameters())),
            torch.autograd.grad(expected.loss, list(plain.parameters())),
            strict=True,
        ):
            torch.testing.assert_close(a, b)


def test_weight_drop_drops_in_training_only() -> None:
    model = recurrent(cell="lstm", weight_drop=0.5)
    ids = tokens(2, 8)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, model(ids).logits)
        model.train()
        assert not torch.allclose(model(ids).logits, model(ids).logits)


def test_locked_dropout_hides_the_same_units_at_every_step() -> None:
    from inkwell.models.base import locked_dropout

    torch.manual_seed(0)
    y = locked_dropout(torch.ones(4, 10, 50), 0.4, training=True)
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert {round(v, 4) for v in y.unique().tolist()} == {0.0, round(1 / 0.6, 4)}
    assert torch.equal(locked_dropout(y, 0.4, training=False), y)


def oracle_logits(model: GPTModel, ids: list[int], condition: dict[int, float] | None) -> np.ndarray:
    """Straight from the definitions, one token and one head at a time, in float64."""
    p = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    c = model.config

    def norm(x: np.ndarray, name: str, mod: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
        x = (x - x.mean()) / math.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
        x = x * p[f"{name}.weight"] + p[f"{name}.bias"]
        return x if mod is None else x * (1 + mod[0]) + mod[1]

    def turn(x: np.ndarray, place: int) -> np.ndarray:
        half = len(x) // 2
        angles = [place * 10000.0 ** (-2 * i / len(x)) for i in range(half)]
        out = x.copy()
        for i, angle in enumerate(angles):
            out[i] = x[i] * math.cos(angle) - x[half + i] * math.sin(angle)
            out[half + i] = x[i] * math.sin(angle) + x[half + i] * math.cos(angle)
        return out

    def active(x: np.ndarray) -> np.ndarray:
        if c.activation == "gelu":
            return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])
        return x / (1 + np.exp(-x))

    mods = None
    if c.categories:
        vector = sum(w * p["category.weight"][i] for i, w in (condition or {0: 1.0}).items())
        mods = (p["modulation.weight"] @ vector + p["modulation.bias"]).reshape(c.layers, 4, c.width)
    xs = [p["embedding.weight"][i] for i in ids]
    for layer in range(c.layers):
        name = f"blocks.{layer}"
        mod_a = None if mods is None else (mods[layer, 0], mods[layer, 1])
        mod_f = None if mods is None else (mods[layer, 2], mods[layer, 3])
        qkv = [
            p[f"{name}.qkv.weight"] @ norm(x, f"{name}.norm_attention", mod_a) + p[f"{name}.qkv.bias"]
            for x in xs
        ]
        q, k, v = ([row.reshape(3, c.heads, c.head_width)[part] for row in qkv] for part in range(3))
        after = []
        for i, x in enumerate(xs):
            joined = []
            for head in range(c.heads):
                seen = range(max(0, i - c.window + 1), i + 1)
                query = turn(q[i][head], i)
                scores = np.array([query @ turn(k[j][head], j) / math.sqrt(c.head_width) for j in seen])
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                joined.append(sum(w * v[j][head] for w, j in zip(weights, seen, strict=True)))
            x = x + p[f"{name}.proj.weight"] @ np.concatenate(joined) + p[f"{name}.proj.bias"]
            hidden = active(
                p[f"{name}.up.weight"] @ norm(x, f"{name}.norm_feed", mod_f) + p[f"{name}.up.bias"]
            )
            after.append(x + p[f"{name}.down.weight"] @ hidden + p[f"{name}.down.bias"])
        xs = after
    return np.stack([p["head.weight"] @ norm(x, "norm", None) for x in xs])


@pytest.mark.parametrize("activation", ["gelu", "swish"])
@pytest.mark.parametrize(("window", "tied"), [(6, True), (64, False)])
def test_gpt_forward_and_decoder_agree_with_the_definitions(window: int, tied: bool, activation: str) -> None:
    model = gpt(window=window, tied=tied, activation=activation)
    ids = tokens(2, 17)
    expected = torch.from_numpy(np.stack([oracle_logits(model, row, None) for row in ids.tolist()])).float()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, expected, atol=3e-4, rtol=1e-3)
        torch.testing.assert_close(stepped(model, ids), expected, atol=3e-4, rtol=1e-3)


@pytest.mark.parametrize("window", [5, 40])
def test_gpt_follows_categories_and_their_mixtures(window: int) -> None:
    model = gpt(window=window, categories=4)
    ids = tokens(4, 14)
    conditions: list[dict[int, float] | None] = [None, {2: 1.0}, {1: 0.25, 3: 0.75}, {3: 1.0}]
    expected = [oracle_logits(model, row, c) for row, c in zip(ids.tolist(), conditions, strict=True)]
    wanted = torch.from_numpy(np.stack(expected)).float()
    with torch.no_grad():
        torch.testing.assert_close(stepped(model, ids, conditions), wanted, atol=3e-4, rtol=1e-3)
        singles = model(ids[[0, 1, 3]], condition=torch.tensor([0, 2, 3])).logits
        torch.testing.assert_close(singles, wanted[[0, 1, 3]], atol=3e-4, rtol=1e-3)
        unknown = model(ids[:1]).logits
        torch.testing.assert_close(unknown, wanted[:1], atol=3e-4, rtol=1e-3)


def test_hidden_categories_are_the_unknown_one() -> None:
    model = gpt(categories=3, category_dropout=0.999999).train()
    ids = tokens(5, 6)
    with torch.no_grad():
        torch.testing.assert_close(
            model(ids, condition=torch.tensor([1, 2, 1, 2, 1])).logits, model(ids).logits
        )


@pytest.mark.parametrize("chunks", [[3], [7], [2, 9], [11, 1, 5], [30]])
@pytest.mark.parametrize("window", [6, 50])
def test_prefill_leaves_the_state_that_steps_leave(window: int, chunks: list[int]) -> None:
    model = gpt(window=window, categories=3)
    text = tokens(1, sum(chunks) + 8, seed=3)[0].tolist()
    decoder = model.decoder()
    by_step, by_chunk = decoder.new_state(1), decoder.new_state(3)
    decoder.admit(by_step, 0, {2: 1.0})
    decoder.admit(by_chunk, 2, {2: 1.0})
    by_chunk.tensors["k0"].fill_(9.0)  # what an earlier tenant of the row left must not be seen
    at = 0
    for count in chunks:
        decoder.prefill(text[at : at + count], by_chunk, 2)
        at += count
    for token in text[:at]:
        decoder.step(torch.tensor([token]), by_step)
    by_chunk.move(2, 0)
    for token in text[at:]:
        a = decoder.step(torch.tensor([token]), by_step)
        b = decoder.step(torch.tensor([token]), by_chunk)
        torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-3)


def test_attention_goes_on_past_the_table_of_rotations() -> None:
    model = gpt(window=4, layers=1)
    decoder = model.decoder()
    near, far = decoder.new_state(1), decoder.new_state(1)
    far.tensors["position"][0] = 4094
    # rotary positions are relative: once the window is full, only distances count
    for token in [3, 1, 4, 1, 5, 9, 2, 6]:
        a, b = (decoder.step(torch.tensor([token]), state) for state in (near, far))
    torch.testing.assert_close(a, b, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize(
    "settings", [{"architecture": "recurrent", "cell": "lstm", "hidden": 8, "layers": 2}, GPT]
)
def test_rows_can_be_moved_and_cleared(settings: dict[str, Any]) -> None:
    model = built(**settings)
    decoder = model.decoder()
    ids = tokens(3, 9)
    state = decoder.new_state(3)
    for t in range(8):
        decoder.step(ids[:, t], state)
    kept = {name: tensor.clone() for name, tensor in state.tensors.items()}
    state.move(2, 0)
    state.clear(1)
    for name, tensor in state.tensors.items():
        assert torch.equal(tensor[0], kept[name][2])
        assert torch.equal(tensor[2], kept[name][2])
        assert not tensor[1].any()
    fresh = decoder.new_state(1)
    decoder.admit(fresh, 0, None)
    decoder.admit(state, 1, None)
    logits = decoder.step(torch.tensor([int(ids[2, 8]), 5, 7]), state)
    assert torch.equal(logits[1], decoder.step(torch.tensor([5]), fresh)[0])
    assert state.bytes_per_row == sum(t.nbytes for t in state.tensors.values()) // 3


def test_families_without_prefill_say_so() -> None:
    decoder = recurrent().decoder()
    assert decoder.prefill_chunk == 0
    with pytest.raises(TypeError, match="has no prefill"):
        decoder.prefill([1], decoder.new_state(1), 0)


def test_known_shapes_have_their_known_number_of_parameters() -> None:
    lstm = {"architecture": "recurrent", "cell": "lstm", "hidden": 512, "layers": 2, "embedding": 0}
    assert build_model({**lstm, "vocabulary": 83}).parameter_count() == 3_366_483
    # 82 characters and the end mark are 83 ids; 83 characters make one more column, row and bias
    assert build_model({**lstm, "vocabulary": 84}).parameter_count() == 3_366_483 + 4 * 512 + 512 + 1
    gru = {"architecture": "recurrent", "cell": "gru", "hidden": 1024, "layers": 3, "embedding": 512}
    assert build_model({**gru, "vocabulary": 4000}).parameter_count() == 23_467_936


def test_tied_weights_count_once_and_are_one_tensor() -> None:
    tied = recurrent(embedding=9, tied=True)
    untied = recurrent(embedding=9)
    assert untied.parameter_count() - tied.parameter_count() == 9 * V
    assert tied.embedding is not None
    assert tied.head.weight is tied.embedding.weight


def test_forget_gates_begin_open() -> None:
    model = build_model(
        {"architecture": "recurrent", "vocabulary": 5, "cell": "lstm", "hidden": 4, "layers": 2}
    )
    for layer in model.layers:  # type: ignore[attr-defined]
        assert layer.bias_ih_l0.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8


def test_loss_is_the_mean_over_targets_that_count() -> None:
    model = recurrent()
    ids, targets = tokens(2, 6), tokens(2, 6, seed=2)
    targets[0, 3:] = -100
    with torch.no_grad():
        output = model(ids, targets)
        logs = output.logits.log_softmax(-1)
    counted = [(b, t) for b in range(2) for t in range(6) if targets[b, t] != -100]
    expected = -sum(float(logs[b, t, targets[b, t]]) for b, t in counted) / len(counted)
    assert float(output.loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "architecture is None; allowed are recurrent, gpt"),
        ({"architecture": ["gpt"]}, r"architecture is \['gpt'\]"),
        ({"architecture": "gpt"}, "vocabulary is missing"),
        ({"architecture": "gpt", "vocabulary": 5, "depth": 3}, "unknown key 'depth'"),
        ({"architecture": "gpt", "vocabulary": 1}, "vocabulary is 1; allowed is 2 or more"),
        (
            {"architecture": "gpt", "vocabulary": 5, "width": 10, "heads": 4},
            "width is 10; allowed is a multiple",
        ),
        ({"architecture": "gpt", "vocabulary": 5, "layers": 0}, "layers is 0"),
        (
            {"architecture": "gpt", "vocabulary": 5, "layers": 2.0},
            "layers is 2.0; a value of type int is needed",
        ),
        ({"architecture": "gpt", "vocabulary": 5, "layers": True}, "layers is True"),
        (
            {"architecture": "gpt", "vocabulary": 5, "activation": "relu"},
            "activation is 'relu'; allowed are 'gelu'",
        ),
        ({"architecture": "gpt", "vocabulary": 5, "dropout": 1.0}, "dropout is 1.0"),
        ({"architecture": "gpt", "vocabulary": 5, "categories": 1}, "categories is 1"),
        ({"architecture": "recurrent", "vocabulary": 5, "cell": "mgu"}, "cell is 'mgu'"),
        ({"architecture": "recurrent", "vocabulary": 5, "hidden": 0}, "hidden is 0"),
        ({"architecture": "recurrent", "vocabulary": 5, "layers": 0}, "layers is 0"),
        ({"architecture": "recurrent", "vocabulary": 5, "embedding": -1}, "embedding is -1"),
        ({"architecture": "recurrent", "vocabulary": 5, "weight_drop": float("nan")}, "weight_drop is nan"),
        ({"architecture": "recurrent", "vocabulary": 5, "tied": True}, "tied is True"),
    ],
)
def test_impossible_shapes_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(settings)


@pytest.mark.parametrize(
    "settings", [{**GPT, "categories": 3}, {"architecture": "recurrent", "vocabulary": 9}]
)
def test_settings_of_a_model_build_its_like(settings: dict[str, Any]) -> None:
    model = build_model(settings)
    again = build_model(model_settings(model))
    assert model_settings(again) == model_settings(model)
    again.load_state_dict(model.state_dict())


def test_a_module_outside_the_table_has_no_settings() -> None:
    with pytest.raises(TypeError, match="Linear is not in the table"):
        model_settings(nn.Linear(2, 2))  # type: ignore[arg-type]
