"""Bodies as JSON, and errors in the dialect of the path that was asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from api.errors import GatewayError

_OPENAI_PATH = re.compile(r"(/m/[^/]+)?/v1(/|$)")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as JSON, without a detour through models."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def error_response(path: str, error: GatewayError) -> Response:
    """OpenAI's shape under `/v1`, text-generation-inference's elsewhere."""
    if _OPENAI_PATH.match(path):
        status, body, headers = error.openai_response()
        return json_response(body, status, headers)
    return json_response(error.native(), error.status, error.headers())
