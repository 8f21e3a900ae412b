"""The native routes against a real worker over HTTP."""

from __future__ import annotations

import json

import httpx
import pytest


def post(base, path="/generate", **body):
    return httpx.post(base + path, json=body, timeout=20)


def events(base, path="/generate_stream", **body):
    found = []
    with httpx.stream("POST", base + path, json=body, timeout=20) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line:
                assert line.startswith("data:{")
                found.append(json.loads(line[5:]))
    return found, response.headers


def test_text_and_details_are_those_of_the_worker(base, expected):
    answer = post(base, inputs="The harbour", parameters={"seed": 5, "max_new_tokens": 12, "details": True})
    assert answer.status_code == 200
    body = answer.json()
    assert body["generated_text"] == expected("The harbour", 5, 12)
    details = body["details"]
    assert details["finish_reason"] == "length"
    assert details["generated_tokens"] == 12
    assert details["seed"] == 5
    assert details["model"] == "prose"
    assert details["prefill"] == []
    assert "".join(token["text"] for token in details["tokens"]) == body["generated_text"]
    assert all(isinstance(token["logprob"], float) for token in details["tokens"])


def test_headers_are_those_of_text_generation_inference(base):
    headers = post(base, inputs="abc", parameters={"max_new_tokens": 4}).headers
    assert headers["x-generated-tokens"] == "4"
    assert headers["x-prompt-tokens"] == "3"
    assert headers["x-compute-characters"] == "3"
    for name in ("compute-time", "total-time", "validation-time", "queue-time", "inference-time"):
        assert float(headers[f"x-{name}"]) >= 0
    assert float(headers["x-time-per-token"]) == pytest.approx(0.5)


def test_an_absent_seed_is_chosen_told_and_repeats_the_text(base):
    first = post(base, inputs="abc", parameters={"max_new_tokens": 20}).json()
    seed = first["details"]["seed"]
    again = post(base, inputs="abc", parameters={"max_new_tokens": 20, "seed": seed}).json()
    assert again["generated_text"] == first["generated_text"]
    other = post(base, inputs="abc", parameters={"max_new_tokens": 20}).json()
    assert other["details"]["seed"] != seed


@pytest.mark.parametrize("inputs", [None, ""])
def test_empty_inputs_choose_a_seed_word_and_say_which(base, expected, inputs):
    body = post(base, inputs=inputs, parameters={"seed": 1, "max_new_tokens": 3}).json()
    assert body["details"]["seed_word"] == "lantern"
    assert body["generated_text"] == "lantern" + expected("lantern", 1, 3)


def test_characters_that_the_model_does_not_know_are_told(base):
    details = post(base, inputs="abcЖłЖ", parameters={"max_new_tokens": 2}).json()["details"]
    assert details["dropped_characters"] == "Жł"
    known = post(base, inputs="abcü", parameters={"max_new_tokens": 2}).json()["details"]
    assert "dropped_characters" not in known


def test_the_first_event_of_a_stream_tells_how_it_began(base, expected):
    found, _ = events(base, inputs="", parameters={"seed": 5, "max_new_tokens": 4, "category": "elf"})
    assert {name: found[0][name] for name in ("seed", "seed_word", "category")} == {
        "seed": 5, "seed_word": "lantern", "category": "elf",
    }  # fmt: skip
    assert all("seed_word" not in event for event in found[1:])
    assert found[-1]["details"]["seed_word"] == "lantern"
    found, _ = events(base, inputs="ЖЖ", parameters={"max_new_tokens": 1})
    assert found[0]["dropped_characters"] == "Ж"
    assert found[0]["seed_word"] is None


def test_a_chosen_seed_word_is_left_out_when_asked(base, expected):
    parameters = {"seed": 1, "max_new_tokens": 3, "return_full_text": False}
    body = post(base, inputs="", parameters=parameters).json()
    assert body["generated_text"] == expected("lantern", 1, 3)


def test_full_text_begins_with_the_prompt(base, expected):
    parameters = {"seed": 1, "max_new_tokens": 3, "return_full_text": True}
    assert post(base, inputs="abc", parameters=parameters).json()["generated_text"] == "abc" + expected(
        "abc", 1, 3
    )


def test_a_list_of_inputs_gives_the_answers_of_its_parts(base, expected):
    answers = post(base, inputs=["a", "b", "c"], parameters={"seed": 9, "max_new_tokens": 7}).json()
    assert [answer["generated_text"] for answer in answers] == [expected(p, 9, 7) for p in "abc"]


def test_n_answers_use_following_seeds(base, expected):
    answers = post(base, inputs="a", parameters={"seed": 9, "n": 3, "max_new_tokens": 7}).json()
    assert [answer["generated_text"] for answer in answers] == [
        expected("a", seed, 7) for seed in (9, 10, 11)
    ]


def test_best_of_answers_with_the_likeliest_and_shows_the_others(base):
    parameters = {"seed": 9, "best_of": 4, "max_new_tokens": 6, "details": True}
    details = post(base, inputs="a", parameters=parameters).json()["details"]
    others = details["best_of_sequences"]

    def mean(tokens):
        return sum(token["logprob"] for token in tokens) / len(tokens)

    assert len(others) == 3
    assert all(mean(details["tokens"]) >= mean(other["tokens"]) for other in others)
    assert sorted([details["seed"], *(other["seed"] for other in others)]) == [9, 10, 11, 12]


def test_rank_orders_the_answers_by_likelihood(base):
    parameters = {"seed": 9, "n": 5, "rank": "logprob", "max_new_tokens": 6, "details": True}
    answers = post(base, inputs="a", parameters=parameters).json()
    means = [sum(t["logprob"] for t in answer["details"]["tokens"]) / 6 for answer in answers]
    assert means == sorted(means, reverse=True)


def test_unique_answers_differ(base):
    # One-token texts of eleven kinds: duplicates are certain among plain draws.
    plain = post(base, inputs="a", parameters={"seed": 1, "n": 9, "max_new_tokens": 1}).json()
    assert len({answer["generated_text"] for answer in plain}) < 9
    parameters = {"seed": 1, "n": 9, "max_new_tokens": 1, "unique": True}
    texts = [answer["generated_text"] for answer in post(base, inputs="a", parameters=parameters).json()]
    assert len(set(texts)) == 9


def test_more_unique_answers_than_exist_is_refused_in_numbers(base):
    response = post(base, inputs="a", parameters={"n": 20, "max_new_tokens": 1, "unique": True})
    assert response.status_code == 422
    assert response.json()["error_type"] == "validation"
    assert "only 11 of 20 texts would do" in response.json()["error"]


def test_a_session_never_repeats_a_text(base):
    parameters = {"seed": 1, "max_new_tokens": 1, "session": "s1"}
    texts = [post(base, inputs="a", parameters=parameters).json()["generated_text"] for _ in range(5)]
    assert len(set(texts)) == 5
    other = post(base, inputs="a", parameters={**parameters, "session": "s2"}).json()
    assert other["generated_text"] == texts[0]


def test_truncate_keeps_the_last_tokens_of_the_prompt(base, expected):
    body = post(base, inputs="abcdef", parameters={"seed": 3, "truncate": 2, "max_new_tokens": 5}).json()
    assert body["generated_text"] == expected("ef", 3, 5)


def test_prefill_and_top_tokens_come_when_asked_for(base):
    parameters = {"decoder_input_details": True, "top_n_tokens": 2, "details": True, "max_new_tokens": 3}
    details = post(base, inputs="abc", parameters=parameters).json()["details"]
    assert [token["text"] for token in details["prefill"]] == ["a", "b", "c"]
    assert details["prefill"][0]["logprob"] is None
    assert [len(top) for top in details["top_tokens"]] == [2, 2, 2]


def test_post_process_cleans_the_answer_up(base, worker):
    raw = post(base, inputs="abc", parameters={"seed": 4, "max_new_tokens": 40}).json()["generated_text"]
    parameters = {"seed": 4, "max_new_tokens": 40, "post_process": True}
    clean = post(base, inputs="abc", parameters=parameters).json()["generated_text"]
    assert clean != raw
    assert clean[0].isupper()
    assert clean.casefold().split() == raw.casefold().split()


def test_parameters_reach_the_worker_under_their_names(base, worker):
    parameters = {
        "temperature": 0.5, "top_k": 3, "top_p": 0.9, "typical_p": 0.8, "min_p": 0.1, "seed": 1,
        "repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.3,
        "no_repeat_ngram_size": 2, "logit_bias": {"3": 1.0}, "min_new_tokens": 1, "max_new_tokens": 4,
        "stop": ["xx"], "category": {"elf": 0.5, "bear": 0.5},
        "seed_word": {"strategy": "letter", "value": "q"},
        "regex": ".*", "starts_with": "a", "ends_with": "b", "contains": "c", "min_chars": 1, "max_chars": 9,
        "allowed_chars": "abc", "novelty": {"mode": "mark", "max_overlap_chars": 9}, "trace": True,
    }  # fmt: skip
    assert post(base, inputs="abc", parameters=parameters).status_code == 200
    job = worker.posts[-1][0]
    assert {name: job[name] for name in parameters} == parameters
    assert 0 < job["deadline_ms"] <= 10_000
    assert set(job) == {*parameters, "id", "prompt", "deadline_ms", "stream"}


def test_null_parameters_are_left_to_the_model(base, worker):
    assert post(base, inputs="abc", parameters={"temperature": None, "top_k": None}).status_code == 200
    assert set(worker.posts[-1][0]) == {"id", "prompt", "seed", "deadline_ms", "stream"}


def test_sampling_refused_outright_is_greedy_as_in_text_generation_inference(base, worker):
    post(base, inputs="abc", parameters={"do_sample": False, "max_new_tokens": 1})
    assert worker.posts[-1][0]["temperature"] == 0
    post(base, inputs="abc", parameters={"do_sample": False, "top_k": 5, "max_new_tokens": 1})
    assert "temperature" not in worker.posts[-1][0]


REFUSED = [
    ({"temprature": 1}, ["parameters.temprature", "did you mean temperature"]),
    ({"temperature": -1}, ["parameters.temperature", "greater than or equal to 0", "got -1"]),
    ({"temperature": "hot"}, ["parameters.temperature", "valid number", "'hot'"]),
    ({"max_chars": 10**30}, ["parameters.max_chars", "less than or equal to 1000000000"]),
    ({"top_p": 0}, ["parameters.top_p", "greater than 0"]),
    ({"max_new_tokens": 201}, ["max_new_tokens", "at most 200", "201"]),
    ({"max_new_tokens": 0}, ["parameters.max_new_tokens", "greater than or equal to 1"]),
    ({"min_new_tokens": 9, "max_new_tokens": 4}, ["min_new_tokens", "at most max_new_tokens (4)", "got 9"]),
    ({"seed": -1}, ["parameters.seed"]),
    ({"n": 65}, ["n must be at most 64", "got 65"]),
    ({"n": 3, "best_of": 2}, ["best_of must be at least n (3)", "got 2"]),
    ({"stop": ["a"] * 17}, ["parameters.stop", "16"]),
    ({"seed_word": "rude"}, ["seed_word must be one of random, common", "'rude'"]),
    ({"num_beams": 17}, ["parameters.num_beams", "less than or equal to 16", "got 17"]),
    (
        {"num_beams": 4, "temperature": 0.7},
        ["temperature must be absent or 0 or 1 with num_beams above 1", "0.7"],
    ),
    ({"num_beams": 4, "do_sample": True}, ["do_sample must be absent or false", "got True"]),
    ({"num_beams": 4, "n": 5}, ["n must be at most num_beams (4)", "got 5"]),
    ({"num_beams": 4, "best_of": 3}, ["best_of must be absent or n (1)", "got 3"]),
    ({"num_beams": 4, "unique": True}, ["unique must be absent with num_beams above 1"]),
    ({"num_beams": 4, "trace": True}, ["trace must be absent with num_beams above 1"]),
    ({"num_beams": 4, "novelty": "reject"}, ["novelty must be absent or 'mark'", "got 'reject'"]),
    ({"length_penalty": 2}, ["length_penalty must be absent or 1 unless num_beams is above 1", "got 2"]),
    ({"length_penalty": 11}, ["parameters.length_penalty", "less than or equal to 10"]),
    ({"early_stopping": "soon"}, ["parameters.early_stopping", "'soon'"]),
    ({"forbid_loops": 1}, ["parameters.forbid_loops", "greater than or equal to 2", "got 1"]),
    ({"characters": "Mia"}, ["parameters.characters", "array", "'Mia'"]),
    ({"syllables": [3, 2]}, ["syllables must be", "got [3, 2]"]),
    ({"syllables": 0}, ["syllables", "greater than or equal to 1"]),
    ({"rank": "beauty"}, ["parameters.rank", "'logprob', 'novelty' or 'pronounceable'"]),
    ({"novelty": {"mode": "reject", "max_ratio": 2}}, ["novelty.max_ratio", "less than or equal to 1"]),
    ({"watermark": True}, ["watermark is not supported"]),
    ({"grammar": {"type": "json", "value": {}}}, ["grammar is not supported"]),
    ({"category": "dwarf"}, ["category must be one of elf, bear", "'dwarf'"]),
]


@pytest.mark.parametrize(("parameters", "words"), REFUSED)
@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_a_bad_parameter_is_a_422_that_names_it(base, parameters, words, path):
    response = post(base, path, inputs="abc", parameters=parameters)
    assert response.status_code == 422, response.text
    assert response.json()["error_type"] == "validation"
    for word in words:
        assert word in response.json()["error"]


def test_a_body_that_is_no_json_is_refused(base):
    response = httpx.post(base + "/generate", content=b"{inputs: 1}")
    assert response.status_code == 422
    assert "not valid JSON" in response.json()["error"]
    response = httpx.post(base + "/generate", content=b"[1]")
    assert "the body must be a JSON object" in response.json()["error"]


def test_the_content_type_of_plain_curl_is_accepted(base):
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert httpx.post(base + "/generate", content=b'{"inputs": "a"}', headers=headers).status_code == 200


def test_a_failed_job_is_a_424(base):
    response = post(base, inputs="explode")
    assert response.status_code == 424
    assert response.json() == {"error": "this job failed", "error_type": "generation"}


def test_stream_events_are_those_of_text_generation_inference(base, expected):
    found, headers = events(base, inputs="abc", parameters={"seed": 2, "max_new_tokens": 5})
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-accel-buffering"] == "no"
    text = expected("abc", 2, 5)
    assert [event["index"] for event in found] == [1, 2, 3, 4, 5]
    assert "".join(event["token"]["text"] for event in found) == text
    assert all(set(event["token"]) == {"id", "text", "logprob", "special"} for event in found)
    assert [event["generated_text"] for event in found] == [None] * 4 + [text]
    assert [event["details"] for event in found[:-1]] == [None] * 4
    assert found[-1]["details"]["finish_reason"] == "length"
    assert found[-1]["details"]["seed"] == 2


@pytest.mark.parametrize("end_at", [0, 1, 4])
def test_a_stream_that_ends_by_its_end_mark_has_one_last_event(base, worker, expected, end_at):
    worker.end_at = end_at
    worker.step_s = 0.005
    found, _ = events(base, inputs="abc", parameters={"seed": 2, "max_new_tokens": 9})
    assert [event["generated_text"] for event in found] == [None] * end_at + [expected("abc", 2, end_at)]
    assert found[-1]["token"]["special"] is True
    assert found[-1]["details"]["finish_reason"] == "eos_token"


def test_a_stream_that_stops_at_a_string_ends_before_it(base, worker, expected):
    worker.step_s = 0.002
    whole = expected("abc", 2, 60)
    stop = whole[20:22]
    parameters = {"seed": 2, "max_new_tokens": 60, "stop": [stop]}
    found, _ = events(base, inputs="abc", parameters=parameters)
    assert found[-1]["generated_text"] == whole[: whole.index(stop)]
    assert found[-1]["details"]["finish_reason"] == "stop_sequence"
    assert sum(event["generated_text"] is not None for event in found) == 1


def test_the_first_token_leaves_before_the_second_is_made(base, worker):
    worker.step_s = 0.2
    with httpx.stream(
        "POST",
        base + "/generate_stream",
        json={"inputs": "a", "parameters": {"max_new_tokens": 50}},
        timeout=20,
    ) as response:
        lines = response.iter_lines()
        next(lines)
        assert worker.active, "the job must still be running when its first token arrives"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"best_of": 2}, "best_of"), ({"n": 2}, "n"), ({"unique": True}, "unique"),
        ({"session": "s"}, "session"), ({"post_process": True}, "post_process"),
        ({"novelty": "reject"}, "novelty"), ({"syllables": 2}, "syllables"),
    ],
)  # fmt: skip
def test_what_needs_whole_texts_is_refused_in_a_stream(base, change, field):
    response = post(base, "/generate_stream", inputs="a", parameters=change)
    assert response.status_code == 422
    assert response.json()["error"].startswith(field)


def test_the_root_answers_with_a_list_and_honours_stream(base, expected):
    body = post(base, "/", inputs="abc", parameters={"seed": 1, "max_new_tokens": 4}).json()
    assert [answer["generated_text"] for answer in body] == [expected("abc", 1, 4)]
    found, _ = events(base, "/", inputs="abc", parameters={"seed": 1, "max_new_tokens": 4}, stream=True)
    assert found[-1]["generated_text"] == expected("abc", 1, 4)


@pytest.mark.parametrize("path", ["/m/names/generate", "/m/names/", "/m/names"])
def test_the_model_may_stand_in_the_path(base, path):
    body = post(base, path, inputs="abc", parameters={"max_new_tokens": 4}).json()
    answer = body if isinstance(body, dict) else body[0]
    assert answer["details"]["model"] == "names"


def test_path_and_body_must_not_name_different_models(base):
    response = post(base, "/m/names/generate", inputs="abc", model="prose")
    assert response.status_code == 422
    assert "'names'" in response.json()["error"]


def test_an_unknown_model_is_a_404_that_lists_those_served(base):
    response = post(base, inputs="abc", model="gpt-5")
    assert response.status_code == 404
    assert response.json()["error_type"] == "model_not_found"
    assert "prose, names" in response.json()["error"]
    assert post(base, "/m/nobody/generate", inputs="abc").status_code == 404


def test_tokenize_gives_ids_texts_and_offsets(base):
    tokens = post(base, "/tokenize", inputs="ab").json()
    assert [(t["text"], t["start"], t["stop"]) for t in tokens] == [("a", 0, 1), ("b", 1, 2)]
