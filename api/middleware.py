"""The outermost layer: request ids, the body limit, one log line and one count per request."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import RequestContext
from api.errors import BodyTooLarge, BodyTooSlow, InternalError
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
_SECURITY = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_IDS = (b"x-request-id", b"x-amzn-trace-id")
_READ = frozenset({*_IDS, b"content-length"})
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
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _READ}
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
                sent = list(message.get("headers", ()))
                there = {name for name, _ in sent}
                sent += [pair for pair in _SECURITY if pair[0] not in there]
                message = {**message, "headers": sent + echoed}
            await send(message)

        settings = self._gateway.settings
        limited = _limited(receive, headers, settings.max_body_bytes, settings.body_s)
        tracing = self._gateway.tracing
        with tracing.request(scope["method"], Headers(scope=scope)) as span:
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


def _request_id(headers: Mapping[bytes, str]) -> tuple[str, list[tuple[bytes, bytes]]]:
    """The id and the headers that carry it back, under the names it came with."""
    given = {
        name: value
        for name in _IDS
        if (value := headers.get(name)) is not None and _USABLE_ID.fullmatch(value)
    }
    if not given:
        given = {_IDS[0]: secrets.token_hex(12)}
    return next(iter(given.values())), [(name, value.encode()) for name, value in given.items()]


def _limited(receive: Receive, headers: Mapping[bytes, str], most: int, seconds: float) -> Receive:
    """`receive`, for a body of at most `most` bytes that is there after `seconds`."""
    declared = headers.get(b"content-length", "")
    refused = declared.isdecimal() and int(declared) > most
    received = 0
    whole = False
    until = time.monotonic() + seconds

    async def receiving() -> Message:
        nonlocal received, whole
        if refused:
            raise BodyTooLarge(f"the body must be at most {most} bytes; got {declared}")
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), until - time.monotonic())
        except asyncio.TimeoutError:
            raise BodyTooSlow(
                f"the body must arrive within {seconds:g} seconds; got {received} bytes"
            ) from None
        received += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if received > most:
            raise BodyTooLarge(f"the body must be at most {most} bytes; got more")
        return message

    return receiving
