"""The outermost layer: request ids, the body limit, one log line and one count per request."""

from __future__ import annotations

import re
import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import RequestContext
from api.errors import BodyTooLarge, InternalError
from api.gateway import Gateway
from api.responses import error_response

log = structlog.get_logger("api.access")

_USABLE_ID = re.compile(r"[\x21-\x7e]{1,128}")
# A page of ours sets its own policy; nothing else here is meant to be a document.
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
_QUIET = frozenset({"/health", "/ping", "/ready", "/metrics"})


class Outermost:
    """Puts a `RequestContext` into the scope as `inkwell`."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id, echoed = _request_id(headers)
        context = RequestContext(self._gateway, request_id, time.monotonic())
        scope["inkwell"] = context
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                sent.update(echoed)
                for name, value in SECURITY_HEADERS.items():
                    sent.setdefault(name, value)
            await send(message)

        limited = _limited(receive, headers, self._gateway.settings.max_body_bytes)
        tracing = self._gateway.tracing
        with tracing.request(scope["method"], headers) as span:
            try:
                await self._app(scope, limited, sending)
            except Exception:
                log.exception("unexpected")
                if not status:
                    await error_response(scope["path"], InternalError())(scope, receive, sending)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                tracing.end_request(span, route, status, context.model_name or None)
                self._count(scope, context, route, status)

    def _count(self, scope: Scope, context: RequestContext, route: str, status: int) -> None:
        seconds = time.monotonic() - context.started
        metrics = self._gateway.metrics
        metrics.requests.labels(route, context.model_name, str(status)).inc()
        metrics.request_seconds.labels(route, context.model_name).observe(seconds)
        write = log.debug if scope["path"] in _QUIET else log.info
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=round(seconds * 1000, 2),
            model=context.model_name or None,
            caller=context.caller.name or None,
        )


def _request_id(headers: Headers) -> tuple[str, dict[str, str]]:
    """The id and the headers that carry it back, under the names it came with."""
    echoed = {
        name: value
        for name in ("x-request-id", "x-amzn-trace-id")
        if (value := headers.get(name)) is not None and _USABLE_ID.fullmatch(value)
    }
    if not echoed:
        echoed = {"x-request-id": secrets.token_hex(12)}
    return next(iter(echoed.values())), echoed


def _limited(receive: Receive, headers: Headers, limit: int) -> Receive:
    declared = headers.get("content-length", "")
    refused = declared.isdecimal() and int(declared) > limit
    received = 0

    async def receiving() -> Message:
        nonlocal received
        if refused:
            raise BodyTooLarge(f"the body must be at most {limit} bytes; got {declared}")
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise BodyTooLarge(f"the body must be at most {limit} bytes; got more")
        return message

    return receiving
