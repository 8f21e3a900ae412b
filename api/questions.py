"""One question to one worker, and its one answer: a model's card, the tokens of a text, a job to be given up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import structlog

from api.endpoints import Target
from api.errors import GenerationFailed, InvalidRequest
from api.failures import failure_of
from api.jobs import JsonObject

log = structlog.get_logger("api.questions")

JSON = {"content-type": "application/json"}
_CANCEL_TRIES = 4
_CANCEL_PAUSE_S = 0.05


def url_of(target: Target, model: str) -> str:
    """Where `target` takes what is meant for `model`."""
    version = "" if target.version is None else f"/{quote(target.version, safe='')}"
    return f"{target.url}/predictions/{quote(model, safe='')}{version}"


class Questions:
    """Asks over `client`, whose own timeouts hold."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def describe(self, target: Target, model: str) -> JsonObject:
        """The model's card. Raises `GenerationFailed`."""
        return await self._ask(target, model, {"describe": True})

    async def tokenize(self, target: Target, model: str, text: str) -> list[JsonObject]:
        """`[{"id", "text", "start", "stop"}]`. Raises `GenerationFailed`."""
        tokens = (await self._ask(target, model, {"tokenize": text})).get("tokens")
        if not isinstance(tokens, list):
            raise GenerationFailed(f"model {model} does not tokenize")
        return tokens

    async def cancel(self, target: Target, model: str, job_id: str) -> None:
        """Have a job given up; TorchServe may hand this to the wrong one of several workers, so ask a few times.
        Never raises: what is missed ends by itself."""
        for _ in range(_CANCEL_TRIES):
            try:
                answer = await self._ask(target, model, {"cancel": [job_id]})
            except (GenerationFailed, InvalidRequest) as error:
                log.info("cancel_failed", model=model, job=job_id, error=error.message)
                return
            if job_id in answer.get("cancelled", ()):
                return
            await asyncio.sleep(_CANCEL_PAUSE_S)
        log.info("cancel_unknown", model=model, job=job_id)

    async def _ask(self, target: Target, model: str, body: Mapping[str, Any]) -> JsonObject:
        """Raises `GenerationFailed`, or `InvalidRequest` where the worker says so."""
        try:
            response = await self._client.post(
                url_of(target, model), content=orjson.dumps(body), headers=JSON
            )
        except (httpx.HTTPError, OSError) as error:
            raise GenerationFailed(repr(error)) from error
        if response.status_code != httpx.codes.OK:
            raise GenerationFailed(failure_of(response.status_code, response.content).message)
        try:
            answer = orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise GenerationFailed("the reply is not JSON") from error
        if not isinstance(answer, dict):
            raise GenerationFailed("the reply is not an object")
        if answer.get("error_type") == "validation":
            raise InvalidRequest(str(answer.get("error")), field=answer.get("field"))
        if "error" in answer:
            raise GenerationFailed(str(answer["error"]))
        return answer
