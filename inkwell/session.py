"""Jobs in, events out: the text side of generation, over an engine that knows only token ids.

Used by the TorchServe handler and by local generation alike, so both give the same bytes. Events are the
plain dictionaries of docs/protocol.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from inkwell import __version__
from inkwell.bundle import Bundle
from inkwell.constraints import compile_constraint
from inkwell.engine import Constraint, Emission, Engine, Request, Stats
from inkwell.errors import EngineFull, InkwellError, InvalidJob
from inkwell.job import Job, read_job
from inkwell.sampling import SamplingParams
from inkwell.stops import StopScanner
from inkwell.tokenizer import END_ID, END_TEXT, TextStream

Event = dict[str, Any]
DEFAULT_MAX_OVERLAP = 60
"""Characters in a row that a text may share with the training text before its verdict is "copy"."""
_SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "no_repeat_ngram_size",
)


@dataclass
class _Live:
    """A job between its start and its end."""

    job: Job
    key: str
    prompt: str
    sink: list[Event]
    arrived: float
    stream: TextStream
    scanner: StopScanner
    constraint: Constraint | None
    text: list[str] = field(default_factory=list)
    tokens: int = 0
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
    ) -> None:
        """`most_new_tokens` may lower the bundle's own limit, not raise it."""
        self.bundle = bundle
        device = next(bundle.model.parameters()).device
        self.engine = Engine(bundle.model.decoder(), bundle.model.vocabulary, slots, queue, device, clock)
        self.device = device
        self._clock = clock
        self._limits = bundle.limits
        if most_new_tokens is not None and most_new_tokens < self._limits.max_new_tokens:
            self._limits = replace(self._limits, max_new_tokens=most_new_tokens)
        self._live: dict[str, _Live] = {}  # by the engine's name for the row
        self._submitted = 0
        self._start_ids = bundle.tokenizer.encode(bundle.config.start) or [END_ID]

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

    def advance(self, seconds: float = 0.02, least: float = 0.002) -> None:
        """Run the engine for a time slice; what comes out goes to the jobs' sinks.

        The slice ends early, but not before `least` seconds, once a job has its first token or is finished, so
        that nobody waits for the rest of a slice to hear of it.
        """
        started = self._clock()
        touched: dict[str, _Live] = {}
        while not self.engine.idle:
            news = False
            for emission in self.engine.step():
                live = self._live.get(emission.request_id)
                if live is not None:
                    touched[emission.request_id] = live
                    news |= live.first_token is None
                    news |= self._take(live, emission)
            spent = self._clock() - started
            if spent >= seconds or (news and spent >= least):
                break
        for live in touched.values():
            self._flush(live)

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
        bundle, config, stats = self.bundle, self.bundle.config, self.engine.stats
        return {
            "name": config.name,
            "version": config.version,
            "family": config.family,
            "architecture": config.model["architecture"],
            "parameters": bundle.model.parameter_count(),
            "vocabulary": bundle.model.vocabulary,
            "context": bundle.model.context,
            "tokenizer": bundle.tokenizer.kind,
            "kind": config.kind,
            "categories": list(bundle.categories),
            "seed_words": len(bundle.words.words) if config.seed_words else 0,
            "limits": {
                "max_new_tokens": self._limits.max_new_tokens,
                "max_prompt_tokens": self._limits.max_prompt_tokens,
            },
            "defaults": config.defaults,
            "metrics": bundle.metrics,
            "inkwell": __version__,
            "device": str(self.device),
            "runtime": "torch",
            "slots": self.engine.slots,
            "bytes_per_slot": self.engine.state.bytes_per_row,
            "engine": {
                "active": self.engine.active,
                "queued": self.engine.queued,
                "submitted_total": stats.submitted,
                "finished_total": stats.finished,
                "cancelled_total": stats.cancelled,
                "tokens_total": stats.tokens,
                "steps_total": stats.steps,
                "row_steps_total": stats.row_steps,
                "busy_seconds_total": stats.busy,
            },
        }

    def tokenize(self, text: str) -> list[Event]:
        """Ids of `text` with their texts and the characters they span."""
        stream, at, tokens = TextStream(self.bundle.tokenizer), 0, []
        for token in self.bundle.tokenizer.encode(text):
            piece = stream.push(token)
            tokens.append({"id": token, "text": piece, "start": at, "stop": at + len(piece)})
            at += len(piece)
        return tokens

    def _start(self, job: Job, sink: list[Event]) -> str:
        prompt, seed_word = self._prompt_of(job)
        tokenizer, config = self.bundle.tokenizer, self.bundle.config
        ids = list(prompt) if isinstance(prompt, tuple) else tokenizer.encode(prompt)
        self._check_ids("prompt", ids)
        self._check_ids("resume_ids", job.resume_ids)
        if job.truncate is not None:
            ids = ids[-job.truncate :]
        if len(ids) > self._limits.max_prompt_tokens:
            most = self._limits.max_prompt_tokens
            raise InvalidJob(
                "prompt", f"has {len(ids)} tokens; this model allows up to {most}, or set truncate"
            )
        stops_at_end = config.kind == "documents"
        constraint = self._constraint_of(job, stops_at_end)
        now = self._clock()
        self._submitted += 1
        key = str(self._submitted)
        text = prompt if isinstance(prompt, str) else tokenizer.decode(ids)
        live = _Live(job, key, text, sink, now, TextStream(tokenizer), StopScanner(job.stop), constraint)
        complete = self._replay(live, stops_at_end)
        request = Request(
            id=key,
            prompt=(*self._start_ids, *ids),
            sampling=SamplingParams(
                seed=job.seed,
                logit_bias=self._bias_of(job),
                **{name: getattr(job, name) for name in _SAMPLING},
            ),
            max_new_tokens=job.max_new_tokens,
            min_new_tokens=job.min_new_tokens,
            forced=job.resume_ids,
            position=job.position,
            condition=self._condition_of(job),
            guidance=self._guidance_of(job),
            stops_at_end=stops_at_end,
            deadline=None if job.deadline_ms is None else now + job.deadline_ms / 1000,
            logprobs=job.logprobs,
            top_n_tokens=job.top_n_tokens,
            trace=job.trace,
            constraint=constraint,
        )
        event: Event = {
            "job": job.id,
            "event": "start",
            "seed": job.seed,
            "prompt": live.prompt,
            "prompt_ids": ids,
            "prompt_tokens": len(ids),
            "seed_word": seed_word,
            "category": dict(job.category) or None,
        }
        if isinstance(prompt, str) and (dropped := tokenizer.unknown(prompt)):
            event["dropped_characters"] = dropped
        if job.prefill_details:
            event["prefill"] = self._prefill_details(ids, request.condition)
        # Last, so that a job that fails above has no row that goes on without it.
        if complete is None:
            self.engine.submit(request)
            self._live[key] = live
        sink.append(event)
        if complete is not None:
            sink.append(self._end(live, complete))
        return key

    def _replay(self, live: _Live, stops_at_end: bool) -> str | None:
        """Take in the text known already (resuming). Why it is complete as it stands, if it is: the reply may
        have broken off between the last token and the end."""
        job = live.job
        for token in job.resume_ids:
            live.text.append(live.scanner.push(live.stream.push(token)))
            live.tokens += 1
        if not job.resume_ids:
            return None
        if live.scanner.found is not None:
            return "stop_sequence"
        if stops_at_end and job.resume_ids[-1] == END_ID:
            return "eos_token"
        if len(job.resume_ids) >= job.max_new_tokens:
            return "length"
        if live.constraint is not None:
            # the engine advances the row's own constraint when it admits the row
            replayed = compile_constraint(job, self.bundle.tokenizer, stops_at_end)
            for token in job.resume_ids:
                replayed.advance(token)
            if replayed.finished():
                return "stop_sequence"
        return None

    def _prompt_of(self, job: Job) -> tuple[str | tuple[int, ...], str | None]:
        """The prompt, and the seed word when one was chosen. An explicit strategy 'none' stays empty."""
        if job.prompt:
            return job.prompt, None
        if job.resume_ids:  # a text that has begun without a prompt goes on without one
            return "", None
        choice = job.seed_word
        if (choice is None and not self.bundle.config.seed_words) or (choice and choice.strategy == "none"):
            return "", None
        strategy, value = ("random", None) if choice is None else (choice.strategy, choice.value)
        word = self.bundle.words.pick(strategy, job.seed, value)
        return word, word

    def _constraint_of(self, job: Job, stops_at_end: bool) -> Constraint | None:
        if not job.shaped:
            return None
        return compile_constraint(job, self.bundle.tokenizer, stops_at_end)

    def _check_ids(self, name: str, ids: list[int] | tuple[int, ...]) -> None:
        size = self.bundle.tokenizer.size
        for token in ids:
            if token >= size:
                raise InvalidJob(name, f"holds token id {token}; this model has ids 0 to {size - 1}")

    def _bias_of(self, job: Job) -> dict[int, float]:
        bias: dict[int, float] = {}
        for key, value in job.logit_bias.items():
            if key.isdecimal() and len(key) < 10:
                self._check_ids("logit_bias", [int(key)])
                ids = [int(key)]
            else:
                ids = self.bundle.tokenizer.encode(key)
                if len(ids) != 1:
                    raise InvalidJob(
                        "logit_bias", f"has {key!r}, which is {len(ids)} tokens of this model, not one"
                    )
            bias[ids[0]] = bias.get(ids[0], 0.0) + value
        return bias

    def _condition_of(self, job: Job) -> dict[int, float] | None:
        if not job.category:
            return None
        known = {name.casefold(): index for index, name in enumerate(self.bundle.categories, 1)}
        if not known:
            raise InvalidJob(
                "category", f"is not possible: model {self.bundle.config.name!r} has no categories"
            )
        condition: dict[int, float] = {}
        for name, weight in job.category.items():
            index = known.get(name.casefold())
            if index is None:
                allowed = ", ".join(self.bundle.categories)
                raise InvalidJob("category", f"is {name!r}; this model knows {allowed}")
            condition[index] = condition.get(index, 0.0) + weight
        return condition

    def _guidance_of(self, job: Job) -> float:
        if job.guidance != 1.0 and not self.bundle.categories:
            raise InvalidJob(
                "guidance", f"is not possible: model {self.bundle.config.name!r} has no categories"
            )
        if job.guidance != 1.0 and job.category and self.engine.slots < 2:
            raise InvalidJob("guidance", "takes two rows; this engine has one, so 1 is allowed")
        return job.guidance

    @torch.no_grad()
    def _prefill_details(self, ids: list[int], condition: Mapping[int, float] | None) -> list[Event]:
        whole = torch.tensor([*self._start_ids, *ids], device=self.device)
        if condition is None:
            logits = self.bundle.model(whole[None]).logits[0]
        else:
            # `forward` knows single categories only, a row's state any mixture of them
            decoder = self.bundle.model.decoder()
            state = decoder.new_state(1)
            decoder.admit(state, 0, condition)
            logits = torch.cat([decoder.step(token[None], state) for token in whole])
        logs = logits.double().log_softmax(-1)
        first = len(self._start_ids)
        details: list[Event] = []
        for place, token in enumerate(ids, first):
            # The first token has nothing before it, as text-generation-inference has it.
            logprob = None if place == first else float(logs[place - 1, token])
            details.append({"id": token, "text": self.bundle.tokenizer.decode([token]), "logprob": logprob})
        return details

    def _take(self, live: _Live, emission: Emission) -> bool:
        """Fold one emission into its job; whether the job ended by it."""
        finished = emission.finished
        if live.first_token is None:
            live.first_token = self._clock()
        if emission.token is not None:
            live.tokens += 1
            text = live.scanner.push(live.stream.push(emission.token))
            live.text.append(text)
            self._add_token(live, emission, text)
        if live.scanner.found or (
            finished is None and live.constraint is not None and live.constraint.finished()
        ):
            finished = "stop_sequence"
        if finished is None:
            return False
        if emission.finished is None:
            self.engine.release(live.key)
        del self._live[live.key]
        self._flush(live)
        live.sink.append(self._end(live, finished))
        return True

    def _add_token(self, live: _Live, emission: Emission, text: str) -> None:
        job, token = live.job, emission.token
        if live.batch is None:
            live.batch = {"job": job.id, "event": "tokens", "ids": [], "texts": [], "special": []}
        batch = live.batch
        batch["ids"].append(token)
        batch["texts"].append(text)
        batch["special"].append(token == END_ID)
        if job.logprobs:
            batch.setdefault("logprobs", []).append(emission.logprob)
        if job.top_n_tokens:
            batch.setdefault("top", []).append(
                [{"id": i, "text": self._text_of(i), "logprob": logprob} for i, logprob in emission.top]
            )
        if emission.trace is not None:
            batch.setdefault("trace", []).append(emission.trace._asdict())

    def _text_of(self, token: int) -> str:
        return END_TEXT if token == END_ID else self.bundle.tokenizer.decode([token])

    @staticmethod
    def _flush(live: _Live) -> None:
        if live.batch is not None:
            live.sink.append(live.batch)
            live.batch = None

    def _end(self, live: _Live, reason: str) -> Event:
        now = self._clock()
        tail = "" if live.scanner.found else live.scanner.push(live.stream.flush()) + live.scanner.rest()
        text = "".join(live.text) + tail
        first = live.first_token if live.first_token is not None else now
        event: Event = {
            "job": live.job.id,
            "event": "end",
            "finish_reason": reason,
            "text": text,
            "generated_tokens": live.tokens,
            "queue_ms": round((first - live.arrived) * 1000, 3),
            "inference_ms": round((now - live.arrived) * 1000, 3),
        }
        if tail:
            event["tail"] = tail
        if live.job.novelty is not None:
            event["novelty"] = self._novelty_of(live, text)
        return event

    def _novelty_of(self, live: _Live, text: str) -> Event:
        """How far the text repeats the training text. Prompt and text together are compared with whole training
        documents, the text alone with passages: a caller may quote what he likes."""
        index, rule = self.bundle.load_novelty(), live.job.novelty
        if index is None or rule is None:
            return {"verdict": "unknown"}
        found = index.check(text)
        most = DEFAULT_MAX_OVERLAP if rule.max_overlap_chars is None else rule.max_overlap_chars
        exact = index.contains(live.prompt + text)
        event: Event = {
            "verdict": "copy" if exact or found.longest > most else "novel",
            "exact_copy": exact,
            "longest": found.longest,
            "ratio": round(found.ratio, 4),
            "start": found.start,
            "end": found.end,
            "excerpt": found.excerpt,
        }
        if found.document is not None:
            event["source"] = {"document": found.document, "title": found.title, "offset": found.offset}
        return event


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
