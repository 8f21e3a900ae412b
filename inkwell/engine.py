"""Continuous batching: rows are admitted, advanced one token at a time, and freed between steps.

The engine moves token ids only. `submit` queues a request, `step` advances every active row by one token and
returns what came out, `cancel` frees a row at once. Active rows always stand at the front of the state, so a
step works on a view of it; a freed row is filled by the last one.

Some requests take several rows. A guided one (Ho and Salimans 2022) has a shadow that is fed the same tokens
without the category: what the category adds to the shadow's logits is multiplied; only the request's own row is
drawn. One with beams has a row for each of them, from its admission on, and is emitted whole when the search is
over (`inkwell.beams`). A guided search has both.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

import torch

from inkwell import courses, searching
from inkwell.drawing import Drawer
from inkwell.errors import EngineFull
from inkwell.models.base import Decoder, State
from inkwell.request import FINISHED, BeamSettings, Constraint, Emission, Hypothesis, Request, Stats
from inkwell.rows import Row, Rows
from inkwell.running import MOST_STEPS, Runner

__all__ = [
    "FINISHED",
    "BeamSettings",
    "Constraint",
    "Emission",
    "Engine",
    "Hypothesis",
    "Request",
    "Stats",
]


class Engine:
    """Advances up to `slots` rows together over one decoder."""

    def __init__(
        self,
        decoder: Decoder,
        vocabulary: int,
        slots: int = 64,
        queue: int = 4096,
        device: torch.device | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.slots, self.queue_limit, self.vocabulary = slots, queue, vocabulary
        self.stats = Stats()
        self._decoder, self._clock = decoder, clock
        self._device = device or torch.device("cpu")
        self._waiting: deque[Request] = deque()
        self._rows = Rows(decoder, slots, vocabulary, self._device)
        self._runner = decoder.runner
        self._drawer = Drawer(self._rows, self._runner, vocabulary, self._device)
        self._settled = False  # whether the runner knows the rows in use
        self._alone = False  # whether several steps may be made at a time
        self._pace = 0.0  # seconds per step, lately

    @property
    def pace(self) -> float:
        """Seconds that a step takes, lately; 0 before the first."""
        return self._pace

    @property
    def state(self) -> State:
        """What the model remembers of each row."""
        return self._rows.state

    @property
    def active(self) -> int:
        """Rows in use."""
        return len(self._rows.used)

    @property
    def queued(self) -> int:
        """Requests that wait for a row."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        return not self._rows.used and not self._waiting

    def submit(self, request: Request) -> None:
        """Queue a request. Raises EngineFull when `queue` requests wait already."""
        if not request.prompt:
            raise ValueError("prompt is empty; a text without a prompt begins with the end mark")
        if request.rows > self.slots:
            raise ValueError(f"the request takes {request.rows} rows; this engine has {self.slots}")
        if request.beams is not None and (request.forced or request.trace):
            raise ValueError("a request with beams has no forced tokens and no trace")
        if len(self._waiting) >= self.queue_limit:
            raise EngineFull(f"{len(self._waiting)} requests are waiting, the most allowed")
        self.stats.submitted += 1
        self._waiting.append(request)

    def cancel(self, request_id: str) -> bool:
        """Drop a request at once, waiting or active; False when it is not here. Emits nothing."""
        for request in self._waiting:
            if request.id == request_id:
                self._waiting.remove(request)
                self.stats.cancelled += 1
                return True
        for row in self._leading():
            if row.request.id == request_id:
                self._free(row)
                self.stats.cancelled += 1
                return True
        return False

    def reset(self) -> None:
        """Forget all requests."""
        self._waiting.clear()
        self._rows.clear()
        self._changed()

    def release(self, request_id: str) -> None:
        """Free the row of a request that is complete for reasons the engine does not see (a stop string)."""
        for row in self._leading():
            if row.request.id == request_id:
                self._free(row)
                self.stats.finished += 1
                return

    def step(self) -> list[Emission]:
        """Admit what fits, advance every active row by one token, free what is finished."""
        return self.run(1)

    def run(self, most: int) -> list[Emission]:
        """`step` up to `most` times, where the runtime can and nobody has to look in between: until a text ends
        or another begins, since that makes room, or is waited for."""
        emissions: list[Emission] = []
        self._expire(emissions)
        self._admit()
        if self._rows.used:
            self._advance(most, emissions)
        self.stats.tokens += sum(len(emission.tokens) for emission in emissions)
        return emissions

    def _advance(self, most: int, emissions: list[Emission]) -> None:
        started = self._clock()
        n = len(self._rows.used)
        self._settle()
        self._rows.stepped()
        if self._runner is not None and self._alone:
            steps = min(most, MOST_STEPS, courses.until_first(self._rows.used))
            done = self._run(self._runner, steps, emissions)
        else:
            done = 1
            self._step(emissions)
        took = self._clock() - started
        self._pace = took / done if self._pace == 0.0 else 0.8 * self._pace + 0.2 * took / done
        self.stats.steps += done
        self.stats.row_steps += n * done
        self.stats.busy += took

    def _settle(self) -> None:
        if self._settled:
            return
        rows = self._rows.used
        self._alone = all(courses.alone(row.request) for row in rows)
        if self._runner is not None:
            self._runner.settle([self._rows.manner(row, self._runner) for row in rows])
        self._settled = True

    def _run(self, runner: Runner, steps: int, emissions: list[Emission]) -> int:
        done, written = courses.run(self._rows, runner, steps)
        for row, tokens, logs, finished in written:
            emissions.append(Emission(row.request.id, tokens, finished, logs))
        for row in [one.row for one in written if one.finished is not None]:
            self._free(row)
            self.stats.finished += 1
        return done

    def _step(self, emissions: list[Emission]) -> None:
        rows = self._rows.used
        for row in rows:
            if row.pending:
                row.next_token = row.pending.popleft()
        tokens = torch.tensor([row.next_token for row in rows], dtype=torch.long, device=self._device)
        logits = self._decoder.step(tokens, self.state)
        sampling = [row.draws and not row.pending for row in rows]
        searches = [search for search in self._rows.searches if search.ready]
        if any(sampling) or searches:
            found, done = self._drawer.draw(logits, sampling, searches)
            emissions.extend(found)
            for row in done:  # only now, since freeing moves rows
                self._free(row)
                self.stats.finished += 1

    def _leading(self) -> Iterator[Row]:
        """One row of each active request."""
        return (
            row
            for row in self._rows.used
            if row.draws or (row.search is not None and row is row.search.rows[0])
        )

    def _expire(self, emissions: list[Emission]) -> None:
        leading = list(self._leading())
        if all(r.deadline is None for r in (*(row.request for row in leading), *self._waiting)):
            return
        now = self._clock()
        for request in [r for r in self._waiting if r.deadline is not None and r.deadline <= now]:
            self._waiting.remove(request)
            self.stats.finished += 1
            emissions.append(Emission(request.id, (), "deadline"))
        for row in reversed(leading):
            if row.request.deadline is not None and row.request.deadline <= now:
                if row.search is not None:
                    emissions.extend(searching.told(row.search, "deadline"))
                else:
                    emissions.append(Emission(row.request.id, (), "deadline"))
                self._free(row)
                self.stats.finished += 1

    def _admit(self) -> None:
        while self._waiting and self.active + self._waiting[0].rows <= self.slots:
            self._rows.admit(self._waiting.popleft())
            self._changed()

    def _free(self, row: Row) -> None:
        self._rows.free(row)
        self._changed()

    def _changed(self) -> None:
        """Other rows are in use, or they stand elsewhere."""
        self._drawer.changed()
        self._settled = False
