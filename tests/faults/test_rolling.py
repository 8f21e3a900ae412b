"""Stopping and restarting on purpose: streams in hand are finished, and no request is lost on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from fault_clients import Load, all_at_once
from fault_stack import FaultStack, e2e, until

from deploy.ports import free_run

pytestmark = pytest.mark.faults


async def test_a_stop_signal_lets_64_streams_end(single: FaultStack, fault):
    row = fault("SIGTERM of the gateway, 64 streams open")
    requests = single.asks(range(1100, 1164), 1500)
    gateway = single.gateway()
    stopped: list[float] = []

    def stop() -> None:
        stopped.append(time.monotonic())
        gateway.send_signal(signal.SIGTERM)

    outcomes = await all_at_once(single.url, requests, stop)
    row.count(outcomes)
    assert [o.detail for o in outcomes if o.kind != "completed"] == []
    assert stopped
    await asyncio.to_thread(until, lambda: not gateway.is_running(), "the old gateway has ended")
    await asyncio.to_thread(until, single.ready, "a new gateway is ready")
    row.recovery_s = time.monotonic() - stopped[0]
    after = await all_at_once(single.url, single.asks(range(4), 20))
    assert [o.kind for o in after] == ["completed"] * 4


class Replica:
    """A second gateway before the same TorchServe, started and stopped by hand."""

    def __init__(self, stack: FaultStack) -> None:
        self.port = free_run(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._stack = stack
        self._environment = stack.environment | {
            "INKWELL_PORT": str(self.port),
            "INKWELL_MODELS_FILE": str(stack.folder / "run" / "models.toml"),
            "INKWELL_INFERENCE": stack.worker_url,
            "INKWELL_MANAGEMENT": stack.management_url,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._stack.folder / "replica.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "api"], env=self._environment, stdout=log, stderr=log
            )
        until(self.ready, "the second gateway is ready")

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def retries(self) -> int:
        """Jobs that it has sent again since its last start."""
        lines = httpx.get(f"{self.url}/metrics", timeout=5).text.splitlines()
        return int(
            sum(float(one.rsplit(" ", 1)[1]) for one in lines if one.startswith("inkwell_retries_total{"))
        )

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(120)


@pytest.fixture
def replica(double: FaultStack) -> Iterator[Replica]:
    second = Replica(double)
    try:
        second.start()
        yield second
    finally:
        if second.process is not None and second.process.poll() is None:
            second.process.kill()
            second.process.wait()


async def test_a_rolling_restart_of_everything_loses_nothing(double: FaultStack, replica: Replica, fault):
    row = fault("rolling restart of two gateways and two workers under load")
    requests = double.asks(range(1200, 1232), lambda seed: 20 + 40 * (seed % 16))
    urls = [double.url, replica.url]
    begun = time.monotonic()
    async with Load(urls, requests, clients=12) as load:
        await load.completed(20)
        # The supervised gateway: it drains, ends and is started again.
        old = double.gateway()
        old.send_signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: not old.is_running(), "the old gateway has ended")
        await asyncio.to_thread(until, double.ready, "its successor is ready")
        await load.completed(20)
        # The other one.
        await asyncio.to_thread(replica.stop)
        await asyncio.to_thread(replica.start)
        await load.completed(20)
        # The workers, one after the other.
        for version in ("1.0", "1.0-w2"):
            victim = double.workers()[version]
            os.kill(victim, signal.SIGTERM)
            await asyncio.to_thread(
                until,
                lambda victim=victim, version=version: (
                    double.workers().get(version) not in (None, victim) and not psutil.pid_exists(victim)
                ),
                f"worker {version} was replaced",
            )
            await load.completed(20)
    row.count(load.outcomes).retried = double.retries() + replica.retries()
    row.recovery_s = max(o.seconds for o in load.outcomes if o.kind == "completed")
    row.notes["seconds in all"] = round(time.monotonic() - begun, 1)
    assert [o.detail for o in load.outcomes if o.kind in ("lost", "failed")] == []
    # Who has a connection still open hears that the gateway is about to stop, and asks the other one.
    refusals = {o.detail for o in load.outcomes if o.kind == "refused" and o.detail.startswith("429")}
    assert all("about to stop" in detail for detail in refusals), refusals
    assert row.completed >= 80
    assert e2e.processes.marked(double.run_id)
