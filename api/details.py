"""What is told of a text beside the text itself, in the words of both dialects."""

from __future__ import annotations

import time

from api import phonetics
from api.context import RequestContext
from api.generation import Answer
from api.jobs import Job, JsonObject
from api.params import Sampling
from api.plan import Plan
from deploy.models_file import ModelEntry

_FINISH_REASONS = {"length", "eos_token", "stop_sequence"}


def beginning(start: JsonObject) -> JsonObject:
    """What was settled before the first token: the seed, what was chosen for the caller, and the characters of
    the prompt that the model does not know."""
    told = {name: start.get(name) for name in ("seed", "seed_word", "category")}
    if start.get("dropped_characters"):
        told["dropped_characters"] = start["dropped_characters"]
    return told


def details_of(
    context: RequestContext, entry: ModelEntry, job: Job, start: JsonObject, end: JsonObject
) -> JsonObject:
    """What native answers tell of every text that is done."""
    reason = end["finish_reason"]
    details = {
        # Clients know three reasons. What ended early for any other is a cut length, and says so beside it.
        "finish_reason": reason if reason in _FINISH_REASONS else "length",
        "generated_tokens": end["generated_tokens"],
        **beginning(start),
        "model": entry.name,
        "version": context.gateway.catalog.version(entry.name, job.release),
        "queue_ms": _queue_ms(job, end),
        "inference_ms": end.get("inference_ms"),
    }
    if reason not in _FINISH_REASONS:
        details["ended_by"] = reason
    if end.get("novelty") is not None:
        details["novelty"] = end["novelty"]
    return details


def judged(answer: Answer, params: Sampling) -> JsonObject:
    """What was found out about a whole text; only what the parameters ask about."""
    told: JsonObject = {}
    for name in ("score", "characters"):
        if answer.end.get(name) is not None:
            told[name] = answer.end[name]
    if params.syllables is not None:
        told["syllables"] = phonetics.syllables(answer.whole)
    if params.rank == "pronounceable":
        told["pronounceability"] = round(phonetics.score(answer.whole), 4)
    if answer.session_scope is not None:
        told["session_scope"] = answer.session_scope
    return told


def tokens_of(job: Job) -> list[JsonObject]:
    """The tokens of a job that is done; the text of all of them together is its text."""
    tail = str((job.end or {}).get("tail") or "")
    last = len(job.ids) - 1
    logprobs: list[float | None] = [*job.logprobs] if job.logprobs else [None] * len(job.ids)
    return [
        {"id": i, "text": text + (tail if at == last else ""), "logprob": logprob, "special": special}
        for at, (i, text, logprob, special) in enumerate(
            zip(job.ids, job.texts, logprobs, job.special, strict=True)
        )
    ]


def top_token(token: JsonObject) -> JsonObject:
    """An alternative as text-generation-inference writes it."""
    return {"special": False, **token}


def compute_type(context: RequestContext, entry: ModelEntry) -> str:
    """The device that the model's workers run on, as last seen."""
    return str(context.gateway.catalog.card(entry.name).get("device") or "unknown")


def timing(
    context: RequestContext, entry: ModelEntry, made: Plan, answers: list[Answer], validated: float
) -> dict[str, str]:
    """text-generation-inference's headers; times in milliseconds, but `x-compute-time` in seconds."""
    total = time.monotonic() - context.started
    generated = sum(answer.end["generated_tokens"] for answer in answers)
    inference = max((answer.end.get("inference_ms") or 0.0 for answer in answers), default=0.0)
    longest = max((answer.end["generated_tokens"] for answer in answers), default=0)
    return {
        "x-compute-type": compute_type(context, entry),
        "x-compute-time": f"{total:.6f}",
        "x-compute-characters": str(made.input_chars),
        "x-total-time": f"{total * 1000:.3f}",
        "x-validation-time": f"{(validated - context.started) * 1000:.3f}",
        "x-queue-time": f"{max(_queue_ms(a.job, a.end) for a in answers):.3f}",
        "x-inference-time": f"{inference:.3f}",
        "x-time-per-token": f"{inference / longest if longest else 0.0:.3f}",
        "x-prompt-tokens": str(sum(answer.start.get("prompt_tokens") or 0 for answer in answers)),
        "x-generated-tokens": str(generated),
    }


def _queue_ms(job: Job, end: JsonObject) -> float:
    in_gateway = ((job.sent_at or job.created) - job.created) * 1000
    return round(in_gateway + (end.get("queue_ms") or 0.0), 3)
