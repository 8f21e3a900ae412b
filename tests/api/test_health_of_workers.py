"""Dead workers are asked for again, sick endpoints are passed over and come back."""

from __future__ import annotations

import time

import httpx

from api.metrics import Metrics
from api.reviver import Reviver
from api.torchserve import ManagementError, VersionState, WorkerState


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Listener:
    """Takes down what it is asked to scale."""

    def __init__(self, error=None):
        self.scaled = []
        self.error = error

    async def scale(self, url, model, version, workers):
        self.scaled.append((url, model, version, workers))
        if self.error is not None:
            raise self.error


def version(status="READY", wanted=1):
    worker = WorkerState("http://a", "1.0", "9000", status, gpu=False, memory_bytes=0)
    return VersionState("http://a", "1.0", wanted, (worker,))


def until(condition, what):
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.01)


async def test_a_dead_worker_is_asked_for_after_its_time_and_then_less_and_less_often():
    clock, listener = Clock(), Listener()
    reviver = Reviver(listener, Metrics(), after_s=10, clock=clock)
    asked_at = []
    for second in range(200):
        clock.now = 100.0 + second
        before = len(listener.scaled)
        await reviver.look("names", [version("UNLOADING", wanted=2)])
        if len(listener.scaled) > before:
            asked_at.append(second)
    assert asked_at == [10, 30, 70, 150]
    assert listener.scaled[0] == ("http://a", "names", "1.0", 2)


async def test_a_worker_that_came_back_by_itself_is_left_alone():
    clock, listener = Clock(), Listener()
    reviver = Reviver(listener, Metrics(), after_s=10, clock=clock)
    for second, status in ((0, "UNLOADING"), (9, "READY"), (12, "UNLOADING"), (21, "UNLOADING")):
        clock.now = 100.0 + second
        await reviver.look("names", [version(status)])
    assert listener.scaled == []


async def test_a_torchserve_that_refuses_is_asked_again_later():
    clock, listener = Clock(), Listener(ManagementError("http://a", 500, "no"))
    reviver = Reviver(listener, Metrics(), after_s=10, clock=clock)
    for second in (0, 10, 30):
        clock.now = 100.0 + second
        await reviver.look("names", [version("UNLOADING")])
    assert len(listener.scaled) == 2


def test_a_gateway_revives_a_version_that_torchserve_gave_up(serve, worker, expected, monkeypatch):
    monkeypatch.setattr("api.catalog._WATCH_S", 0.02)
    worker.dead.add("1.0")
    base = serve(revive_after_s=0.05)
    until(lambda: not worker.dead, "the gateway must ask for the worker")
    assert "PUT /models/prose/1.0?min_worker=1" in worker.management_calls
    body = {"inputs": "abc", "parameters": {"seed": 1, "max_new_tokens": 9}}
    answer = httpx.post(base + "/generate", json=body, timeout=20).json()
    assert answer["generated_text"] == expected("abc", 1, 9)
    assert 'inkwell_revivals_total{model="prose"}' in httpx.get(base + "/metrics").text


def test_an_ejected_endpoint_is_probed_and_comes_back(serve, worker, second_worker, expected):
    base = serve(
        inference=[worker.url, second_worker.url],
        management=[worker.url, second_worker.url],
        eject_s=600,
    )
    pool = serve.gateway(base).worker.pool("prose")
    until(lambda: len(pool.targets) == 2 and pool.default == "1.0", "both must be known")
    for one in (worker, second_worker):
        one.break_after.append(3)
    for seed in range(4):
        body = {"inputs": "abc", "parameters": {"seed": seed, "max_new_tokens": 9}}
        answer = httpx.post(base + "/generate", json=body, timeout=20).json()
        assert answer["generated_text"] == expected("abc", seed, 9)
    until(lambda: all(target.failures == 0 for target in pool.targets), "probes must re-admit them")
    metrics = httpx.get(base + "/metrics").text
    assert 'inkwell_ejections_total{model="prose"} 2.0' in metrics
    assert 'inkwell_readmissions_total{model="prose"} ' in metrics


def test_work_is_spread_over_endpoints_and_workers_by_their_load(serve, worker, second_worker):
    for one in (worker, second_worker):
        one.versions["prose"] = {"1.0": 1, "1.0-w2": 1}
        one.step_s = 0.01
    base = serve(
        inference=[worker.url, second_worker.url], management=[worker.url, second_worker.url], dispatch_jobs=1
    )
    pool = serve.gateway(base).worker.pool("prose")
    until(lambda: len(pool.targets) == 4, "all must be known")
    answer = httpx.post(
        base + "/generate", json={"inputs": "a", "parameters": {"n": 32, "max_new_tokens": 5}}, timeout=20
    )
    assert answer.status_code == 200
    shares = [(one.url, name) for one in (worker, second_worker) for _, name in one.served]
    counts = {share: shares.count(share) for share in set(shares)}
    assert len(counts) == 4
    assert max(counts.values()) - min(counts.values()) <= 4
    assert all(target.outstanding == 0 for target in pool.targets)
