"""Headers that confine pages, origins, keys and what one key may see of another."""

from __future__ import annotations

import re

import httpx
import pytest

from api.keys import make_key

HTML = {"accept": "text/html,application/xhtml+xml"}


@pytest.mark.parametrize(
    "path", ["/models", "/health", "/nowhere", "/v1/models", "/metrics", "/openapi.json"]
)
def test_answers_cannot_be_sniffed_framed_or_run_as_pages(base, path):
    headers = httpx.get(base + path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_generations_and_streams_carry_the_same_headers(base):
    for path in ("/generate", "/generate_stream"):
        response = httpx.post(base + path, json={"inputs": "a", "parameters": {"max_new_tokens": 2}})
        assert response.headers["x-content-type-options"] == "nosniff"


def test_a_browser_gets_the_playground_and_others_json(base):
    page = httpx.get(base + "/", headers=HTML)
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "unsafe" not in policy
    landing = httpx.get(base + "/")
    assert landing.json()["name"] == "inkwell"
    assert page.headers["vary"] == landing.headers["vary"] == "accept"


def test_files_of_the_playground_are_served_under_its_policy_and_nothing_beside_them(base):
    script = httpx.get(base + "/static/playground.js")
    assert script.status_code == 200
    assert script.headers["content-security-policy"].startswith("default-src 'self'")
    assert httpx.get(base + "/static/..%2fkeys.py").status_code == 404
    assert httpx.get(base + "/static/nothing.js").json()["error_type"] == "not_found"


def test_the_page_of_the_api_is_made_of_files_of_this_gateway_alone(base):
    page = httpx.get(base + "/docs")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "openapi.json"} <= set(files)
    for file in files:
        assert "//" not in file
        answer = httpx.get(httpx.URL(base + "/docs").join(file), headers=HTML)
        assert answer.status_code == 200, file
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in page.text
    assert httpx.get(base + "/docs/redoc.standalone.js").status_code == 404


def test_a_wrong_method_names_the_right_ones(base):
    response = httpx.get(base + "/generate")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert "allowed: POST" in response.json()["error"]


def test_a_browsers_question_before_a_call_is_answered_for_known_origins_only(serve):
    base = serve(cors_origins="https://a.test")
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    known = httpx.options(base + "/generate", headers={"origin": "https://a.test", **asked})
    assert known.status_code == 200
    assert known.headers["access-control-allow-origin"] == "https://a.test"
    stranger = httpx.options(base + "/generate", headers={"origin": "https://b.test", **asked})
    assert "access-control-allow-origin" not in stranger.headers


def test_an_error_reaches_a_page_of_a_known_origin_too(serve):
    base = serve(cors_origins="https://a.test")
    response = httpx.post(base + "/generate", json={"n": 1}, headers={"origin": "https://a.test"})
    assert response.status_code == 422
    assert response.headers["access-control-allow-origin"] == "https://a.test"


def test_sessions_of_one_name_under_two_keys_know_nothing_of_each_other(serve, tmp_path):
    tokens, lines = zip(*(make_key(name) for name in ("ada", "bob")), strict=True)
    (tmp_path / "keys").write_text("\n".join(lines))
    base = serve(key_file=tmp_path / "keys")

    def ask(token):
        body = {"inputs": "a", "parameters": {"seed": 1, "max_new_tokens": 1, "session": "same"}}
        headers = {"authorization": f"Bearer {token}"}
        return httpx.post(base + "/generate", json=body, headers=headers).json()["generated_text"]

    first = ask(tokens[0])
    assert ask(tokens[1]) == first, "the same text is new to another key"
    assert ask(tokens[0]) != first
