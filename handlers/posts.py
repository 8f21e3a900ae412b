"""POSTs of TorchServe's continuous batching, turned into jobs and replies. Knows nothing of TorchServe.

TorchServe calls the handler again and again with all requests that are live: those it has seen before and new
ones. A request that is missing has lost its client. Each call gives every live request one chunk and says
whether more is to come.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from inkwell.session import Event, TextEngine

MOST_JOBS = 1024
HEARTBEAT = b"\n"
OBJECT = "application/json"
LINES = "application/x-ndjson"
# Jobs are begun for so long in one turn, and for one job more. Nearly all take well under a millisecond, but a
# shape that has to be compiled may take a second, and a POST of many such must not keep everybody else waiting.
BEGIN_SECONDS = 0.25
# Every turn costs TorchServe and the gateway some time for each request. When nobody reads along and nobody could
# be let in, turns are longer by this, and end for a finished text only after a usual one.
PATIENCE = 4
logger = logging.getLogger(__name__)


class Reply(NamedTuple):
    """A chunk for one request. `last`: True ends a stream, False keeps it open, None is a whole answer."""

    chunk: bytes
    last: bool | None
    content_type: str = OBJECT


@dataclass
class Post:
    """One live request: its jobs' keys, and the events that have not gone out."""

    single: str | None = None  # how a body without `jobs` is answered: "text" or "context"
    waiting: deque[Any] = field(default_factory=deque)  # jobs that have not been begun
    seen: set[str] = field(default_factory=set)  # ids of those that have
    keys: list[str] = field(default_factory=list)
    sink: list[Event] = field(default_factory=list)
    open_jobs: int = 0  # those whose last event has not gone out
    begun: bool = False
    answer: Event | None = None  # a whole answer, known at once
    start: Event = field(default_factory=dict)


class Desk:
    """Takes POSTs for one text engine and answers them slice by slice."""

    def __init__(
        self,
        engine: TextEngine,
        slice_seconds: float = 0.02,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self._slice = slice_seconds
        self._clock = clock
        self._posts: dict[str, Post] = {}

    @property
    def live(self) -> int:
        """POSTs that are open."""
        return len(self._posts)

    def call(self, request_ids: Sequence[str], bodies: Sequence[Any]) -> list[Reply]:
        """One turn: take new requests, drop vanished ones, run a time slice, give each request its chunk."""
        for vanished in self._posts.keys() - set(request_ids):
            self._drop(self._posts.pop(vanished))
        for request_id, body in zip(request_ids, bodies, strict=True):
            if request_id not in self._posts:
                self._posts[request_id] = self._take(body)
        self._begin()
        if not self.engine.idle:
            self._advance()
        replies = [self._reply(self._posts[request_id]) for request_id in request_ids]
        for request_id, reply in zip(request_ids, replies, strict=True):
            if reply.last is not False:
                self._posts.pop(request_id, None)
        return replies

    def _advance(self) -> None:
        try:
            if self.engine.full and not self.engine.streaming:
                self.engine.advance(PATIENCE * self._slice, self._slice)
            else:
                self.engine.advance(self._slice, min(0.002, self._slice))
        except Exception:
            # Nothing is known of any row's state now. Every job hears of it, and the engine starts afresh.
            logger.exception("the engine failed; its jobs are given up")
            self.engine.reset("the worker's engine failed; send the job again")

    def _drop(self, post: Post) -> None:
        for key in post.keys:
            self.engine.drop(key)

    def _take(self, body: Any) -> Post:
        post = Post()
        try:
            values = _read(body)
            self._open(post, values)
        except ValueError as error:
            post.answer = {"error": str(error), "error_type": "validation", "field": "body"}
        except Exception as error:
            # One request's fault must not become the whole batch's, which is what TorchServe would make of it.
            logger.exception("a request could not be taken")
            post.answer = {"error": f"the worker failed on this request: {error}", "error_type": "generation"}
        return post

    def _open(self, post: Post, values: Mapping[str, Any]) -> None:
        if "jobs" in values:
            jobs = values["jobs"]
            if not isinstance(jobs, list) or not 0 < len(jobs) <= MOST_JOBS:
                raise ValueError(f"jobs must be a list of 1 to {MOST_JOBS} jobs")
            post.open_jobs = len(jobs)
            post.waiting.extend(jobs)
        elif values.get("describe") is True:
            post.answer = self.engine.describe()
        elif "tokenize" in values:
            if not isinstance(values["tokenize"], str):
                raise ValueError(f"tokenize must be a string; got {type(values['tokenize']).__name__}")
            post.answer = {"tokens": self.engine.tokenize(values["tokenize"])}
        elif "cancel" in values:
            ids = values["cancel"]
            if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
                raise ValueError("cancel must be a list of job ids")
            done = [job_id for job_id in ids if self.engine.cancel(job_id)]
            post.answer = {"cancelled": done, "unknown": [job_id for job_id in ids if job_id not in done]}
        else:
            post.single = "context" if "context" in values or not values else "text"
            post.waiting.append(_single(values))

    def _begin(self) -> None:
        """Begin jobs that wait, one of each POST in turn, until the time for that is used up."""
        started = self._clock()
        while posts := [post for post in self._posts.values() if post.waiting]:
            for post in posts:
                self._submit(post, post.waiting.popleft())
                if self._clock() - started >= BEGIN_SECONDS:
                    return

    def _submit(self, post: Post, job: Any) -> None:
        name = job.get("id") if isinstance(job, dict) else None
        if isinstance(name, str) and name in post.seen:
            error = f"id {name!r} stands twice in this POST"
            post.sink.append(
                {"job": name, "event": "error", "error": error, "error_type": "validation", "field": "id"}
            )
            return
        if isinstance(name, str):
            post.seen.add(name)
        try:
            key = self.engine.submit(job, post.sink)
        except Exception as error:
            logger.exception("a job could not be started")
            text = f"the worker failed on this job: {error}"
            post.sink.append({"job": name, "event": "error", "error": text, "error_type": "generation"})
            return
        if key is not None:
            post.keys.append(key)

    def _reply(self, post: Post) -> Reply:
        if post.answer is not None:
            return Reply(_line(post.answer), None)
        events = post.sink
        post.open_jobs -= sum(event["event"] in ("end", "error") for event in events)
        if post.single is not None:
            return self._single_reply(post, events)
        chunk = b"".join(map(_line, events)) or HEARTBEAT
        events.clear()
        last = post.open_jobs <= 0
        first, post.begun = not post.begun, True
        return Reply(chunk, None if last and first else last, LINES)

    @staticmethod
    def _single_reply(post: Post, events: list[Event]) -> Reply:
        for event in events:
            if event["event"] == "start":
                post.start = event
            elif event["event"] == "error":
                error: Event = {
                    name: event[name] for name in ("error", "error_type", "field") if name in event
                }
                return Reply(_line(error), True if post.begun else None)
            elif event["event"] == "end":
                return Reply(_line(_answer(post, event)), True if post.begun else None)
        events.clear()
        post.begun = True
        return Reply(HEARTBEAT, False)


def _answer(post: Post, end: Event) -> Event:
    if post.single == "context":
        return {"result": post.start["prompt"] + end["text"]}
    return {
        "generated_text": end["text"],
        "seed": post.start["seed"],
        "seed_word": post.start["seed_word"],
        "finish_reason": end["finish_reason"],
        "generated_tokens": end["generated_tokens"],
    }


_HAND = {"id": "single", "stream": False}


def _single(values: Mapping[str, Any]) -> dict[str, Any]:
    """A job from a body written by hand. Its text comes as a whole, so nobody reads along."""
    if "context" in values or not values:
        extra = sorted(set(values) - {"context"})
        if extra:
            raise ValueError(f"{extra[0]!r} cannot stand beside 'context'")
        return {**_HAND, "prompt": values.get("context") or None}
    if "inputs" in values:
        extra = sorted(set(values) - {"inputs", "parameters"})
        parameters = values.get("parameters") or {}
        if extra or not isinstance(parameters, dict):
            raise ValueError("a body with 'inputs' may have 'parameters', an object, and nothing else")
        return {**_HAND, "prompt": values["inputs"], **parameters}
    return {**_HAND, **values}


def _read(body: Any) -> Mapping[str, Any]:
    """The request's JSON object. TorchServe may have decoded it already."""
    if isinstance(body, (bytes, bytearray, str)):
        try:
            body = json.loads(body or "{}")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ValueError(f"the body must be a JSON object; got {type(body).__name__}")
    return body


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
