"""When to ask again, and how long to wait before: pure reckoning, no clock of its own and no sleeping."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from inkwell.client.errors import TimedOut


@dataclass(frozen=True)
class Retries:
    """How patient a client is. Times are in seconds.

    `deadline` covers one call with all its attempts and pauses. Before attempt k+1 it waits a random time
    up to `base * 2**(k-1)`, at most `cap`, and never less than the server asked for.
    """

    deadline: float = 120.0
    base: float = 0.25
    cap: float = 8.0

    def __post_init__(self) -> None:
        for name in ("deadline", "base", "cap"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be more than 0 seconds; got {value!r}")


class Attempts:
    """The attempts of one call."""

    def __init__(
        self, retries: Retries, clock: Callable[[], float], chance: Callable[[], float] = random.random
    ) -> None:
        self._retries = retries
        self._clock = clock
        self._chance = chance
        self._end = clock() + retries.deadline
        self._failed = 0

    def left(self) -> float:
        """Seconds until the deadline. Raises TimedOut when it has passed."""
        left = self._end - self._clock()
        if left <= 0:
            raise TimedOut(f"no answer within {self._retries.deadline:g} s")
        return left

    def pause(self, error: Exception) -> float:
        """Seconds to wait before the next attempt; raises `error` when there is to be none.

        Its `retryable` says whether another attempt may help, its `retry_after` how long to wait at least.
        """
        if not getattr(error, "retryable", False):
            raise error
        self._failed += 1
        # From a random share of the whole span: clients refused together do not come back together.
        span = min(self._retries.cap, self._retries.base * 2 ** (self._failed - 1))
        wait: float = span * self._chance()
        wait += getattr(error, "retry_after", None) or 0.0
        if wait >= self._end - self._clock():
            raise error
        return wait
