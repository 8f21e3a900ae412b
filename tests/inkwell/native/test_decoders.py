"""The C++ core against its plain description, against torch, and against itself on every path and thread count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inkwell.errors import RuntimeUnavailable
from inkwell.models import build_model
from inkwell.models.gpt import GPTModel
from inkwell.native import decoders
from inkwell.native.decoders import DECODERS
from inkwell.native.library import Library

from ..stepping import SHAPES, STEPS, Company, V, conditions_of, make_model, state_of, stepped, tokens
from .reference import gpt_logits, recurrent_logits


def prepared(model: Any, library: Library, path: str | None = None, threads: int = 1) -> Any:
    return DECODERS[type(model)](model, library, path or library.paths[0], threads)


def distance(a: Tensor, b: Tensor) -> float:
    """Relative to what b varies by."""
    return float((a - b).norm() / (b - b.mean()).norm())


def described(model: Any, ids: Tensor) -> Tensor:
    """Logits by the reference."""
    if not isinstance(model, GPTModel):
        return recurrent_logits(model, ids)
    if not model.config.categories:
        return gpt_logits(model, ids)
    weights = torch.zeros(len(ids), model.config.categories)
    for row, condition in enumerate(conditions_of(model, len(ids))):
        for index, weight in (condition or {0: 1.0}).items():
            weights[row, index] = weight
    return gpt_logits(model, ids, weights)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_the_plain_description(shape: str, library: Library) -> None:
    model = make_model(shape)
    ids = tokens(5, STEPS)
    logits = stepped(prepared(model, library), ids, conditions_of(model, 5))
    expected = described(model, ids)
    off = (logits - expected).norm(dim=-1) / (expected - expected.mean(-1, keepdim=True)).norm(dim=-1)
    # Where last bits decide between two steps of a rounding, a row takes another one, and a state remembers it.
    assert float(off[:, :8].median()) < 1e-6
    assert float(off.max()) < 0.05


@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_costs_little_against_float32(shape: str, library: Library) -> None:
    model = make_model(shape)
    ids, conditions = tokens(4, STEPS), conditions_of(model, 4)
    exact = stepped(model.decoder(), ids, conditions)
    assert 0 < distance(stepped(prepared(model, library), ids, conditions), exact) < 0.06


@pytest.mark.parametrize("shape", SHAPES)
def test_every_path_gives_the_same_bits(shape: str, every_path: Library) -> None:
    assert every_path.paths[-1] == "portable"
    model = make_model(shape)
    ids, conditions = tokens(7, STEPS), conditions_of(model, 7)
    first, *others = (
        stepped(prepared(model, every_path, path), ids, conditions) for path in every_path.paths
    )
    for other in others:
        assert torch.equal(first, other)


@pytest.mark.parametrize("rows", [*range(1, 14), 31, 63, 64, 65])
@pytest.mark.parametrize("shape", ["gru-131", "gpt-36-steered"])
def test_every_number_of_rows_works_on_every_path(shape: str, rows: int, every_path: Library) -> None:
    model = make_model(shape, vocabulary=53)
    ids, conditions = tokens(65, 3, 53), conditions_of(model, 65)
    whole = stepped(prepared(model, every_path), ids, conditions)
    for path in every_path.paths:
        decoder = prepared(model, every_path, path)
        assert torch.equal(stepped(decoder, ids[:rows], conditions[:rows]), whole[:rows])


@pytest.mark.parametrize("vocabulary", [2, 15, 16, 17, 90, 301])
def test_every_size_of_vocabulary_works(vocabulary: int, every_path: Library) -> None:
    for shape in ("lstm-24", "gpt-66"):
        model = make_model(shape, vocabulary=vocabulary)
        ids = tokens(3, 20, vocabulary)
        for path in every_path.paths:
            logits = stepped(prepared(model, every_path, path), ids, [None] * 3)
            assert distance(logits, described(model, ids)) < 2e-2


@pytest.mark.parametrize("shape", ["rnn", "gru", "lstm", "gpt"])
def test_threads_divide_work_without_touching_bits(shape: str, library: Library) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"architecture": "recurrent", "cell": shape, "hidden": 300, "layers": 2}
    if shape == "gpt":
        sizes = {"architecture": "gpt", "heads": 3, "width": 192, "layers": 2, "window": 11, "categories": 3}
    model = build_model({**sizes, "vocabulary": 90}).eval()
    ids, conditions = tokens(64, 16, 90), conditions_of(model, 64)
    alone = stepped(prepared(model, library), ids, conditions)
    for threads in (2, 3, 5):
        decoder = prepared(model, library, threads=threads)
        assert torch.equal(stepped(decoder, ids, conditions), alone)
        assert torch.equal(stepped(decoder, ids[:9], conditions[:9]), alone[:9])


@pytest.fixture(scope="module", params=["gru-48", "lstm-24", "gpt-36-steered", "gpt-128"])
def company(request: pytest.FixtureRequest, library: Library) -> Company:
    model = make_model(request.param)
    return Company(model, prepared(model, library))


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


@pytest.mark.parametrize("shape", [name for name in SHAPES if name.startswith("gpt")])
@pytest.mark.parametrize("counts", [[1], [5, 1, 3], [64], [64, 64, 9]])
def test_prefill_leaves_to_the_bit_the_state_that_steps_leave(
    shape: str, counts: list[int], library: Library
) -> None:
    model = make_model(shape)
    decoder = prepared(model, library, threads=2)
    conditions = conditions_of(model, 3)
    by_step, by_chunk = state_of(decoder, conditions), state_of(decoder, conditions)
    text = tokens(1, sum(counts) + 1)[0]
    alone = state_of(decoder, conditions[1:2])
    for token in text[:-1]:
        decoder.step(token[None], alone)
    for name, tensor in by_step.tensors.items():
        tensor[1] = alone.tensors[name][0]
    at = 0
    for count in counts:
        decoder.prefill(text[at : at + count].tolist(), by_chunk, 1)
        at += count
    for name, tensor in by_chunk.tensors.items():
        assert torch.equal(tensor, by_step.tensors[name]), name
    others = torch.tensor([0, int(text[-1]), 0])
    assert torch.equal(decoder.step(others, by_chunk), decoder.step(others, by_step).clone())


def test_positions_beyond_the_table_of_angles_are_computed(library: Library) -> None:
    model = make_model("gpt-128")
    decoder = prepared(model, library)
    torch_state, state = model.decoder().new_state(2), decoder.new_state(2)
    for each in (torch_state, state):
        each.tensors["position"][0] = 4090
    ids, exact, ours = tokens(2, 40), [], []
    reference = model.decoder()
    for t in range(40):  # a whole window, so that nothing from before position 4090 is seen any more
        exact.append(reference.step(ids[:, t], torch_state).clone())
        ours.append(decoder.step(ids[:, t], state).clone())
    assert int(state.tensors["position"][0]) == 4130
    assert distance(torch.stack(ours[34:]), torch.stack(exact[34:])) < 0.06
    # and a row far along leaves its neighbour alone
    fresh = decoder.new_state(1)
    for t in range(40):
        assert torch.equal(decoder.step(ids[1:, t], fresh)[0], ours[t][1])


def test_a_row_that_is_not_finite_shows_in_itself_only(library: Library) -> None:
    for shape in ("lstm-24", "gru-5", "rnn-33"):
        decoder = prepared(make_model(shape), library)
        state, healthy = decoder.new_state(3), decoder.new_state(3)
        state.tensors["hidden"][1, 0, 2] = float("nan")
        logits = decoder.step(torch.tensor([1, 2, 3]), state).clone()
        expected = decoder.step(torch.tensor([1, 2, 3]), healthy)
        assert torch.equal(logits[[0, 2]], expected[[0, 2]])
        assert bool(logits[1].isnan().all())


@pytest.mark.parametrize("shape", ["lstm-24", "gpt-36-steered"])
def test_readmitted_row_remembers_nothing(shape: str, library: Library) -> None:
    model = make_model(shape)
    decoder = prepared(model, library)
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
def test_what_would_read_beyond_memory_is_refused(shape: str, library: Library) -> None:
    decoder = prepared(make_model(shape), library)
    state = decoder.new_state(2)
    for bad in (-1, V, 10**12):
        with pytest.raises(IndexError, match=f"this model has 0 to {V - 1}"):
            decoder.step(torch.tensor([1, bad]), state)
    with pytest.raises(ValueError, match="3 tokens for a state of 2 rows"):
        decoder.step(torch.tensor([1, 2, 3]), state)
    with pytest.raises(ValueError, match="0 tokens"):
        decoder.step(torch.tensor([], dtype=torch.long), state)
    if shape.startswith("gpt"):
        with pytest.raises(IndexError, match="row 2 of a state of 2 rows"):
            decoder.prefill([1], state, 2)
        with pytest.raises(ValueError, match="65 tokens; prefill takes 1 to 64"):
            decoder.prefill([1] * 65, state, 0)
        with pytest.raises(IndexError, match="token ids reach from 1 to 99"):
            decoder.prefill([1, 99], state, 0)
    assert not any(bool(tensor.any()) for tensor in state.tensors.values())


def test_tokens_of_any_kind_and_stride_are_read_right(library: Library) -> None:
    decoder = prepared(make_model("lstm-24"), library)
    ids = torch.arange(12).view(6, 2)
    plain = decoder.step(ids[:, 1].contiguous(), decoder.new_state(6)).clone()
    assert torch.equal(decoder.step(ids[:, 1], decoder.new_state(6)), plain)
    assert torch.equal(decoder.step(ids[:, 1].int(), decoder.new_state(6)), plain)


def test_a_step_allocates_nothing_that_lasts(library: Library) -> None:
    decoder = prepared(make_model("gpt-128"), library)
    state = decoder.new_state(8)
    first = decoder.step(torch.arange(8), state)
    again = decoder.step(torch.arange(5), state)
    assert again.data_ptr() == first.data_ptr()


def test_an_unknown_path_and_too_wide_a_layer_are_refused_by_name(library: Library) -> None:
    with pytest.raises(RuntimeUnavailable, match="INKWELL_NATIVE_PATH is 'sse9'; this processor has"):
        library.choose("sse9")
    model = make_model("lstm-24")
    with pytest.raises(RuntimeUnavailable, match="this processor has no such path"):
        prepared(model, library, "sse9")
    with pytest.raises(RuntimeUnavailable, match="70000 inputs"):
        decoders.check_inputs(70_000)


def test_zero_weights_and_silent_rows_are_no_division_by_zero(every_path: Library) -> None:
    model = make_model("gru-48")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.head.bias.copy_(torch.arange(V))
    for path in every_path.paths:
        logits = stepped(prepared(model, every_path, path), tokens(3, 4), [None] * 3)
        assert torch.equal(logits, torch.arange(V).float().expand(3, 4, V))
