"""TorchServe itself is killed under load: the gateway notices, keeps what it has, and goes on by itself."""

from __future__ import annotations

import asyncio
import time

import pytest
from fault_clients import Load, all_at_once
from fault_stack import FaultStack, until

pytestmark = pytest.mark.faults
NOTICED_S = 2.0


async def test_the_death_of_torchserve_loses_nothing(single: FaultStack, fault):
    row = fault("kill -9 of TorchServe under load")
    before, jvm = single.retries(), single.jvm().pid
    long = single.asks(range(700, 724), 3000)
    async with Load([single.url], single.asks(range(740, 760), 30, stream=False), clients=8) as load:
        await load.completed(20)
        killed = asyncio.get_running_loop().create_future()
        streams = asyncio.create_task(
            all_at_once(single.url, long, lambda: killed.set_result(single.kill(jvm)))
        )
        killed_at = await killed
        await asyncio.to_thread(until, lambda: not single.ready(), "the gateway notices")
        noticed = time.monotonic() - killed_at
        await asyncio.to_thread(until, single.ready, "the gateway says it is ready again")
        outcomes = await streams
        await load.completed(20)
    outcomes += load.outcomes
    row.count(outcomes).retried = single.retries() - before
    row.recovery_s = load.recovery_s(killed_at)
    row.notes["noticed after s"] = round(noticed, 2)
    assert [outcome.detail for outcome in outcomes if outcome.kind == "lost"] == []
    assert row.failed == 0, "all deadlines were far enough away"
    assert row.retried > 0, "the kill came in the middle"
    assert single.jvm().pid != jvm
    assert noticed < NOTICED_S
