"""What one caller may have at a time: open streams, and requests a second."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from api.errors import Overloaded

_REMEMBERED = 10_000
_STREAM_RETRY_S = 1.0


class Quotas:
    """`rate` in requests a second with a burst of two seconds' worth; 0 means no limit."""

    def __init__(self, *, max_streams: int, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_streams = max_streams
        self._rate = rate
        self._burst = max(1.0, 2 * rate)
        self._clock = clock
        self._streams: Counter[str] = Counter()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, when

    def admit(self, caller: str) -> None:
        """Count one request. Raises `Overloaded` with the time after which the next one may come."""
        if not self._rate:
            return
        now = self._clock()
        left, when = self._buckets.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - when) * self._rate)
        admitted = left >= 1
        self._buckets[caller] = (left - 1 if admitted else left, now)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        if not admitted:
            raise Overloaded(
                f"more than {self._rate:g} requests a second",
                retry_after_s=(1 - left) / self._rate,
                reason="rate",
            )

    @contextmanager
    def stream(self, caller: str) -> Iterator[None]:
        """Hold one of the caller's streams. Raises `Overloaded` when all are taken."""
        if self._streams[caller] >= self._max_streams:
            raise Overloaded(
                f"{self._max_streams} streams are open already, the most for one caller",
                retry_after_s=_STREAM_RETRY_S,
                reason="streams",
            )
        self._streams[caller] += 1
        try:
            yield
        finally:
            self._streams[caller] -= 1
            if not self._streams[caller]:
                del self._streams[caller]
