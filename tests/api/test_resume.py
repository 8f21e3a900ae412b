"""No lost work: whatever happens to a worker, the answer is the one an unbroken worker gives."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest


def ask(base, prompt="abc", seed=7, tokens=30, **parameters):
    body = {"inputs": prompt, "parameters": {"seed": seed, "max_new_tokens": tokens, **parameters}}
    return httpx.post(base + "/generate", json=body, timeout=30)


def until(condition, what):
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.005)


def failure(status, message, kind="InternalServerException"):
    return status, {"code": status, "type": kind, "message": message}


def test_a_reply_that_breaks_off_is_resumed_where_it_stopped(base, worker, expected):
    worker.break_after.extend([12, 5, None])
    assert ask(base).json()["generated_text"] == expected("abc", 7, 30)
    first, second, third = (post[0] for post in worker.posts)
    assert "resume_ids" not in first
    assert len(second["resume_ids"]) == 12
    assert len(third["resume_ids"]) == 17
    assert second["prompt"] == "abc"
    assert second["seed_word"] is None


def test_a_break_before_the_start_keeps_the_seed(base, worker, expected):
    worker.break_after.extend([0, None])
    answer = httpx.post(
        base + "/generate", json={"inputs": "abc", "parameters": {"max_new_tokens": 9}}
    ).json()
    assert worker.posts[0][0]["seed"] == worker.posts[1][0]["seed"]
    assert answer["generated_text"] == expected("abc", answer["details"]["seed"], 9)


def test_a_chosen_seed_word_is_kept_when_resuming(base, worker, expected):
    worker.break_after.extend([4, None])
    whole = ask(base, prompt=None, tokens=9).json()["generated_text"]
    assert whole == "lantern" + expected("lantern", 7, 9)
    assert worker.posts[1][0]["prompt"] == "lantern"


def test_a_stream_goes_on_as_if_nothing_had_happened(base, worker, expected):
    worker.break_after.extend([3, 1, 6, None])
    body = {"inputs": "abc", "parameters": {"seed": 7, "max_new_tokens": 20}}
    with httpx.stream("POST", base + "/generate_stream", json=body, timeout=30) as response:
        events = [json.loads(line[5:]) for line in response.iter_lines() if line]
    assert [event["index"] for event in events] == list(range(1, 21))
    assert "".join(event["token"]["text"] for event in events) == expected("abc", 7, 20)
    assert events[-1]["generated_text"] == expected("abc", 7, 20)


@pytest.mark.parametrize(
    "reply",
    [
        failure(503, 'Model "prose" has no worker to serve inference request. Please use scale workers API'),
        failure(503, "Prediction failed"),
        failure(503, "number of batch response mismatched"),
        failure(500, "Worker died."),
        failure(507, "Out of resources: CUDA"),
        failure(404, "Model not found: prose", "ModelNotFoundException"),
        failure(408, "Request timeout"),
    ],
    ids=lambda reply: f"{reply[0]}-{reply[1]['message'][:12]}",
)
def test_a_failing_status_is_tried_again(base, worker, expected, reply):
    worker.replies.append(reply)
    assert ask(base).json()["generated_text"] == expected("abc", 7, 30)
    assert len(worker.posts) == 2


def test_a_refusal_that_will_not_change_is_not_repeated(base, worker):
    worker.replies.append(failure(413, "Request entity too large"))
    response = ask(base)
    assert response.status_code == 424
    assert "too large" not in response.text
    assert len(worker.posts) == 1


def test_a_full_engine_is_asked_again(base, worker, expected):
    worker.overloaded.extend([True, True, False])
    assert ask(base).json()["generated_text"] == expected("abc", 7, 30)
    assert len(worker.posts) == 3


def test_a_silent_worker_is_given_up(serve, worker, expected):
    base = serve(liveness_s=0.2)
    worker.silent.extend([True, False])
    assert ask(base).json()["generated_text"] == expected("abc", 7, 30)


def test_heartbeats_keep_a_slow_reply_alive(serve, worker, expected):
    base = serve(liveness_s=0.2)
    worker.gate.clear()
    threading.Timer(0.7, worker.gate.set).start()
    assert ask(base).json()["generated_text"] == expected("abc", 7, 30)
    assert len(worker.posts) == 1


def test_another_endpoint_takes_over(serve, worker, second_worker, expected):
    base = serve(inference=[worker.url, second_worker.url], eject_s=30)
    for one in (worker, second_worker):
        one.break_after.append(8)
    assert ask(base).json()["generated_text"] == expected("abc", 7, 30)
    assert worker.posts
    assert second_worker.posts


def test_an_endpoint_nobody_listens_on_is_passed_over(serve, worker, expected):
    # Without a management endpoint nobody but the requests themselves can find out.
    dead = "http://127.0.0.1:9"
    base = serve(inference=[dead, worker.url], management=[dead], eject_s=30)
    for seed in range(3):
        assert ask(base, seed=seed).json()["generated_text"] == expected("abc", seed, 30)
    metrics = httpx.get(base + "/metrics").text
    assert 'inkwell_retries_total{model="prose",reason="unreachable"} 1.0' in metrics


def test_without_any_worker_the_request_ends_with_its_time(serve):
    base = serve(inference=["http://127.0.0.1:9"], deadline_s=0.2)
    response = ask(base)
    assert response.status_code == 424
    assert response.json()["error_type"] == "generation"


def test_a_request_that_breaks_every_worker_fails_alone(serve, worker, expected):
    base = serve(starting_dispatches=1)
    worker.poison = "poison"
    prompts = ["a", "b", "poison", "c"]
    worker.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, base, prompt="x")
        until(lambda: worker.posts, "the first request must be under way")
        answers = [pool.submit(ask, base, prompt=prompt) for prompt in prompts]
        until(lambda: 'inkwell_queue_jobs{model="prose"} 4.0' in httpx.get(base + "/metrics").text, "queue")
        worker.gate.set()
    assert first.result().status_code == 200
    assert [answer.result().status_code for answer in answers] == [200, 200, 424, 200]
    assert [len(post) for post in worker.posts[:2]] == [1, 4]
    for prompt, answer in zip(prompts, answers, strict=True):
        if prompt != "poison":
            assert answer.result().json()["generated_text"] == expected(prompt, 7, 30)


def test_many_requests_over_breaking_workers_all_get_their_own_text(serve, worker, second_worker, expected):
    base = serve(inference=[worker.url, second_worker.url])
    for one in (worker, second_worker):
        one.step_s = 0.001
        one.break_after.extend([15, None, 40, 7, None, 25])
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda seed: ask(base, seed=seed), range(60)))
    assert [answer.json()["generated_text"] for answer in answers] == [
        expected("abc", seed, 30) for seed in range(60)
    ]
    assert len(worker.posts) + len(second_worker.posts) > 2


def test_an_interrupted_job_is_resumed_where_it_stopped(base, worker, expected):
    worker.interrupt_after.extend([9, None])
    assert ask(base).json()["generated_text"] == expected("abc", 7, 30)
    assert len(worker.posts) == 2
    assert len(worker.posts[1][0]["resume_ids"]) == 9


def test_an_interruption_does_not_eject_its_worker(serve, worker):
    base = serve()
    worker.interrupt_after.append(3)
    assert ask(base).status_code == 200
    metrics = httpx.get(base + "/metrics").text
    assert 'inkwell_retries_total{model="prose",reason="interrupted"} 1.0' in metrics
    assert "inkwell_ejections_total{" not in metrics


def test_an_interrupted_stream_goes_on(base, worker, expected):
    worker.interrupt_after.extend([4, 8, None])
    body = {"inputs": "abc", "parameters": {"seed": 7, "max_new_tokens": 20}}
    with httpx.stream("POST", base + "/generate_stream", json=body, timeout=30) as response:
        events = [json.loads(line[5:]) for line in response.iter_lines() if line]
    assert "".join(event["token"]["text"] for event in events) == expected("abc", 7, 20)


def test_an_engine_that_is_always_interrupted_ends_in_an_honest_error(base, worker):
    worker.interrupt_after.extend([0] * 9)
    response = ask(base)
    assert response.status_code == 424
    assert "3 times" in response.json()["error"]
