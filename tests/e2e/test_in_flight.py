"""Many requests at a time, clients that leave, and a worker that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

pytestmark = pytest.mark.e2e


async def test_a_short_request_ends_before_the_long_ones_that_came_earlier(idle):
    def body(tokens):
        return {"inputs": "The", "parameters": {"seed": tokens, "max_new_tokens": tokens}}

    async with httpx.AsyncClient(base_url=idle.url, timeout=60) as client:
        # The shortest of them takes thousands of times as many steps as the short one.
        lengths = [400_000 + 1_000 * number for number in range(63)]
        long = [asyncio.create_task(client.post("/generate", json=body(tokens))) for tokens in lengths]
        try:
            while (await asyncio.to_thread(idle.engine))["active"] < 63:
                assert not any(task.done() for task in long)
            short = await client.post("/generate", json=body(5))
            assert short.json()["generated_text"] == idle.local("The", seed=5, max_new_tokens=5)
            assert not any(task.done() for task in long)
            assert (await asyncio.to_thread(idle.engine))["active"] == 63
        finally:
            for task in long:
                task.cancel()
            await asyncio.gather(*long, return_exceptions=True)
    await asyncio.to_thread(idle.wait, lambda: idle.engine()["active"] == 0, "all slots are free")


def test_closing_a_streams_connection_frees_its_slot(idle):
    cancelled = idle.metric("inkwell_jobs_total", model="prose", outcome="cancelled")
    before = idle.engine()["cancelled_total"]
    events = idle.stream("The", seed=1, max_new_tokens=1_000_000)
    for _ in range(5):
        next(events)
    assert idle.engine()["active"] == 1
    assert idle.metric("inkwell_inflight_jobs", model="prose") == 1
    events.close()
    idle.wait(lambda: idle.engine()["active"] == 0, "the slot is free")
    assert idle.engine()["cancelled_total"] == before + 1
    idle.wait(lambda: idle.metric("inkwell_inflight_jobs", model="prose") == 0, "the gateway has let go")
    assert idle.metric("inkwell_jobs_total", model="prose", outcome="cancelled") == cancelled + 1


def test_giving_up_on_a_whole_answer_frees_its_slot_too(idle):
    body = {"inputs": "The", "parameters": {"max_new_tokens": 1_000_000}}
    with httpx.Client() as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, f"{idle.url}/generate", json=body, timeout=1.0)
        idle.wait(lambda: idle.engine()["active"] == 1, "the request is at work")
        with pytest.raises(httpx.ReadTimeout):
            asked.result()
    idle.wait(lambda: idle.engine()["active"] == 0, "the slot is free")


def test_leaving_torchserve_itself_frees_all_slots_of_the_post(idle):
    jobs = [{"id": f"j{n}", "prompt": "The", "max_new_tokens": 1_000_000} for n in range(70)]
    url = f"{idle.worker_url}/predictions/prose"
    with httpx.stream("POST", url, json={"jobs": jobs}, timeout=30) as answer:
        # Kept, because the connection closes with it.
        chunks = answer.iter_raw()
        assert next(chunks)
        busy = idle.engine()
        assert (busy["active"], busy["queued"]) == (64, 6)
    idle.wait(lambda: (lambda e: e["active"] + e["queued"])(idle.engine()) == 0, "all slots are free")


def test_one_job_of_a_post_can_be_cancelled(idle):
    jobs = [
        {"id": "goes", "prompt": "The", "max_new_tokens": 1_000_000},
        {"id": "stays", "prompt": "Old", "seed": 2},
    ]
    with ThreadPoolExecutor(1) as pool:
        url = f"{idle.worker_url}/predictions/prose"
        asked = pool.submit(httpx.post, url, json={"jobs": jobs}, timeout=60)
        idle.wait(lambda: idle.engine()["active"] >= 1, "the jobs are at work")
        assert idle.predict({"cancel": ["goes", "nobody"]}) == {"cancelled": ["goes"], "unknown": ["nobody"]}
        text = asked.result().text
    assert '"finish_reason":"cancelled"' in text
    assert '"finish_reason":"length"' in text


def test_streams_go_on_with_the_same_bytes_after_their_worker_was_killed(idle):
    victim = idle.worker_pid()
    begun = threading.Barrier(7)

    def read(seed):
        events, received = idle.stream("The", seed=seed, max_new_tokens=20_000), []
        for event in events:
            received.append(event)
            if len(received) == 20:
                begun.wait(60)
        return received

    with ThreadPoolExecutor(7) as pool:
        streams = [pool.submit(read, seed) for seed in range(6)]
        whole = pool.submit(idle.generate, "Old", seed=77, max_new_tokens=20_000)
        begun.wait(60)
        os.kill(victim, signal.SIGKILL)
        for seed, stream in enumerate(streams):
            received = stream.result()
            expected = idle.local("The", seed=seed, max_new_tokens=20_000)
            assert "".join(event["token"]["text"] for event in received) == expected
            assert received[-1]["generated_text"] == expected
            assert [event["index"] for event in received] == list(range(1, 20_001))
        assert whole.result()["generated_text"] == idle.local("Old", seed=77, max_new_tokens=20_000)
    retried = [
        idle.metric("inkwell_retries_total", model="prose", reason=reason)
        for reason in ("broken_off", "incomplete", "silent")
    ]
    assert sum(retried) > 0, "the kill came in mid-stream"
    assert idle.wait(idle.worker_pid, "a new worker is ready") != victim
