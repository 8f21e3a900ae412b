"""What a browser is shown: the playground at `/` with its files, and the policy that confines it."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
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
# Swagger's page loads itself from its makers' network and starts with a line of script.
_DOCS_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: https://fastapi.tiangolo.com; "
    "script-src 'unsafe-inline' https://cdn.jsdelivr.net; style-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "frame-ancestors 'none'"
)
_POLICY = "content-security-policy"


class _PageFiles(StaticFiles):
    def file_response(self, *args: object, **named: object) -> Response:
        response = super().file_response(*args, **named)  # type: ignore[arg-type]
        response.headers[_POLICY] = _PAGE_POLICY
        response.headers["cache-control"] = "no-cache"
        return response


def install(app: FastAPI) -> None:
    """Add the playground, its files under `/static`, and the page of the API's description."""
    app.add_api_route("/", _landing, methods=["GET"], tags=["operations"], name="landing")
    app.add_route("/docs", _docs, include_in_schema=False)
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
    """Swagger's page for `/openapi.json`."""
    page = get_swagger_ui_html(openapi_url="/openapi.json", title="Inkwell")
    page.headers[_POLICY] = _DOCS_POLICY
    return page
