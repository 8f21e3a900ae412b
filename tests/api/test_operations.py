"""Health, readiness, models, metrics, ids, limits, keys: what surrounds a generation."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from api.keys import make_key


def post(base, path="/generate", headers=None, **body):
    return httpx.post(base + path, json=body, timeout=20, headers=headers)


def until(condition, what):
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.01)


def test_ready_asks_for_a_ready_worker_of_every_model(base, worker):
    assert httpx.get(base + "/ready").status_code == 200
    worker.ready = False
    response = httpx.get(base + "/ready")
    assert response.status_code == 503
    assert response.json()["error_type"] == "healthcheck"
    assert "prose (no READY worker)" in response.json()["error"]
    worker.ready = True
    worker.registered = ("prose",)
    assert "names" in httpx.get(base + "/ready").json()["error"]
    assert "prose" not in httpx.get(base + "/ready").json()["error"]


def test_ready_asks_the_worker_itself_too(serve, worker):
    base = serve(inference=["http://127.0.0.1:9"])
    assert "does not answer" in httpx.get(base + "/ready").json()["error"]


@pytest.mark.parametrize("path", ["/health", "/ping"])
def test_health_is_the_gateways_own(serve, path):
    base = serve(inference=["http://127.0.0.1:9"], management=["http://127.0.0.1:9"])
    assert httpx.get(base + path).status_code == 200


def test_models_join_the_file_with_the_workers_cards(base):
    listed = httpx.get(base + "/models").json()["models"]
    assert [model["id"] for model in listed] == ["prose", "names"]
    one = httpx.get(base + "/models/names").json()
    assert one in listed
    assert one["state"] == "ready"
    assert one["limits"] == {"max_new_tokens": 64, "max_prompt_tokens": 2000}
    assert one["categories"] == ["elf", "bear"]
    assert one["versions"] == {"1.0": 1.0}
    assert one["workers"] == [
        {"version": "1.0", "id": "9000", "status": "READY", "gpu": False, "memory_bytes": 1000}
    ]
    assert one["seed_words"] == 1200
    assert one["seed_word_sample"] == ["lantern", "harbour", "moor"]
    assert httpx.get(base + "/models/nobody").status_code == 404


def test_info_names_the_default_or_the_model_in_the_path(base):
    info = httpx.get(base + "/info").json()
    assert info["model_id"] == "prose"
    assert info["max_total_tokens"] == 2200
    assert httpx.get(base + "/m/names/info").json()["limits"]["max_new_tokens"] == 64


def test_metrics_count_what_happened(serve):
    base = serve()
    post(base, inputs="abc", parameters={"max_new_tokens": 6})
    post(base, inputs="abc", parameters={"max_new_tokens": -6})
    text = httpx.get(base + "/metrics").text
    for line in (
        'inkwell_generated_tokens_total{model="prose"} 6.0',
        'inkwell_prompt_tokens_total{model="prose"} 3.0',
        'inkwell_jobs_total{model="prose",outcome="length"} 1.0',
        'inkwell_requests_total{model="prose",route="/generate",status="200"} 1.0',
        'inkwell_requests_total{model="",route="/generate",status="422"} 1.0',
        'inkwell_dispatch_jobs_sum{model="prose"} 1.0',
        'inkwell_time_to_first_token_seconds_count{model="prose"} 1.0',
        'inkwell_inflight_jobs{model="prose"} 0.0',
        'inkwell_queue_jobs{model="prose"} 0.0',
        'inkwell_queue_tokens{model="prose"} 0.0',
    ):
        assert line in text
    assert 'le="0.0005"' in text


def test_two_apps_do_not_share_their_metrics(serve):
    first, second = serve(), serve()
    post(first, inputs="abc", parameters={"max_new_tokens": 6})
    assert "inkwell_generated_tokens_total{" not in httpx.get(second + "/metrics").text


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Amzn-Trace-Id"])
def test_a_request_id_is_carried_back_and_to_the_worker(base, worker, name):
    response = post(base, inputs="a", headers={name: "Root=1-abc"})
    assert response.headers[name] == "Root=1-abc"
    assert worker.posts[-1][0]["id"].startswith("Root=1-abc.")


def test_one_request_id_for_many_requests_keeps_their_answers_apart(serve, worker, expected):
    base = serve(starting_dispatches=1)
    worker.gate.clear()

    def ask(prompt):
        headers = {"X-Request-Id": "same"}
        asked = {"seed": 1, "max_new_tokens": 9}
        return post(base, inputs=prompt, parameters=asked, headers=headers).json()["generated_text"]

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, prompt) for prompt in "abcdefg"]
        until(lambda: 'inflight_jobs{model="prose"} 0.0' not in httpx.get(base + "/metrics").text, "sent")
        worker.gate.set()
        assert [answer.result() for answer in answers] == [expected(prompt, 1, 9) for prompt in "abcdefg"]
    ids = [job["id"] for sent in worker.posts for job in sent]
    assert len(set(ids)) == 7


def test_a_missing_or_unusable_request_id_is_made(base):
    made = post(base, inputs="a").headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{24}", made)
    assert post(base, inputs="a", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"
    assert httpx.get(base + "/nowhere").headers["x-request-id"]


def test_unknown_routes_and_methods_are_json_in_the_dialect_of_the_path(base):
    assert httpx.get(base + "/nowhere").json()["error_type"] == "not_found"
    assert httpx.get(base + "/generate").status_code == 405
    assert "message" in httpx.get(base + "/v1/nowhere").json()["error"]


def test_the_document_of_the_api_describes_the_bodies(base):
    document = httpx.get(base + "/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert "temperature" in schemas["Parameters"]["properties"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references
    assert references <= set(schemas)
    assert httpx.get(base + "/docs").status_code == 200


def test_an_unexpected_exception_tells_the_client_nothing(serve, monkeypatch, capsys):
    base = serve()

    def broken(*_):
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(serve.gateway(base).catalog, "entry", broken)
    response = post(base, inputs="a")
    assert response.status_code == 500
    assert response.json() == {"error": "internal error", "error_type": "internal"}
    assert "the secret of the house" in capsys.readouterr().out


def test_bodies_inputs_and_lists_have_limits(serve):
    base = serve(max_body_bytes=2000, max_input_chars=50, max_inputs=3, max_request_tokens=300)
    too_large = post(base, inputs="a" * 3000)
    assert too_large.status_code == 413
    assert "2000 bytes" in too_large.json()["error"]
    chunked = httpx.post(base + "/generate", content=(b"x" * 500 for _ in range(9)))
    assert chunked.status_code == 413
    for body, words in (
        ({"inputs": "a" * 51}, "at most 50 long; got 51"),
        ({"inputs": ["a"] * 4}, "at most 3; got 4 prompts"),
        ({"inputs": []}, "at least one prompt"),
        ({"inputs": "a", "parameters": {"n": 4}}, "at most 300 tokens in one request"),
    ):
        response = post(base, **body)
        assert response.status_code == 422
        assert words in response.json()["error"]


def test_a_full_queue_is_a_429_with_a_time_before_any_header(serve, worker):
    base = serve(max_queue_tokens=250, starting_dispatches=1)
    worker.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        asked = {"max_new_tokens": 200}
        taken = [pool.submit(post, base, inputs="a", parameters=asked)]
        until(lambda: worker.posts, "one must be under way")
        taken.append(pool.submit(post, base, inputs="a", parameters=asked))
        until(lambda: 'queue_jobs{model="prose"} 1.0' in httpx.get(base + "/metrics").text, "one must wait")
        for path in ("/generate", "/generate_stream", "/"):
            refused = post(base, path, inputs="a", parameters={"max_new_tokens": 200})
            assert refused.status_code == 429
            assert refused.json()["error_type"] == "overloaded"
            assert int(refused.headers["retry-after"]) >= 1
            assert int(refused.headers["retry-after-ms"]) >= 1
        refused = httpx.post(base + "/v1/completions", json={"prompt": "a", "max_tokens": 200})
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        worker.gate.set()
        assert [answer.result().status_code for answer in taken] == [200, 200]
    text = httpx.get(base + "/metrics").text
    assert 'inkwell_rejections_total{model="prose",reason="queue"} 4.0' in text


def test_streams_of_one_caller_are_counted_and_given_back(serve, worker):
    base = serve(max_streams_per_key=1)
    worker.step_s = 0.02
    body = {"inputs": "a", "parameters": {"max_new_tokens": 200}}
    with httpx.stream("POST", base + "/generate_stream", json=body, timeout=20) as response:
        lines = response.iter_lines()
        next(lines)
        refused = post(base, "/generate_stream", **body)
        assert refused.status_code == 429
        assert "1 streams are open" in refused.json()["error"]
    worker.step_s = 0
    until(lambda: post(base, "/generate_stream", inputs="a").status_code == 200, "it must be free again")


def test_the_rate_of_one_caller_is_limited(serve):
    base = serve(requests_per_second_per_key=0.5)
    assert post(base, inputs="a").status_code == 200
    refused = post(base, inputs="a")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after-ms"]) <= 2000


def test_keys_are_asked_for_and_read_again_when_they_change(serve, tmp_path):
    token, line = make_key("ada")
    key_file = tmp_path / "keys"
    key_file.write_text(f"# who\n{line}\n")
    base = serve(key_file=key_file)
    assert post(base, inputs="a").status_code == 401
    assert post(base, inputs="a").headers["www-authenticate"] == "Bearer"
    assert post(base, inputs="a", headers={"Authorization": "Bearer nonsense"}).status_code == 401
    assert post(base, inputs="a", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert httpx.get(base + "/models").status_code == 401
    assert httpx.get(base + "/health").status_code == 200
    error = httpx.post(base + "/v1/completions", json={}).json()["error"]
    assert error["code"] == "invalid_api_key"
    other, other_line = make_key("bob")
    key_file.write_text(other_line)
    os.utime(key_file, (1, 1))

    def status(token):
        return post(base, inputs="a", headers={"Authorization": f"Bearer {token}"}).status_code

    until(lambda: status(other) == 200, "the new key must come into force")
    assert status(token) == 401


def test_a_key_file_made_wrong_leaves_the_old_keys_in_force(serve, tmp_path):
    key_file = tmp_path / "keys"
    key_file.write_text(f"ada sha256:{hashlib.sha256(b'old').hexdigest()}")
    base = serve(key_file=key_file)
    keys = serve.gateway(base).keys
    key_file.write_text("ada md5:1234")
    keys._looked_at -= 10
    assert post(base, inputs="a", headers={"Authorization": "Bearer old"}).status_code == 200


def test_stopping_refuses_new_work_and_finishes_what_is_in_hand(serve, worker, expected):
    base = serve()
    gateway = serve.gateway(base)
    worker.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        asked = {"seed": 1, "max_new_tokens": 9}
        answer = pool.submit(post, base, inputs="abc", parameters=asked)
        until(lambda: worker.posts, "the request must be under way")
        gateway._watcher.get_loop().call_soon_threadsafe(gateway.begin_drain)
        until(lambda: httpx.get(base + "/ready").status_code == 503, "it must not be ready any more")
        refused = post(base, inputs="abc")
        assert refused.status_code == 429
        threading.Timer(0.1, worker.gate.set).start()
        assert answer.result().json()["generated_text"] == expected("abc", 1, 9)


def test_what_cannot_finish_before_the_stop_gets_an_honest_error(serve, worker):
    base = serve(drain_s=0.1)
    gateway = serve.gateway(base)
    worker.step_s = 0.05
    body = {"inputs": "abc", "parameters": {"max_new_tokens": 200}}
    with httpx.stream("POST", base + "/generate_stream", json=body, timeout=20) as response:
        lines = response.iter_lines()
        next(lines)
        gateway._watcher.get_loop().call_soon_threadsafe(gateway.begin_drain)
        events = [json.loads(line[5:]) for line in lines if line]
    assert events[-1]["error_type"] == "generation"
    assert "stops" in events[-1]["error"]


def test_cross_origin_calls_are_allowed_where_configured(serve):
    base = serve(cors_origins="https://a.test")
    headers = {"origin": "https://a.test"}
    assert post(base, inputs="a", headers=headers).headers["access-control-allow-origin"] == "https://a.test"
    assert (
        "access-control-allow-origin"
        not in post(base, inputs="a", headers={"origin": "https://b.test"}).headers
    )
