"""The gateway's errors: one tree, with the HTTP status and the wire names on the class.

Two shapes leave the gateway: `{"error", "error_type"}` on the native routes and
`{"error": {"message", "type", "param", "code"}}` under `/v1`. Both are made here and nowhere else.
"""

# ruff: noqa: N818 - the names are the wire's words; "Error" after each would say nothing

from __future__ import annotations

import math
from typing import Any


class GatewayError(Exception):
    """Base of everything the gateway tells a caller."""

    status = 500
    kind = "internal"
    openai_status: int | None = None
    openai_type = "server_error"
    openai_code: str | None = None
    retryable = False

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def headers(self) -> dict[str, str]:
        return {}

    def native(self) -> dict[str, Any]:
        return {"error": self.message, "error_type": self.kind}

    def openai(self) -> dict[str, Any]:
        return {
            "error": {
                "message": self.message,
                "type": self.openai_type,
                "param": self.field,
                "code": self.openai_code,
            }
        }

    def openai_response(self) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, body and headers under `/v1`; a permanent failure tells the client not to retry."""
        status = self.openai_status or self.status
        headers = self.headers()
        if status >= 500 and not self.retryable:
            headers["x-should-retry"] = "false"
        return status, self.openai(), headers


class InvalidRequest(GatewayError):
    """The caller's fault: names the field, the value and what is allowed."""

    status = 422
    kind = "validation"
    openai_status = 400
    openai_type = "invalid_request_error"


class BodyTooLarge(InvalidRequest):
    status = 413
    openai_status = 413


class BodyTooSlow(InvalidRequest):
    status = 408
    openai_status = 408

    def headers(self) -> dict[str, str]:
        # What is left of the body may still arrive, and would be taken for the next request.
        return {"Connection": "close"}


class ModelNotFound(GatewayError):
    status = 404
    kind = "model_not_found"
    openai_type = "invalid_request_error"
    openai_code = "model_not_found"


class RouteNotFound(GatewayError):
    status = 404
    kind = "not_found"
    openai_type = "invalid_request_error"


class MethodNotAllowed(GatewayError):
    status = 405
    kind = "method_not_allowed"
    openai_type = "invalid_request_error"

    def __init__(self, message: str, *, allow: str | None = None) -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> dict[str, str]:
        return {} if self.allow is None else {"Allow": self.allow}


class Conflict(GatewayError):
    """What is asked does not fit the state that things are in."""

    status = 409
    kind = "conflict"


class WorkersRefused(GatewayError):
    """TorchServe did not carry out an administrator's action; what it said is told."""

    status = 424
    kind = "workers"


class Unauthorized(GatewayError):
    status = 401
    kind = "unauthorized"
    openai_type = "invalid_request_error"
    openai_code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(GatewayError):
    status = 403
    kind = "forbidden"
    openai_type = "invalid_request_error"


class Overloaded(GatewayError):
    """No room now. Never a 503: one widely used client repeats those without a pause."""

    status = 429
    kind = "overloaded"
    openai_type = "rate_limit_error"
    openai_code = "rate_limit_exceeded"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 1.0, reason: str = "queue") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.reason = reason

    def headers(self) -> dict[str, str]:
        return {
            "Retry-After": str(max(1, math.ceil(self.retry_after_s))),
            "retry-after-ms": str(max(1, math.ceil(self.retry_after_s * 1000))),
        }


class GenerationFailed(GatewayError):
    """The workers could not carry out this request."""

    status = 424
    kind = "generation"
    openai_status = 500
    openai_code = "generation_failed"


class IncompleteGeneration(GatewayError):
    """Text had begun to arrive and the rest could not be had."""

    status = 500
    kind = "incomplete_generation"
    openai_code = "incomplete_generation"


class NotReady(GatewayError):
    """Only on health routes."""

    status = 503
    kind = "healthcheck"


class Cancelled(GatewayError):
    """The caller left; kept for the log, since nobody is there to read it."""

    status = 499
    kind = "cancelled"


class InternalError(GatewayError):
    """What a client learns of an unexpected exception: nothing but that it happened."""

    def __init__(self) -> None:
        super().__init__("internal error")
