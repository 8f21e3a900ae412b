"""Jobs in, events out: the text side of generation, over an engine that knows only token ids.

Used by the TorchServe handler and by local generation alike, so both give the same bytes. Events are the
plain dictionaries of docs/protocol.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inkwell.bundle import Bundle
from inkwell.describing import describe
from inkwell.engine import Constraint, Emission, Engine, Hypothesis, Stats
from inkwell.errors import EngineFull, InkwellError, InvalidJob
from inkwell.events import DEFAULT_MAX_OVERLAP, Event, beam, judged, likeliest
from inkwell.growing import GrowingText
from inkwell.job import Job, read_job
from inkwell.resolving import Resolver
from inkwell.runtimes import AUTO, make_decoder
from inkwell.tokenizer import END_ID, TextStream

__all__ = ["DEFAULT_MAX_OVERLAP", "Event", "TextEngine", "final_event"]


@dataclass
class _Live:
    """A job between its start and its end."""

    job: Job
    key: str
    prompt: str
    sink: list[Event]
    arrived: float
    text: GrowingText
    constraint: Constraint | None
    first_token: float | None = None
    batch: Event | None = None  # the tokens event of this slice


class TextEngine:
    """Runs generation jobs of one bundle."""

    def __init__(
        self,
        bundle: Bundle,
        slots: int = 64,
        queue: int = 4096,
        clock: Callable[[], float] = time.monotonic,
        most_new_tokens: int | None = None,
        runtime: str = AUTO,
    ) -> None:
        """`most_new_tokens` may lower the bundle's own limit, not raise it. `runtime` is one of
        `inkwell.runtimes`; RuntimeUnavailable when it is named and cannot run here."""
        self.bundle = bundle
        device = next(bundle.model.parameters()).device
        decoder, self.runtime = make_decoder(bundle.model, runtime, bundle.runtimes)
        self.engine = Engine(decoder, bundle.model.vocabulary, slots, queue, device, clock)
        self.device = device
        self._clock = clock
        self._limits = bundle.limits
        if most_new_tokens is not None and most_new_tokens < self._limits.max_new_tokens:
            self._limits = replace(self._limits, max_new_tokens=most_new_tokens)
        self._live: dict[str, _Live] = {}  # by the engine's name for the row
        self._submitted = 0
        self._resolver = Resolver(bundle, self._limits, slots)

    def submit(self, values: Mapping[str, Any], sink: list[Event]) -> str | None:
        """Take a job, whose events are appended to `sink` from now on: `start`, or `error` when it cannot be
        done. Returns a key for `drop`, or None after an error."""
        name = values.get("id") if isinstance(values, Mapping) else None
        try:
            return self._start(read_job(values, self.bundle.config.defaults, self._limits), sink)
        except (InvalidJob, EngineFull) as error:
            event = {"job": name, "event": "error", "error": str(error), "error_type": error.error_type}
            if isinstance(error, InvalidJob):
                event["field"] = error.field
            sink.append(event)
            return None

    def cancel(self, job_id: str) -> bool:
        """End every job of this id now, with an `end` event; False when there is none."""
        keys = [key for key, live in self._live.items() if live.job.id == job_id]
        for key in keys:
            live = self._live.pop(key)
            self.engine.cancel(key)
            self._flush(live)
            live.sink.append(self._end(live, "cancelled"))
        return bool(keys)

    def drop(self, key: str) -> None:
        """Forget a job nobody listens to any more, without an event."""
        if self._live.pop(key, None) is not None:
            self.engine.cancel(key)

    def reset(self, reason: str) -> None:
        """Give up every job with an `error` event of type `interrupted` and begin with an empty engine."""
        for live in self._live.values():
            self._flush(live)
            live.sink.append(
                {"job": live.job.id, "event": "error", "error": reason, "error_type": "interrupted"}
            )
        self._live.clear()
        self.engine.reset()

    def warm_up(self) -> None:
        """Run a few rows once, so that the first caller does not pay for lazy initialisation."""
        for index in range(min(3, self.engine.slots)):
            job = {
                "id": f"warm-up-{index}",
                "seed_word": {"strategy": "none"},
                "seed": index,
                "max_new_tokens": 4,
            }
            self.submit(job, [])
        while not self.idle:
            self.advance()
        self.engine.stats = Stats()

    @property
    def idle(self) -> bool:
        return not self._live

    @property
    def streaming(self) -> bool:
        """Whether somebody reads a text as it grows."""
        return any(live.job.stream for live in self._live.values())

    @property
    def full(self) -> bool:
        """Whether a job that came now would have to wait for a row."""
        return self.engine.queued > 0 or self.engine.active >= self.engine.slots

    def advance(self, seconds: float = 0.02, least: float = 0.002) -> None:
        """Run the engine for a time slice; what comes out goes to the jobs' sinks.

        The slice ends early, but not before `least` seconds, once a stream has its first token or a job is
        finished, so that nobody waits for the rest of a slice to hear of it. A job that has the engine to itself
        does not wait for `least` either: nobody else loses anything by it.
        """
        started = self._clock()
        touched: dict[str, _Live] = {}
        news, end = False, seconds
        while not self.engine.idle:
            for emission in self.engine.run(self._most(end - (self._clock() - started))):
                live = self._live.get(emission.request_id)
                if live is not None:
                    touched[emission.request_id] = live
                    news |= live.first_token is None and live.job.stream
                    news |= self._take(live, emission)
            if news:
                end = min(end, least if len(self._live) > 1 else 0.0)
            if self._clock() - started >= end:
                break
        for live in touched.values():
            self._flush(live)

    def _most(self, seconds: float) -> int:
        """Steps that take about so long, 1 at least."""
        pace = self.engine.pace
        return max(1, int(seconds / pace)) if pace > 0 else 1

    def generate(self, values: Mapping[str, Any]) -> Iterator[Event]:
        """Run one job to its end, yielding its events as they come."""
        sink: list[Event] = []
        key = self.submit({"id": "local", **values}, sink)
        try:
            while True:
                yield from sink
                sink.clear()
                if key is None or key not in self._live:
                    return
                self.advance()
        finally:
            if key is not None:
                self.drop(key)

    def describe(self) -> Event:
        """The model's card for machines."""
        return describe(self.bundle, self._limits, self.engine, self.device, self.runtime)

    def tokenize(self, text: str) -> list[Event]:
        """Ids of `text` with their texts and the characters they span."""
        stream, at, tokens = TextStream(self.bundle.tokenizer), 0, []
        for token in self.bundle.tokenizer.encode(text):
            piece = stream.push(token)
            tokens.append({"id": token, "text": piece, "start": at, "stop": at + len(piece)})
            at += len(piece)
        return tokens

    def _start(self, job: Job, sink: list[Event]) -> str:
        now = self._clock()
        self._submitted += 1
        key = str(self._submitted)
        resolved = self._resolver.resolve(job, key, now)
        request = resolved.request
        text = GrowingText(self.bundle.tokenizer, job.stop)
        live = _Live(job, key, resolved.prompt, sink, now, text, request.constraint)
        complete = None if request.beams is not None else self._replay(live)
        event: Event = {
            "job": job.id,
            "event": "start",
            "seed": job.seed,
            "prompt": live.prompt,
            "prompt_ids": resolved.prompt_ids,
            "prompt_tokens": len(resolved.prompt_ids),
            "seed_word": resolved.seed_word,
            "category": dict(job.category) or None,
        }
        if resolved.dropped:
            event["dropped_characters"] = resolved.dropped
        if job.prefill_details:
            event["prefill"] = self._resolver.prefill_details(
                resolved.prompt_ids, request.condition, self.device
            )
        # Last, so that a job that fails above has no row that goes on without it.
        if complete is None:
            self.engine.submit(request)
            self._live[key] = live
        sink.append(event)
        if complete is not None:
            sink.append(self._end(live, complete))
        return key

    def _replay(self, live: _Live) -> str | None:
        """Take in the text known already (resuming). Why it is complete as it stands, if it is: the reply may
        have broken off between the last token and the end."""
        job = live.job
        for token in job.resume_ids:
            live.text.push(token)
        if not job.resume_ids:
            return None
        if live.text.stopped:
            return "stop_sequence"
        if self._resolver.stops_at_end and job.resume_ids[-1] == END_ID:
            return "eos_token"
        if len(job.resume_ids) >= job.max_new_tokens:
            return "length"
        # the engine advances the row's own constraint when it admits the row
        replayed = self._resolver.constraint_of(job, live.prompt)
        if replayed is not None:
            for token in job.resume_ids:
                replayed.advance(token)
            if replayed.finished():
                return "stop_sequence"
        return None

    def _take(self, live: _Live, emission: Emission) -> bool:
        """Fold one emission into its job; whether the job ended by it."""
        finished = emission.finished
        if live.first_token is None:
            live.first_token = self._clock()
        if emission.tokens:
            place = live.text.tokens
            texts = live.text.extend(emission.tokens)
            # What a search finds comes at once, so it is only here that some of it may be known already.
            if live.job.num_beams == 1 or place >= len(live.job.resume_ids):
                self._add_tokens(live, emission, texts)
            elif emission.tokens[0] != live.job.resume_ids[place]:
                return self._fail(live, "the search finds another text than the one to be resumed")
        if live.job.num_beams == 1 and (
            live.text.stopped
            or (finished is None and live.constraint is not None and live.constraint.finished())
        ):
            finished = "stop_sequence"
        if finished is None:
            return False
        if emission.finished is None:
            self.engine.release(live.key)
        del self._live[live.key]
        self._flush(live)
        live.sink.append(self._end(live, finished, emission.found))
        return True

    def _fail(self, live: _Live, reason: str) -> bool:
        del self._live[live.key]
        live.sink.append({"job": live.job.id, "event": "error", "error": reason, "error_type": "generation"})
        return True

    def _add_tokens(self, live: _Live, emission: Emission, texts: Sequence[str]) -> None:
        """Note what each token adds. There are fewer `texts` than tokens when a stop string came."""
        job, tokens = live.job, emission.tokens[: len(texts)]
        if live.batch is None:
            live.batch = {"job": job.id, "event": "tokens", "ids": [], "texts": [], "special": []}
        batch = live.batch
        batch["ids"].extend(tokens)
        batch["texts"].extend(texts)
        batch["special"].extend([token == END_ID for token in tokens])
        if job.logprobs:
            batch.setdefault("logprobs", []).extend(emission.logprobs[: len(texts)])
        if job.top_n_tokens:
            batch.setdefault("top", []).append(likeliest(self.bundle, emission.top))
        if emission.trace is not None:
            batch.setdefault("trace", []).append(emission.trace._asdict())

    @staticmethod
    def _flush(live: _Live) -> None:
        if live.batch is not None:
            live.sink.append(live.batch)
            live.batch = None

    def _end(self, live: _Live, reason: str, found: Sequence[Hypothesis] = ()) -> Event:
        now = self._clock()
        tail = live.text.finish()
        text = str(live.text)
        first = live.first_token if live.first_token is not None else now
        event: Event = {
            "job": live.job.id,
            "event": "end",
            "finish_reason": reason,
            "text": text,
            "generated_tokens": live.text.tokens,
            "queue_ms": round((first - live.arrived) * 1000, 3),
            "inference_ms": round((now - live.arrived) * 1000, 3),
        }
        if tail:
            event["tail"] = tail
        if found:
            listed = found[: live.job.num_return_sequences]
            event["beams"] = [beam(self.bundle, live.job, live.prompt, one) for one in listed]
        return event | judged(self.bundle, live.job, live.prompt, text)


def final_event(events: Iterator[Event]) -> Event:
    """One dictionary of the `start` and `end` events of `TextEngine.generate`; an `error` event is raised."""
    answer: Event = {}
    for event in events:
        if event["event"] == "error":
            field = event.get("field", "job")
            raise InvalidJob(field, event["error"].removeprefix(f"{field} "))
        if event["event"] in ("start", "end"):
            answer.update(event)
    if answer.get("event") != "end":
        raise InkwellError("generation ended without an answer")
    return answer
