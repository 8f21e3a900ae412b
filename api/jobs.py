"""One generation job: what is asked of a worker, and everything that has come back of it.

A job is in one of three states: waiting, sent, done. It gets any number of events and exactly one end, be it
a result, an error, a cancellation or its own timer. What comes after the end is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from api.errors import (
    Cancelled,
    GatewayError,
    GenerationFailed,
    IncompleteGeneration,
    InvalidRequest,
    Overloaded,
)

JsonObject = dict[str, Any]

# A worker ends an overdue job itself and then hands over what it has; this is how long that may take.
_DEADLINE_GRACE_S = 1.0


class Job:
    """`fields` are the job fields of the worker protocol without `id`; `cost` is in estimated tokens.

    `lane` names the caller for fair shares; `deadline_s` counts from now. `draw`, from 0 to below 1, decides
    which release of the model answers; `release` is the one that has begun to.
    """

    __slots__ = (
        "_news",
        "_timer",
        "canceller",
        "cost",
        "created",
        "deadline",
        "draw",
        "end",
        "error",
        "fields",
        "first_token_at",
        "id",
        "ids",
        "lane",
        "last_token_at",
        "logprobs",
        "on_done",
        "release",
        "sent_at",
        "special",
        "start",
        "strikes",
        "texts",
        "top",
        "trace",
        "trace_context",
    )

    def __init__(
        self,
        job_id: str,
        fields: Mapping[str, Any],
        *,
        cost: int,
        deadline_s: float,
        lane: str = "",
        draw: float = 0.0,
    ) -> None:
        self.id = job_id
        self.fields = dict(fields)
        self.cost = cost
        self.lane = lane
        self.draw = draw
        self.release: str | None = None
        self.trace_context: Any = None
        self.created = time.monotonic()
        self.deadline = self.created + deadline_s
        self.sent_at: float | None = None
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None
        self.start: JsonObject | None = None
        self.ids: list[int] = []
        self.texts: list[str] = []
        self.logprobs: list[float] = []
        self.special: list[bool] = []
        self.top: list[list[JsonObject]] = []
        self.trace: list[JsonObject] = []
        self.end: JsonObject | None = None
        self.error: GatewayError | None = None
        self.strikes = 0
        self.on_done: list[Callable[[Job], None]] = []
        self.canceller: Callable[[Job], None] | None = None
        self._news: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            deadline_s + _DEADLINE_GRACE_S, self._expire
        )

    @property
    def done(self) -> bool:
        return self.end is not None or self.error is not None

    def event(self, event: JsonObject) -> None:
        """Take one worker event. Events after the end, and a start that is repeated, are dropped."""
        if self.done:
            return
        kind = event.get("event")
        if kind == "tokens":
            self._tokens(event)
        elif kind == "start":
            if self.start is None:
                self.start = event
        elif kind == "end":
            self.end = event
            self._finish()
        elif kind == "error":
            self.fail(_error_of(event))
        self._wake()

    def fail(self, error: GatewayError) -> None:
        if not self.done:
            self.error = error
            self._finish()
            self._wake()

    def cancel(self) -> None:
        """Nobody wants the answer any more: stop the work wherever it is."""
        if self.done:
            return
        canceller = self.canceller
        self.fail(Cancelled("the caller has left"))
        if canceller is not None:
            canceller(self)

    def remaining_s(self) -> float:
        return self.deadline - time.monotonic()

    def wire(self) -> JsonObject:
        """The job as the worker protocol wants it now: from the beginning, or to be resumed."""
        wire = {"id": self.id, **self.fields, "deadline_ms": max(1, int(self.remaining_s() * 1000))}
        if self.start is not None:
            wire["seed"] = self.start["seed"]
            wire["prompt"] = self.start["prompt"]
            # A text that began without a prompt must not be given a seed word now.
            wire["seed_word"] = None if self.start["prompt"] else {"strategy": "none"}
            if self.start.get("category") is not None:
                # A weighted choice was made once; the resumed job must not draw again.
                wire["category"] = self.start["category"]
            wire["resume_ids"] = list(self.ids)
        return wire

    async def news(self) -> None:
        """Wait for the next change; returns at once when the job is done. One waiter at a time."""
        if self.done:
            return
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    async def begun(self) -> None:
        """Wait until the worker has taken the job up. Raises the job's error."""
        while self.start is None and not self.done:
            await self.news()
        if self.error is not None:
            raise self.error

    async def result(self) -> JsonObject:
        """Wait for the end event. Raises the job's error."""
        if not self.done:
            # Not `news`: of tokens on their way nobody who waits here wants to hear.
            ended = asyncio.Event()
            self.on_done.append(lambda _: ended.set())
            await ended.wait()
        if self.error is not None:
            raise self.error
        if self.end is None:
            raise GenerationFailed("the job ended without a result")
        return self.end

    def _tokens(self, event: JsonObject) -> None:
        ids = event["ids"]
        if not ids:
            return
        self.ids.extend(ids)
        self.texts.extend(event["texts"])
        self.logprobs.extend(event.get("logprobs") or ())
        self.special.extend(event.get("special") or [False] * len(ids))
        self.top.extend(event.get("top") or ())
        self.trace.extend(event.get("trace") or ())
        self.strikes = 0
        self.last_token_at = time.monotonic()
        if self.first_token_at is None:
            self.first_token_at = self.last_token_at

    def _expire(self) -> None:
        self._timer = None
        if self.done:
            return
        canceller = self.canceller
        if self.sent_at is None:
            self.fail(Overloaded("the time ran out while the request was queued", reason="deadline"))
        elif self.ids:
            self.fail(IncompleteGeneration("the request's time was over before its text was complete"))
        else:
            self.fail(GenerationFailed("no worker answered in the time the request may take"))
        if canceller is not None:
            canceller(self)

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        callbacks, self.on_done = self.on_done, []
        for callback in callbacks:
            callback(self)

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)


def _error_of(event: JsonObject) -> GatewayError:
    message = str(event.get("error", "the worker gave no reason"))
    field = event.get("field")
    if event.get("error_type") == "validation":
        return InvalidRequest(message, field=field if isinstance(field, str) else None)
    if event.get("error_type") == "overloaded":
        return Overloaded(message, reason="worker")
    return GenerationFailed(message)
