"""TorchServe's management API: what is registered, and changes to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import structlog

_READY_LOOK_S = 0.1

log = structlog.get_logger("api.torchserve")


class ManagementError(Exception):
    """TorchServe did not do what was asked; `status` is 0 when it could not be reached."""

    def __init__(self, url: str, status: int, message: str) -> None:
        super().__init__(message)
        self.url = url
        self.status = status
        self.message = message


@dataclass(frozen=True)
class WorkerState:
    """One TorchServe worker process, as the management API tells."""

    endpoint: str
    version: str
    id: str
    status: str
    gpu: bool
    memory_bytes: int


@dataclass(frozen=True)
class VersionState:
    """One registered version on one TorchServe; `wanted` is its least number of workers."""

    endpoint: str
    version: str
    wanted: int
    workers: tuple[WorkerState, ...]

    @property
    def ready(self) -> int:
        return sum(worker.status == "READY" for worker in self.workers)


class Management:
    """One client for the management ports of all TorchServes."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def versions(self, url: str, model: str) -> list[VersionState]:
        """Every version of `model`; none when it is not registered. Raises `ManagementError`."""
        try:
            listed = await self._call("GET", url, f"/models/{_safe(model)}/all")
        except ManagementError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return []
            raise
        return [_version(url, described) for described in listed if isinstance(described, dict)]

    async def default(self, url: str, model: str) -> str | None:
        """The version that answers requests which name none."""
        try:
            listed = await self._call("GET", url, f"/models/{_safe(model)}")
        except ManagementError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        return str(listed[0].get("modelVersion")) if listed else None

    async def register(self, url: str, folder: str, *, timeout_s: float) -> None:
        """Load the model in `folder` of TorchServe's own store and begin to start one worker for it.

        TorchServe answers only when the worker is up, whatever it is asked, and until then stalls the other
        connections that share this one's thread: with few threads some replies pause for as long as a model
        takes to load. None is lost.
        """
        await self._call("POST", url, "/models", {"url": folder, "initial_workers": "1"}, timeout_s)

    async def ready(self, url: str, model: str, version: str, *, timeout_s: float) -> None:
        """Wait until `version` has a READY worker. Raises `ManagementError` when it has none in time."""
        give_up = time.monotonic() + timeout_s
        while True:
            listed = await self.versions(url, model)
            if any(state.version == version and state.ready for state in listed):
                return
            if time.monotonic() > give_up:
                raise ManagementError(
                    url, 0, f"no worker of version {version} was ready after {timeout_s:g} s"
                )
            await asyncio.sleep(_READY_LOOK_S)

    async def unregister(self, url: str, model: str, version: str, *, timeout_s: float) -> None:
        """Take a version away; what it has in hand is lost, so drain it first."""
        await self._call("DELETE", url, _path(model, version), timeout_s=timeout_s)

    async def set_default(self, url: str, model: str, version: str) -> None:
        await self._call("PUT", url, f"{_path(model, version)}/set-default")

    async def scale(self, url: str, model: str, version: str, workers: int) -> None:
        """Ask for at least so many worker processes; does not wait for them."""
        await self._call("PUT", url, _path(model, version), {"min_worker": str(workers)})

    async def _call(
        self,
        method: str,
        url: str,
        path: str,
        query: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        timeout = self._client.timeout if timeout_s is None else httpx.Timeout(timeout_s)
        try:
            response = await self._client.request(method, url + path, params=query, timeout=timeout)
        except (httpx.HTTPError, OSError) as error:
            raise ManagementError(url, 0, f"cannot be reached: {error!r}") from error
        try:
            answer = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            answer = {"message": response.text[:300]}
        if response.status_code >= httpx.codes.BAD_REQUEST:
            message = answer.get("message") if isinstance(answer, dict) else None
            raise ManagementError(url, response.status_code, str(message or answer))
        return answer


def _safe(part: str) -> str:
    return quote(part, safe="")


def _path(model: str, version: str) -> str:
    return f"/models/{_safe(model)}/{_safe(version)}"


def _version(url: str, described: Mapping[str, Any]) -> VersionState:
    version = str(described.get("modelVersion", ""))
    workers = tuple(
        WorkerState(
            endpoint=url,
            version=version,
            id=str(worker.get("id", "")),
            status=str(worker.get("status", "")),
            gpu=bool(worker.get("gpu", False)),
            memory_bytes=int(worker.get("memoryUsage") or 0),
        )
        for worker in described.get("workers", [])
    )
    return VersionState(url, version, int(described.get("minWorkers") or 1), workers)
