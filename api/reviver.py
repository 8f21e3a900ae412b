"""Workers that TorchServe has given up are asked for again, less and less often."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from api.metrics import Metrics
from api.torchserve import Management, ManagementError, VersionState

log = structlog.get_logger("api.reviver")

_LONGEST_S = 300.0


@dataclass
class _Loss:
    next_try: float
    pause: float


class Reviver:
    """A version with fewer READY workers than it wants for `after_s` is scaled to what it wants, and then again
    after pauses that double up to five minutes. TorchServe itself restarts a worker for a while and then gives
    it up for good."""

    def __init__(
        self,
        management: Management,
        metrics: Metrics,
        after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._management = management
        self._metrics = metrics
        self._after_s = after_s
        self._clock = clock
        self._losses: dict[tuple[str, str, str], _Loss] = {}

    async def look(self, model: str, versions: Sequence[VersionState]) -> None:
        """Judge one look at a model; never raises for what TorchServe answers."""
        now = self._clock()
        for state in versions:
            key = (model, state.endpoint, state.version)
            if state.ready >= state.wanted:
                self._losses.pop(key, None)
                continue
            loss = self._losses.setdefault(key, _Loss(now + self._after_s, self._after_s))
            if now < loss.next_try:
                continue
            loss.pause = min(_LONGEST_S, 2 * loss.pause)
            loss.next_try = now + loss.pause
            await self._revive(model, state)

    async def _revive(self, model: str, state: VersionState) -> None:
        self._metrics.revivals.labels(model).inc()
        try:
            await self._management.scale(state.endpoint, model, state.version, state.wanted)
        except ManagementError as error:
            log.error("revival_failed", model=model, version=state.version, error=error.message)
        else:
            log.warning("worker_revived", model=model, version=state.version, ready=state.ready)
