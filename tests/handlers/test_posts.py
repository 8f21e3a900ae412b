"""The desk: POSTs with many jobs in, chunks of event lines out (docs/protocol.md)."""

from __future__ import annotations

import json

import pytest

from handlers.posts import HEARTBEAT, MOST_JOBS, Desk, Reply
from inkwell.bundle import load_bundle
from inkwell.session import TextEngine


def job(name, **values):
    return {"id": name, "prompt": "The harbour", "seed": 5, "max_new_tokens": 8, **values}


def local(bundle_dir, values):
    """The text that local generation gives for the same job, as the oracle."""
    engine = TextEngine(load_bundle(bundle_dir), slots=1)
    return next(event["text"] for event in engine.generate(values) if event["event"] == "end")


def kinds(events):
    return [event["event"] for event in events]


def test_each_job_of_a_post_gets_start_tokens_and_one_end(front, char_bundle):
    jobs = [job(f"r.{number}", seed=number, max_new_tokens=4 + number) for number in range(20)]
    front.post("p", {"jobs": jobs})
    front.finish()
    found = front.by_job("p")
    assert set(found) == {values["id"] for values in jobs}
    for values in jobs:
        events = found[values["id"]]
        assert kinds(events)[0] == "start"
        assert kinds(events)[-1] == "end"
        assert set(kinds(events)[1:-1]) == {"tokens"}
        end = events[-1]
        assert end["text"] == local(char_bundle, values)
        texts = "".join(text for event in events[1:-1] for text in event["texts"])
        assert texts + end.get("tail", "") == end["text"]
        assert end["generated_tokens"] == values["max_new_tokens"]


def test_more_jobs_than_slots_all_end_and_in_slices_too(slow, char_bundle):
    jobs = [job(f"r.{number}", seed=number) for number in range(15)]
    slow.post("p", {"jobs": jobs})
    slow.finish()
    assert len(slow.chunks["p"]) > 1
    for values in jobs:
        assert slow.by_job("p")[values["id"]][-1]["text"] == local(char_bundle, values)


def test_a_text_is_the_same_alone_and_among_others(front, slow):
    front.post("alone", {"jobs": [job("a", max_new_tokens=60)]})
    front.finish()
    others = [
        job(f"o.{number}", seed=number, prompt="Old", max_new_tokens=7 * number) for number in range(1, 9)
    ]
    slow.post("first", {"jobs": others[:4]})
    slow.turn()
    slow.post("shared", {"jobs": [*others[4:], job("a", max_new_tokens=60)]})
    slow.finish()
    assert slow.by_job("shared")["a"][-1]["text"] == front.by_job("alone")["a"][-1]["text"]


def test_an_invalid_job_gets_its_error_and_the_others_their_text(front):
    jobs = [job("good"), job("bad", temperature=-1), {"prompt": "x"}, "no object", job("last")]
    front.post("p", {"jobs": jobs})
    front.finish()
    found = front.by_job("p")
    assert kinds(found["good"])[-1] == "end"
    assert kinds(found["last"])[-1] == "end"
    (error,) = found["bad"]
    assert error["error_type"] == "validation"
    assert error["field"] == "temperature"
    assert "-1" in error["error"]
    assert [event["field"] for event in found[None]] == ["id", "job"]


def test_a_post_of_invalid_jobs_only_is_a_whole_answer(front):
    front.post("p", {"jobs": [job("a", top_p=0), job("b", seed="x")]})
    front.turn()
    assert front.last["p"] is None
    assert [event["field"] for event in front.events("p")] == ["top_p", "seed"]


def test_an_id_twice_in_one_post_is_an_error_of_the_second(front):
    front.post("p", {"jobs": [job("a"), job("a", seed=9), job("b")]})
    front.finish()
    events = front.by_job("p")["a"]
    assert sorted(set(kinds(events))) == ["end", "error", "start", "tokens"]
    error = next(event for event in events if event["event"] == "error")
    assert (error["error_type"], error["field"]) == ("validation", "id")
    assert "'a'" in error["error"]
    assert kinds(front.by_job("p")["b"])[-1] == "end"


def test_a_job_named_none_is_not_taken_for_one_without_a_name(front):
    front.post("p", {"jobs": [{"prompt": "x"}, job("None")]})
    front.finish()
    assert kinds(front.by_job("p")["None"])[-1] == "end"


def test_the_same_id_in_two_posts_is_two_jobs(front):
    front.post("one", {"jobs": [job("a", seed=1)]})
    front.post("two", {"jobs": [job("a", seed=2)]})
    front.finish()
    one, two = front.by_job("one")["a"], front.by_job("two")["a"]
    assert kinds(one).count("end") == kinds(two).count("end") == 1
    assert one[0]["seed"] == 1
    assert two[0]["seed"] == 2
    assert one[-1]["text"] != two[-1]["text"]


def test_what_ends_in_its_first_turn_is_a_whole_answer_of_lines(front):
    front.post("p", {"jobs": [job("a", stream=False)]})
    front.turn()
    assert front.last["p"] is None
    assert front.types["p"] == ["application/x-ndjson"]


def test_a_lone_stream_gives_its_first_token_in_a_turn_of_its_own(front):
    front.post("p", {"jobs": [job("a")]})
    front.turn()
    (tokens,) = (event for event in front.events("p") if event["event"] == "tokens")
    assert len(tokens["ids"]) == 1
    front.finish()
    assert front.events("p")[-1]["event"] == "end"


def test_what_goes_on_is_a_stream_that_ends_with_its_last_job(slow):
    slow.post("p", {"jobs": [job("short", max_new_tokens=3), job("long", max_new_tokens=80)]})
    slow.turn()
    assert "p" in slow.live
    slow.finish()
    assert slow.last["p"] is True
    assert slow.by_job("p")["long"][-1]["generated_tokens"] == 80
    order = [(event["job"], event["event"]) for event in slow.events("p")]
    assert order[-1] == ("long", "end")
    assert order.index(("short", "end")) < order.index(("long", "end"))


def test_a_short_job_that_comes_later_ends_before_long_ones(slow):
    slow.post("long", {"jobs": [job(f"l.{number}", max_new_tokens=300, seed=number) for number in range(3)]})
    slow.turn()
    slow.post("short", {"jobs": [job("s", max_new_tokens=5)]})
    while "short" in slow.live:
        slow.turn()
    assert "long" in slow.live
    assert not any(event["event"] == "end" for event in slow.events("long"))
    slow.finish()


def test_a_turn_without_news_is_a_heartbeat(slow):
    slow.post("busy", {"jobs": [job(f"b.{number}", max_new_tokens=60) for number in range(4)]})
    slow.turn()
    slow.post("waits", {"jobs": [job("w")]})
    slow.turn()
    slow.turn()
    assert slow.chunks["waits"][1] == HEARTBEAT
    slow.finish()
    assert kinds(slow.events("waits"))[-1] == "end"


def test_vanished_request_frees_its_slots(slow):
    slow.post("p", {"jobs": [job(f"r.{number}", max_new_tokens=400) for number in range(6)]})
    slow.turn()
    before = slow.ask({"describe": True})["engine"]
    assert (before["active"], before["queued"]) == (4, 2)
    slow.vanish("p")
    after = slow.ask({"describe": True})["engine"]
    assert (after["active"], after["queued"]) == (0, 0)
    assert after["cancelled_total"] == 6
    assert slow.desk.live == 0


def test_a_vanished_request_leaves_the_jobs_of_others_alone(slow, char_bundle):
    slow.post("gone", {"jobs": [job(f"g.{number}", max_new_tokens=400) for number in range(3)]})
    slow.post("stays", {"jobs": [job("s", max_new_tokens=50)]})
    slow.turn()
    slow.vanish("gone")
    slow.finish()
    assert slow.by_job("stays")["s"][-1]["text"] == local(char_bundle, job("s", max_new_tokens=50))


def test_a_cancelled_job_ends_in_its_own_stream(slow):
    slow.post("p", {"jobs": [job("a", max_new_tokens=400), job("b", max_new_tokens=30)]})
    slow.turn()
    answer = slow.ask({"cancel": ["a", "nobody"]})
    assert answer == {"cancelled": ["a"], "unknown": ["nobody"]}
    slow.finish()
    found = slow.by_job("p")
    assert found["a"][-1]["finish_reason"] == "cancelled"
    assert found["a"][-1]["text"] == "".join(
        t for e in found["a"] if e["event"] == "tokens" for t in e["texts"]
    )
    assert found["b"][-1]["finish_reason"] == "length"


def test_cancelling_all_jobs_ends_the_reply(slow):
    slow.post("p", {"jobs": [job("a", max_new_tokens=400)]})
    slow.turn()
    slow.post("c", {"cancel": ["a"]})
    slow.turn()
    assert not slow.live
    assert slow.last == {"c": None, "p": True}
    assert slow.ask({"describe": True})["engine"]["active"] == 0


@pytest.mark.parametrize("ids", ["a", [1], {"a": 1}, None])
def test_cancel_wants_a_list_of_ids(front, ids):
    answer = front.ask({"cancel": ids})
    assert answer["error_type"] == "validation"
    assert "cancel must be a list" in answer["error"]


def test_a_full_engine_is_said_per_job(slow):
    slow.post("p", {"jobs": [job(f"r.{number}") for number in range(70)]})
    slow.finish()
    refused = [event for event in slow.events("p") if event["event"] == "error"]
    ended = [event for event in slow.events("p") if event["event"] == "end"]
    assert {event["error_type"] for event in refused} == {"overloaded"}
    assert len(refused) == 70 - 64
    assert len(ended) == 64


@pytest.mark.parametrize("count", [0, MOST_JOBS + 1])
def test_too_few_or_too_many_jobs_are_refused_as_a_whole(front, count):
    answer = front.ask({"jobs": [job(f"r.{number}") for number in range(count)]})
    assert (answer["error_type"], answer["field"]) == ("validation", "body")
    assert "1 to 1024" in answer["error"]
    assert front.desk.engine.idle


def test_as_many_jobs_as_allowed_are_taken(front):
    front.post("p", {"jobs": [job(f"r.{number}", max_new_tokens=1) for number in range(MOST_JOBS)]})
    front.finish()
    assert sum(event["event"] == "end" for event in front.events("p")) == MOST_JOBS


def test_jobs_must_be_a_list(front):
    assert "jobs must be a list" in front.ask({"jobs": {"id": "a"}})["error"]


def test_resuming_a_complete_text_ends_at_once(front):
    front.post("p", {"jobs": [job("a", max_new_tokens=6)]})
    front.finish()
    ids = [i for event in front.events("p") if event["event"] == "tokens" for i in event["ids"]]
    front.post("q", {"jobs": [job("a", max_new_tokens=6, resume_ids=ids)]})
    front.turn()
    assert front.last["q"] is None
    assert kinds(front.events("q")) == ["start", "end"]
    assert front.events("q")[-1]["text"] == front.events("p")[-1]["text"]


def test_a_broken_reply_can_be_resumed_with_the_same_text(slow, char_bundle):
    slow.post("p", {"jobs": [job("a", prompt=None, max_new_tokens=70)]})
    slow.turn()
    slow.turn()
    slow.vanish("p")
    start = slow.events("p")[0]
    ids = [i for event in slow.events("p") if event["event"] == "tokens" for i in event["ids"]]
    assert 0 < len(ids) < 70
    again = job("a", prompt=start["prompt"], seed_word=None, max_new_tokens=70, resume_ids=ids)
    slow.post("q", {"jobs": [again]})
    slow.finish()
    more = [i for event in slow.events("q") if event["event"] == "tokens" for i in event["ids"]]
    assert len(ids) + len(more) == 70
    assert slow.events("q")[-1]["text"] == local(char_bundle, job("a", prompt=None, max_new_tokens=70))


# Bodies without jobs


def test_a_prompt_answers_with_text_seed_and_reason(front, char_bundle):
    answer = front.ask({"prompt": "Old sailors", "seed": 3, "max_new_tokens": 12})
    assert answer == {
        "generated_text": local(char_bundle, {"prompt": "Old sailors", "seed": 3, "max_new_tokens": 12}),
        "seed": 3,
        "seed_word": None,
        "finish_reason": "length",
        "generated_tokens": 12,
    }
    assert front.last["asked"] is None
    assert front.types["asked"] == ["application/json"]


def test_inputs_and_parameters_mean_the_same(front):
    one = front.ask({"prompt": "Old sailors", "seed": 3, "max_new_tokens": 12})
    two = front.ask({"inputs": "Old sailors", "parameters": {"seed": 3, "max_new_tokens": 12}})
    assert one == two
    assert front.ask({"inputs": "Old sailors", "parameters": None})["generated_tokens"] == 100


def test_empty_inputs_pick_a_seed_word(front):
    answer = front.ask({"inputs": "", "parameters": {"max_new_tokens": 4}})
    assert answer["seed_word"] in front.desk.engine.bundle.words.words


def test_context_answers_with_prompt_and_continuation(front):
    answer = front.ask({"context": "The lantern"})
    assert set(answer) == {"result"}
    assert answer["result"].startswith("The lantern")
    assert len(answer["result"]) == len("The lantern") + 100


@pytest.mark.parametrize("body", [{}, b"", "", b"{}", {"context": ""}, {"context": None}])
def test_no_context_begins_with_a_seed_word(front, body):
    result = front.ask(body)["result"]
    assert any(result.startswith(word) for word in front.desk.engine.bundle.words.words)


def test_a_single_job_longer_than_a_slice_is_one_object_after_heartbeats(slow, char_bundle):
    answer = slow.ask({"prompt": "The", "seed": 1, "max_new_tokens": 90})
    assert answer["generated_text"] == local(char_bundle, {"prompt": "The", "seed": 1, "max_new_tokens": 90})
    assert slow.last["asked"] is True
    assert set(slow.chunks["asked"][:-1]) == {HEARTBEAT}
    assert set(slow.types["asked"]) == {"application/json"}


def test_single_jobs_share_the_engine_without_mixing_up(slow, char_bundle):
    bodies = {f"n{number}": {"prompt": "The", "seed": number, "max_new_tokens": 20} for number in range(6)}
    for name, body in bodies.items():
        slow.post(name, body)
    slow.finish()
    for name, body in bodies.items():
        assert json.loads(b"".join(slow.chunks[name]))["generated_text"] == local(char_bundle, body)


@pytest.mark.parametrize(
    ("body", "field", "part"),
    [
        ({"prompt": "x", "temperature": -1}, "temperature", "-1"),
        ({"prompt": "x", "tempreature": 1}, "tempreature", "allowed are"),
        ({"inputs": "x", "parameters": {"max_new_tokens": 401}}, "max_new_tokens", "400"),
        ({"inputs": "x", "parameters": [1]}, "body", "parameters"),
        ({"inputs": "x", "more": 1}, "body", "nothing else"),
        ({"context": "x", "seed": 1}, "body", "'seed' cannot stand beside 'context'"),
        ({"context": 3}, "prompt", "3"),
        ({"tokenize": 3}, "body", "tokenize must be a string"),
        (b"{", "body", "not JSON"),
        ("nonsense", "body", "not JSON"),
        (b"\xff\xfe{", "body", "not JSON"),
        ("[" * 100_000, "body", "not JSON"),
        (b"[1]", "body", "must be a JSON object; got list"),
        (7, "body", "must be a JSON object; got int"),
        (None, "body", "must be a JSON object; got NoneType"),
    ],
)
def test_an_invalid_single_body_answers_what_is_wrong(front, body, field, part):
    answer = front.ask(body)
    assert set(answer) == {"error", "error_type", "field"}
    assert answer["error_type"] == "validation"
    assert answer["field"] == field
    assert part in answer["error"]


@pytest.mark.parametrize("wrap", [json.dumps, lambda body: json.dumps(body).encode(), lambda body: body])
def test_bodies_may_be_text_bytes_or_decoded(front, wrap):
    answer = front.ask(wrap({"prompt": "Old", "seed": 2, "max_new_tokens": 3}))
    assert answer["generated_tokens"] == 3


def test_bytearrays_are_bodies_too(front):
    assert front.ask(bytearray(b'{"prompt": "Old", "max_new_tokens": 3}'))["generated_tokens"] == 3


def test_describe_is_the_card_of_the_model(front):
    card = front.ask({"describe": True})
    assert card["name"] == "prose"
    assert card["slots"] == 8
    assert card["limits"] == {"max_new_tokens": 400, "max_prompt_tokens": 300}
    assert card["categories"] == []
    assert card["engine"]["active"] == 0


def test_describe_must_be_true(front):
    assert front.ask({"describe": False})["field"] == "describe"


def test_tokenize_gives_texts_that_make_up_the_input(front):
    tokens = front.ask({"tokenize": "lantern"})["tokens"]
    assert [token["text"] for token in tokens] == list("lantern")
    assert [(token["start"], token["stop"]) for token in tokens] == [(n, n + 1) for n in range(7)]


def test_categories_are_followed_and_unknown_ones_named(categorised, gpt_bundle):
    ask = {"prompt": "", "category": "elf", "seed": 4, "max_new_tokens": 12}
    answer = categorised.ask(ask)
    assert answer["generated_text"] == local(gpt_bundle, ask)
    assert answer["seed_word"] is None
    wrong = categorised.ask({**ask, "category": "gnome"})
    assert wrong["field"] == "category"
    assert "dwarf, elf, ork" in wrong["error"]


# Failures


def test_one_job_that_fails_inside_does_not_touch_the_others(front, char_bundle, monkeypatch):
    words = front.desk.engine.bundle.words

    def broken(*_):
        raise RuntimeError("the word list is damaged")

    monkeypatch.setattr(type(words), "pick", broken)
    front.post("p", {"jobs": [job("a"), job("word", prompt=None), job("b")]})
    front.finish()
    found = front.by_job("p")
    (error,) = found["word"]
    assert error["error_type"] == "generation"
    assert "the word list is damaged" in error["error"]
    for name in ("a", "b"):
        assert found[name][-1]["text"] == local(char_bundle, job(name))


def test_one_request_that_cannot_be_taken_does_not_touch_the_others(front, monkeypatch):
    def broken():
        raise RuntimeError("no card")

    monkeypatch.setattr(front.desk.engine, "describe", broken)
    front.post("jobs", {"jobs": [job("a")]})
    front.post("card", {"describe": True})
    front.finish()
    answer = json.loads(front.chunks["card"][0])
    assert answer["error_type"] == "generation"
    assert "no card" in answer["error"]
    assert front.events("jobs")[-1]["event"] == "end"


def fail_once(desk: Desk, monkeypatch):
    decoder = desk.engine.engine._decoder
    step = decoder.step

    def broken(*arguments):
        monkeypatch.setattr(decoder, "step", step, raising=False)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(decoder, "step", broken, raising=False)


def test_a_failing_engine_interrupts_every_job_and_goes_on(slow, char_bundle, monkeypatch):
    jobs = [job(f"r.{number}", max_new_tokens=100) for number in range(6)]
    slow.post("p", {"jobs": jobs})
    slow.post("single", {"prompt": "The", "max_new_tokens": 300})
    slow.turn()
    fail_once(slow.desk, monkeypatch)
    slow.turn()
    assert not slow.live
    for values in jobs:
        last = slow.by_job("p")[values["id"]][-1]
        assert (last["event"], last["error_type"]) == ("error", "interrupted")
    assert json.loads(b"".join(slow.chunks["single"]))["error_type"] == "interrupted"
    assert slow.last == {"p": True, "single": True}
    # No text of ours may carry TorchServe's word for "out of memory".
    assert b"CUDA" not in b"".join(slow.chunks["p"])

    slow.post("again", {"jobs": [job("a")]})
    slow.finish()
    assert slow.by_job("again")["a"][-1]["text"] == local(char_bundle, job("a"))


def test_texts_beyond_ascii_stay_as_they_are(front):
    front.post("p", {"jobs": [job("a", prompt="The harbour — «naïve»")]})
    front.finish()
    start = front.events("p")[0]
    assert start["prompt"] == "The harbour — «naïve»"
    assert "—" in start["dropped_characters"]
    assert "—".encode() in b"".join(front.chunks["p"])


def test_half_a_surrogate_pair_is_refused_and_can_be_named(front):
    answer = front.ask('{"prompt": "x", "category": {"\\ud800": 1}}')
    assert answer["error_type"] == "validation"
    assert answer["field"] == "category"


def test_a_reply_is_json_unless_said_otherwise():
    assert Reply(b"{}", None).content_type == "application/json"


def test_jobs_that_take_long_to_begin_are_begun_over_several_turns(char_bundle):
    ticks = iter(range(10_000))
    desk = Desk(TextEngine(load_bundle(char_bundle), slots=8), clock=lambda: next(ticks) * 0.1)
    jobs = [{"id": f"j{n}", "prompt": "The", "seed": n, "max_new_tokens": 300} for n in range(12)]
    first = desk.call(["a"], [{"jobs": jobs}])[0]
    begun = first.chunk.count(b'"event":"start"')
    assert 0 < begun < 12
    # Another POST does not wait until all of the first have begun.
    second = desk.call(["a", "b"], [{"jobs": jobs}, {"jobs": [{"id": "x", "prompt": "Old"}]}])
    assert b'"job":"x","event":"start"' in second[1].chunk
    lines = [first.chunk, second[0].chunk]
    while second[0].last is False:
        second = desk.call(["a"], [{"jobs": jobs}])
        lines.append(second[0].chunk)
    assert b"".join(lines).count(b'"event":"end"') == 12
    assert desk.live == 0
