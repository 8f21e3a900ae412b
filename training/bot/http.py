"""One platform's HTTP: patience where it is safe, and errors that say whether a post may have got through."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import httpx

from inkwell.client.errors import TimedOut
from inkwell.client.retrying import Attempts, Retries
from inkwell.client.wire import retry_after
from training.bot.errors import AuthFailed, BotError, PlatformDown, RateLimited

# Some addresses are credentials (Discord's webhook); httpx writes them into its log at level INFO.
logging.getLogger("httpx").setLevel(logging.WARNING)

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Reply:
    """What a platform answered. `value` is the JSON object, empty when it was something else."""

    status: int
    value: Mapping[str, Any]
    text: str

    def why(self) -> str:
        """The platform's own words for a refusal."""
        for name in ("detail", "error_description", "message", "error", "title"):
            if isinstance(self.value.get(name), str):
                return str(self.value[name])[:300]
        errors = self.value.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            return str(errors[0].get("message", errors[0]))[:300]
        return f"status {self.status}"


class Exchange:
    """Requests to one platform."""

    def __init__(self, platform: str, url: str, deadline: float) -> None:
        self.platform = platform
        self._retries = Retries(deadline=deadline, base=0.5, cap=15.0)
        self._http = httpx.Client(base_url=url, timeout=httpx.Timeout(30.0, connect=5.0))

    def send(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool,
        headers: Callable[[], Mapping[str, str]] = dict,
        json: Any = None,
        params: Mapping[str, str] | None = None,
    ) -> Reply:
        """The answer, unless it is 401, 429 or 500 and more: those are errors.

        Waits and sends again after 429 and after connections that could not be made; after lost answers and
        statuses of 500 and more only when `repeatable`. `headers` is asked anew for each attempt.
        Raises AuthFailed, RateLimited, PlatformDown; `uncertain` when an attempt may have got through.
        """
        attempts = Attempts(self._retries, time.monotonic)
        doubtful = False
        while True:
            try:
                timeout = httpx.Timeout(min(30.0, attempts.left()), connect=5.0)
                response = self._http.request(
                    method, path, headers=dict(headers()), json=json, params=params, timeout=timeout
                )
                return self._read(response)
            except TimedOut:
                failure: BotError = PlatformDown(f"{self.platform} did not answer in time")
                failure.retryable = False
            except _NEVER_SENT as error:
                failure = PlatformDown(f"{self.platform} cannot be reached: {error}")
            except httpx.TransportError as error:
                failure = _Lost(f"{self.platform} broke off: {error or type(error).__name__}")
            except BotError as error:
                failure = error
            if isinstance(failure, _Lost):
                doubtful, failure.retryable = True, repeatable
            failure.uncertain = doubtful
            time.sleep(attempts.pause(failure))

    def _read(self, response: httpx.Response) -> Reply:
        reply = Reply(response.status_code, _object(response), response.text[:2000])
        if reply.status == 401:
            raise AuthFailed(f"{self.platform} refuses the credentials: {reply.why()}")
        if reply.status == 429:
            wait = _wait(response, reply.value)
            until = "" if wait is None else f"; try again in {wait:.0f} s"
            raise RateLimited(f"{self.platform} takes no more for now{until}", wait)
        if reply.status >= 500:
            raise _Lost(f"{self.platform} failed: {reply.why()}")
        return reply

    def close(self) -> None:
        self._http.close()


class _Lost(PlatformDown):
    """The platform failed with the request in its hands."""


def _object(response: httpx.Response) -> Mapping[str, Any]:
    try:
        value = response.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _wait(response: httpx.Response, value: Mapping[str, Any]) -> float | None:
    """Seconds to wait, in whichever of the platforms' ways it is said."""
    if isinstance(value.get("retry_after"), (int, float)):
        return float(value["retry_after"])
    asked = retry_after(response.headers)
    if asked is not None:
        return asked
    for name in ("x-rate-limit-reset", "ratelimit-reset", "x-ratelimit-reset"):
        reset = response.headers.get(name, "")
        if reset.isdigit():
            return max(0.0, int(reset) - time.time())
        try:
            when = datetime.fromisoformat(reset.replace("Z", "+00:00"))
        except ValueError:
            continue
        if when.tzinfo is not None:
            return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
    return None
