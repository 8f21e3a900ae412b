"""A target that has failed is passed over, and asked for its card until it answers; then it gets work again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import structlog

from api.endpoints import Pool, Target
from api.errors import GenerationFailed
from api.questions import Questions

log = structlog.get_logger("api.probing")

_MAX_PAUSE_S = 30.0


class Observer(Protocol):
    """Hears of what is worth counting."""

    def ejected(self, model: str, url: str) -> None: ...

    def readmitted(self, model: str, url: str) -> None: ...


class Probing:
    """`pool` gives a model's targets, `spawn` carries out work in the background; probes of one target pause for
    `pause_s` at first, and twice as long each time."""

    def __init__(
        self,
        questions: Questions,
        pool: Callable[[str], Pool],
        observer: Observer,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        pause_s: float,
    ) -> None:
        self._questions = questions
        self._pool = pool
        self._observer = observer
        self._spawn = spawn
        self._pause_s = pause_s
        self._probed: set[Target] = set()

    def eject(self, model: str, target: Target) -> None:
        """Pass the target over for now."""
        self._pool(model).failed(target)
        self._observer.ejected(model, target.url)
        if target not in self._probed:
            self._probed.add(target)
            self._spawn(self._probe(model, target))

    async def _probe(self, model: str, target: Target) -> None:
        pause = self._pause_s
        try:
            while target.failures and target in self._pool(model).targets:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE_S)
                if not target.failures:
                    return
                try:
                    await self._questions.describe(target, model)
                except GenerationFailed as error:
                    log.debug("probe_failed", model=model, endpoint=target.url, reason=error.message)
                    continue
                self._pool(model).answered(target)
                self._observer.readmitted(model, target.url)
                log.info("endpoint_readmitted", model=model, endpoint=target.url, version=target.version)
        finally:
            self._probed.discard(target)
