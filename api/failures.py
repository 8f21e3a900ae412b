"""What a reply of TorchServe that is not a 200 means.

Its statuses say little: 503 is a full queue, a missing worker, an exception in the handler or a reply of the
wrong length or type; 507 is any exception text with "CUDA" in it; 500 may be "Worker died.". What counts here
is whether to send the work again, and whether the work itself may be to blame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import orjson


class Kind(Enum):
    BUSY = "busy"  # nothing was begun: send it again, as long as time allows
    BROKEN = "broken"  # something fell over, perhaps over this work: send it again, a few times
    FAULT = "fault"  # it will be refused again: do not repeat


@dataclass(frozen=True)
class Failure:
    kind: Kind
    reason: str  # short, for metrics
    message: str  # for people


_NO_WORKER = ("no worker to serve", "scale workers")
_FULL = ("queue is full", "job queue", "too many")


def failure_of(status: int, body: bytes) -> Failure:
    """Read a status and the body of an error reply."""
    message = _message(body) or f"status {status}"
    text = message.lower()
    if status == 429 or (status == 503 and any(mark in text for mark in _FULL)):
        return Failure(Kind.BUSY, "queue_full", message)
    if status == 503 and any(mark in text for mark in _NO_WORKER):
        return Failure(Kind.BUSY, "no_worker", message)
    if status == 404:
        return Failure(Kind.BUSY, "not_registered", message)
    if status == 507:
        return Failure(Kind.BROKEN, "out_of_memory", message)
    if status == 500 and "worker died" in text:
        return Failure(Kind.BROKEN, "worker_died", message)
    if status >= 500 or status == 408:
        return Failure(Kind.BROKEN, f"status_{status}", message)
    return Failure(Kind.FAULT, f"status_{status}", message)


def _message(body: bytes) -> str:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:300].decode("utf-8", "replace").strip()
    if isinstance(document, dict) and isinstance(document.get("message"), str):
        message: str = document["message"]
        return message
    return str(document)[:300]
