"""The counter-based generator against NumPy's unsigned 64-bit arithmetic, and against what chance would do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwell.noise import gumbel, mix64, uniform, uniform_of

GOLDEN, MUL_1, MUL_2 = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)
word = st.integers(-(1 << 63), (1 << 63) - 1)


def oracle_mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * MUL_1
    x = (x ^ (x >> np.uint64(27))) * MUL_2
    return x ^ (x >> np.uint64(31))


def oracle_uniform(seed: int, position: int, tokens: list[int]) -> np.ndarray:
    with np.errstate(over="ignore"):
        s, p = (np.array([v % (1 << 64)], dtype=np.uint64) for v in (seed, position))
        t = np.array([(v + 1) % (1 << 64) for v in tokens], dtype=np.uint64)
        row = oracle_mix(oracle_mix(s + GOLDEN) ^ (p * GOLDEN + MUL_1))
        words = oracle_mix(row + t * GOLDEN)
    return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def test_mixing_is_that_of_splitmix64() -> None:
    # the first outputs of the published generator for seed 1234567
    states = [(1234567 + (i + 1) * int(GOLDEN)) % (1 << 64) for i in range(3)]
    signed = torch.tensor([s - (1 << 64) if s >= 1 << 63 else s for s in states])
    assert [v % (1 << 64) for v in mix64(signed).tolist()] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@given(
    st.lists(st.tuples(st.integers(0, (1 << 63) - 1), st.integers(-1, 1 << 40)), min_size=1, max_size=5),
    st.data(),
)
def test_every_number_is_that_of_unsigned_arithmetic(
    rows: list[tuple[int, int]], data: st.DataObject
) -> None:
    tokens = data.draw(st.lists(st.integers(0, 1 << 20), min_size=1, max_size=9))
    seeds, positions = (torch.tensor(column) for column in zip(*rows, strict=True))
    got = uniform(seeds, positions, torch.tensor(tokens)).numpy()
    expected = np.stack([oracle_uniform(seed, position, tokens) for seed, position in rows])
    assert got.dtype == np.float64
    assert (got == expected).all()
    per_row = uniform(seeds, positions, torch.tensor(tokens).expand(len(rows), -1)).numpy()
    assert (per_row == expected).all()


@given(st.lists(word, min_size=2, max_size=50, unique=True))
def test_mixing_keeps_words_apart(words: list[int]) -> None:
    assert len(set(mix64(torch.tensor(words)).tolist())) == len(words)


@given(word)
def test_numbers_lie_strictly_between_0_and_1(seed: int) -> None:
    u = uniform(torch.tensor([seed]), torch.tensor([0]), torch.arange(64))
    assert float(u.min()) > 0.0
    assert float(u.max()) < 1.0
    assert torch.isfinite(gumbel(torch.tensor([seed]), torch.tensor([0]), torch.arange(64))).all()


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """How many standard deviations the statistic lies above its mean (normal approximation)."""
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("along", ["seeds", "positions", "tokens"])
def test_numbers_are_even_along_every_counter(along: str) -> None:
    n, zero, count = 100_000, torch.zeros(100_000, dtype=torch.long), torch.arange(100_000)
    if along == "tokens":
        u = uniform(torch.tensor([5]), torch.tensor([9]), count)[0]
    else:
        u = uniform(
            count if along == "seeds" else zero, count if along == "positions" else zero, torch.tensor([4])
        )[:, 0]
    counts = np.histogram(u.numpy(), bins=256, range=(0, 1))[0]
    assert abs(chi_square(counts, np.full(256, n / 256))) < 4.5


@pytest.mark.parametrize("along", ["seeds", "positions", "tokens"])
def test_neighbours_know_nothing_of_each_other(along: str) -> None:
    at = torch.arange(300)
    first = uniform(at, at * 7, torch.arange(300)).numpy()
    shifts = {"seeds": (at + 1, at * 7, 0), "positions": (at, at * 7 + 1, 0), "tokens": (at, at * 7, 1)}
    seeds, positions, step = shifts[along]
    second = uniform(seeds, positions, torch.arange(300) + step).numpy()
    # pairs fill the unit square evenly, and are not correlated
    counts = np.histogram2d(first.ravel(), second.ravel(), bins=16, range=((0, 1), (0, 1)))[0]
    assert abs(chi_square(counts, np.full((16, 16), first.size / 256))) < 4.5
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4.5 / np.sqrt(first.size)


def test_numbers_do_not_depend_on_what_is_computed_beside_them() -> None:
    at, tokens = torch.arange(64), torch.arange(83)
    whole = gumbel(at * 31, at, tokens)
    for n in (1, 3, 10, 33):
        assert torch.equal(gumbel(at[:n] * 31, at[:n], tokens), whole[:n])
        assert torch.equal(gumbel(at[-n:] * 31, at[-n:], tokens[:n]), whole[-n:, :n])


def test_gumbel_noise_has_its_mean_and_variance() -> None:
    g = gumbel(torch.arange(500), torch.zeros(500, dtype=torch.long), torch.arange(500)).numpy()
    assert abs(g.mean() - 0.5772156649) < 5 * g.std() / np.sqrt(g.size)
    assert abs(g.var() - np.pi**2 / 6) < 0.03


@given(word, st.integers(-(1 << 40), 1 << 40), st.integers(0, 1 << 30))
def test_a_single_number_is_that_of_the_tensors(seed: int, position: int, token: int) -> None:
    tensors = uniform(torch.tensor([seed]), torch.tensor([position]), torch.tensor([token]))
    assert uniform_of(seed, position, token) == float(tensors[0, 0])
