"""Which target gets the work: balance, ejection, re-admission, and shares of releases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.endpoints import Pool, release_of


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def pool_of(*urls, **versions):
    pool = Pool(list(urls), eject_s=60, clock=Clock())
    pool.learn({url: dict.fromkeys(versions["versions"], True) for url in urls}, versions["versions"][0])
    return pool


def test_the_least_loaded_well_target_is_picked():
    clock = Clock()
    pool = Pool(["a", "b", "c"], eject_s=60, clock=clock)
    a, b, c = pool.targets
    a.outstanding, b.outstanding, c.outstanding = 5, 1, 3
    assert pool.pick(None) is b
    pool.failed(b)
    assert pool.pick(None) is c
    clock.now += 1
    pool.failed(a)
    pool.failed(c)
    assert pool.pick(None) is b, "with all sick, the first to recover"
    pool.answered(a)
    assert pool.pick(None) is a


def test_idle_targets_take_turns():
    clock = Clock()
    pool = Pool(["a", "b"], eject_s=60, clock=clock)
    picked = []
    for _ in range(4):
        clock.now += 1
        picked.append(pool.pick(None).url)
    assert picked == ["a", "b", "a", "b"]


def test_each_worker_of_a_release_is_a_target():
    pool = pool_of("a", "b", versions=["1.0", "1.0-w2"])
    assert pool.releases == ["1.0"]
    found = set()
    for _ in range(4):
        target = pool.pick("1.0")
        target.outstanding += 1
        found.add((target.url, target.version))
    assert found == {("a", "1.0"), ("a", "1.0-w2"), ("b", "1.0"), ("b", "1.0-w2")}


def test_load_and_illness_outlive_a_look():
    pool = pool_of("a", versions=["1.0", "1.0-w2"])
    first = pool.pick("1.0")
    first.outstanding = 7
    pool.failed(first)
    pool.learn({"a": {"1.0": True, "1.0-w2": True, "2.0": True}}, "1.0")
    again = next(target for target in pool.targets if target.version == first.version)
    assert again is first
    assert pool.releases == ["1.0", "2.0"]


def test_an_endpoint_that_says_nothing_keeps_its_targets():
    pool = pool_of("a", "b", versions=["1.0"])
    pool.learn({"a": {}, "b": {"1.0": False}}, "1.0")
    assert [target.url for target in pool.targets] == ["a", "b"]
    assert [pool.pick("1.0").url for _ in range(3)] == ["a"] * 3


def test_a_release_that_is_gone_has_no_target():
    pool = pool_of("a", versions=["1.0"])
    with pytest.raises(LookupError, match=r"2\.0"):
        pool.pick("2.0")


def test_without_weights_the_default_gets_everything():
    pool = pool_of("a", versions=["1.0", "2.0"])
    assert {pool.choose(draw / 10) for draw in range(10)} == {"1.0"}
    assert pool.share("2.0") == 0


@given(st.lists(st.floats(0.001, 1000), min_size=2, max_size=5))
def test_shares_follow_the_weights(weights):
    names = [str(number) for number in range(len(weights))]
    pool = pool_of("a", versions=names)
    pool.weights = dict(zip(names, weights, strict=True))
    draws = 200
    for name, weight in pool.weights.items():
        part = sum(pool.choose(draw / draws) == name for draw in range(draws)) / draws
        assert abs(part - weight / sum(weights)) <= 2 / draws
        assert pool.share(name) == pytest.approx(weight / sum(weights))


def test_a_draining_release_gets_nothing_new_whatever_its_weight():
    pool = pool_of("a", versions=["1.0", "2.0"])
    pool.weights = {"1.0": 1.0, "2.0": 9.0}
    pool.draining.add("2.0")
    assert {pool.choose(draw / 10) for draw in range(10)} == {"1.0"}
    assert pool.pick("2.0").version == "2.0", "what has begun there goes on there"


def test_withheld_versions_are_not_targets_until_they_are_let_in():
    pool = pool_of("a", versions=["1.0"])
    pool.withhold("1.0-w2")
    pool.learn({"a": {"1.0": True, "1.0-w2": True}}, "1.0")
    assert [target.version for target in pool.targets] == ["1.0"]
    pool.withheld.clear()
    pool.learn({"a": {"1.0": True, "1.0-w2": True}}, "1.0")
    assert [target.version for target in pool.targets] == ["1.0", "1.0-w2"]


@pytest.mark.parametrize(
    ("version", "release"),
    [("1.0", "1.0"), ("1.0-w2", "1.0"), ("2-w13", "2"), ("w2", "w2"), ("1-wx", "1-wx")],
)
def test_a_workers_version_names_its_release(version, release):
    assert release_of(version) == release
