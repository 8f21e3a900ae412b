"""A client that leaves stops its own work and nobody else's."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest


def until(condition, what):
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.005)


def leave(base, path, body, *, after):
    """Send a request by hand and close the connection once `after()` holds."""
    host, port = base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        until(after, "the work must begin")


LONG = b'{"inputs": "abc", "parameters": {"max_new_tokens": 200}}'
LONG_OPENAI = b'{"prompt": "abc", "max_tokens": 200, "stream": true, "n": 3}'


@pytest.mark.parametrize(
    ("path", "body"),
    [("/generate", LONG), ("/generate_stream", LONG), ("/v1/completions", LONG_OPENAI)],
)
def test_leaving_closes_the_reply_that_nobody_shares(base, worker, path, body):
    worker.step_s = 0.05
    leave(base, path, body, after=lambda: worker.active)
    until(lambda: worker.closed, "the worker must see the connection close")
    assert not worker.active
    assert len(worker.posts) == 1


def test_leaving_before_the_first_answer_cancels_too(base, worker):
    worker.gate.clear()
    leave(base, "/generate_stream", LONG, after=lambda: worker.active)
    until(lambda: worker.closed, "the worker must see the connection close")


def test_leaving_a_shared_reply_cancels_one_job_of_it(serve, worker, expected):
    base = serve(starting_dispatches=1)
    worker.gate.clear()
    worker.step_s = 0.01

    def queued(count):
        return f'inkwell_queue_jobs{{model="prose"}} {count}.0' in httpx.get(base + "/metrics").text

    def ask(prompt):
        body = {"inputs": prompt, "parameters": {"seed": 3, "max_new_tokens": 60}}
        return httpx.post(base + "/generate", json=body, timeout=20)

    def together():
        if queued(2):
            worker.gate.set()
        return len(worker.posts) == 2

    with ThreadPoolExecutor(4) as pool:
        stays = [pool.submit(ask, "a")]
        until(lambda: worker.posts, "one must be under way")
        stays.append(pool.submit(ask, "b"))
        until(lambda: queued(1), "another must wait")
        leave(base, "/generate", LONG, after=together)
        shared = worker.posts[1]
        assert len(shared) == 2
        until(lambda: worker.cancelled, "the worker must be told")
        assert [answer.result().status_code for answer in stays] == [200, 200]
    gone = next(job["id"] for job in shared if job["prompt"] == "abc")
    assert worker.cancelled == [gone]
    assert [answer.result().json()["generated_text"] for answer in stays] == [
        expected(p, 3, 60) for p in "ab"
    ]


def test_a_slow_reader_does_not_hold_up_others(base, worker, expected):
    with httpx.stream(
        "POST",
        base + "/generate_stream",
        json={"inputs": "abc", "parameters": {"seed": 1, "max_new_tokens": 200}},
        timeout=20,
    ) as slow:
        lines = slow.iter_lines()
        next(lines)
        body = {"inputs": "b", "parameters": {"seed": 1, "max_new_tokens": 9}}
        quick = httpx.post(base + "/generate", json=body, timeout=20)
        assert quick.json()["generated_text"] == expected("b", 1, 9)
        assert expected("abc", 1, 200) in [*lines][-2].encode().decode("utf-8")
