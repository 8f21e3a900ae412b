"""Rows as a runtime's `Runner` sees them, and several steps made by it in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from inkwell.request import Request
from inkwell.rows import Row, Rows
from inkwell.running import NEVER, Cursor, Runner
from inkwell.tokenizer import END_ID


class Written(NamedTuple):
    """What a row wrote in one call. `finished` as in `inkwell.request.FINISHED`, or None."""

    row: Row
    tokens: tuple[int, ...]
    logs: tuple[float, ...]  # log-probabilities of the tokens, where they are wanted
    finished: str | None


def alone(request: Request) -> bool:
    """Whether nobody has to look at the request between its tokens."""
    return not (
        request.guided
        or request.beams is not None
        or request.constraint is not None
        or request.sampling.no_repeat_ngram_size
        or request.top_n_tokens
        or request.trace
    )


def until_first(rows: Sequence[Row]) -> int:
    """Steps until a row that has no text yet gets its first token; a large number when all have text."""
    return min((max(1, len(row.pending)) for row in rows if not row.text), default=NEVER)


def cursors_of(rows: Sequence[Row]) -> tuple[list[Cursor], list[int]]:
    """Where the rows stand, and all their pending tokens, one row's after another's."""
    cursors: list[Cursor] = []
    feed: list[int] = []
    for row in rows:
        request, written, pending = row.request, len(row.text), len(row.pending)
        least = request.min_new_tokens - written if request.stops_at_end else NEVER
        cursors.append(
            Cursor(
                request.position + written,
                row.next_token,
                pending,
                len(feed),
                request.max_new_tokens - written,
                least,
            )
        )
        if pending:
            feed.extend(row.pending)
    return cursors, feed


def run(rows: Rows, runner: Runner, steps: int) -> tuple[int, list[Written]]:
    """Make up to `steps` steps of all rows; how many were made, and what came of them."""
    cursors, feed = cursors_of(rows.used)
    drawn = runner.run(cursors, feed, rows.all_counts, rows.state, steps)
    done = len(drawn[0][0])
    found = []
    for row, (tokens, logs) in zip(rows.used, drawn, strict=True):
        read = min(done, len(row.pending))
        for _ in range(read):
            row.next_token = row.pending.popleft()
        if row.pending:
            continue
        # it was fed its last pending token in step `read`, and drew in that step already
        first = max(0, read - 1)
        new = tuple(tokens[first:])
        row.text.extend(new)
        rows.chosen(row, new[-1])
        wanted = tuple(logs[first:]) if row.request.logprobs else ()
        found.append(Written(row, new, wanted, ended(row.request, len(row.text), new[-1])))
    return done, found


def ended(request: Request, written: int, token: int) -> str | None:
    """Why a text of `written` tokens ends with `token`; None when it goes on."""
    if token == END_ID and request.stops_at_end:
        return "eos_token"
    return "length" if written >= request.max_new_tokens else None
