"""The short way to the routes that make texts: looked up in a table, and called without a framework in between.

FastAPI finds a route by trying one after another, solves its dependencies and keeps stacks of contexts for it,
which costs as much time as all that the gateway itself does for a request. These routes need none of it: they
read their bodies themselves. FastAPI describes them all the same, and serves their longer names (`/m/MODEL/…`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import GatewayError

Endpoint = Callable[[Request], Awaitable[Response]]
Guard = Callable[[Request], Awaitable[None]]


@dataclass(frozen=True)
class Way:
    """`path` is also the name under which the route is counted."""

    path: str
    endpoint: Endpoint


def table_of(*routers: APIRouter) -> dict[str, Endpoint]:
    """The endpoints of the routers' POSTs by path. They may ask for nothing but the request."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    return {route.path: route.endpoint for route in routes if "POST" in (route.methods or ())}


class ShortLane:
    """POSTs to the paths of `table` go to their endpoints, once every one of `guards` has let them through; what
    these raise becomes an answer by `refuse`. All else goes on to `app`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        table: Mapping[str, Endpoint],
        guards: tuple[Guard, ...],
        refuse: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        self._app = app
        self._ways = {path: Way(path, endpoint) for path, endpoint in table.items()}
        self._guards = guards
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = None
        if scope["type"] == "http" and scope["method"] == "POST":
            way = self._ways.get(scope["path"])
        if way is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = way
        request = Request(scope, receive, send)
        try:
            for guard in self._guards:
                await guard(request)
            response = await way.endpoint(request)
        except GatewayError as error:
            response = await self._refuse(request, error)
        await response(scope, receive, send)
