"""Continuous batching: rows are admitted, advanced one token at a time, and freed between steps.

The engine moves token ids only. `submit` queues a request, `step` advances every active row by one token and
returns what came out, `cancel` frees a row at once. Active rows always stand at the front of the state, so a
step works on a view of it; a freed row is filled by the last one.

A guided request (Ho and Salimans 2022) takes two rows: its own, and a shadow that is fed the same tokens without
the category. What the category adds to the shadow's logits is multiplied; only the request's own row is drawn.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from inkwell.errors import EngineFull
from inkwell.models.base import Decoder
from inkwell.sampling import (
    Counts,
    Plan,
    SamplingParams,
    Trace,
    adjust,
    log_probabilities,
    sample,
    top_tokens,
    trace,
)
from inkwell.tokenizer import END_ID

FINISHED = ("length", "eos_token", "deadline", "cancelled", "stop_sequence")


class Constraint(Protocol):
    """Bars tokens while a text grows. Ids in, a mask out."""

    def allowed(self) -> Tensor:
        """Boolean (V,): tokens that may come next. At least one must be True."""

    def advance(self, token: int) -> None:
        """Tell which token came."""

    def finished(self) -> bool:
        """Whether the text is complete and nothing may follow it."""


@dataclass(frozen=True)
class Request:
    """One row's work. `prompt` must not be empty: a text without a prompt begins with the end mark.

    `forced` are tokens of the text that are known already (resuming): they are replayed, not emitted.
    """

    id: str
    prompt: tuple[int, ...]
    sampling: SamplingParams
    max_new_tokens: int
    min_new_tokens: int = 0
    forced: tuple[int, ...] = ()
    position: int = 0
    condition: Mapping[int, float] | None = None
    guidance: float = 1.0  # logits = without + guidance · (with − without the condition); 1: off
    stops_at_end: bool = True  # the end mark ends the text; else it is barred
    deadline: float | None = None  # on the engine's clock
    logprobs: bool = False
    top_n_tokens: int = 0
    trace: bool = False
    constraint: Constraint | None = None

    @property
    def rows(self) -> int:
        """How many rows of the state the request takes."""
        return 1 if self.guidance == 1.0 or self.condition is None else 2


@dataclass(frozen=True, slots=True)
class Emission:
    """One token of one request, or its end without a token (`token` None)."""

    request_id: str
    token: int | None
    finished: str | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    trace: Trace | None = None


_UNDRAWN = SamplingParams(temperature=0.0)


@dataclass(slots=True, eq=False)
class _Row:
    request: Request
    pending: deque[int]  # prompt and forced tokens still to be fed
    text: list[int] = field(default_factory=list)
    next_token: int = 0
    shadow: _Row | None = None  # the row without the condition, of a guided request
    is_shadow: bool = False


@dataclass
class Stats:
    """Totals since the start. Times in seconds."""

    submitted: int = 0
    finished: int = 0
    cancelled: int = 0
    tokens: int = 0
    steps: int = 0
    row_steps: int = 0
    busy: float = 0.0


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
        self.state = decoder.new_state(slots)
        self._decoder, self._clock = decoder, clock
        self._device = device or torch.device("cpu")
        self._waiting: deque[Request] = deque()
        self._rows: list[_Row] = []
        self._plan: Plan | None = None
        self._counts: Counts | None = None

    @property
    def active(self) -> int:
        """Rows in use."""
        return len(self._rows)

    @property
    def queued(self) -> int:
        """Requests that wait for a row."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        return not self._rows and not self._waiting

    def submit(self, request: Request) -> None:
        """Queue a request. Raises EngineFull when `queue` requests wait already."""
        if not request.prompt:
            raise ValueError("prompt is empty; a text without a prompt begins with the end mark")
        if request.rows > self.slots:
            raise ValueError(f"the request takes {request.rows} rows; this engine has {self.slots}")
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
        for row in self._rows:
            if row.request.id == request_id and not row.is_shadow:
                self._free(row)
                self.stats.cancelled += 1
                return True
        return False

    def reset(self) -> None:
        """Forget all requests. The state needs no clearing: a row is cleared when it is admitted."""
        self._waiting.clear()
        self._rows.clear()
        self._plan = None

    def release(self, request_id: str) -> None:
        """Free the row of a request that is complete for reasons the engine does not see (a stop string)."""
        for row in self._rows:
            if row.request.id == request_id and not row.is_shadow:
                self._free(row)
                self.stats.finished += 1
                return

    def step(self) -> list[Emission]:
        """Admit what fits, advance every active row by one token, free what is finished."""
        emissions: list[Emission] = []
        self._expire(emissions)
        self._admit()
        if not self._rows:
            return emissions
        started = self._clock()
        n = len(self._rows)
        sampling = []
        for row in self._rows:
            if row.pending:
                row.next_token = row.pending.popleft()
            sampling.append(not row.pending and not row.is_shadow)
        tokens = torch.tensor([row.next_token for row in self._rows], dtype=torch.long, device=self._device)
        logits = self._decoder.step(tokens, self.state)
        if any(sampling):
            self._draw(logits, sampling, emissions)
        self.stats.steps += 1
        self.stats.row_steps += n
        self.stats.busy += self._clock() - started
        return emissions

    def _expire(self, emissions: list[Emission]) -> None:
        requests = (*(row.request for row in self._rows), *self._waiting)
        if all(request.deadline is None for request in requests):
            return
        now = self._clock()
        for request in [r for r in self._waiting if r.deadline is not None and r.deadline <= now]:
            self._waiting.remove(request)
            self.stats.finished += 1
            emissions.append(Emission(request.id, None, "deadline"))
        for row in reversed([row for row in self._rows if not row.is_shadow]):
            if row.request.deadline is not None and row.request.deadline <= now:
                self._free(row)
                self.stats.finished += 1
                emissions.append(Emission(row.request.id, None, "deadline"))

    def _admit(self) -> None:
        while self._waiting and len(self._rows) + self._waiting[0].rows <= self.slots:
            request = self._waiting.popleft()
            row = self._enter(request, request.condition)
            for token in request.forced:
                if request.constraint is not None:
                    request.constraint.advance(token)
            if request.sampling.penalised:
                self._count_row(len(self._rows) - 1, row)
            if request.rows == 2:
                row.shadow = self._enter(request, None)
                row.shadow.is_shadow = True
            self._plan = None

    def _enter(self, request: Request, condition: Mapping[int, float] | None) -> _Row:
        row, index = _Row(request, deque(request.prompt)), len(self._rows)
        self._decoder.admit(self.state, index, condition)
        chunk = self._decoder.prefill_chunk
        # The last token of the prompt goes through `step`, which gives the logits for the first of the text.
        while chunk and len(row.pending) > 1:
            count = min(chunk, len(row.pending) - 1)
            self._decoder.prefill([row.pending.popleft() for _ in range(count)], self.state, index)
        row.pending.extend(request.forced)
        row.text.extend(request.forced)
        self._rows.append(row)
        return row

    def _count_row(self, index: int, row: _Row) -> None:
        if self._counts is None:
            shape = (self.slots, self.vocabulary)
            zeros = torch.zeros(shape, dtype=torch.float32, device=self._device)
            self._counts = Counts(zeros, zeros.clone())
        for tensor, ids in (
            (self._counts.prompt, row.request.prompt),
            (self._counts.text, row.request.forced),
        ):
            tensor[index] = torch.bincount(torch.tensor(ids, dtype=torch.long), minlength=self.vocabulary).to(
                tensor
            )

    def _free(self, row: _Row) -> None:
        index, last = self._rows.index(row), len(self._rows) - 1
        if index != last:
            self.state.move(last, index)
            if self._counts is not None:
                for tensor in self._counts:
                    tensor[index].copy_(tensor[last])
            self._rows[index] = self._rows[last]
        self._rows.pop()
        self._plan = None
        if row.shadow is not None:
            self._free(row.shadow)

    def _guide(self, raw: Tensor) -> Tensor:
        """Logits (n, V) with those of guided rows moved away from their shadows'."""
        places = {id(row): index for index, row in enumerate(self._rows)}
        pairs = [
            (index, places[id(row.shadow)], row.request.guidance)
            for index, row in enumerate(self._rows)
            if row.shadow is not None
        ]
        if not pairs:
            return raw
        own, shadows, strengths = (list(part) for part in zip(*pairs, strict=True))
        without = raw[shadows]
        strength = torch.tensor(strengths, dtype=raw.dtype, device=self._device)[:, None]
        return raw.index_put(
            (torch.tensor(own, device=self._device),), without + strength * (raw[own] - without)
        )

    def _draw(self, raw: Tensor, sampling: list[bool], emissions: list[Emission]) -> None:
        n = len(self._rows)
        if self._plan is None:
            params = [_UNDRAWN if row.is_shadow else row.request.sampling for row in self._rows]
            self._plan = Plan(params, self.vocabulary, self._device)
        raw = self._guide(raw)
        plan = self._plan
        counts = None
        if plan.penalised and self._counts is not None:
            counts = Counts(self._counts.prompt[:n], self._counts.text[:n])
        adjusted = adjust(raw, plan, counts, self._allowed(sampling))
        places = [row.request.position + len(row.text) for row in self._rows]
        positions = torch.tensor(places, dtype=torch.long, device=self._device)
        drawn = sample(adjusted, plan, positions)
        tokens: list[int] = drawn.tolist()
        logs: list[float] | None = None
        if any(row.request.logprobs for row in self._rows):
            logs = log_probabilities(raw, drawn).tolist()
        if plan.penalised and self._counts is not None:
            ready = torch.tensor(sampling, device=self._device).nonzero()[:, 0]
            self._counts.text[ready, drawn[ready]] += 1
        done: list[_Row] = []
        for index in range(n - 1, -1, -1):
            if sampling[index]:
                emission = self._take(index, tokens[index], logs, raw, adjusted, plan)
                emissions.append(emission)
                if emission.finished is not None:
                    done.append(self._rows[index])
        for row in done:  # only now, since freeing moves rows
            self._free(row)
            self.stats.finished += 1

    def _take(
        self, index: int, token: int, logs: list[float] | None, raw: Tensor, adjusted: Tensor, plan: Plan
    ) -> Emission:
        row = self._rows[index]
        request = row.request
        explained: Trace | None = None
        top: tuple[tuple[int, float], ...] = ()
        if request.trace:
            explained = trace(raw, adjusted, plan, index, token)
        if request.top_n_tokens:
            ids, values = top_tokens(raw[index : index + 1], request.top_n_tokens)
            top = tuple(zip(ids[0].tolist(), values[0].tolist(), strict=True))
        row.text.append(token)
        row.next_token = token
        if row.shadow is not None:
            row.shadow.next_token = token
        if request.constraint is not None:
            request.constraint.advance(token)
        self.stats.tokens += 1
        finished = None
        if token == END_ID and request.stops_at_end:
            finished = "eos_token"
        elif len(row.text) >= request.max_new_tokens:
            finished = "length"
        logprob = logs[index] if logs is not None and request.logprobs else None
        return Emission(request.id, token, finished, logprob, top, explained)

    def _allowed(self, sampling: list[bool]) -> Tensor | None:
        """Mask (n, V) of tokens that rows may take, or None when nothing is barred."""
        rules: list[tuple[int, Tensor | None, list[int]]] = []
        for index, row in enumerate(self._rows):
            if not sampling[index]:
                continue
            request = row.request
            barred: list[int] = []
            if not request.stops_at_end or len(row.text) < request.min_new_tokens:
                barred.append(END_ID)
            mask = request.constraint.allowed() if request.constraint is not None else None
            size = request.sampling.no_repeat_ngram_size
            repeats = _repeating(row.text, size) if size else []
            # A shape is a promise and an n-gram ban a preference: where both leave nothing, the ban gives way.
            if (
                mask is not None
                and repeats
                and int(mask.sum()) == int(mask[sorted({*repeats, *barred})].sum())
            ):
                repeats = []
            barred.extend(repeats)
            if barred or mask is not None:
                rules.append((index, mask, barred))
        if not rules:
            return None
        allowed = torch.ones(len(self._rows), self.vocabulary, dtype=torch.bool, device=self._device)
        for index, mask, barred in rules:
            if mask is not None:
                allowed[index] &= mask.to(self._device)
            if barred:
                allowed[index, barred] = False
        return allowed


def _repeating(text: list[int], size: int) -> list[int]:
    """Tokens that would complete an n-gram of `size` which the text holds already."""
    if len(text) < size:
        return []
    head = text[len(text) - size + 1 :] if size > 1 else []
    found = []
    for start in range(len(text) - size + 1):
        if text[start : start + size - 1] == head:
            found.append(text[start + size - 1])
    return found
