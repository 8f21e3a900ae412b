"""What a browser is shown: the playground at `/`, the API's description at `/docs`, and the policies that confine
them. Both work without a network beyond the gateway."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from api.responses import json_response
from api.version import VERSION

_STATIC = Path(__file__).resolve().parent / "static"
# Its own files and its own server, nothing written into the page itself.
_PAGE_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
# Swagger UI draws its icons from data.
_DOCS_POLICY = (
    "default-src 'none'; connect-src 'self'; font-src 'self'; img-src 'self' data:; script-src 'self'; "
    "style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_POLICY = "content-security-policy"
# Swagger UI as a package carries it.
_SWAGGER = Path(str(files(fastapi_offline))) / "static"
_SWAGGER_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


class _PageFiles(StaticFiles):
    def file_response(self, *args: object, **named: object) -> Response:
        response = super().file_response(*args, **named)  # type: ignore[arg-type]
        response.headers[_POLICY] = _PAGE_POLICY
        response.headers["cache-control"] = "no-cache"
        return response


def install(app: FastAPI) -> None:
    """Add the playground, its files under `/static`, and the page of the API's description with its own."""
    app.add_api_route("/", _landing, methods=["GET"], tags=["operations"], name="landing")
    app.add_route("/docs", _docs, include_in_schema=False)
    for name in _SWAGGER_FILES:
        app.add_route(f"/docs/{name}", _swagger, include_in_schema=False)
    if _STATIC.is_dir():
        app.mount("/static", _PageFiles(directory=_STATIC), name="static")


async def _landing(request: Request) -> Response:
    """The playground for a browser; for all others where to go from here."""
    page = _STATIC / "index.html"
    if page.is_file() and "text/html" in request.headers.get("accept", ""):
        return FileResponse(
            page,
            media_type="text/html",
            headers={_POLICY: _PAGE_POLICY, "cache-control": "no-cache", "vary": "accept"},
        )
    return json_response(
        {
            "name": "inkwell",
            "version": VERSION,
            "documentation": "/docs",
            "generate": "/generate",
            "openai": "/v1",
            "models": "/models",
        },
        headers={"vary": "accept"},
    )


async def _docs(_: Request) -> Response:
    """Swagger UI for `/openapi.json`."""
    return FileResponse(
        _STATIC / "docs" / "index.html",
        media_type="text/html",
        headers={_POLICY: _DOCS_POLICY, "cache-control": "no-cache"},
    )


async def _swagger(request: Request) -> Response:
    name = request.url.path.rsplit("/", 1)[-1]
    return FileResponse(
        _SWAGGER / name, media_type=_SWAGGER_FILES[name], headers={"cache-control": "public, max-age=86400"}
    )
