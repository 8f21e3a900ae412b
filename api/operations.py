"""What is served and how it fares: models, info, health, metrics."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.catalog import placement
from api.context import context_of
from api.errors import NotReady
from api.metrics import CONTENT_TYPE
from api.responses import json_response
from api.version import VERSION

open_router = APIRouter(tags=["operations"])
router = APIRouter(tags=["operations"])


@open_router.get("/health")
@open_router.get("/ping")
async def health() -> Response:
    """The gateway itself is alive; says nothing of the workers."""
    return json_response({"status": "ok"})


@open_router.get("/ready")
async def ready(request: Request) -> Response:
    """200 when every expected model has a READY worker that answers; else 503 naming those that do not."""
    gateway = context_of(request).gateway
    if not gateway.accepting:
        raise NotReady("the gateway is about to stop")
    states = await gateway.catalog.states()
    missing = [
        f"{name} ({'no READY worker' if not state.ready_workers else 'does not answer'})"
        for name, state in states.items()
        if not state.ready
    ]
    if missing:
        raise NotReady(f"not ready: {', '.join(missing)}")
    return json_response({"status": "ready", "models": list(states)})


@open_router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus text."""
    page = context_of(request).gateway.metrics.page()
    return Response(page, headers={"content-type": CONTENT_TYPE})


@router.get("/models")
async def models(request: Request) -> Response:
    """All models: family, size, categories, limits, losses, devices, workers, state."""
    catalog = context_of(request).gateway.catalog
    descriptions = await asyncio.gather(*(catalog.describe(name) for name in catalog.models.models))
    return json_response({"models": descriptions})


@router.get("/models/{name:path}")
async def model(request: Request, name: str) -> Response:
    """One model, as in `/models`."""
    catalog = context_of(request).gateway.catalog
    return json_response(await catalog.describe(catalog.entry(name).name))


@router.get("/info")
@router.get("/m/{model}/info")
async def info(request: Request) -> Response:
    """The default model, or the one in the path, in text-generation-inference's words, and the limits."""
    context = context_of(request)
    gateway, settings = context.gateway, context.gateway.settings
    entry = context.model(None)
    described = await gateway.catalog.describe(entry.name)
    prompt_limit = described["limits"].get("max_prompt_tokens")
    return json_response(
        {
            "model_id": entry.name,
            "model_sha": described["version"],
            "model_device_type": described["device"],
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": gateway.batchers[entry.name].limits.inflight,
            "max_best_of": settings.max_samples,
            "max_stop_sequences": 16,
            "max_input_tokens": prompt_limit,
            "max_total_tokens": None if prompt_limit is None else prompt_limit + entry.max_new_tokens,
            "max_client_batch_size": settings.max_inputs,
            "router": "inkwell",
            "version": VERSION,
            "default_model": gateway.models.default_model,
            "models": list(gateway.models.models),
            "placement": {
                name: [one["device"] for one in placement(state)]
                for name, state in (await gateway.catalog.states()).items()
            },
            "limits": {
                "max_body_bytes": settings.max_body_bytes,
                "max_input_chars": settings.max_input_chars,
                "max_new_tokens": entry.max_new_tokens,
                "max_request_tokens": settings.max_request_tokens,
                "max_seconds": settings.deadline_s,
            },
        }
    )
