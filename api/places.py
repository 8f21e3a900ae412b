"""Where the TorchServes of a model listen: as configured, or at every address that a name stands for."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import structlog

from api.settings import Settings

log = structlog.get_logger("api.places")

Resolve = Callable[[str], Awaitable[list[str]]]


async def addresses(host: str) -> list[str]:
    """All addresses of `host`, sorted; none when it has none at present."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        log.debug("name_not_resolved", host=host, error=str(error))
        return []
    return sorted({str(item[4][0]) for item in found})


class Places:
    """Base URLs per model, inference and management in the same order.

    With `discover` each name in them is looked up again by `look`, and every address becomes an endpoint: what a
    headless Service of Kubernetes needs, whose pods come and go. A name without addresses leaves what was known,
    so work waits for the machines that held it rather than for none.
    """

    def __init__(self, settings: Settings, resolve: Resolve = addresses) -> None:
        self._settings = settings
        self._resolve = resolve
        self._found: dict[str, list[str]] = {}
        # Many gateways that all begin with the same of equally idle workers would overload it.
        self._order = secrets.token_hex(8)
        self.on_change: Callable[[str], None] = lambda _: None

    def inference(self, model: str) -> list[str]:
        """Where jobs for `model` go."""
        return self._expanded(self._settings.model_inference.get(model, self._settings.inference))

    def management(self, model: str) -> list[str]:
        """Where the TorchServes of `model` are asked how they fare."""
        return self._expanded(self._settings.model_management.get(model, self._settings.management))

    def found(self, model: str) -> int | None:
        """How many endpoints were found for `model`; None where that is not looked up."""
        return len(self.inference(model)) if self._settings.discover else None

    async def look(self, model: str) -> None:
        """Look the names up again, and tell `on_change` if the endpoints of `model` are others than before."""
        if not self._settings.discover:
            return
        before = self.inference(model)
        configured = [
            *self._settings.model_inference.get(model, self._settings.inference),
            *self._settings.model_management.get(model, self._settings.management),
        ]
        for host in dict.fromkeys(_host(url) for url in configured):
            if found := await self._resolve(host):
                self._found[host] = sorted(found, key=self._place)
        after = self.inference(model)
        if after != before:
            log.info("endpoints_changed", model=model, before=len(before), after=len(after))
            self.on_change(model)

    def _place(self, address: str) -> bytes:
        """An order of this gateway's own, in which an address keeps its place."""
        return hashlib.sha256(f"{self._order} {address}".encode()).digest()

    def _expanded(self, urls: Sequence[str]) -> list[str]:
        if not self._settings.discover:
            return list(urls)
        return [_at(url, address) for url in urls for address in self._found.get(_host(url), [_host(url)])]


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _at(url: str, address: str) -> str:
    """`url` with `address` in place of its host.

    >>> _at("http://worker:8080", "10.0.0.7"), _at("http://worker:8080", "fd00::7")
    ('http://10.0.0.7:8080', 'http://[fd00::7]:8080')
    """
    parts = urlsplit(url)
    try:
        if ipaddress.ip_address(address).version == 6:
            address = f"[{address}]"
    except ValueError:
        pass  # a name that has not been resolved yet
    port = "" if parts.port is None else f":{parts.port}"
    return parts._replace(netloc=f"{address}{port}").geturl()
