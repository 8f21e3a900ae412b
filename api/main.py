"""The app: `uvicorn --factory api.main:create`, or `create_app(settings)` where the settings are at hand."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

import httpx
import structlog
from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from api import admin, logs, native, openai_routes, openapi, operations, pages
from api.context import admit, authorise, context_of
from api.errors import (
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    Overloaded,
    RouteNotFound,
)
from api.gateway import Gateway
from api.lane import ShortLane, table_of
from api.middleware import Outermost
from api.native_schema import GenerateRequest, TokenizeRequest
from api.openai_schema import CompletionRequest
from api.responses import error_response
from api.rollout import Rollout
from api.settings import Settings
from api.staging import Staging
from api.version import VERSION

log = structlog.get_logger("api.main")


def create() -> FastAPI:
    """The app with settings from the environment, and logs set up."""
    settings = Settings()
    logs.configure(settings.log_level)
    return create_app(settings)


def create_app(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """The app. `transport` replaces the network towards TorchServe; the gateway is `app.state.gateway`."""
    gateway = Gateway(settings, transport)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        gateway.start()
        with _drain_on_signal(gateway.begin_drain):
            yield
        await gateway.stop()

    app = FastAPI(
        title="Inkwell",
        version=VERSION,
        description="Small creative text models behind one HTTP API.",
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_tags=openapi.TAGS,
        # The gateway writes its own spans and figures; FastAPI would look for an exporter at every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    app.state.rollout = Rollout(gateway, Staging(settings.model_store, settings.worker_store))

    known = [Depends(authorise)]
    working = [Depends(authorise), Depends(admit)]
    app.include_router(operations.open_router)
    pages.install(app)
    app.include_router(admin.router, dependencies=[*known, Depends(admin.admin_only)])
    for router, guards in (
        (operations.router, known),
        (native.router, working),
        (openai_routes.router, working),
    ):
        app.include_router(router, dependencies=guards)
    for router in (native.router, openai_routes.router):
        app.include_router(router, prefix="/m/{model}", dependencies=working)
    # A client that takes a base URL posts to it without a slash.
    app.add_api_route(
        "/m/{model}", native.compatible, methods=["POST"], dependencies=working, tags=["generation"]
    )

    openapi.install(app, [GenerateRequest, TokenizeRequest, CompletionRequest, *admin.SCHEMAS])

    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(
        ShortLane,
        table=table_of(native.router, openai_routes.router),
        guards=(authorise, admit),
        refuse=_gateway_error,
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(Outermost, gateway=gateway)
    return app


async def _gateway_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, GatewayError):
        raise error
    context = context_of(request)
    if isinstance(error, Overloaded):
        context.gateway.rejected(context.model_name, error)
    elif error.status >= 500:
        log.warning("failed", error=error.message, error_type=error.kind)
    return error_response(request.scope["path"], error)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    translated: GatewayError
    if error.status_code == 404:
        translated = RouteNotFound(f"no such route: {request.method} {request.url.path}")
    elif error.status_code == 405:
        allow = (error.headers or {}).get("Allow")
        translated = MethodNotAllowed(
            f"{request.method} is not allowed on {request.url.path}; allowed: {allow or 'none'}", allow=allow
        )
    else:
        translated = InvalidRequest(str(error.detail))
        translated.status = error.status_code
    return await _gateway_error(request, translated)


@contextmanager
def _drain_on_signal(begin: Callable[[], None]) -> Any:
    """Begin to drain at the first stop signal, then let the server's own handler act as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(begin)
        previous = before[signal.Signals(number)]
        if callable(previous):
            previous(number, frame)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
