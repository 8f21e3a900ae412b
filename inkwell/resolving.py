"""A job's fields looked up in its bundle: words become ids, names become numbers, shapes become constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from inkwell.bundle import Bundle
from inkwell.constraints import StoryCompiler, compile_constraint
from inkwell.errors import InvalidJob
from inkwell.growing import StopWatch
from inkwell.job import Job, Limits
from inkwell.request import BeamSettings, Constraint, Request
from inkwell.sampling import SamplingParams
from inkwell.tokenizer import END_ID

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
# What says how a token is drawn: a search draws none.
_DRAWING = ("temperature", "top_k", "top_p", "min_p", "typical_p")


class Resolved(NamedTuple):
    """A job, ready for the engine. `seed_word` when one was chosen, `dropped` characters that no token has."""

    request: Request
    prompt: str
    prompt_ids: list[int]
    seed_word: str | None
    dropped: str


class Resolver:
    """Resolves jobs against one bundle, for an engine of `slots` rows. Raises InvalidJob."""

    def __init__(self, bundle: Bundle, limits: Limits, slots: int) -> None:
        self.bundle, self.limits, self.slots = bundle, limits, slots
        self.stops_at_end = bundle.config.kind == "documents"
        self._stories = StoryCompiler(bundle.tokenizer, self._documents)
        self.start_ids = bundle.tokenizer.encode(bundle.config.start) or [END_ID]

    def resolve(self, job: Job, key: str, now: float) -> Resolved:
        """The engine's request under the name `key`; `now` is the engine's clock."""
        prompt, seed_word = self._prompt_of(job)
        tokenizer = self.bundle.tokenizer
        ids = list(prompt) if isinstance(prompt, tuple) else tokenizer.encode(prompt)
        self._check_ids("prompt", ids)
        self._check_ids("resume_ids", job.resume_ids)
        if job.truncate is not None:
            ids = ids[-job.truncate :]
        if len(ids) > self.limits.max_prompt_tokens:
            most = self.limits.max_prompt_tokens
            raise InvalidJob(
                "prompt", f"has {len(ids)} tokens; this model allows up to {most}, or set truncate"
            )
        text = prompt if isinstance(prompt, str) else tokenizer.decode(ids)
        searches = job.num_beams > 1
        sampling: dict[str, Any] = {name: getattr(job, name) for name in _SAMPLING}
        if searches:  # the model's own defaults may speak of drawing
            sampling |= {name: getattr(SamplingParams(temperature=0.0), name) for name in _DRAWING}
        request = Request(
            id=key,
            prompt=(*self.start_ids, *ids),
            sampling=SamplingParams(seed=job.seed, logit_bias=self._bias_of(job), **sampling),
            max_new_tokens=job.max_new_tokens,
            min_new_tokens=job.min_new_tokens,
            # a search is made again from the beginning, and finds what it found before
            forced=() if searches else job.resume_ids,
            position=job.position,
            condition=self._condition_of(job),
            guidance=self._guidance_of(job),
            stops_at_end=self.stops_at_end,
            deadline=None if job.deadline_ms is None else now + job.deadline_ms / 1000,
            logprobs=job.logprobs,
            top_n_tokens=job.top_n_tokens,
            trace=job.trace,
            constraint=self.constraint_of(job, text),
            beams=BeamSettings(job.num_beams, job.length_penalty, job.early_stopping) if searches else None,
            watch=StopWatch(tokenizer, job.stop) if searches and job.stop else None,
        )
        if request.rows > self.slots:
            field = "num_beams" if searches else "guidance"
            raise InvalidJob(
                field,
                f"is {getattr(job, field):g}, which takes {request.rows} rows; this engine has {self.slots}",
            )
        return Resolved(
            request, text, ids, seed_word, tokenizer.unknown(prompt) if isinstance(prompt, str) else ""
        )

    def constraint_of(self, job: Job, prompt: str) -> Constraint | None:
        """What the text has to be like, from its beginning."""
        if job.tells:
            return self._stories.constraint(job, prompt, self.stops_at_end)
        if not job.shaped:
            return None
        return compile_constraint(job, self.bundle.tokenizer, self.stops_at_end)

    def _documents(self) -> Sequence[str] | None:
        """The texts that the model has learned from, where the bundle carries them."""
        index = self.bundle.load_novelty()
        return None if index is None else index.documents

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
        if job.guidance != 1.0 and job.category and self.slots < 2:
            raise InvalidJob("guidance", "takes two rows; this engine has one, so 1 is allowed")
        return job.guidance

    @torch.no_grad()
    def prefill_details(
        self, ids: list[int], condition: Mapping[int, float] | None, device: torch.device
    ) -> list[dict[str, Any]]:
        """The prompt's tokens with their log-probabilities in nats, the first one's None."""
        model = self.bundle.model
        whole = torch.tensor([*self.start_ids, *ids], device=device)
        if condition is None:
            logits = model(whole[None]).logits[0]
        else:
            # `forward` knows single categories only, a row's state any mixture of them
            decoder = model.decoder()
            state = decoder.new_state(1)
            decoder.admit(state, 0, condition)
            logits = torch.cat([decoder.step(token[None], state) for token in whole])
        logs = logits.double().log_softmax(-1)
        first = len(self.start_ids)
        details: list[dict[str, Any]] = []
        for place, token in enumerate(ids, first):
            # The first token has nothing before it, as text-generation-inference has it.
            logprob = None if place == first else float(logs[place - 1, token])
            details.append({"id": token, "text": self.bundle.tokenizer.decode([token]), "logprob": logprob})
        return details
