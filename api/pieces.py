"""A job's tokens as they arrive, with the last one marked: what both kinds of stream are made from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from api.jobs import Job, JsonObject


@dataclass(frozen=True)
class Piece:
    """One token and the text it added. The texts of all pieces together are the end event's text."""

    index: int
    id: int
    text: str
    logprob: float | None
    special: bool
    top: list[JsonObject] | None
    trace: JsonObject | None
    last: bool


async def pieces(job: Job, new_tokens: int, *, hold_back: bool) -> AsyncIterator[list[Piece]]:
    """Pieces in the groups in which they arrived. The last one bears `last`, and only it.

    A token is kept until what follows is known when it may be the last one and keeping it delays no visible
    text, or when `hold_back` says that the end cannot be foreseen; the first one never waits for that.
    Raises the job's error once everything received has been given.
    """
    sent = 0
    while True:
        done = job.end is not None
        total = len(job.ids)
        ready = total
        if not (done or job.error) and total > sent and _may_be_last(job, new_tokens, hold_back):
            ready -= 1
        if ready > sent or done:
            group = [_piece(job, index, last=done and index == total - 1) for index in range(sent, ready)]
            if done and not group:
                group = [_closing(job)]
            sent = ready
            yield group
        if done:
            return
        if job.error is not None:
            raise job.error
        if total == len(job.ids):  # else more came while the consumer was busy
            await job.news()


def _may_be_last(job: Job, new_tokens: int, hold_back: bool) -> bool:
    total = len(job.ids)
    return job.special[-1] or job.texts[-1] == "" or total >= new_tokens or (hold_back and total > 1)


def _piece(job: Job, index: int, *, last: bool) -> Piece:
    return Piece(
        index=index,
        id=job.ids[index],
        text=job.texts[index] + (_tail(job) if last else ""),
        logprob=job.logprobs[index] if index < len(job.logprobs) else None,
        special=job.special[index] and not (last and _tail(job)),
        top=job.top[index] if index < len(job.top) else None,
        trace=job.trace[index] if index < len(job.trace) else None,
        last=last,
    )


def _closing(job: Job) -> Piece:
    """An end that came without a token of its own: clients need a token in every event."""
    tail = _tail(job)
    last_id = job.ids[-1] if job.ids else 0
    return Piece(len(job.ids), last_id, tail, None, not tail, None, None, last=True)


def _tail(job: Job) -> str:
    return str((job.end or {}).get("tail") or "")
