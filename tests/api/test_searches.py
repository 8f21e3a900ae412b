"""Beam search and stories through the gateway, with a real engine behind it."""

from __future__ import annotations

import re

import httpx
import pytest

from inkwell.bundle import load_bundle
from inkwell.job import Limits, read_job
from inkwell.novelty import NoveltyIndex
from inkwell.session import TextEngine


@pytest.fixture(scope="module")
def bundle(bpe_bundle):
    found = load_bundle(bpe_bundle)
    found.novelty = NoveltyIndex.build(
        [
            "Once the old harbour lay quiet. Then a ship came, and nobody asked why.",
            "Then Ada and Bo went home.",
        ]
    )
    return found


@pytest.fixture
def engine(bundle, worker):
    worker.engine = TextEngine(bundle, slots=8)
    return worker.engine


def ask(base, path="/generate", status=200, **parameters):
    body = {"inputs": "The harbour", "parameters": {"max_new_tokens": 20, **parameters}}
    response = httpx.post(base + path, json=body, timeout=20)
    assert response.status_code == status, response.text
    return response.json()


def search(engine, **job):
    return list(engine.generate({"prompt": "The harbour", "max_new_tokens": 20, **job}))[-1]


def test_a_search_answers_its_best_text(base, engine):
    answer = ask(base, num_beams=4, details=True, length_penalty=0.5)
    best = search(engine, num_beams=4, length_penalty=0.5)
    assert answer["generated_text"] == best["text"]
    assert answer["details"]["score"] == pytest.approx(best["beams"][0]["score"])
    assert "".join(token["text"] for token in answer["details"]["tokens"]) == best["text"]
    assert len(answer["details"]["tokens"]) == answer["details"]["generated_tokens"]
    # whatever the seed
    assert ask(base, num_beams=4, seed=99, length_penalty=0.5)["generated_text"] == best["text"]


def test_n_are_the_best_of_one_search_in_their_order(base, engine, worker):
    answers = ask(base, num_beams=4, n=3, details=True)
    best = search(engine, num_beams=4, num_return_sequences=3, logprobs=True)["beams"]
    assert [answer["generated_text"] for answer in answers] == [beam["text"] for beam in best]
    assert [answer["details"]["score"] for answer in answers] == pytest.approx([b["score"] for b in best])
    for answer, beam in zip(answers, best, strict=True):
        assert [token["id"] for token in answer["details"]["tokens"]] == beam["ids"]
        assert answer["details"]["finish_reason"] == beam["finish_reason"]
    assert len(worker.posts[-1]) == 1
    assert read_job(worker.posts[-1][0], {}, Limits()).num_return_sequences == 3


def test_openai_clients_search_by_the_same_names(base, engine):
    body = {"prompt": ["The harbour", "Old"], "max_tokens": 12, "num_beams": 3, "n": 2, "logprobs": 1}
    answer = httpx.post(base + "/v1/completions", json=body, timeout=20).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    for place, prompt in enumerate(body["prompt"]):
        best = search(engine, prompt=prompt, max_new_tokens=12, num_beams=3, num_return_sequences=2)["beams"]
        found = answer["choices"][2 * place : 2 * place + 2]
        assert [choice["text"] for choice in found] == [beam["text"] for beam in best]
        assert all(len(choice["logprobs"]["tokens"]) > 0 for choice in found)


@pytest.mark.parametrize("path", ["/generate_stream", "/v1/completions"])
def test_a_search_cannot_be_streamed(base, path):
    body = (
        {"prompt": "x", "num_beams": 4, "stream": True}
        if "v1" in path
        else {"inputs": "x", "parameters": {"num_beams": 4}}
    )
    response = httpx.post(base + path, json=body, timeout=20)
    assert response.status_code in (400, 422)
    assert "num_beams must be 1 when streaming; got 4" in response.text


def test_beams_count_towards_the_tokens_of_a_request(serve, worker, bundle):
    base = serve(max_request_tokens=500)
    worker.engine = TextEngine(bundle, slots=16)
    ask(base, max_new_tokens=40)
    refused = ask(base, max_new_tokens=40, num_beams=16, status=422)
    assert "at most 500 tokens in one request" in refused["error"]


def test_a_search_that_does_not_fit_the_worker_is_refused(base, engine):
    refused = ask(base, num_beams=9, status=422)
    assert "num_beams is 9, which takes 9 rows; this engine has 8" in refused["error"]


def test_a_story_keeps_its_rules_over_http(base, engine):
    rules = {
        "characters": ["Ada", "Bo"],
        "ending": "They went home.",
        "forbid_loops": 3,
        "max_new_tokens": 90,
    }
    for beams in ({}, {"num_beams": 3}):
        answer = ask(base, **rules, **beams)
        text = answer["generated_text"]
        assert re.search(r"[.!?…][\"')\]]* They went home\.\Z", text)
        counts = {name: len(re.findall(rf"(?<![^\W\d_]){name}(?![^\W\d_])", text)) for name in ("Ada", "Bo")}
        assert answer["details"]["characters"] == counts
        assert all(counts.values())


def test_the_worker_says_which_rule_of_a_story_cannot_be_kept(base, engine):
    refused = ask(base, characters=["ada"], status=422)
    assert "characters must be names, which begin with a capital; got 'ada'" in refused["error"]
