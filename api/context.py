"""What a route needs to know of its request: the gateway, the caller, the id, the model in the path."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from api.errors import Forbidden, InvalidRequest, Unauthorized
from api.gateway import Gateway
from api.keys import ANYBODY, Caller
from api.settings import is_loopback
from deploy.models_file import ModelEntry


@dataclass
class RequestContext:
    """Made by the outermost middleware; `started` is on the monotonic clock."""

    gateway: Gateway
    request_id: str
    started: float
    path_model: str | None = None
    caller: Caller = ANYBODY
    model_name: str = ""

    def model(self, asked: str | None) -> ModelEntry:
        """The model of this request. A name in the body may repeat the one in the path, not contradict it."""
        catalog = self.gateway.catalog
        if self.path_model is None:
            entry = catalog.entry(asked)
        else:
            entry = catalog.entry(self.path_model)
            if asked and catalog.entry(asked) is not entry and asked != "tgi" and "://" not in asked:
                raise InvalidRequest(
                    f"model must be absent or {entry.name!r}, as in the path; got {asked!r}", field="model"
                )
        self.model_name = entry.name
        return entry


def context_of(request: Request) -> RequestContext:
    context: RequestContext = request.scope["inkwell"]
    context.path_model = request.path_params.get("model")
    return context


async def authorise(request: Request) -> None:
    """Who calls, and whether they may. Raises `Unauthorized`, `Forbidden` or `Overloaded`."""
    context = context_of(request)
    gateway = context.gateway
    if gateway.keys is None:
        server = request.scope.get("server")
        if not gateway.settings.allow_keyless and server is not None and not is_loopback(str(server[0])):
            raise Forbidden("no keys are configured, so only this machine itself may call")
    else:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("a key is needed: Authorization: Bearer KEY")
        caller = gateway.keys.caller(token.strip())
        if caller is None:
            raise Unauthorized("the key is not known")
        context.caller = caller


async def admit(request: Request) -> None:
    """Count the request against its caller's rate."""
    context = context_of(request)
    context.gateway.quotas.admit(context.caller.name)
