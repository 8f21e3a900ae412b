"""A generation job as it comes over the wire, checked field by field (docs/protocol.md)."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inkwell.config import check
from inkwell.errors import InvalidJob
from inkwell.words import STRATEGIES

MAX_SEED = (1 << 63) - 1
_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True)
class SeedWordChoice:
    """How an empty prompt is filled."""

    strategy: str = "random"
    value: str | None = None


@dataclass(frozen=True)
class NoveltyRule:
    """What to do with text that repeats the training text: `mark` reports it, `reject` tries again."""

    mode: str
    max_overlap_chars: int | None = None


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
    deadline_ms: float | None = None
    logprobs: bool = False
    top_n_tokens: int = 0
    prefill_details: bool = False
    trace: bool = False
    min_chars: int | None = None
    max_chars: int | None = None
    regex: str | None = None
    starts_with: str | None = None
    ends_with: str | None = None
    contains: str | None = None
    syllables: int | None = None
    allowed_chars: str | None = None
    novelty: NoveltyRule | None = None

    @property
    def shaped(self) -> bool:
        """Whether the text has to satisfy a constraint."""
        rules = (self.regex, self.starts_with, self.ends_with, self.contains, self.allowed_chars)
        return any(rule is not None for rule in (*rules, self.min_chars, self.max_chars, self.syllables))


Reader = Callable[[str, Any], Any]


def _integer(low: int, high: int | None = None) -> Reader:
    allowed = f"an integer of {low} or more" if high is None else f"an integer from {low} to {high}"

    def read(name: str, value: Any) -> int:
        if type(value) is not int or value < low or (high is not None and value > high):
            raise InvalidJob(name, f"must be {allowed}; got {_show(value)}")
        return value

    return read


def _number(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> Reader:
    bounds = ("above " if open_low else "from ") + f"{low:g}"
    if high != math.inf:
        bounds += (" to below " if open_high else " to ") + f"{high:g}"
    else:
        bounds = f"above {low:g}" if open_low else f"of {low:g} or more"

    def read(name: str, value: Any) -> float:
        # an upper bound on integers first: a huge one cannot become a float
        good = type(value) in (int, float) and low <= value <= min(high, 1e300)
        if not good or (open_low and value == low) or (open_high and value == high):
            raise InvalidJob(name, f"must be a number {bounds}; got {_show(value)}")
        return float(value)

    return read


def _boolean(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise InvalidJob(name, f"must be true or false; got {_show(value)}")
    return value


def _text(most: int, least: int = 1) -> Reader:
    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise InvalidJob(name, f"must be a string of {least} to {most} characters; got {_show(value)}")
        _whole(name, value)
        return value

    return read


def _whole(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidJob(
            name, f"holds half a surrogate pair at character {error.start}; send valid Unicode"
        ) from None


def _id(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidJob(
            name, f"must be 1 to 128 printable ASCII characters without spaces; got {_show(value)}"
        )
    return value


def _prompt(name: str, value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        _whole(name, value)
        return value
    return _ids(name, value)


def _ids(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(item) is not int or item < 0 for item in value):
        raise InvalidJob(name, f"must be a string or a list of token ids; got {_show(value)}")
    return tuple(value)


def _stop(name: str, value: Any) -> tuple[str, ...]:
    good = (
        isinstance(value, list)
        and len(value) <= 16
        and all(isinstance(s, str) and 0 < len(s) <= 256 for s in value)
    )
    if not good:
        raise InvalidJob(
            name, f"must be a list of up to 16 strings of 1 to 256 characters; got {_show(value)}"
        )
    for item in value:
        _whole(name, item)
    return tuple(value)


def _bias(name: str, value: Any) -> dict[str, float]:
    good = isinstance(value, dict) and len(value) <= 1024
    if not good or any(type(bias) not in (int, float) or not -100 <= bias <= 100 for bias in value.values()):
        raise InvalidJob(
            name, f"must map up to 1024 ids or texts to numbers from -100 to 100; got {_show(value)}"
        )
    for key in value:
        _whole(name, str(key))
    return {str(key): float(bias) for key, bias in value.items()}


def _category(name: str, value: Any) -> dict[str, float]:
    if isinstance(value, str):
        return {value: 1.0}
    good = isinstance(value, dict) and 0 < len(value) <= 64 and all(isinstance(key, str) for key in value)
    if not good or any(type(w) not in (int, float) or not 0 <= w <= 1e9 for w in value.values()):
        raise InvalidJob(
            name, f"must be a category or an object of categories and weights; got {_show(value)}"
        )
    total = sum(value.values())
    if total <= 0:
        raise InvalidJob(name, "has no weight above 0")
    return {key: weight / total for key, weight in value.items()}


def _seed_word(name: str, value: Any) -> SeedWordChoice:
    values = {"strategy": value} if isinstance(value, str) else value
    if not isinstance(values, dict) or set(values) - {"strategy", "value"}:
        raise InvalidJob(name, f"must be an object with 'strategy' and 'value'; got {_show(value)}")
    strategy, word = values.get("strategy", "random"), values.get("value")
    if strategy not in STRATEGIES:
        raise InvalidJob(f"{name}.strategy", f"must be one of {', '.join(STRATEGIES)}; got {_show(strategy)}")
    return SeedWordChoice(strategy, None if word is None else _text(64)(f"{name}.value", word))


def _novelty(name: str, value: Any) -> NoveltyRule:
    values = {"mode": value} if isinstance(value, str) else value
    if not isinstance(values, dict) or set(values) - {"mode", "max_overlap_chars"}:
        raise InvalidJob(name, f"must be an object with 'mode' and 'max_overlap_chars'; got {_show(value)}")
    if values.get("mode") not in ("mark", "reject"):
        raise InvalidJob(f"{name}.mode", f"must be 'mark' or 'reject'; got {_show(values.get('mode'))}")
    most = values.get("max_overlap_chars")
    return NoveltyRule(
        values["mode"], None if most is None else _integer(1)(f"{name}.max_overlap_chars", most)
    )


_READERS: dict[str, Reader] = {
    "id": _id,
    "prompt": _prompt,
    "seed_word": _seed_word,
    "category": _category,
    "guidance": _number(0, 100),
    "seed": _integer(0, MAX_SEED),
    "position": _integer(0, 1 << 31),
    "resume_ids": _ids,
    "max_new_tokens": _integer(1),
    "min_new_tokens": _integer(0),
    "truncate": _integer(1),
    "temperature": _number(0, 100),
    "top_k": _integer(0),
    "top_p": _number(0, 1, open_low=True),
    "typical_p": _number(0, 1, open_low=True),
    "min_p": _number(0, 1, open_high=True),
    "repetition_penalty": _number(0, 100, open_low=True),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "no_repeat_ngram_size": _integer(0),
    "logit_bias": _bias,
    "stop": _stop,
    "deadline_ms": _number(0, math.inf),
    "logprobs": _boolean,
    "top_n_tokens": _integer(0, 20),
    "prefill_details": _boolean,
    "trace": _boolean,
    "min_chars": _integer(0),
    "max_chars": _integer(1),
    "regex": _text(1024),
    "starts_with": _text(256),
    "ends_with": _text(256),
    "contains": _text(256),
    "syllables": _integer(1, 64),
    "allowed_chars": _text(1024),
    "novelty": _novelty,
}


def read_job(values: Mapping[str, Any], defaults: Mapping[str, Any], limits: Limits) -> Job:
    """Check a job and fill in what is absent or null from `defaults`, the model's own. Raises InvalidJob.

    A seed is drawn when none is given, so that the answer can name it.
    """
    if not isinstance(values, Mapping):
        raise InvalidJob("job", f"must be an object; got {_show(values)}")
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
    if len(job.resume_ids) > job.max_new_tokens:
        raise InvalidJob(
            "resume_ids", f"has {len(job.resume_ids)} ids; max_new_tokens is {job.max_new_tokens}"
        )
    return job


def _show(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
