"""Both clients against a server that answers as told: retries, errors, streams."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading

import pytest

from inkwell.client import (
    AnswerError,
    AsyncClient,
    Client,
    GenerationFailed,
    IncompleteGeneration,
    ModelNotFound,
    NotAuthorized,
    Overloaded,
    Retries,
    ServerError,
    TimedOut,
    Unreachable,
    ValidationError,
)
from inkwell.client.wire import retry_after

QUICK = Retries(deadline=5, base=0.001, cap=0.002)
DETAILS = {"finish_reason": "length", "generated_tokens": 2, "seed": 5, "model": "prose"}
ANSWER = {"generated_text": "ab", "details": DETAILS}


class Asked:
    """The asynchronous client, one event loop for each call, with the face of the other one."""

    def __init__(self, url, **options):
        self._make = lambda: AsyncClient(url, **options)

    def _run(self, call):
        async def run():
            async with self._make() as client:
                return await call(client)

        return asyncio.run(run())

    def generate(self, *args, **named):
        return self._run(lambda client: client.generate(*args, **named))

    def generate_many(self, *args, **named):
        return self._run(lambda client: client.generate_many(*args, **named))

    def models(self):
        return self._run(lambda client: client.models())

    def info(self, model=None):
        return self._run(lambda client: client.info(model))

    def stream(self, *args, **named):
        async def collect(client):
            found, error = [], None
            async with client.stream(*args, **named) as tokens:
                try:
                    found.extend([token async for token in tokens])
                except Exception as raised:
                    error = raised
            return found, error

        found, error = self._run(collect)
        yield from found
        if error is not None:
            raise error


@pytest.fixture(params=[Client, Asked], ids=["sync", "async"])
def connect(request, server):
    """`connect(**options)`: a client of the scripted server, of either kind."""
    made = []

    def connect(**options):
        made.append(request.param(server.url, **{"retries": QUICK, **options}))
        return made[-1]

    yield connect
    for client in made:
        if isinstance(client, Client):
            client.close()


def event(index, text, **more):
    value = {"index": index, "token": {"id": 7, "text": text, "logprob": -0.5, "special": False}}
    value |= {"generated_text": None, "details": None} | more
    return b"data:" + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def test_importing_the_client_loads_neither_torch_nor_numpy():
    code = "import sys, inkwell.client; print(sorted({'torch', 'numpy', 'httpx'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_using_the_client_loads_neither_torch_nor_numpy():
    code = (
        "import sys; from inkwell.client import Client; Client('http://127.0.0.1:9').close();"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_missing_httpx_is_named_with_the_way_to_get_it():
    code = (
        "import sys; sys.modules['httpx'] = None\n"
        "from inkwell.client import Client, MissingDependency\n"
        "try:\n    Client()\nexcept MissingDependency as error:\n    print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "inkwell.client needs httpx; get it with: pip install httpx"


def test_parameters_travel_as_the_gateway_reads_them(server, reply, connect):
    server.will(reply(body=ANSWER))
    connect(api_key="secret").generate("a", model="prose", top_k=3, stop=("x",), temperature=None)
    seen = server.seen[0]
    assert (seen.method, seen.path) == ("POST", "/generate")
    assert seen.body == {"inputs": "a", "model": "prose", "parameters": {"top_k": 3, "stop": ["x"]}}
    assert seen.headers["authorization"] == "Bearer secret"


def test_without_a_key_none_is_sent(server, reply, connect):
    server.will(reply(body=ANSWER))
    connect().generate()
    assert "authorization" not in server.seen[0].headers
    assert server.seen[0].body == {"parameters": {}}


def test_an_answer_is_read_into_its_fields(server, reply, connect):
    details = DETAILS | {
        "novelty": {"longest": 12, "ratio": 0.25, "verdict": "new"},
        "tokens": [{"id": 3, "text": "a", "logprob": -1.5, "special": False}],
        "top_tokens": [[{"id": 4, "text": "b", "logprob": -2.0, "special": False}]],
        "trace": [{"rank": 0}],
        "ended_by": "deadline",
    }
    server.will(reply(body={"generated_text": "ab", "details": details}))
    answer = connect().generate("x")
    assert (answer.text, answer.seed, answer.model, answer.ended_by) == ("ab", 5, "prose", "deadline")
    assert (answer.novelty.longest, answer.novelty.ratio, answer.novelty.verdict) == (12, 0.25, "new")
    [token] = answer.tokens
    assert (token.index, token.id, token.logprob, token.trace) == (1, 3, -1.5, {"rank": 0})
    assert token.top[0].text == "b"
    with pytest.raises(AttributeError):
        answer.text = "other"


def test_many_prompts_go_in_one_request(server, reply, connect):
    server.will(reply(body=[ANSWER, ANSWER | {"generated_text": "cd"}]))
    answers = connect().generate_many(["x", "y"], n=1)
    assert [answer.text for answer in answers] == ["ab", "cd"]
    assert server.seen[0].body["inputs"] == ["x", "y"]


def test_an_unknown_parameter_is_refused_before_it_is_sent(server, connect):
    with pytest.raises(ValidationError, match="did you mean temperature") as caught:
        connect().generate("x", temprature=1)
    assert caught.value.field == "temprature"
    assert server.seen == []


def test_several_answers_are_not_asked_of_a_call_that_gives_one(connect):
    with pytest.raises(ValidationError, match="generate_many") as caught:
        connect().generate("x", n=2)
    assert caught.value.field == "n"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "", "http://"])
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ValidationError, match="url must look like"):
        Client(url)


def test_overload_is_tried_again_until_there_is_room(server, reply, connect):
    full = reply(429, {"error": "queue full", "error_type": "overloaded"}, {"retry-after-ms": "1"})
    server.will(full, full, reply(body=ANSWER))
    assert connect().generate("x").text == "ab"
    assert len(server.seen) == 3


def test_overload_that_lasts_beyond_the_deadline_is_told_at_once(server, reply, connect):
    server.will(reply(429, {"error": "queue full", "error_type": "overloaded"}, {"Retry-After": "60"}))
    with pytest.raises(Overloaded, match="queue full") as caught:
        connect().generate("x")
    assert (caught.value.status, caught.value.retry_after) == (429, 60.0)
    assert len(server.seen) == 1


def test_a_dropped_connection_is_tried_again(server, reply, connect):
    server.will(None, reply(body=ANSWER))
    assert connect().generate("x").text == "ab"


def test_an_answer_that_breaks_off_is_asked_for_again(server, reply, connect):
    server.will(reply(body=b'{"generated_te', cut=True), reply(body=ANSWER))
    assert connect().generate("x").text == "ab"


def test_a_server_that_is_not_there_is_unreachable_after_the_deadline(server):
    server.close()
    with (
        pytest.raises(Unreachable, match=server.url),
        Client(server.url, retries=Retries(0.2, 0.01, 0.02)) as client,
    ):
        client.generate("x")


def test_a_late_answer_is_not_asked_for_again(server, reply):
    gate = threading.Event()
    server.will(reply(gate=gate))
    with pytest.raises(TimedOut), Client(server.url, retries=Retries(0.2)) as client:
        client.generate("x")
    gate.set()
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (422, "validation", ValidationError),
        (401, "unauthorized", NotAuthorized),
        (403, "forbidden", NotAuthorized),
        (404, "model_not_found", ModelNotFound),
        (424, "generation", GenerationFailed),
        (500, "incomplete_generation", IncompleteGeneration),
        (500, "internal", ServerError),
        (404, "not_found", ServerError),
    ],
)
def test_each_refusal_has_its_error_and_is_final(server, reply, connect, status, kind, error):
    server.will(reply(status, {"error": "so it is", "error_type": kind}, {"x-request-id": "r7"}))
    with pytest.raises(error, match="so it is") as caught:
        connect().generate("x")
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.kind, caught.value.request_id) == (status, kind, "r7")
    assert len(server.seen) == 1


def test_a_proxy_without_a_gateway_behind_is_tried_again(server, reply, connect):
    server.will(reply(502, b"<html>bad gateway</html>"), reply(body=ANSWER))
    assert connect().generate("x").text == "ab"


@pytest.mark.parametrize("body", [b"<html>hello</html>", {"hello": 1}, [1], {"generated_text": "x"}])
def test_an_answer_that_no_gateway_gives_is_an_error(server, reply, connect, body):
    server.will(reply(body=body))
    with pytest.raises(ServerError, match="expected"):
        connect().generate("x")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("temperature must be 0 or more; got -1", "temperature"),
        ("parameters.top_p must be at most 1; got 3", "top_p"),
        ("parameters.temprature is not a known parameter (did you mean temperature?)", "temprature"),
        ("inputs must be at most 10 long; got 20", "inputs"),
        ("the body is not valid JSON", None),
    ],
)
def test_a_refusal_names_its_field(server, reply, connect, message, field):
    server.will(reply(422, {"error": message, "error_type": "validation"}))
    with pytest.raises(ValidationError) as caught:
        connect().generate("x")
    assert caught.value.field == field


def test_a_stream_gives_tokens_and_the_answer_with_the_last(server, reply, connect):
    # U+2028 ends a line for str.splitlines, not for server-sent events.
    last = event(2, "b", generated_text="a\u2028b", details=DETAILS)
    server.will(reply(body=event(1, "a\u2028") + last))
    tokens = list(connect().stream("x", seed=5))
    assert [token.text for token in tokens] == ["a\u2028", "b"]
    assert tokens[0].answer is None
    assert tokens[1].answer.text == "a\u2028b"
    assert server.seen[0].path == "/generate_stream"


def test_a_stream_that_breaks_before_its_first_token_is_begun_again(server, reply, connect):
    whole = event(1, "a", generated_text="a", details=DETAILS)
    server.will(reply(body=b"", cut=True), reply(429, {"error": "full"}), reply(body=whole))
    assert [token.text for token in connect().stream("x")] == ["a"]
    assert len(server.seen) == 3


@pytest.mark.parametrize("cut", [True, False])
def test_a_stream_that_breaks_later_is_an_error_with_the_text_so_far(server, reply, connect, cut):
    server.will(reply(body=event(1, "the ") + event(2, "harb"), cut=cut))
    found = []
    with pytest.raises(IncompleteGeneration, match="broke off") as caught:
        found.extend(connect().stream("x"))
    assert caught.value.text == "the harb"
    assert len(server.seen) == 1


def test_an_error_event_is_raised(server, reply, connect):
    failure = {"error": "this job failed", "error_type": "generation"}
    server.will(reply(body=event(1, "a") + b"data:" + json.dumps(failure).encode() + b"\n\n"))
    with pytest.raises(GenerationFailed, match="this job failed"):
        list(connect().stream("x"))


def test_retry_after_is_read_in_milliseconds_seconds_and_as_a_date():
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": "9"}) == 9.0
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}) > 1e9
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


def test_errors_share_one_root():
    assert issubclass(ValidationError, AnswerError)
    assert issubclass(ValidationError, ValueError)
