"""`/openapi.json`: bodies that routes read themselves, and every answer they can give."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REF = "#/components/schemas/{model}"
_OPENAI_PATH = re.compile(r"(/m/[^/]+)?/v1(/|$)")
# Answered without a key.
_OPEN = frozenset({"/", "/health", "/ping", "/ready", "/metrics"})


# In the order in which a reader wants them.
TAGS = [
    {"name": "generation", "description": "Texts, as text-generation-inference's clients ask for them."},
    {"name": "openai", "description": "Texts, as OpenAI's clients ask for them."},
    {"name": "operations", "description": "What is served, and how it fares."},
    {"name": "admin", "description": "Versions of models; for keys of administrators."},
]


def body_of(schema: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads `schema` from its body."""
    reference = {"$ref": _REF.format(model=schema.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def install(app: FastAPI, schemas: list[type[BaseModel]]) -> None:
    """Make `app.openapi()` carry `schemas`, and the answers of every operation."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _, definitions = models_json_schema(
                [(schema, "validation") for schema in schemas], ref_template=_REF
            )
            components = document.setdefault("components", {})
            components["schemas"] = {**definitions["$defs"], **_ANSWERS}
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    operation["responses"] = _responses(method, path)
                    if path not in _OPEN or method != "get":
                        # Keys are needed where a key file is set, and not asked for elsewhere.
                        operation["security"] = [{"key": []}, {}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _responses(method: str, path: str) -> dict[str, Any]:
    answers = {"200": {"description": "what was asked for", "content": _content(path)}}
    answers |= {str(status): _error(status, path) for status in _statuses(method, path)}
    return answers


def _statuses(method: str, path: str) -> list[int]:
    if path == "/ready":
        return [503]
    if path in _OPEN and method == "get":
        return []
    guarded = [401, 403, 404]
    if path.startswith("/admin"):
        return [*guarded, 408, 409, 413, 422, 424]
    if method == "get":
        return guarded
    refused = 400 if _OPENAI_PATH.match(path) else 422
    return [*guarded, refused, 408, 413, 424, 429, 500]


def _error(status: int, path: str) -> dict[str, Any]:
    name = "OpenAIError" if _OPENAI_PATH.match(path) else "Error"
    described: dict[str, Any] = {"description": _MEANINGS[status], "content": _json(name)}
    if status == 429:
        described["headers"] = {
            "Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "seconds"},
            "retry-after-ms": {"schema": {"type": "integer", "minimum": 1}, "description": "milliseconds"},
        }
    return described


def _content(path: str) -> dict[str, Any]:
    rest = re.sub(r"^/m/\{model\}", "", path) or "/"
    if path == "/metrics":
        return {"text/plain": {"schema": {"type": "string"}}}
    if path == "/":
        return {**_json("Answers", "Landing"), "text/html": {"schema": {"type": "string"}}, **_STREAM}
    if rest == "/":
        return {**_json("Answers"), **_STREAM}
    if rest == "/generate":
        return {**_json("Answer", "Answers"), **_STREAM}
    if rest == "/generate_stream":
        return _STREAM
    if rest == "/tokenize":
        return _json("Tokens")
    if rest == "/v1/completions":
        return {**_json("Completion"), **_STREAM}
    return _json("Object")


def _json(*names: str) -> dict[str, Any]:
    references = [{"$ref": _REF.format(model=name)} for name in names]
    return {"application/json": {"schema": references[0] if len(references) == 1 else {"anyOf": references}}}


# Each event is one JSON document; docs/api.md shows them.
_STREAM: dict[str, Any] = {"text/event-stream": {}}

_MEANINGS = {
    400: "the request cannot be followed; names the parameter",
    401: "a key is needed",
    403: "the key may not do this",
    404: "no such model",
    408: "the body did not arrive in time",
    409: "does not fit the present state",
    413: "the body is too large",
    422: "the request cannot be followed; names the parameter",
    424: "the workers could not carry it out",
    429: "no room now",
    500: "a failure of the server",
    503: "not ready",
}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_MAYBE_NUMBER = {"type": ["number", "null"]}
_MAYBE_TEXT = {"type": ["string", "null"]}

_ANSWERS: dict[str, Any] = {
    "Object": {"type": "object"},
    "Error": _object(["error", "error_type"], error=_TEXT, error_type=_TEXT),
    "OpenAIError": _object(
        ["error"],
        error=_object(
            ["message", "type", "param", "code"],
            message=_TEXT,
            type=_TEXT,
            param=_MAYBE_TEXT,
            code=_MAYBE_TEXT,
        ),
    ),
    "Landing": _object(["name", "version"], name=_TEXT, version=_TEXT),
    "Token": _object(
        ["id", "text", "logprob", "special"],
        id=_COUNT,
        text=_TEXT,
        logprob=_MAYBE_NUMBER,
        special={"type": "boolean"},
    ),
    "Details": _object(
        ["finish_reason", "generated_tokens", "seed", "tokens", "prefill", "model"],
        finish_reason={"enum": ["length", "eos_token", "stop_sequence"]},
        generated_tokens=_COUNT,
        seed=_COUNT,
        seed_word=_MAYBE_TEXT,
        category={},
        model=_TEXT,
        version=_MAYBE_TEXT,
        queue_ms=_MAYBE_NUMBER,
        inference_ms=_MAYBE_NUMBER,
        prefill={"type": "array"},
        tokens={"type": "array", "items": {"$ref": _REF.format(model="Token")}},
    ),
    "Answer": _object(
        ["generated_text", "details"],
        generated_text=_TEXT,
        details={"$ref": _REF.format(model="Details")},
    ),
    "Answers": {"type": "array", "minItems": 1, "items": {"$ref": _REF.format(model="Answer")}},
    "Tokens": {
        "type": "array",
        "items": _object(["id", "text", "start", "stop"], id=_COUNT, text=_TEXT, start=_COUNT, stop=_COUNT),
    },
    "Completion": _object(
        ["id", "object", "created", "model", "choices", "usage"],
        id=_TEXT,
        object={"const": "text_completion"},
        created=_COUNT,
        model=_TEXT,
        choices={
            "type": "array",
            "minItems": 1,
            "items": _object(
                ["index", "text", "logprobs", "finish_reason"],
                index=_COUNT,
                text=_TEXT,
                finish_reason={"enum": ["stop", "length"]},
            ),
        },
        usage=_object(
            ["prompt_tokens", "completion_tokens", "total_tokens"],
            prompt_tokens=_COUNT,
            completion_tokens=_COUNT,
            total_tokens=_COUNT,
        ),
    ),
}
