"""`/v1` against a real worker over HTTP."""

from __future__ import annotations

import json

import httpx
import pytest


def complete(base, **body):
    return httpx.post(base + "/v1/completions", json=body, timeout=20)


def chunks(base, **body):
    with httpx.stream(
        "POST", base + "/v1/completions", json={**body, "stream": True}, timeout=20
    ) as response:
        assert response.status_code == 200, response.read()
        lines = [line for line in response.iter_lines() if line]
    return [line.removeprefix("data: ") for line in lines]


def test_a_completion_has_openais_shape(base, expected):
    body = complete(base, model="prose", prompt="abc", seed=3, max_tokens=8).json()
    assert body["object"] == "text_completion"
    assert body["model"] == "prose"
    assert body["choices"] == [
        {
            "index": 0, "text": expected("abc", 3, 8), "logprobs": None, "finish_reason": "length", "seed": 3,
            "seed_word": None, "category": None,
        }
    ]  # fmt: skip
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11}


def test_sixteen_tokens_are_the_default(base):
    assert complete(base, prompt="abc").json()["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        (None, ["lantern"]), ("", ["lantern"]), ("ab", ["ab"]), (["a", "b"], ["a", "b"]),
        ([1, 2], ["ab"]), ([[1], [2, 3]], ["a", "bc"]),
    ],
)  # fmt: skip
def test_every_form_of_prompt_is_taken(base, expected, prompt, texts):
    choices = complete(base, prompt=prompt, seed=3, max_tokens=5).json()["choices"]
    assert [choice["text"] for choice in choices] == [expected(text, 3, 5) for text in texts]


def test_a_choice_tells_its_seed_and_how_it_began(base):
    choices = complete(base, prompt=None, n=2, seed=3, max_tokens=2).json()["choices"]
    assert [choice["seed"] for choice in choices] == [3, 4]
    assert [choice["seed_word"] for choice in choices] == ["lantern", "lantern"]
    choice = complete(base, prompt="aЖ", category="elf", max_tokens=2).json()["choices"][0]
    assert (choice["category"], choice["dropped_characters"]) == ("elf", "Ж")
    assert isinstance(choice["seed"], int)


def test_what_our_parameters_ask_for_stands_in_the_choice(base):
    body = {"trace": True, "syllables": [1, 50], "rank": "pronounceable", "session": "of openai"}
    choice = complete(base, prompt="abc", max_tokens=3, **body).json()["choices"][0]
    assert [step["rank"] for step in choice["trace"]] == [0, 0, 0]
    assert choice["syllables"] >= 1
    assert 0 <= choice["pronounceability"] <= 1
    assert choice["session_scope"] == "gateway"


def test_the_first_chunk_of_each_choice_tells_how_it_began(base):
    found = chunks(base, prompt=["", "a"], n=2, seed=7, max_tokens=6, trace=True)
    begun, traces = {}, dict.fromkeys(range(4), 0)
    for chunk in found[:-1]:
        choice = json.loads(chunk)["choices"][0]
        traces[choice["index"]] += len(choice["trace"])
        if "seed" in choice:
            assert choice["index"] not in begun
            begun[choice["index"]] = (choice["seed"], choice["seed_word"])
    assert begun == {0: (7, "lantern"), 1: (8, "lantern"), 2: (7, None), 3: (8, None)}
    assert set(traces.values()) == {6}


def test_choices_are_ordered_by_prompt_and_then_sample(base, expected):
    choices = complete(base, prompt=["a", "b"], n=2, seed=3, max_tokens=5).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert [choice["text"] for choice in choices] == [
        expected(prompt, seed, 5) for prompt in "ab" for seed in (3, 4)
    ]


def test_best_of_pays_for_what_it_drops(base):
    body = complete(base, prompt="a", n=2, best_of=5, seed=3, max_tokens=4).json()
    assert len(body["choices"]) == 2
    assert body["usage"]["completion_tokens"] == 20


def test_stop_ends_the_text_before_it(base, expected):
    whole = expected("abc", 3, 40)
    choice = complete(base, prompt="abc", seed=3, max_tokens=40, stop=whole[9:11]).json()["choices"][0]
    assert choice["text"] == whole[: whole.index(whole[9:11])]
    assert choice["finish_reason"] == "stop"


def test_logprobs_have_openais_shape(base):
    choice = complete(base, prompt="abc", seed=3, max_tokens=4, logprobs=2).json()["choices"][0]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert all(value < 0 for value in logprobs["token_logprobs"])
    assert all(token in top for token, top in zip(logprobs["tokens"], logprobs["top_logprobs"], strict=True))
    tokens = logprobs["tokens"]
    assert logprobs["text_offset"] == [sum(map(len, tokens[:at])) for at in range(4)]


def test_echo_puts_the_prompt_first_with_a_null(base, expected):
    choice = complete(base, prompt="abc", seed=3, max_tokens=4, logprobs=1, echo=True).json()["choices"][0]
    assert choice["text"] == "abc" + expected("abc", 3, 4)
    logprobs = choice["logprobs"]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert None not in logprobs["token_logprobs"][1:]


def test_a_stream_gives_the_same_texts_and_ends_with_done(base, expected):
    found = chunks(
        base, prompt=["a", "b"], n=2, seed=3, max_tokens=12, stream_options={"include_usage": True}
    )
    assert found[-1] == "[DONE]"
    documents = [json.loads(chunk) for chunk in found[:-1]]
    texts = dict.fromkeys(range(4), "")
    reasons = {}
    for document in documents[:-1]:
        assert document["usage"] is None
        for choice in document["choices"]:
            texts[choice["index"]] += choice["text"]
            if choice["finish_reason"]:
                reasons[choice["index"]] = choice["finish_reason"]
    assert list(texts.values()) == [expected(prompt, seed, 12) for prompt in "ab" for seed in (3, 4)]
    assert reasons == dict.fromkeys(range(4), "length")
    assert documents[-1]["choices"] == []
    assert documents[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 48, "total_tokens": 50}


def test_a_stream_with_echo_and_logprobs_counts_offsets_through(base, worker, expected):
    worker.step_s = 0.002
    found = chunks(base, prompt="abc", seed=3, max_tokens=9, echo=True, logprobs=1)
    text, offsets, tokens = "", [], []
    for chunk in found[:-1]:
        choice = json.loads(chunk)["choices"][0]
        text += choice["text"]
        offsets += choice["logprobs"]["text_offset"]
        tokens += choice["logprobs"]["tokens"]
    assert text == "abc" + expected("abc", 3, 9)
    assert offsets == [sum(map(len, tokens[:at])) for at in range(len(tokens))]


@pytest.mark.parametrize("model", [None, "", "tgi", "https://example.test/v1"])
def test_no_exact_name_means_the_default_model(base, model):
    assert complete(base, model=model, prompt="a").json()["model"] == "prose"


def test_an_unknown_model_is_openais_404(base):
    response = complete(base, model="gpt-5", prompt="a")
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert "gpt-5" in error["message"]


def test_models_are_listed_and_found_with_an_escaped_slash(base):
    assert [model["id"] for model in httpx.get(base + "/v1/models").json()["data"]] == ["prose", "names"]
    assert httpx.get(base + "/v1/models/names").json()["object"] == "model"
    missing = httpx.get(base + "/v1/models/some%2Fmodel")
    assert missing.status_code == 404
    assert "'some/model'" in missing.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"logprobs": 6}, "logprobs", "less than or equal to 5"),
        ({"max_tokens": 201}, "max_tokens", "at most 200"),
        ({"prompt": []}, "prompt", "at least one prompt"),
        ({"prompt": 5}, "prompt", "got 5"),
        ({"suffix": "x"}, "suffix", "not supported"),
        ({"frequency_penalty": 3}, "frequency_penalty", "less than or equal to 2"),
        ({"messages": []}, "messages", "not a known parameter"),
        ({"stop": ["a"] * 17}, "stop", "17"),
    ],
)
def test_a_bad_request_is_openais_400_that_names_the_parameter(base, change, param, words):
    response = complete(base, **{"prompt": "a", **change})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert words in error["message"]


def test_a_permanent_failure_tells_the_client_not_to_retry(base):
    response = complete(base, prompt="explode")
    assert response.status_code == 500
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"]["code"] == "generation_failed"


def test_our_parameters_ride_at_top_level(base, worker):
    complete(base, prompt="a", top_k=4, category="elf", min_p=0.1)
    job = worker.posts[-1][0]
    assert (job["top_k"], job["category"], job["min_p"]) == (4, "elf", 0.1)


def test_the_model_may_stand_in_the_base_url(base):
    answer = httpx.post(base + "/m/names/v1/completions", json={"prompt": "a"}).json()
    assert answer["model"] == "names"
