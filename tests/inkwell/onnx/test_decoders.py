"""ONNX Runtime's decoders against torch's, and against themselves: in company, at other places, on more threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inkwell.errors import RuntimeUnavailable
from inkwell.models import build_model
from inkwell.models.base import Decoder, State
from inkwell.onnx.decoder import check_rows
from inkwell.onnx.gpt import CHUNK
from inkwell.runtimes import make_decoder
from inkwell.runtimes.onnx import DECODERS

from ..stepping import SHAPES, STEPS, Company, V, conditions_of, make_model, state_of, stepped, tokens

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

GPTS = [name for name in SHAPES if name.startswith("gpt")]


def prepared(model: Any, threads: int = 1) -> Any:
    return DECODERS[type(model)](model, threads)


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_torchs_decoder(shape: str) -> None:
    model = make_model(shape)
    ids, conditions = tokens(5, STEPS), conditions_of(model, 5)
    expected = stepped(model.decoder(), ids, conditions)
    assert close(stepped(prepared(model), ids, conditions), expected)
    assert float(expected.std()) > 0.05  # there is something to be told apart


@pytest.mark.parametrize("vocabulary", [2, 15, 16, 17, 90, 301])
def test_every_size_of_vocabulary_works(vocabulary: int) -> None:
    for shape in ("gru-48", "lstm-24", "gpt-66"):
        model = make_model(shape, vocabulary=vocabulary)
        ids = tokens(3, 9, vocabulary)
        assert close(stepped(prepared(model), ids, [None] * 3), stepped(model.decoder(), ids, [None] * 3))


@pytest.mark.parametrize("shape", SHAPES)
def test_any_number_of_neighbours_and_any_place_leave_a_row_its_bits(shape: str) -> None:
    model = make_model(shape)
    decoder, rows, steps = prepared(model), 64, 3
    ids, conditions = tokens(rows, steps), conditions_of(model, rows)
    whole = stepped(decoder, ids, conditions)
    for n in range(1, rows + 1):
        for first in {0, (rows - n) // 2, rows - n}:
            part = slice(first, first + n)
            assert torch.equal(stepped(decoder, ids[part], conditions[part]), whole[part]), (n, first)


LARGE: dict[str, dict[str, Any]] = {
    "rnn": {"cell": "rnn", "hidden": 300, "layers": 2, "vocabulary": 91},
    "gru": {"cell": "gru", "hidden": 300, "layers": 2, "embedding": 77, "vocabulary": 1003},
    "lstm": {"cell": "lstm", "hidden": 520, "layers": 1, "vocabulary": 90},
    "gpt": {"heads": 3, "width": 192, "layers": 2, "window": 21, "categories": 3, "vocabulary": 519},
}


@pytest.mark.parametrize("shape", LARGE)
def test_threads_divide_work_without_touching_bits(shape: str) -> None:
    torch.manual_seed(0)
    architecture = "gpt" if shape == "gpt" else "recurrent"
    model = build_model({"architecture": architecture, **LARGE[shape]}).eval()
    ids, conditions = tokens(64, 4, model.vocabulary), conditions_of(model, 64)
    alone = stepped(prepared(model), ids, conditions)
    for threads in (2, 3, 5):
        decoder = prepared(model, threads)
        for n in (1, 2, 7, 30, 63, 64):
            assert torch.equal(stepped(decoder, ids[:n], conditions[:n]), alone[:n]), (threads, n)


@pytest.fixture(scope="module", params=["rnn-33", "gru-48", "lstm-24", "gpt-36-steered", "gpt-128"])
def company(request: pytest.FixtureRequest) -> Company:
    model = make_model(request.param)
    return Company(model, prepared(model))


@settings(max_examples=15)
@given(data=st.data())
def test_rows_say_the_same_in_any_company_and_after_moves(company: Company, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, 63), min_size=1, max_size=64, unique=True))
    state = company.state(rows)
    for ids, logits in zip(company.ids, company.logits, strict=True):
        assert torch.equal(company.decoder.step(ids[rows], state), logits[rows])
        if len(rows) > 1 and data.draw(st.booleans()):
            gone = data.draw(st.integers(0, len(rows) - 1))
            state.move(len(rows) - 1, gone)
            rows[gone] = rows[-1]
            rows.pop()


@pytest.mark.parametrize("shape", GPTS)
@pytest.mark.parametrize("counts", [[1], [5, 1, 3], [CHUNK], [CHUNK] * 4 + [9]])
def test_a_prompt_read_in_chunks_leaves_what_torchs_steps_leave(shape: str, counts: list[int]) -> None:
    model = make_model(shape)
    decoder, conditions = prepared(model), conditions_of(model, 3)
    state, theirs = state_of(decoder, conditions), state_of(model.decoder(), conditions[1:2])
    before = [tensor[[0, 2]].clone() for tensor in state.tensors.values()]
    text = tokens(1, sum(counts) + STEPS)[0]
    at = 0
    for count in counts:
        decoder.prefill(text[at : at + count].tolist(), state, 1)
        at += count
    for old, tensor in zip(before, state.tensors.values(), strict=True):
        assert torch.equal(old, tensor[[0, 2]])
    reference = model.decoder()
    for token in text[:at]:
        reference.step(token[None], theirs)
    for token in text[at:]:  # in company of two rows that have read nothing
        ours = decoder.step(torch.tensor([0, int(token), 0]), state)
        assert close(ours[1:2], reference.step(token[None], theirs))


def test_reading_a_prompt_leaves_the_logits_of_the_step_before_alone() -> None:
    decoder = prepared(make_model("gpt-36-steered"))
    state = decoder.new_state(3)
    logits = decoder.step(torch.tensor([1, 2]), state)
    before = logits.clone()
    decoder.prefill([3, 4, 5], state, 2)
    assert torch.equal(logits, before)


def test_the_same_prompt_in_the_same_chunks_leaves_the_same_bits_in_any_row() -> None:
    decoder = prepared(make_model("gpt-36-steered"))
    few, many = decoder.new_state(1), decoder.new_state(5)
    for state, row in ((few, 0), (many, 3)):
        decoder.prefill(list(range(CHUNK)), state, row)
        decoder.prefill([1, 2, 3], state, row)
    for name, tensor in few.tensors.items():
        assert torch.equal(tensor[0], many.tensors[name][3]), name


def test_positions_beyond_the_table_of_angles_are_computed() -> None:
    model = make_model("gpt-128")
    decoder, reference = prepared(model), model.decoder()
    state, theirs = decoder.new_state(2), reference.new_state(2)
    for each in (state, theirs):
        each.tensors["position"][0] = 4090
    ids, ours, exact = tokens(2, 40), [], []
    for t in range(40):  # a whole window, so that nothing from before position 4090 is seen any more
        ours.append(decoder.step(ids[:, t], state).clone())
        exact.append(reference.step(ids[:, t], theirs).clone())
    assert int(state.tensors["position"][0]) == 4130
    assert close(torch.stack(ours[34:]), torch.stack(exact[34:]))
    # a row far along leaves its neighbour alone, and says the same in a decoder that sees such positions anew
    fresh = decoder.new_state(1)
    for t in range(40):
        assert torch.equal(decoder.step(ids[1:, t], fresh)[0], ours[t][1])
    other = prepared(model)
    alone = other.new_state(1)
    alone.tensors["position"][0] = 4090
    for t in range(40):
        assert torch.equal(other.step(ids[:1, t], alone)[0], ours[t][0])


@pytest.mark.parametrize("shape", ["rnn-33", "gru-5", "lstm-24", "gpt-20-swish"])
def test_a_row_that_is_not_finite_shows_in_itself_only(shape: str) -> None:
    decoder = prepared(make_model(shape))
    state, healthy = decoder.new_state(3), decoder.new_state(3)
    name = "v0" if shape.startswith("gpt") else "h0"
    state.tensors[name][1] = float("nan")
    logits = decoder.step(torch.tensor([1, 2, 3]), state).clone()
    expected = decoder.step(torch.tensor([1, 2, 3]), healthy).clone()
    assert torch.equal(logits[[0, 2]], expected[[0, 2]])
    assert bool(logits[1].isnan().all())
    decoder.admit(state, 1, None)
    decoder.admit(healthy, 1, None)
    ids = torch.tensor([3, 2, 1])
    again = decoder.step(ids, state).clone()
    assert torch.equal(again[1], decoder.step(ids, healthy)[1])


@pytest.mark.parametrize("shape", ["lstm-24", "gpt-36-steered"])
def test_readmitted_row_remembers_nothing(shape: str) -> None:
    model = make_model(shape)
    decoder = prepared(model)
    used, fresh = decoder.new_state(1), decoder.new_state(1)
    decoder.admit(used, 0, conditions_of(model, 2)[1])
    for token in (3, 7, 9):
        decoder.step(torch.tensor([token]), used)
    for state in (used, fresh):
        decoder.admit(state, 0, None)
    for token in (0, 1):
        first = decoder.step(torch.tensor([token]), used).clone()
        assert torch.equal(first, decoder.step(torch.tensor([token]), fresh))


@pytest.mark.parametrize("shape", ["lstm-24", "gpt-20-swish"])
def test_what_would_read_beyond_memory_is_refused(shape: str) -> None:
    decoder = prepared(make_model(shape))
    state = decoder.new_state(2)
    for bad in (-1, V, 10**12):
        with pytest.raises(IndexError, match=f"this model has 0 to {V - 1}"):
            decoder.step(torch.tensor([1, bad]), state)
    with pytest.raises(ValueError, match="3 tokens for a state of 2 rows"):
        decoder.step(torch.tensor([1, 2, 3]), state)
    with pytest.raises(ValueError, match="0 tokens"):
        decoder.step(torch.tensor([], dtype=torch.long), state)
    if shape.startswith("gpt"):
        for row in (-1, 2):
            with pytest.raises(IndexError, match=f"row {row} of a state of 2 rows"):
                decoder.prefill([1], state, row)
        with pytest.raises(ValueError, match=f"{CHUNK + 1} tokens; prefill takes 1 to {CHUNK}"):
            decoder.prefill([1] * (CHUNK + 1), state, 0)
        with pytest.raises(IndexError, match="token ids reach from 1 to 99"):
            decoder.prefill([1, 99], state, 0)
    assert not any(bool(tensor.any()) for tensor in state.tensors.values())


def test_tokens_of_any_kind_and_stride_are_read_right() -> None:
    decoder = prepared(make_model("lstm-24"))
    ids = torch.arange(12).view(6, 2)
    plain = decoder.step(ids[:, 1].contiguous(), decoder.new_state(6)).clone()
    assert torch.equal(decoder.step(ids[:, 1], decoder.new_state(6)), plain)
    assert torch.equal(decoder.step(ids[:, 1].int(), decoder.new_state(6)), plain)


@pytest.mark.parametrize("shape", ["lstm-24", "gpt-128"])
def test_a_step_changes_the_states_own_memory_and_writes_logits_to_one_place(shape: str) -> None:
    decoder = prepared(make_model(shape))
    state = decoder.new_state(8)
    places = [tensor.data_ptr() for tensor in state.tensors.values()]
    first = decoder.step(torch.arange(8), state)
    again = decoder.step(torch.arange(5), state)
    assert again.data_ptr() == first.data_ptr()
    assert [tensor.data_ptr() for tensor in state.tensors.values()] == places
    assert all(bool(tensor[:8].any()) for tensor in state.tensors.values())


@pytest.mark.parametrize("shape", ["gru-48", "gpt-36-steered"])
def test_one_decoder_serves_several_states_by_turns(shape: str) -> None:
    model = make_model(shape)
    decoder, ids, conditions = prepared(model), tokens(4, 6), conditions_of(model, 4)
    expected = stepped(decoder, ids, conditions)
    states = [state_of(decoder, conditions) for _ in range(2)]
    decoder.new_state(70)  # more room for tokens and logits than before
    for t in range(6):
        for state in states:
            assert torch.equal(decoder.step(ids[:, t], state), expected[:, t])


def test_weights_stay_where_the_model_has_them() -> None:
    model = make_model("gpt-128")
    decoder = prepared(model)
    kept = {tensor.data_ptr() for tensor in decoder._session._weights}
    assert kept == {
        parameter.data_ptr() for name, parameter in model.named_parameters() if "categ" not in name
    }


class _Leaning(Decoder):
    """A decoder whose rows do influence each other."""

    def __init__(self, inner: Decoder) -> None:
        self._inner = inner

    def new_state(self, rows: int) -> State:
        return self._inner.new_state(rows)

    def step(self, tokens: Tensor, state: State) -> Tensor:
        return self._inner.step(tokens, state) + (1e-6 if len(tokens) == 5 else 0.0)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Decoder]:
    seen: list[Decoder] = []

    def check(decoder: Decoder, vocabulary: int) -> None:
        seen.append(decoder)
        check_rows(decoder, vocabulary)

    monkeypatch.setattr("inkwell.runtimes.onnx.check_rows", check)
    return seen


def test_rows_that_influence_each_other_are_found_and_refused(checks: list[Decoder]) -> None:
    decoder, _ = make_decoder(make_model("lstm-24"), "onnx")
    assert checks == [decoder]
    check_rows(decoder, V)
    with pytest.raises(RuntimeUnavailable, match="a row's last bits change with its company"):
        check_rows(_Leaning(decoder), V)
