"""The simulation of many replicas against what queueing theory knows, and against itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from scaling.engine import Simulation
from scaling.record import Record
from scaling.shape import Cluster, Costs, Load, Run, Scaler

FREE = Costs(step_s=0.01, row_s=0.0, request_s=0.0, token_s=0.0, look_s=0.0, lag_s=0.0)
REAL = Costs(step_s=0.002, row_s=0.0001, request_s=0.001, token_s=0.000005, look_s=0.0005, lag_s=0.003)
ALONE = Cluster(workers=1, gateways=1, slots=1, zones=1, inflight_per_slot=1e9)


def sojourn(record: Record) -> float:
    done = record.done
    return float((done[:, 2] - done[:, 0]).mean())


def go(cluster: Cluster, costs: Costs, load: Load, **more: object) -> tuple[Record, Simulation]:
    simulation = Simulation(Run(cluster, costs, load, **more))  # type: ignore[arg-type]
    return simulation.go(), simulation


@pytest.mark.parametrize("busy", [0.3, 0.7])
def test_one_row_is_a_queue_with_equal_service(busy: float) -> None:
    """M/D/1: the mean wait is ρS / (2(1 − ρ))."""
    service = 10 * FREE.step_s
    load = Load(((0.0, busy / service),), seconds=40_000 * service / busy / 4, tokens=10, alike=True)
    record, _ = go(ALONE, FREE, load)
    expected = service + busy * service / (2 * (1 - busy))
    assert sojourn(record) == pytest.approx(expected, rel=0.06)


def test_one_row_is_a_queue_with_geometric_service() -> None:
    """M/G/1: the mean wait is λE[S²] / (2(1 − ρ)), with E[S²] = (2 − p)/p² steps² for a geometric length."""
    tokens, busy = 20.0, 0.6
    rate = busy / (tokens * FREE.step_s)
    record, _ = go(ALONE, FREE, Load(((0.0, rate),), seconds=60_000 / rate, tokens=tokens))
    p = 1 / tokens
    square = (2 - p) / p**2 * FREE.step_s**2
    expected = tokens * FREE.step_s + rate * square / (2 * (1 - busy))
    assert sojourn(record) == pytest.approx(expected, rel=0.08)


def test_many_rows_share_a_processor() -> None:
    """M/M/1 with processor sharing: the mean stay is S / (1 − ρ), where a step costs as many rows as it has."""
    tokens, busy = 50.0, 0.7
    costs = replace(FREE, step_s=0.0, row_s=0.01)
    rate = busy / (tokens * costs.row_s)
    cluster = replace(ALONE, slots=10_000)
    record, _ = go(cluster, costs, Load(((0.0, rate),), seconds=30_000 / rate, tokens=tokens))
    assert sojourn(record) == pytest.approx(tokens * costs.row_s / (1 - busy), rel=0.08)


def test_what_is_there_on_average_is_what_comes_times_how_long_it_stays() -> None:
    """Little's law, over gateways and workers."""
    cluster = Cluster(workers=6, gateways=2, slots=8)
    rate = 0.7 * 6 * REAL.capacity(8, 60)
    record, _ = go(cluster, REAL, Load(((0.0, rate),), seconds=300, tokens=60))
    state = record.state
    inside = (state[:, 3] + state[:, 4]).mean()
    # What a gateway's own processor and the network take is before its queue.
    stay = sojourn(record) - REAL.lag_s - REAL.request_s
    assert inside == pytest.approx(record.rate(10, 290) * stay, rel=0.05)


def test_a_worker_finishes_what_its_step_allows_and_no_more() -> None:
    load = Load(((0.0, 0.0),), seconds=120, tokens=32, alike=True, closed=64)
    record, _ = go(replace(ALONE, slots=64), replace(REAL, request_s=0, token_s=0, lag_s=0), load)
    assert record.rate(10, 110) == pytest.approx(REAL.capacity(64, 32), rel=0.03)


def test_the_same_seed_is_the_same_run_and_another_is_not() -> None:
    load = Load(((0.0, 50.0),), seconds=20, tokens=50)
    first, second, other = (go(Cluster(4, 2, slots=8), REAL, load, seed=seed)[0].done for seed in (3, 3, 4))
    assert np.array_equal(first, second)
    assert not np.array_equal(first[:10], other[:10])


@pytest.mark.parametrize("gateways", [1, 3])
def test_nothing_is_lost_with_a_zone(gateways: int) -> None:
    """Every request that arrived is answered once, lost gateways' clients asking again."""
    cluster = Cluster(workers=9, gateways=gateways, slots=8, zones=3)
    rate = 0.4 * 9 * REAL.capacity(8, 60)
    if gateways == 1:
        cluster = replace(cluster, zones=9, gateways=2)
    load = Load(((0.0, rate), (60.0, 0.0)), seconds=200, tokens=60)
    record, simulation = go(cluster, REAL, load, lost_zone_at=30.0)
    assert len(record.rows) == record.arrived
    assert record.resumed > 0
    assert record.broken > 0
    assert simulation.waiting() == simulation.in_hand() == 0
    assert sum(not worker.alive for worker in simulation.workers) == 9 // cluster.zones


def test_texts_of_a_lost_worker_go_on_and_do_not_begin_again() -> None:
    cluster = Cluster(workers=2, gateways=2, slots=4, zones=2)
    load = Load(((0.0, 2.0), (5.0, 0.0)), seconds=120, tokens=400, alike=True)
    record, _ = go(cluster, replace(FREE, row_s=0.0), load, lost_zone_at=6.0)
    stays = record.done[:, 2] - record.done[:, 0]
    # 4 s of steps and 10 s of silence, plus a wait for a row; from the start again it would be more.
    assert len(record.rows) == record.arrived
    assert stays.max() < 4 + 10 + 4 * 3


def test_demand_is_seen_long_before_anything_waits_at_a_gateway() -> None:
    """With several gateways nothing waits at any of them before the workers are far beyond their rows."""
    costs = replace(REAL, request_s=0.0)
    cluster = Cluster(workers=4, gateways=4, slots=16)
    rate = 4 * costs.capacity(16, 100)
    load = Load(((0.0, 0.5 * rate), (60.0, 1.2 * rate)), seconds=240, tokens=100)
    grown, slow = {}, {}
    for demand in (True, False):
        scaler = Scaler(per_pod=0.7 * 16, least=4, most=40, demand=demand)
        record, _ = go(cluster, costs, load, scaler=scaler)
        grown[demand] = int((record.state[:, 1] > 4).argmax())
        slow[demand] = record.first_token(0.99)
    assert 60 < grown[True] < grown[False]
    assert slow[True] < slow[False]


def test_workers_go_again_one_at_a_time_after_the_calm() -> None:
    costs = replace(REAL, request_s=0.0)
    rate = 2 * costs.capacity(8, 50)
    load = Load(((0.0, 2.5 * rate), (120.0, 0.1 * rate)), seconds=2000, tokens=50)
    scaler = Scaler(per_pod=0.7 * 8, least=2, most=20)
    record, _ = go(Cluster(2, 2, slots=8), costs, load, scaler=scaler)
    ready = record.state[:, 1]
    most = ready.max()
    assert most > 4
    assert ready[700] == most
    assert ready[-1] < most
    assert (np.diff(ready) >= -1).all()
