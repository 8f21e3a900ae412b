"""`/admin`: what is registered, and changes to it. Admin keys only; every action is logged with its caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.context import RequestContext, context_of
from api.errors import Conflict, Forbidden, GatewayError
from api.jobs import JsonObject
from api.openapi import body_of
from api.parsing import parse_body
from api.responses import json_response
from api.rollout import Rollout

log = structlog.get_logger("api.admin")
router = APIRouter(prefix="/admin", tags=["admin"])

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
M = TypeVar("M", bound=BaseModel)
Seconds = Annotated[float, Field(ge=0, le=3600, description="seconds to wait for requests in hand")]


class RegisterRequest(BaseModel):
    """A release to be loaded beside those served."""

    model_config = _STRICT

    archive: str = Field(max_length=200, description="file name in the model store")
    workers: int = Field(default=1, ge=1, le=64)


class RollRequest(BaseModel):
    """A release to take the place of the default one; as many workers as that has unless said otherwise."""

    model_config = _STRICT

    archive: str = Field(max_length=200, description="file name in the model store")
    workers: int | None = Field(default=None, ge=1, le=64)
    timeout_s: Seconds = 120.0


class ScaleRequest(BaseModel):
    """Worker processes of a release, on each TorchServe."""

    model_config = _STRICT

    workers: int = Field(ge=1, le=64)


class WeightsRequest(BaseModel):
    """Shares of new requests by release; none at all give everything to the default."""

    model_config = _STRICT

    weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(max_length=64)


class DrainRequest(BaseModel):
    """How long to wait."""

    model_config = _STRICT

    timeout_s: Seconds = 120.0


SCHEMAS: list[type[BaseModel]] = [RegisterRequest, RollRequest, ScaleRequest, WeightsRequest, DrainRequest]


async def admin_only(request: Request) -> None:
    """Raises `Forbidden` unless the caller's key is an administrator's."""
    context = context_of(request)
    if context.gateway.keys is None:
        raise Forbidden("administration needs an admin key, and no key file is set")
    if not context.caller.admin:
        raise Forbidden("administration needs an admin key; this one is not")


@router.get("/models")
async def models(request: Request) -> Response:
    """Releases, shares, workers and load of every model, and the archives of the store."""
    rollout, context = _rollout(request), context_of(request)
    described = [await rollout.describe(name) for name in context.gateway.models.models]
    try:
        archives = [
            {"archive": entry.archive, "model": entry.model, "version": entry.version, "sha256": entry.sha256}
            for entry in rollout.staging.listed().values()
        ]
    except Conflict as error:
        log.info("store_unusable", error=error.message)
        archives = []
    return json_response({"models": described, "archives": archives})


@router.get("/models/{name}")
async def model(request: Request, name: str) -> Response:
    """One model's releases."""
    return json_response(await _rollout(request).describe(name))


@router.post("/models/{name}/versions", openapi_extra=body_of(RegisterRequest))
async def register(request: Request, name: str) -> Response:
    """Load an archive's release beside those served."""
    return await _act(request, "register", name, RegisterRequest, lambda rollout, asked: (
        rollout.register(name, asked.archive, asked.workers)
    ))  # fmt: skip


@router.delete("/models/{name}/versions/{version}")
async def unregister(request: Request, name: str, version: str) -> Response:
    """Drain a release that is not the default, and unload it."""
    context = context_of(request)
    work = _rollout(request).unregister(name, version, context.gateway.settings.drain_s)
    return json_response(await _audited(context, "unregister", work, model=name, version=version))


@router.put("/models/{name}/versions/{version}/workers", openapi_extra=body_of(ScaleRequest))
async def scale(request: Request, name: str, version: str) -> Response:
    """Change how many worker processes a release has."""
    return await _act(request, "scale", name, ScaleRequest, lambda rollout, asked: (
        rollout.scale(name, version, asked.workers)
    ), version=version)  # fmt: skip


@router.put("/models/{name}/versions/{version}/default")
async def set_default(request: Request, name: str, version: str) -> Response:
    """Make a release the default; weights are dropped."""
    work = _rollout(request).set_default(name, version)
    return json_response(await _audited(context_of(request), "default", work, model=name, version=version))


@router.post("/models/{name}/versions/{version}/drain", openapi_extra=body_of(DrainRequest))
async def drain(request: Request, name: str, version: str) -> Response:
    """Send nothing new to a release and wait until it has answered what it has."""
    return await _act(request, "drain", name, DrainRequest, lambda rollout, asked: (
        rollout.drain(name, version, asked.timeout_s)
    ), version=version)  # fmt: skip


@router.delete("/models/{name}/versions/{version}/drain")
async def undrain(request: Request, name: str, version: str) -> Response:
    """Let a drained release take requests again."""
    work = _rollout(request).undrain(name, version)
    return json_response(await _audited(context_of(request), "undrain", work, model=name, version=version))


@router.put("/models/{name}/weights", openapi_extra=body_of(WeightsRequest))
async def weigh(request: Request, name: str) -> Response:
    """Split new requests between releases."""
    return await _act(request, "weigh", name, WeightsRequest, lambda rollout, asked: (
        rollout.weigh(name, asked.weights)
    ))  # fmt: skip


@router.post("/models/{name}/roll", openapi_extra=body_of(RollRequest))
async def roll(request: Request, name: str) -> Response:
    """Replace the default release by an archive's, without losing a request."""
    return await _act(request, "roll", name, RollRequest, lambda rollout, asked: (
        rollout.roll(name, asked.archive, asked.workers, asked.timeout_s)
    ))  # fmt: skip


@router.post("/reload")
async def reload(request: Request) -> Response:
    """Read the models file again: limits change at once, models come and go."""
    context = context_of(request)

    async def work() -> JsonObject:
        return {**context.gateway.reload_models()}

    return json_response(await _audited(context, "reload", work()))


def _rollout(request: Request) -> Rollout:
    rollout: Rollout = request.app.state.rollout
    return rollout


async def _act(
    request: Request,
    action: str,
    name: str,
    schema: type[M],
    work: Callable[[Rollout, Any], Awaitable[JsonObject]],
    **told: Any,
) -> Response:
    asked = await parse_body(request, schema)
    told |= {"model": name, **asked.model_dump(exclude_none=True)}
    return json_response(await _audited(context_of(request), action, work(_rollout(request), asked), **told))


async def _audited(
    context: RequestContext, action: str, work: Awaitable[JsonObject], **told: Any
) -> JsonObject:
    """Carry out `work`, and log who asked for what and how it went."""
    counted = context.gateway.metrics.admin
    said = log.bind(action=action, caller=context.caller.name, **told)
    said.info("admin_asked")
    try:
        answer = await work
    except GatewayError as error:
        counted.labels(action, "refused").inc()
        said.warning("admin_refused", error=error.message)
        raise
    except BaseException:
        counted.labels(action, "failed").inc()
        said.error("admin_failed")
        raise
    counted.labels(action, "done").inc()
    said.info("admin_done")
    return answer
