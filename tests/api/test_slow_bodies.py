"""A caller that sends the beginning of a body and then nothing does not keep its place for ever."""

from __future__ import annotations

import socket

import httpx

REQUEST = b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n" + b'{"inputs": "'


def test_a_body_that_does_not_arrive_is_refused_and_its_connection_closed(serve):
    base = serve(body_s=0.3)
    host, port = base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(REQUEST)
        received = b""
        while part := connection.recv(4096):
            received += part
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"must arrive within 0.3 seconds; got 12 bytes" in received
    assert httpx.get(base + "/health").status_code == 200


def test_a_slow_body_that_arrives_in_time_is_answered(serve, worker, expected):
    base = serve(body_s=10)
    body = b'{"inputs": "abc", "parameters": {"seed": 3, "max_new_tokens": 5}}'
    answer = httpx.post(base + "/generate", content=iter([body[:9], body[9:20], body[20:]]), timeout=20)
    assert answer.json()["generated_text"] == expected("abc", 3, 5)


def test_a_long_answer_may_take_longer_than_a_body(serve, worker, expected):
    base = serve(body_s=0.2)
    worker.step_s = 0.02
    body = {"inputs": "abc", "parameters": {"seed": 3, "max_new_tokens": 40}}
    answer = httpx.post(base + "/generate", json=body, timeout=20)
    assert answer.json()["generated_text"] == expected("abc", 3, 40)
