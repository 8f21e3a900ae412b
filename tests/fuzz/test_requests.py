"""Whatever is sent to the gateway, the answer is a text, or a refusal that names field and reason. Never a 5xx."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.native_schema import Parameters

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NEAR = st.sampled_from(
    [0, 1, -1, 2, 0.5, 1.0, 1e308, 2**63 - 1, 2**63, 10**400, "", "a", "elf", "\0", "\ud800", "(", "[a-z]+", "mark",
     ["a"], [""], [1, 2], {}, {"elf": 1}, {"strategy": "rare"}, {"mode": "reject"}, True, None]
)  # fmt: skip
PARAMETERS = st.dictionaries(
    st.sampled_from(sorted(Parameters.model_fields)) | st.text(max_size=6), NEAR | ANYTHING, max_size=5
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.text(max_size=20) | st.none() | st.lists(st.text(max_size=5), max_size=3) | ANYTHING,
        "parameters": PARAMETERS | ANYTHING,
        "stream": st.booleans() | ANYTHING,
        "model": st.sampled_from(["prose", "poems", "tgi", ""]) | ANYTHING,
    },
)
COMPLETIONS = st.builds(
    lambda parameters, rest: {**parameters, **rest},
    PARAMETERS,
    st.fixed_dictionaries(
        {},
        optional={
            "prompt": st.text(max_size=9) | st.lists(st.integers(-1, 99), max_size=3) | ANYTHING,
            "max_tokens": NEAR,
            "logprobs": NEAR,
            "echo": NEAR,
            "stream": NEAR,
        },
    ),
)
QUICK = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


def encoded(body: Any) -> bytes:
    """JSON as careless clients write it: with NaN, endless numbers and halves of surrogate pairs."""
    return json.dumps(body).encode()


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        return
    told = answer.json()
    if answer.status_code != 200:
        error = told["error"]
        text = error["message"] if isinstance(error, dict) else error
        assert text.strip()
        assert "Traceback" not in text
        if isinstance(error, dict) and error["param"]:
            assert error["param"] in text, "the reason names its field"


@QUICK
@given(
    body=BODIES,
    path=st.sampled_from(["/generate", "/generate_stream", "/", "/m/prose/generate", "/m/poems/generate"]),
)
def test_native_bodies_are_answered_or_refused(client: httpx.Client, body: dict[str, Any], path: str):
    check(client.post(path, content=encoded(body)))


@QUICK
@given(body=COMPLETIONS)
def test_completions_are_answered_or_refused(client: httpx.Client, body: dict[str, Any]):
    check(client.post("/v1/completions", content=encoded(body)))


@QUICK
@given(body=st.binary(max_size=60))
def test_bytes_that_are_no_json_are_refused(client: httpx.Client, body: bytes):
    answer = client.post("/generate", content=body)
    check(answer)


@pytest.mark.parametrize("path", ["/generate", "/v1/completions", "/tokenize"])
@pytest.mark.parametrize(
    "body",
    [b'{"a":' * 20_000, b"[" * 200_000, b'{"inputs":' + b"9" * 100_000 + b"}", b'"' + b"\\u0000" * 50_000 + b'"'],
    ids=["deep-objects", "deep-lists", "a-long-number", "many-nuls"],
)  # fmt: skip
def test_bodies_that_break_careless_readers_are_refused_with_a_reason(
    client: httpx.Client, path: str, body: bytes
):
    answer = client.post(path, content=body)
    assert 400 <= answer.status_code < 500
    check(answer)


@QUICK
@given(
    name=st.sampled_from(["authorization", "x-request-id", "x-amzn-trace-id", "content-type", "traceparent"]),
    value=st.binary(max_size=40).map(lambda raw: bytes(b for b in raw if b >= 32 and b != 127)),
)
def test_headers_of_any_kind_do_no_harm(client: httpx.Client, name: str, value: bytes):
    answer = client.post(
        "/generate", content=b'{"inputs":"a","parameters":{"max_new_tokens":1}}',
        headers=[(name.encode(), value.strip())],
    )  # fmt: skip
    check(answer)
    assert answer.headers["x-content-type-options"] == "nosniff"
