"""A row's logits have the same bits alone, in any company and after moves. Everything about seeds rests on this."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inkwell.linear import RowLinear, row_sigmoid, rows_are_exact
from inkwell.models import build_model

V = 37
# Widths that are no multiple of a vector register are the hard ones.
SHAPES: dict[str, dict[str, Any]] = {
    **{
        f"{cell}-{hidden}": {
            "architecture": "recurrent",
            "cell": cell,
            "hidden": hidden,
            "layers": 2,
            "embedding": e,
        }
        for cell in ("rnn", "gru", "lstm")
        for hidden, e in ((5, 0), (33, 11), (200, 0))
    },
    "lstm-520": {"architecture": "recurrent", "cell": "lstm", "hidden": 520, "layers": 1},
    "gpt-20-swish": {
        "architecture": "gpt",
        "layers": 2,
        "heads": 2,
        "width": 20,
        "window": 7,
        "activation": "swish",
    },
    "gpt-36-gelu": {
        "architecture": "gpt",
        "layers": 1,
        "heads": 3,
        "width": 36,
        "window": 9,
        "categories": 3,
    },
    "gpt-128": {"architecture": "gpt", "layers": 1, "heads": 4, "width": 128, "window": 16},
}
STEPS, ROWS = 9, 64


class Reference:
    """A model, and what 64 rows of it say over a few steps."""

    def __init__(self, shape: dict[str, Any], steps: int = STEPS) -> None:
        torch.manual_seed(3)
        model = build_model({**shape, "vocabulary": V}).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        self.decoder = model.decoder()
        self.ids = torch.randint(0, V, (steps, ROWS))
        self.conditions = [{1: 0.5, 2: 0.5} if row % 3 else None for row in range(ROWS)]
        state = self.state(range(ROWS))
        self.logits = [self.decoder.step(row, state).clone() for row in self.ids]

    def state(self, rows: Any) -> Any:
        state = self.decoder.new_state(len(rows))
        for place, row in enumerate(rows):
            self.decoder.admit(state, place, self.conditions[row])
        return state


@pytest.fixture(scope="module", params=SHAPES)
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference(SHAPES[request.param])


@settings(max_examples=12)
@given(data=st.data())
def test_rows_say_the_same_in_any_company(reference: Reference, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS, unique=True))
    state = reference.state(rows)
    for ids, logits in zip(reference.ids, reference.logits, strict=True):
        assert torch.equal(reference.decoder.step(ids[rows], state), logits[rows])


@settings(max_examples=12)
@given(data=st.data())
def test_rows_say_the_same_after_others_left_and_they_moved(
    reference: Reference, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, ROWS - 1), min_size=2, max_size=20, unique=True))
    state = reference.state(rows)
    for ids, logits in zip(reference.ids, reference.logits, strict=True):
        assert torch.equal(reference.decoder.step(ids[rows], state), logits[rows])
        if len(rows) > 1 and data.draw(st.booleans()):
            gone = data.draw(st.integers(0, len(rows) - 1))
            state.move(len(rows) - 1, gone)
            rows[gone] = rows[-1]
            rows.pop()


@pytest.fixture(params=[2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_threads_cut_work_without_touching_bits(threads: int) -> None:
    # 64 rows of 1,040 gates are more than torch gives to one thread
    for cell in ("gru", "lstm"):
        reference = Reference({"architecture": "recurrent", "cell": cell, "hidden": 520, "layers": 1}, 2)
        for rows in ([63], [20, 41, 22], list(range(0, 64, 2))):
            state = reference.state(rows)
            for ids, logits in zip(reference.ids, reference.logits, strict=True):
                assert torch.equal(reference.decoder.step(ids[rows], state), logits[rows]), (
                    cell,
                    threads,
                    rows,
                )


def test_a_row_far_along_does_not_change_its_neighbours() -> None:
    reference = Reference(SHAPES["gpt-20-swish"])
    state = reference.state(range(5))
    # its positions lie beyond the table of rotations, so that all rows' are computed anew
    state.tensors["position"][4] = 5000
    for ids, logits in zip(reference.ids, reference.logits, strict=True):
        assert torch.equal(reference.decoder.step(ids[:5], state)[:4], logits[:4])


def test_logistic_function_is_torchs_and_does_not_look_at_the_shape() -> None:
    x = torch.randn(64, 130, generator=torch.Generator().manual_seed(0)) * 4
    torch.testing.assert_close(row_sigmoid(x), torch.sigmoid(x), atol=2e-7, rtol=1e-5)
    whole = row_sigmoid(x)
    for n in (1, 3, 7, 31):
        for width in (1, 5, 17, 33, 130):
            assert torch.equal(row_sigmoid(x[:n, :width].contiguous()), whole[:n, :width])
    assert row_sigmoid(torch.tensor([-200.0, 0.0, 200.0])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("width", "out"), [(1, 1), (7, 3), (64, 83), (129, 65)])
def test_row_linear_and_its_padded_fallback_are_the_product(width: int, out: int, bias: bool) -> None:
    torch.manual_seed(0)
    weight, offset = torch.randn(out, width), torch.randn(out) if bias else None
    product = RowLinear(weight, offset)
    for n in (1, 2, 8, 9, 64):
        x = torch.randn(n, width)
        expected = F.linear(x.double(), weight.double(), None if offset is None else offset.double()).float()
        for way in (product, product._padded, product._plain):
            assert way(x).shape == (n, out)
            torch.testing.assert_close(way(x), expected, atol=1e-4, rtol=1e-4)
    assert rows_are_exact(product, width)


def test_fallback_is_taken_where_packing_is_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inkwell.linear._packed_product", lambda weight, bias: None)
    torch.manual_seed(0)
    product = RowLinear(torch.randn(20, 33), torch.randn(20))
    assert product._run == product._padded
    # between multiples of a tile the number of rows handed to the product is the same
    x = torch.randn(64, 33)
    for start in range(0, 64, 8):
        whole = product(x[start : start + 8])
        for n in range(1, 8):
            torch.testing.assert_close(product(x[start : start + n]), whole[:n], rtol=0, atol=0)


def test_fallback_is_taken_where_packing_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "inkwell.linear._packed_product", lambda weight, bias: lambda x: (x @ weight.T) / len(x) * len(x)
    )
    product = RowLinear(torch.randn(20, 33))
    assert product._run == product._padded


def test_a_product_that_depends_on_company_is_found_out() -> None:
    weight = torch.randn(10, 16, generator=torch.Generator().manual_seed(1))

    def swayed(x: Tensor) -> Tensor:
        y = x @ weight.T
        return y if len(y) != 31 else torch.nextafter(y, torch.full_like(y, torch.inf))

    def steady(x: Tensor) -> Tensor:
        return torch.stack([weight @ row for row in x])

    assert rows_are_exact(steady, 16)
    assert not rows_are_exact(swayed, 16)


def test_weights_of_another_type_are_not_packed() -> None:
    product = RowLinear(torch.ones(3, 4, dtype=torch.float64))
    assert product(torch.ones(2, 4, dtype=torch.float64)).tolist() == [[4.0] * 3] * 2
