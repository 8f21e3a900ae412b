"""Callers that ask too much, read too slowly, close one half, or vanish: the others notice nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_clients import Load, all_at_once
from fault_stack import FaultStack, until

pytestmark = pytest.mark.faults

SMALL_QUEUE = """
[models.prose]
family = "prose"
default = true
slots = 4
max_new_tokens = 2000
queue_tokens = 4000

[models.names]
family = "names"
max_new_tokens = 64
"""


def by_hand(stack: FaultStack, body: dict[str, object], path: str = "/generate_stream") -> socket.socket:
    """A connection on which a request was sent by hand; nothing of the reply is read."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", stack.port), timeout=60)
    connection.sendall(head.encode() + content)
    return connection


def body_of(tokens: int, seed: int = 1) -> dict[str, object]:
    return {"inputs": "The", "parameters": {"seed": seed, "max_new_tokens": tokens}}


async def test_a_full_queue_refuses_at_once_and_answers_what_it_took(stacks, fault):
    row = fault("a full queue: 300 requests at once, room for about 10")
    stack: FaultStack = stacks(SMALL_QUEUE)
    stack.start()
    requests = stack.asks(range(300), 400, stream=False)
    before = stack.retries()
    outcomes = await all_at_once(stack.url, requests)
    row.count(outcomes).retried = stack.retries() - before
    refused = [o for o in outcomes if o.kind == "refused"]
    row.notes["slowest refusal s"] = round(max(o.seconds for o in refused), 3)
    assert [o.detail for o in outcomes if o.kind not in ("completed", "refused")] == []
    assert all(o.retry_after is not None and int(o.retry_after) >= 1 for o in refused)
    assert row.completed >= 10
    assert row.refused >= 100
    begun = time.monotonic()
    after = await all_at_once(stack.url, requests[:4])
    row.recovery_s = time.monotonic() - begun
    assert [o.kind for o in after] == ["completed"] * 4


async def test_slow_readers_hold_up_nobody_and_get_every_byte(single: FaultStack, fault):
    row = fault("16 slow readers")
    tokens = 20_000
    expected = {a.parameters["seed"]: a.expected for a in single.asks(range(900, 916), tokens)}
    rss = single.gateway().memory_info().rss
    slow = {seed: by_hand(single, body_of(tokens, seed)) for seed in expected}
    try:
        outcomes = await all_at_once(single.url, single.asks(range(920, 952), 60))
        row.recovery_s = max(o.seconds for o in outcomes)
        assert [o.detail for o in outcomes if o.kind != "completed"] == []
        until(single.is_idle, "the worker has long finished")
        grown = single.gateway().memory_info().rss - rss
        row.notes["gateway grew by MiB"] = round(grown / 2**20, 1)
        with ThreadPoolExecutor(4) as pool:
            texts = dict(zip(slow, pool.map(last_text, slow.values()), strict=True))
        assert texts == expected
        row.count(outcomes).completed += len(texts)
        row.accepted += len(texts)
    finally:
        for connection in slow.values():
            connection.close()


def last_text(connection: socket.socket) -> str | None:
    """Read a stream to its end; the whole text that its last event gives."""
    received = bytearray()
    connection.settimeout(120)
    while b"\r\n0\r\n\r\n" not in received[-16:]:
        part = connection.recv(1 << 16)
        assert part, "the connection must not close before the end"
        received += part
        # Only the end is of interest.
        del received[: -(1 << 17)]
    text = received.decode("utf-8", "replace")
    found = text.rindex('"generated_text":"')
    value, _ = json.JSONDecoder().raw_decode(text[found + len('"generated_text":') :].replace("\r\n", ""))
    return str(value)


async def test_clients_that_vanish_leave_nothing_behind(single: FaultStack, fault):
    row = fault("32 of 64 clients vanish in mid-stream")
    requests = single.asks(range(960, 992), 2000)
    gone = [by_hand(single, body_of(100_000, seed)) for seed in range(32)]
    await asyncio.to_thread(until, lambda: single.engine()["active"] == 32, "the doomed are being written")
    outcomes_task = asyncio.create_task(all_at_once(single.url, requests))
    for connection in gone:
        connection.close()
    closed = time.monotonic()
    outcomes = await outcomes_task
    row.count(outcomes)
    assert [o.detail for o in outcomes if o.kind != "completed"] == []
    await asyncio.to_thread(until, single.is_idle, "all slots are free")
    row.recovery_s = time.monotonic() - closed


async def test_half_closed_connections_free_what_they_held(single: FaultStack, fault):
    row = fault("32 half-closed and half-sent requests")
    before = single.gateway().num_fds()
    async with Load([single.url], single.asks(range(1000, 1008), 30), clients=2) as load:
        whole = [by_hand(single, body_of(100_000, seed)) for seed in range(16)]
        await asyncio.to_thread(until, lambda: single.engine()["active"] >= 16, "they are being written")
        halves = []
        for _ in range(16):
            connection = socket.create_connection(("127.0.0.1", single.port), timeout=60)
            connection.sendall(b'POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{"inputs"')
            halves.append(connection)
        for connection in [*whole, *halves]:
            connection.shutdown(socket.SHUT_WR)
        closed = time.monotonic()
        await load.completed(10)
    for connection in [*whole, *halves]:
        connection.close()
    await asyncio.to_thread(until, single.is_idle, "all slots are free")
    row.recovery_s = time.monotonic() - closed
    await asyncio.to_thread(
        until, lambda: single.gateway().num_fds() <= before + 4, "no connection is kept open"
    )
    row.count(load.outcomes)
    assert [o.detail for o in load.outcomes if o.kind != "completed"] == []
