"""Filters, penalties and draws against an oracle written row by row from the definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inkwell.noise import gumbel
from inkwell.sampling import (
    Counts,
    Plan,
    SamplingParams,
    adjust,
    log_probabilities,
    sample,
    top_tokens,
    trace,
)

CPU = torch.device("cpu")
INF = float("inf")


def plan_of(rows: list[SamplingParams], vocabulary: int) -> Plan:
    return Plan(rows, vocabulary, CPU)


def softmax(values: dict[int, float]) -> dict[int, float]:
    top = max(values.values())
    weights = {token: math.exp(value - top) for token, value in values.items()}
    total = math.fsum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def oracle_kept(logits: list[float], params: SamplingParams) -> tuple[list[int], dict[str, int]]:
    """Tokens left by the filters, most likely first, and how many each filter took."""
    values = {token: value / params.temperature for token, value in enumerate(logits) if value > -INF}
    order = sorted(values, key=lambda token: (-values[token], token))
    cut = {"barred": len(logits) - len(order)}

    kept = order[: params.top_k] if params.top_k else order
    cut["top_k"] = len(order) - len(kept)

    # the smallest set of most likely tokens whose probabilities reach top_p
    shares = softmax({token: values[token] for token in kept})
    nucleus, mass = [], 0.0
    for token in kept:
        if nucleus and mass >= params.top_p:
            break
        nucleus.append(token)
        mass += shares[token]
    cut["top_p"] = len(kept) - len(nucleus)

    least = params.min_p * shares[nucleus[0]]
    likely = [token for token in nucleus if shares[token] >= least]
    cut["min_p"] = len(nucleus) - len(likely)

    typical = likely
    if params.typical_p < 1.0:
        inner = softmax({token: values[token] for token in likely})
        entropy = -sum(p * math.log(p) for p in inner.values())
        by_surprise = sorted(likely, key=lambda token: abs(-math.log(inner[token]) - entropy))
        chosen, mass = [], 0.0
        for token in by_surprise:
            if chosen and mass >= params.typical_p:
                break
            chosen.append(token)
            mass += inner[token]
        typical = [token for token in likely if token in chosen]
    cut["typical_p"] = len(likely) - len(typical)
    return typical, {name: count for name, count in cut.items() if count}


def oracle_token(logits: list[float], params: SamplingParams, position: int) -> int:
    if params.temperature == 0.0:
        return max(range(len(logits)), key=lambda token: (logits[token], -token))
    kept, _ = oracle_kept(logits, params)
    seed, place = torch.tensor([params.seed]), torch.tensor([position])
    noise = gumbel(seed, place, torch.arange(len(logits)))[0].tolist()
    return max(kept, key=lambda token: logits[token] / params.temperature + noise[token])


def near_an_edge(logits: list[float], params: SamplingParams) -> bool:
    """Whether rounding alone could decide a filter: then oracle and code may rightly differ."""
    moved = [
        SamplingParams(
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=min(1.0, params.top_p + d) if params.top_p < 1 else 1.0,
            min_p=max(0.0, params.min_p - d) if params.min_p else 0.0,
            typical_p=min(1.0, params.typical_p + d) if params.typical_p < 1 else 1.0,
        )
        for d in (-1e-9, 1e-9)
    ]
    return oracle_kept(logits, moved[0]) != oracle_kept(logits, moved[1])


# distinct values, a thousandth apart at least: ties have their own tests
distinct = st.lists(st.integers(-9000, 9000), min_size=2, max_size=40, unique=True).map(
    lambda values: [value / 1000 for value in values]
)
parameters = st.builds(
    SamplingParams,
    seed=st.integers(0, (1 << 63) - 1),
    temperature=st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.6, 5.0]),
    top_k=st.sampled_from([0, 0, 1, 2, 3, 7, 8, 9, 20, 1000]),
    top_p=st.sampled_from([1.0, 1.0, 0.95, 0.5, 0.2, 1e-6]),
    min_p=st.sampled_from([0.0, 0.0, 0.02, 0.3, 0.9]),
    typical_p=st.sampled_from([1.0, 1.0, 0.9, 0.5, 0.1]),
)


@settings(max_examples=250)
@given(distinct, parameters, st.integers(0, 5000), st.data())
def test_a_row_is_drawn_as_the_definitions_say(
    logits: list[float], params: SamplingParams, position: int, data: st.DataObject
) -> None:
    barred = data.draw(st.sets(st.integers(0, len(logits) - 1), max_size=len(logits) - 1))
    logits = [-INF if token in barred else value for token, value in enumerate(logits)]
    tensor, plan = torch.tensor([logits]), plan_of([params], len(logits))
    exact = [float(v) for v in tensor[0]]  # as float32 has them
    assume(params.temperature == 0.0 or not near_an_edge(exact, params))
    token = int(sample(tensor, plan, torch.tensor([position])))
    assert token == oracle_token(exact, params, position)
    told = trace(tensor, tensor, plan, 0, token)
    if params.temperature > 0.0:
        kept, cut = oracle_kept(exact, params)
        assert (told.kept, told.cut) == (len(kept), cut)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"top_k": 2}, {0, 3}),
        ({"top_k": 99}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.5}, {3}),  # the first token has 0.5 already
        ({"top_p": 0.51}, {0, 3}),
        ({"top_p": 0.76}, {0, 1, 3}),
        ({"min_p": 0.24}, {0, 1, 3}),
        ({"min_p": 0.26}, {0, 3}),
        ({"top_k": 3, "min_p": 0.49}, {0, 3}),
        ({"top_k": 2, "top_p": 0.6}, {3}),  # of two, 0.5 is 2/3
        # the entropy is 1.875 bits; 0.25 (2 bits) is nearest to it, then 0.5 (1 bit), then 0.125 (3 bits)
        ({"typical_p": 0.2}, {0}),
        ({"typical_p": 0.3}, {0, 3}),
        ({"typical_p": 0.8}, {0, 1, 3}),
    ],
)
def test_filters_by_hand(params: dict[str, Any], expected: set[int]) -> None:
    shares = [0.25, 0.125, 0.0625, 0.5, 0.0625]
    logits = torch.tensor(shares).log().expand(4000, -1).contiguous()
    rows = [SamplingParams(seed=seed, temperature=1.0, **params) for seed in range(4000)]
    drawn = sample(logits, plan_of(rows, 5), torch.zeros(4000, dtype=torch.long))
    assert set(drawn.tolist()) == expected


@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, -INF]), min_size=2, max_size=30), parameters)
def test_among_equals_filters_keep_as_many_as_without_ties(
    logits: list[float], params: SamplingParams
) -> None:
    assume(params.temperature > 0.0 and max(logits) > -INF and not near_an_edge(logits, params))
    # in a typical set, which of two equally surprising tokens comes first is not defined
    params = SamplingParams(params.seed, params.temperature, params.top_k, params.top_p, params.min_p)
    tensor = torch.tensor([logits])
    rows = [
        SamplingParams(seed, params.temperature, params.top_k, params.top_p, params.min_p)
        for seed in range(300)
    ]
    plan = plan_of(rows, len(logits))
    drawn = set(
        sample(tensor.expand(300, -1).contiguous(), plan, torch.zeros(300, dtype=torch.long)).tolist()
    )
    kept, _ = oracle_kept(logits, params)
    assert len(drawn) <= len(kept) == trace(tensor, tensor, plan_of([params], len(logits)), 0, kept[0]).kept
    worst = min(logits[token] for token in kept)
    assert all(logits[token] >= worst for token in drawn)


def test_a_nucleus_ends_with_the_token_that_reaches_its_mass_exactly() -> None:
    logits = torch.zeros(300, 4)  # four times exactly a quarter
    for top_p, kept in ((0.25, {0}), (0.5, {0, 1}), (0.51, {0, 1, 2}), (0.75, {0, 1, 2})):
        rows = [SamplingParams(seed=seed, top_p=top_p) for seed in range(300)]
        drawn = sample(logits, plan_of(rows, 4), torch.zeros(300, dtype=torch.long))
        assert set(drawn.tolist()) == kept


def chi_square(counts: np.ndarray, shares: np.ndarray) -> float:
    expected = shares * counts.sum()
    freedom = len(counts) - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


@pytest.mark.parametrize("params", [{}, {"top_k": 6}, {"top_p": 0.9}, {"min_p": 0.05}, {"typical_p": 0.8}])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_draws_follow_the_softmax_of_what_is_left(params: dict[str, Any], temperature: float) -> None:
    n, logits = 20_000, torch.randn(12, generator=torch.Generator().manual_seed(2)) * 1.5
    row = SamplingParams(seed=77, temperature=temperature, **params)
    plan = plan_of([row] * n, 12)
    drawn = sample(logits.expand(n, -1).contiguous(), plan, torch.arange(n))
    kept, _ = oracle_kept(logits.tolist(), row)
    shares = softmax({token: float(logits[token]) / temperature for token in kept})
    counts = np.bincount(drawn.numpy(), minlength=12)
    assert counts.sum() == counts[kept].sum()
    assert abs(chi_square(counts[kept], np.array([shares[token] for token in kept]))) < 4.5


@settings(max_examples=60)
@given(st.lists(parameters, min_size=1, max_size=12), st.data())
def test_a_row_does_not_see_its_company(rows: list[SamplingParams], data: st.DataObject) -> None:
    vocabulary = data.draw(st.integers(2, 90))
    logits = torch.randn(len(rows), vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    positions = torch.arange(len(rows)) * 13
    together = sample(logits, plan_of(rows, vocabulary), positions).tolist()
    alone = [
        int(sample(logits[i : i + 1], plan_of([row], vocabulary), positions[i : i + 1]))
        for i, row in enumerate(rows)
    ]
    assert together == alone
    order = data.draw(st.permutations(range(len(rows))))
    shuffled = sample(logits[order], plan_of([rows[i] for i in order], vocabulary), positions[order]).tolist()
    assert shuffled == [together[i] for i in order]


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-310, 5e-324])
@pytest.mark.parametrize("params", [{}, {"top_k": 4}, {"top_p": 0.9}])
def test_the_smallest_temperatures_take_the_most_likely_token(
    temperature: float, params: dict[str, Any]
) -> None:
    logits = torch.tensor([[3.0, 88.0, 90.0, -5.0, 89.0]])
    plan = plan_of([SamplingParams(temperature=temperature, **params)], 5)
    assert [int(sample(logits, plan, torch.tensor([p]))) for p in range(20)] == [2] * 20


def test_greedy_takes_the_first_of_the_most_likely() -> None:
    logits = torch.tensor([[1.0, 4.0, 4.0, 2.0], [0.0, -1.0, 0.0, 0.0]])
    plan = plan_of([SamplingParams(temperature=0.0, top_k=3, top_p=0.1)] * 2, 4)
    assert sample(logits, plan, torch.tensor([0, 1])).tolist() == [1, 0]


@pytest.mark.parametrize("params", [{}, {"top_k": 2}, {"top_p": 0.5}, {"typical_p": 0.4}, {"min_p": 0.4}])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_with_everything_barred_still_gives_a_token(temperature: float, params: dict[str, Any]) -> None:
    logits = torch.full((2, 20), -INF)
    logits[1] = torch.arange(20.0)
    rows = [SamplingParams(temperature=temperature, **params), SamplingParams(temperature=0.0)]
    drawn = sample(logits, plan_of(rows, 20), torch.tensor([3, 3])).tolist()
    assert 0 <= drawn[0] < 20
    assert drawn[1] == 19


@settings(max_examples=80)
@given(st.data())
def test_penalties_and_biases_are_those_of_the_definitions(data: st.DataObject) -> None:
    vocabulary, n = 9, data.draw(st.integers(1, 5))
    count = st.lists(st.integers(0, 4), min_size=vocabulary, max_size=vocabulary)
    prompts, texts = ([data.draw(count) for _ in range(n)] for _ in range(2))
    value = st.integers(-800, 800).map(lambda v: v / 100)
    logits = [data.draw(st.lists(value, min_size=vocabulary, max_size=vocabulary)) for _ in range(n)]
    rows = [
        data.draw(
            st.builds(
                SamplingParams,
                repetition_penalty=st.sampled_from([1.0, 1.3, 0.5, 2.0]),
                frequency_penalty=st.sampled_from([0.0, 0.7, -1.5]),
                presence_penalty=st.sampled_from([0.0, 0.4, -2.0]),
                logit_bias=st.dictionaries(
                    st.integers(0, vocabulary - 1), st.sampled_from([-100.0, 2.5, 100.0])
                ),
            )
        )
        for _ in range(n)
    ]
    allowed = [data.draw(st.lists(st.booleans(), min_size=vocabulary, max_size=vocabulary)) for _ in range(n)]
    counts = Counts(torch.tensor(prompts).float(), torch.tensor(texts).float())
    got = adjust(torch.tensor(logits), plan_of(rows, vocabulary), counts, torch.tensor(allowed))
    for i, row in enumerate(rows):
        for token in range(vocabulary):
            expected = float(np.float32(logits[i][token])) + row.logit_bias.get(token, 0.0)
            if prompts[i][token] or texts[i][token]:
                expected = (
                    expected / row.repetition_penalty if expected > 0 else expected * row.repetition_penalty
                )
            expected -= row.frequency_penalty * texts[i][token] + row.presence_penalty * (texts[i][token] > 0)
            if not allowed[i][token]:
                expected = -INF
            assert float(got[i, token]) == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_a_row_without_penalties_keeps_its_bits_beside_one_that_has_them() -> None:
    logits = torch.randn(2, 30, generator=torch.Generator().manual_seed(5))
    rows = [
        SamplingParams(),
        SamplingParams(repetition_penalty=1.7, frequency_penalty=0.3, logit_bias={3: 1.0}),
    ]
    counts = Counts(torch.full((2, 30), 3.0), torch.full((2, 30), 2.0))
    adjusted = adjust(logits, plan_of(rows, 30), counts)
    assert torch.equal(adjusted[0], logits[0])
    assert not torch.equal(adjusted[1], logits[1])


def test_logits_are_not_changed_in_place() -> None:
    logits = torch.randn(1, 8)
    before = logits.clone()
    row = SamplingParams(top_p=0.5, logit_bias={1: 2.0}, repetition_penalty=1.4)
    plan = plan_of([row], 8)
    counts = Counts(torch.ones(1, 8), torch.ones(1, 8))
    sample(adjust(logits, plan, counts, torch.ones(1, 8, dtype=torch.bool)), plan, torch.tensor([0]))
    assert torch.equal(logits, before)


def test_penalties_without_counts_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="penalties need the token counts"):
        adjust(torch.zeros(1, 4), plan_of([SamplingParams(presence_penalty=1.0)], 4))


def test_top_k_beyond_any_vocabulary_is_off() -> None:
    logits = torch.randn(1, 6)
    plan = plan_of([SamplingParams(top_k=10**400)], 6)
    assert trace(logits, logits, plan, 0, 0).kept == 6


def test_log_probabilities_are_those_of_the_raw_logits() -> None:
    logits = torch.randn(3, 11, generator=torch.Generator().manual_seed(1)) * 5
    wide = logits.double().numpy()
    expected = wide - np.log(np.exp(wide).sum(1, keepdims=True))
    got = log_probabilities(logits, torch.tensor([4, 0, 10]))
    np.testing.assert_allclose(got.numpy(), expected[[0, 1, 2], [4, 0, 10]], rtol=1e-12)
    ids, values = top_tokens(logits, 4)
    for row in range(3):
        order = sorted(range(11), key=lambda t: -expected[row, t])[:4]
        assert ids[row].tolist() == order
        np.testing.assert_allclose(values[row].numpy(), expected[row, order], rtol=1e-12)
    assert top_tokens(logits, 50)[0].shape == (3, 11)


def test_a_trace_tells_rank_probability_and_entropy_of_the_raw_model() -> None:
    shares = [0.25, 0.125, 0.0625, 0.5, 0.0625]
    raw = torch.tensor([shares]).log()
    adjusted = raw.masked_fill(torch.tensor([[False, False, False, True, False]]), -INF)
    told = trace(raw, adjusted, plan_of([SamplingParams(top_k=2)], 5), 0, 1)
    assert (told.rank, told.kept, told.cut) == (2, 2, {"barred": 1, "top_k": 2})
    assert told.probability == pytest.approx(0.125)
    assert told.entropy == pytest.approx(1.875 * math.log(2))
    greedy = trace(raw, raw, plan_of([SamplingParams(temperature=0.0)], 5), 0, 3)
    assert (greedy.rank, greedy.kept, greedy.cut) == (0, 1, {})
