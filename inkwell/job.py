"""A generation job as it comes over the wire, checked field by field (docs/protocol.md)."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from inkwell.config import check
from inkwell.errors import InvalidJob
from inkwell.fields import (
    NoveltyRule,
    Reader,
    SeedWordChoice,
    bias,
    boolean,
    category_weights,
    early_end,
    integer,
    job_id,
    name_list,
    novelty_rule,
    number,
    prompt_or_ids,
    seed_word_choice,
    show,
    stop_strings,
    text_of,
    token_ids,
    word_list,
)

MAX_SEED = (1 << 63) - 1
MAX_BEAMS = 16


@dataclass(frozen=True)
class Limits:
    """The most that one job may ask for."""

    max_new_tokens: int = 2000
    max_prompt_tokens: int = 4096
    max_prompt_chars: int = 65_536

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check(value >= 1, name, value, "1 or more")


@dataclass(frozen=True)
class Job:
    """One job with every default filled in. Field meanings are those of the protocol page."""

    id: str
    prompt: str | tuple[int, ...] | None = None
    seed_word: SeedWordChoice | None = None
    category: Mapping[str, float] = field(default_factory=dict)
    guidance: float = 1.0
    seed: int = 0
    position: int = 0
    resume_ids: tuple[int, ...] = ()
    max_new_tokens: int = 100
    min_new_tokens: int = 0
    truncate: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    typical_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    logit_bias: Mapping[str, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1
    deadline_ms: float | None = None
    logprobs: bool = False
    top_n_tokens: int = 0
    prefill_details: bool = False
    trace: bool = False
    stream: bool = True
    min_chars: int | None = None
    max_chars: int | None = None
    regex: str | None = None
    starts_with: str | None = None
    ends_with: str | None = None
    contains: str | None = None
    syllables: int | None = None
    allowed_chars: str | None = None
    characters: tuple[str, ...] = ()
    opening: str | None = None
    ending: str | None = None
    required_words: tuple[str, ...] = ()
    forbidden_words: tuple[str, ...] = ()
    forbid_loops: int | None = None
    novelty: NoveltyRule | None = None

    @property
    def tells(self) -> bool:
        """Whether the text has to keep the rules of a story."""
        rules = (self.opening, self.ending, self.forbid_loops)
        words = (self.characters, self.required_words, self.forbidden_words)
        return any(rule is not None for rule in rules) or any(words)

    @property
    def shaped(self) -> bool:
        """Whether the text has to satisfy a constraint."""
        rules = (self.regex, self.starts_with, self.ends_with, self.contains, self.allowed_chars)
        return any(rule is not None for rule in (*rules, self.min_chars, self.max_chars, self.syllables))


_READERS: dict[str, Reader] = {
    "id": job_id,
    "prompt": prompt_or_ids,
    "seed_word": seed_word_choice,
    "category": category_weights,
    "guidance": number(0, 100),
    "seed": integer(0, MAX_SEED),
    "position": integer(0, 1 << 31),
    "resume_ids": token_ids,
    "max_new_tokens": integer(1),
    "min_new_tokens": integer(0),
    "truncate": integer(1),
    "temperature": number(0, 100),
    "top_k": integer(0),
    "top_p": number(0, 1, open_low=True),
    "typical_p": number(0, 1, open_low=True),
    "min_p": number(0, 1, open_high=True),
    "repetition_penalty": number(0, 100, open_low=True),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "no_repeat_ngram_size": integer(0),
    "logit_bias": bias,
    "stop": stop_strings,
    "num_beams": integer(1, MAX_BEAMS),
    "length_penalty": number(-10, 10),
    "early_stopping": early_end,
    "num_return_sequences": integer(1, MAX_BEAMS),
    "deadline_ms": number(0, math.inf),
    "logprobs": boolean,
    "top_n_tokens": integer(0, 20),
    "prefill_details": boolean,
    "trace": boolean,
    "stream": boolean,
    "min_chars": integer(0),
    "max_chars": integer(1),
    "regex": text_of(1024),
    "starts_with": text_of(256),
    "ends_with": text_of(256),
    "contains": text_of(256),
    "syllables": integer(1, 64),
    "allowed_chars": text_of(1024),
    "characters": name_list,
    "opening": text_of(1000),
    "ending": text_of(1000),
    "required_words": word_list(32),
    "forbidden_words": word_list(256),
    "forbid_loops": integer(2, 32),
    "novelty": novelty_rule,
}


def read_job(values: Mapping[str, Any], defaults: Mapping[str, Any], limits: Limits) -> Job:
    """Check a job and fill in what is absent or null from `defaults`, the model's own. Raises InvalidJob.

    A seed is drawn when none is given, so that the answer can name it.
    """
    if not isinstance(values, Mapping):
        raise InvalidJob("job", f"must be an object; got {show(values)}")
    unknown = [key for key in values if key not in _READERS]
    if unknown:
        raise InvalidJob(str(unknown[0])[:80], f"is not a field of a job; allowed are {', '.join(_READERS)}")
    foreign = [key for key in defaults if key not in _READERS]
    if foreign:
        raise InvalidJob(str(foreign[0])[:80], "is among this model's defaults and is not a field of a job")
    merged = {**defaults, **{key: value for key, value in values.items() if value is not None}}
    if "id" not in merged:
        raise InvalidJob("id", "is missing")
    ready = {key: _READERS[key](key, value) for key, value in merged.items()}
    ready.setdefault("seed", secrets.randbits(53))
    if values.get("max_new_tokens") is None:
        ready["max_new_tokens"] = min(ready.get("max_new_tokens", Job.max_new_tokens), limits.max_new_tokens)
    job = Job(**ready)
    if job.max_new_tokens > limits.max_new_tokens:
        raise InvalidJob(
            "max_new_tokens", f"is {job.max_new_tokens}; this model allows up to {limits.max_new_tokens}"
        )
    if job.min_new_tokens > job.max_new_tokens:
        raise InvalidJob(
            "min_new_tokens", f"is {job.min_new_tokens}, above max_new_tokens {job.max_new_tokens}"
        )
    if len(job.prompt or "") > limits.max_prompt_chars:
        raise InvalidJob(
            "prompt",
            f"has {len(job.prompt or '')} characters; this model allows up to {limits.max_prompt_chars}",
        )
    if job.min_chars is not None and job.max_chars is not None and job.min_chars > job.max_chars:
        raise InvalidJob("min_chars", f"is {job.min_chars}, above max_chars {job.max_chars}")
    _check_beams(job, values)
    if len(job.resume_ids) > job.max_new_tokens:
        raise InvalidJob(
            "resume_ids", f"has {len(job.resume_ids)} ids; max_new_tokens is {job.max_new_tokens}"
        )
    return job


# What says how tokens are drawn, and the values that say nothing.
_NEUTRAL = {"temperature": (0, 1), "top_k": (0,), "top_p": (1,), "typical_p": (1,), "min_p": (0,)}


def _check_beams(job: Job, values: Mapping[str, Any]) -> None:
    """A search draws nothing, so what the caller asks of drawing is refused. The model's defaults are not his."""
    if job.num_beams == 1:
        if job.num_return_sequences > 1:
            raise InvalidJob("num_return_sequences", f"is {job.num_return_sequences}; num_beams is 1")
        return
    for name, neutral in _NEUTRAL.items():
        if values.get(name) is not None and values[name] not in neutral:
            allowed = " or ".join(map(str, neutral))
            raise InvalidJob(
                name,
                f"must be absent or {allowed} with num_beams above 1, which draws nothing; got {values[name]}",
            )
    if job.trace:
        raise InvalidJob(
            "trace", "must be absent or false with num_beams above 1, which draws nothing; got true"
        )
    if job.num_return_sequences > job.num_beams:
        raise InvalidJob(
            "num_return_sequences", f"is {job.num_return_sequences}, above num_beams {job.num_beams}"
        )
