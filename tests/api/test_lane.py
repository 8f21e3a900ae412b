"""The short way to the routes that make texts answers as the long one, and lets nobody through who may not pass."""

from __future__ import annotations

import json

import httpx
import pytest

from api import native, openai_routes
from api.lane import table_of
from api.main import create_app
from api.settings import Settings

TABLE = table_of(native.router, openai_routes.router)
BODIES = {
    "/generate": {"inputs": "abc", "parameters": {"seed": 3, "max_new_tokens": 4}},
    "/generate_stream": {"inputs": "abc", "parameters": {"seed": 3, "max_new_tokens": 4}},
    "/": {"inputs": "abc", "parameters": {"seed": 3, "max_new_tokens": 4}},
    "/tokenize": {"inputs": "abc"},
    "/v1/completions": {"prompt": "abc", "seed": 3, "max_tokens": 4},
}
DOCUMENT = create_app(Settings()).openapi()
GUARDED = [
    (method, path)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if "security" in operation
]
# What differs from one answer to the next.
PASSING = {"x-request-id", "date", "x-compute-time", "x-total-time", "x-validation-time", "x-queue-time"}


def shown(response):
    return {name: value for name, value in response.headers.items() if name not in PASSING}


def test_all_routes_that_make_texts_are_in_the_table():
    assert set(TABLE) == set(BODIES)
    assert {f"/m/{{model}}{path}" for path in TABLE} <= set(DOCUMENT["paths"])


@pytest.mark.parametrize("path", TABLE)
def test_both_ways_give_the_same_answer(base, path):
    short, long = (
        httpx.post(base + prefix + path, json=BODIES[path], timeout=20) for prefix in ("", "/m/prose")
    )
    assert short.status_code == long.status_code == 200
    assert set(shown(short)) == set(shown(long))
    if path == "/generate_stream":
        assert len(short.text.splitlines()) == len(long.text.splitlines())
    elif path in ("/generate", "/"):
        texts = [
            [answer["generated_text"] for answer in (one if isinstance(one, list) else [one])]
            for one in (short.json(), long.json())
        ]
        assert texts[0] == texts[1]
    elif path == "/tokenize":
        assert short.json() == long.json()
    else:
        assert short.json()["choices"] == long.json()["choices"]


@pytest.mark.parametrize("path", TABLE)
@pytest.mark.parametrize("change", [None, {"nonsense": 1}, {"model": "nobody"}, {"parameters": 7}])
def test_both_ways_refuse_alike(base, path, change):
    body = "{" if change is None else json.dumps(BODIES[path] | change)
    short, long = (httpx.post(base + prefix + path, content=body) for prefix in ("", "/m/prose"))
    assert short.status_code == long.status_code >= 400
    assert short.json() == long.json()
    assert shown(short) == shown(long)


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_no_route_that_is_guarded_answers_without_a_key(keyed, method, path):
    base, _ = keyed
    url = base + path.replace("{model}", "prose").replace("{name}", "prose").replace("{version}", "1.0")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eDp5"}):
        response = httpx.request(method.upper(), url, headers=headers, json={"inputs": "a"})
        assert response.status_code == 401, (method, path)
        assert response.headers["www-authenticate"] == "Bearer"


def test_every_route_but_the_open_ones_is_guarded():
    unguarded = {
        (method, path) for path, operations in DOCUMENT["paths"].items() for method in operations
    } - set(GUARDED)
    assert unguarded == {("get", path) for path in ("/", "/health", "/ping", "/ready", "/metrics")}


def test_requests_of_the_short_way_are_counted_under_their_route(serve):
    base = serve()
    httpx.post(base + "/generate", json=BODIES["/generate"])
    httpx.post(base + "/v1/completions", json={"temperature": -1})
    page = httpx.get(base + "/metrics").text
    assert 'inkwell_requests_total{model="prose",route="/generate",status="200"} 1.0' in page
    assert 'route="/v1/completions",status="400"} 1.0' in page
