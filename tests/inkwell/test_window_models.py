"""The window family against a plain oracle, its decoder against `forward`, and its rows against each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inkwell.errors import ConfigError
from inkwell.models import IGNORE, build_model, model_settings
from inkwell.models.window import BatchNorm, Hidden, WindowModel

V = 13
BASE = {"architecture": "window", "vocabulary": V, "window": 5, "embedding": 6, "hidden": 11}
SHAPES: dict[str, dict[str, Any]] = {
    "mlp": {"norm": "batch", "window": 3},
    "plain": {"norm": "none", "layers": 2, "skip": True},
    "deep": {"norm": "layer", "layers": 4, "skip": True, "hidden": 9},
    "attention": {"attention": 2, "width": 12, "heads": 3, "norm": "layer"},
    "attention-skip": {"attention": 2, "width": 20, "heads": 2, "skip": True, "norm": "batch", "layers": 2},
    "query": {"attention": 1, "width": 8, "heads": 2, "categories": 4, "category_width": 5},
    "both": {
        "attention": 1,
        "width": 12,
        "heads": 4,
        "categories": 4,
        "steering": "both",
        "slots": 3,
        "skip": True,
    },
    "adaptive": {"categories": 4, "steering": "none", "adaptive": True, "norm": "batch"},
    "all": {
        "attention": 2,
        "width": 16,
        "categories": 4,
        "steering": "both",
        "adaptive": True,
        "skip": True,
        "layers": 3,
    },
}


def window(shape: str, **changes: Any) -> WindowModel:
    torch.manual_seed(0)
    model = build_model({**BASE, **SHAPES[shape], **changes}).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.3 * torch.randn_like(parameter)
            parameter.add_(noise.abs() if "variance" in name else noise)
    assert isinstance(model, WindowModel)
    return model


def tokens(rows: int, length: int, seed: int = 1) -> Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(seed))


def stepped(model: Any, ids: Tensor, conditions: list[dict[int, float] | None]) -> Tensor:
    decoder = model.decoder()
    state = decoder.new_state(ids.shape[0])
    for row, condition in enumerate(conditions):
        decoder.admit(state, row, condition)
    return torch.stack([decoder.step(ids[:, t], state).clone() for t in range(ids.shape[1])], dim=1)


def oracle_logits(model: WindowModel, ids: list[int], condition: dict[int, float] | None) -> np.ndarray:
    """Straight from the definitions, one window, one token and one head at a time, in float64."""
    p = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    c = model.config
    D = c.channels // c.heads

    def norm(x: np.ndarray, name: str | None) -> np.ndarray:
        x = (x - x.mean()) / math.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
        return x if name is None else x * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return p[f"{name}.weight"] @ x + p.get(f"{name}.bias", 0.0)

    def attend(query: np.ndarray, keys: list[np.ndarray], values: list[np.ndarray]) -> np.ndarray:
        joined = []
        for head in range(c.heads):
            part = slice(head * D, (head + 1) * D)
            scores = np.array([query[part] @ key[part] / math.sqrt(D) for key in keys])
            weights = np.exp(scores - scores.max())
            joined.append(sum(w * v[part] for w, v in zip(weights / weights.sum(), values, strict=True)))
        return np.concatenate(joined)

    if c.categories:
        vector = sum(w * p["category.weight"][i] for i, w in (condition or {0: 1.0}).items())
    results = []
    for end in range(1, len(ids) + 1):
        seen = [0] * max(0, c.window - end) + ids[max(0, end - c.window) : end]
        xs = [p["embedding.weight"][token] for token in seen]
        if c.width:
            xs = [linear("widen", x) for x in xs]
        if c.attends:
            xs = [x + place for x, place in zip(xs, p["places"], strict=True)]
        if c.categories and c.adaptive:
            scale, shift = linear("modulation", vector).reshape(2, -1)
            xs = [norm(x, None) * (1 + scale) + shift for x in xs]
        if c.crosses:
            pairs = [linear("crossing.window", norm(x, "crossing.norm")) for x in xs]
            keys, values = [y[: c.channels] for y in pairs], [y[c.channels :] for y in pairs]
            found = linear("crossing.proj", attend(linear("crossing.query", vector), keys, values))
            xs = [x + found for x in xs]
            if c.steering == "both":
                offered = linear("crossing.back_slots", vector).reshape(c.slots, 2, c.channels)
                keys, values = list(offered[:, 0]), list(offered[:, 1])
                queries = [linear("crossing.back_query", norm(x, "crossing.back_norm")) for x in xs]
                xs = [
                    x + linear("crossing.back_proj", attend(q, keys, values))
                    for x, q in zip(xs, queries, strict=True)
                ]
        for layer in range(c.attention):
            name = f"attention.{layer}"
            qkv = [linear(f"{name}.qkv", norm(x, f"{name}.norm")).reshape(3, -1) for x in xs]
            ys = [
                linear(f"{name}.proj", attend(q, [k for _, k, _ in qkv], [v for _, _, v in qkv]))
                for q, _, _ in qkv
            ]
            xs = [x + y for x, y in zip(xs, ys, strict=True)] if c.skip else ys
        x = np.concatenate(xs)
        for layer in range(c.layers):
            name = f"layers.{layer}"
            y = linear(f"{name}.linear", x)
            if c.norm == "layer":
                y = norm(y, f"{name}.norm")
            elif c.norm == "batch":
                mean, variance = p[f"{name}.norm.running_mean"], p[f"{name}.norm.running_variance"]
                y = (y - mean) / np.sqrt(variance + 1e-5) * p[f"{name}.norm.weight"] + p[f"{name}.norm.bias"]
            y = np.tanh(y)
            x = x + y if c.skip and len(x) == len(y) else y
        results.append(linear("head", x))
    return np.stack(results)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_decoder_agree_with_the_definitions(shape: str) -> None:
    model = window(shape)
    ids = tokens(4, 12)
    conditions: list[dict[int, float] | None] = [None, {2: 1.0}, {1: 0.25, 3: 0.75}, {3: 1.0}]
    if not model.config.categories:
        conditions = [None] * 4
    rows = zip(ids.tolist(), conditions, strict=True)
    expected = torch.from_numpy(np.stack([oracle_logits(model, row, c) for row, c in rows])).float()
    with torch.no_grad():
        torch.testing.assert_close(stepped(model, ids, conditions), expected, atol=3e-5, rtol=1e-4)
        single = [0, 1, 3]
        given = torch.tensor([0, 2, 3]) if model.config.categories else None
        torch.testing.assert_close(
            model(ids[single], condition=given).logits, expected[single], atol=3e-5, rtol=1e-4
        )


STEPS, ROWS = 7, 64
WIDE = {
    "mlp": {"embedding": 10, "hidden": 200},
    "deep": {"hidden": 130, "window": 16},
    "attention-skip": {"width": 36, "heads": 3, "window": 9},
    "both": {"width": 64, "window": 24, "hidden": 65},
    "all": {"width": 20, "window": 7},
}


class Reference:
    """A model, and what 64 rows of it say over a few steps."""

    def __init__(self, shape: str) -> None:
        self.decoder = window(shape, **WIDE[shape]).decoder()
        self.ids = tokens(STEPS, ROWS, 3)
        steered = bool(self.decoder.config.categories)
        self.conditions = [{1: 0.5, 2: 0.5} if steered and row % 3 else None for row in range(ROWS)]
        state = self.state(range(ROWS))
        self.logits = [self.decoder.step(row, state).clone() for row in self.ids]

    def state(self, rows: Any) -> Any:
        state = self.decoder.new_state(len(rows))
        for place, row in enumerate(rows):
            self.decoder.admit(state, place, self.conditions[row])
        return state


@pytest.fixture(scope="module", params=WIDE)
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference(request.param)


@settings(max_examples=10)
@given(data=st.data())
def test_rows_say_the_same_in_any_company_and_after_moves(reference: Reference, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS, unique=True))
    state = reference.state(rows)
    for ids, logits in zip(reference.ids, reference.logits, strict=True):
        assert torch.equal(reference.decoder.step(ids[rows], state), logits[rows])
        if len(rows) > 1 and data.draw(st.booleans()):
            gone = data.draw(st.integers(0, len(rows) - 1))
            state.move(len(rows) - 1, gone)
            rows[gone] = rows[-1]
            rows.pop()


@pytest.mark.parametrize("count", [1, 4, 5, 30])
def test_prefill_leaves_the_state_that_steps_leave(count: int) -> None:
    decoder = window("both").decoder()
    text = tokens(1, count)[0].tolist()
    by_step, by_chunk = decoder.new_state(2), decoder.new_state(2)
    for state in (by_step, by_chunk):
        decoder.admit(state, 0, {1: 1.0})
        decoder.admit(state, 1, {3: 1.0})
    by_step.tensors["ids"][1].copy_(by_chunk.tensors["ids"][1])
    alone = decoder.new_state(1)
    decoder.admit(alone, 0, {1: 1.0})
    for token in text:
        decoder.step(torch.tensor([token]), alone)
    decoder.prefill(text, by_chunk, 0)
    assert torch.equal(by_chunk.tensors["ids"][0], alone.tensors["ids"][0])
    assert torch.equal(by_chunk.tensors["ids"][1], by_step.tensors["ids"][1])


def test_readmitted_row_remembers_nothing() -> None:
    decoder = window("all").decoder()
    used, fresh = decoder.new_state(1), decoder.new_state(1)
    decoder.admit(used, 0, {2: 1.0})
    for token in (3, 7, 9):
        decoder.step(torch.tensor([token]), used)
    for state in (used, fresh):
        decoder.admit(state, 0, {1: 1.0})
    assert torch.equal(decoder.step(torch.tensor([0]), used), decoder.step(torch.tensor([0]), fresh))


def test_a_prediction_sees_its_window_and_nothing_else() -> None:
    model = window("attention")
    ids = tokens(1, 9)
    changed = ids.clone()
    changed[0, 3] = (changed[0, 3] + 1) % V
    with torch.no_grad():
        same = (model(ids).logits == model(changed).logits).all(-1)[0].tolist()
    # positions 3 to 7 see token 3 through a window of five
    assert same == [True] * 3 + [False] * 5 + [True]


def test_part_one_has_the_known_number_of_parameters() -> None:
    shape = {
        "architecture": "window",
        "vocabulary": 30,
        "window": 3,
        "embedding": 10,
        "hidden": 200,
        "norm": "batch",
    }
    assert build_model(shape).parameter_count() == 12_730


def test_batch_norm_is_torchs_over_the_rows_that_count() -> None:
    torch.manual_seed(0)
    ours, oracle = BatchNorm(6), torch.nn.BatchNorm1d(6, momentum=BatchNorm.momentum)
    x = torch.randn(20, 6) * 3 + 1
    counted = torch.rand(20) < 0.6
    for _ in range(3):
        torch.testing.assert_close(ours(x, counted)[counted], oracle(x[counted]))
        torch.testing.assert_close(ours.running_mean.data, oracle.running_mean)
    # torch keeps the unbiased variance: another factor, the same limit
    ours.running_variance.data.copy_(oracle.running_var)
    torch.testing.assert_close(ours.eval()(x, None), oracle.eval()(x))


def test_padding_never_counts_as_a_target_nor_in_a_norm() -> None:
    model = window("mlp").train()
    short = tokens(2, 4)
    targets = tokens(2, 4, 2)
    targets[0, 0] = 0  # an end mark that is a target is one, though its id is that of padding
    longer = torch.cat((short, torch.zeros(2, 3, dtype=torch.long)), 1)
    padded = torch.cat((targets, torch.full((2, 3), IGNORE)), 1)
    a, b = model(short, targets), model(longer, padded)
    torch.testing.assert_close(a.loss, b.loss)
    parameters = [p for p in model.parameters() if p.requires_grad]
    for x, y in zip(
        torch.autograd.grad(a.loss, parameters), torch.autograd.grad(b.loss, parameters), strict=True
    ):
        torch.testing.assert_close(x, y)
    # the failure to be avoided: counted as end marks, the same padding does change what is learned
    wrong = model(longer, padded.masked_fill(padded == IGNORE, 0))
    assert abs(float((wrong.loss - a.loss).detach())) > 1e-3


def test_skips_add_what_went_in_once() -> None:
    model = window("plain")
    layer = model.layers[1]
    assert isinstance(layer, Hidden)
    assert layer.skips
    assert not model.layers[0].skips  # 30 values go in, 11 come out
    with torch.no_grad():
        layer.linear.weight.zero_()
        assert layer.linear.bias is not None
        layer.linear.bias.zero_()  # tanh 0 = 0: what is left of the layer is its skip
        without = window("plain", layers=1)
        without.load_state_dict({k: v for k, v in model.state_dict().items() if "layers.1" not in k})
        ids = tokens(2, 6)
        torch.testing.assert_close(model(ids).logits, without(ids).logits)


def test_the_way_back_from_the_window_to_the_category_looks_at_the_window() -> None:
    # with one key the weights of attention are 1 whatever the query says
    ids = tokens(1, 6)
    for slots, matters in ((1, False), (3, True)):
        model = window("both", slots=slots)
        crossing = model.crossing
        assert crossing is not None
        with torch.no_grad():
            before = model(ids, condition=torch.tensor([1])).logits
            crossing.back_query.weight.mul_(-2)
            after = model(ids, condition=torch.tensor([1])).logits
        assert torch.allclose(before, after, atol=1e-6) != matters


def test_hidden_categories_are_the_unknown_one() -> None:
    model = window("all", category_dropout=0.999999).train()
    ids, conditions = tokens(5, 6), torch.tensor([1, 2, 1, 2, 1])
    with torch.no_grad():
        torch.testing.assert_close(model(ids, condition=conditions).logits, model(ids).logits)


@pytest.mark.parametrize("shape", SHAPES)
def test_settings_build_the_same_model_again(shape: str) -> None:
    model = window(shape)
    again = build_model(model_settings(model)).eval()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again(tokens(1, 5)).logits, model(tokens(1, 5)).logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 0}, "window is 0; allowed is 1 or more"),
        ({"heads": 4, "attention": 1}, r"heads is 4; allowed is a divisor of the sequence's width \(6\)"),
        ({"categories": 1}, "categories is 1; allowed is 0, or 2 and more"),
        ({"categories": 3, "steering": "none"}, "steering is 'none'; allowed is 'query' or 'both'"),
        ({"norm": "group"}, "norm is 'group'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"depth": 3}, "unknown key 'depth'"),
    ],
)
def test_impossible_shapes_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model({**BASE, **changes})
