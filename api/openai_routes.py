"""`/v1`: OpenAI's completions and model list."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

import orjson
import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.context import RequestContext, context_of
from api.details import beginning, compute_type, judged, tokens_of
from api.errors import GatewayError, InternalError, InvalidRequest
from api.generation import Answer, run_plan
from api.jobs import Job, JsonObject
from api.openai_schema import CompletionRequest
from api.openapi import body_of
from api.parsing import parse_body
from api.pieces import Piece, pieces
from api.plan import Plan, plan
from api.responses import json_response
from api.streaming import EventStream, begin_all, merged, unless_gone
from deploy.models_file import ModelEntry

log = structlog.get_logger("api.openai")
router = APIRouter(prefix="/v1", tags=["openai"])

_STARTED = int(time.time())


@router.post("/completions", openapi_extra=body_of(CompletionRequest))
async def completions(request: Request) -> Response:
    """Complete one or many prompts. Choices are ordered prompt · n + j."""
    context = context_of(request)
    body = await parse_body(request, CompletionRequest)
    entry = context.model(body.model)
    made = plan(
        entry,
        context.gateway.settings,
        body,
        body.prompts(),
        prompt_field="prompt",
        tokens_field="max_tokens",
        logprobs=body.logprobs is not None,
    )
    if body.stream:
        return await _stream(request, context, entry, body, made)
    groups = await unless_gone(request, run_plan(context.gateway, made, context.request_id, context.caller))
    kept = [answer for group in groups for answer in group[: made.keep]]
    document = {
        **_envelope(context, entry, kept[0].job.release),
        "choices": [_choice(body, index, answer) for index, answer in enumerate(kept)],
        # What was drawn and dropped was paid for as well.
        "usage": _usage(
            [group[0].start for group in groups],
            [a.end["generated_tokens"] for group in groups for a in group],
        ),
    }
    return json_response(document, headers={"x-compute-type": compute_type(context, entry)})


@router.get("/models")
async def models(request: Request) -> Response:
    """The served models."""
    names = context_of(request).gateway.models.models
    return json_response({"object": "list", "data": [_model(name) for name in names]})


@router.get("/models/{name:path}")
async def model(request: Request, name: str) -> Response:
    """One served model."""
    return json_response(_model(context_of(request).gateway.catalog.entry(name).name))


async def _stream(
    request: Request, context: RequestContext, entry: ModelEntry, body: CompletionRequest, made: Plan
) -> Response:
    if made.beams > 1:
        raise InvalidRequest(f"num_beams must be 1 when streaming; got {made.beams}", field="num_beams")
    if (field := made.needs_whole_answers) is not None:
        raise InvalidRequest(f"{field} needs whole texts and is not supported when streaming", field=field)
    if body.rank is not None and made.keep > 1:
        raise InvalidRequest("rank needs whole texts and is not supported when streaming", field="rank")
    samples = [(prompt, sample) for prompt in range(len(made.prompts)) for sample in range(made.samples)]
    held = context.gateway.quotas.stream(context.caller.name)
    held.__enter__()
    jobs: list[Job] = []
    try:
        jobs = context.gateway.jobs(made, context.request_id, context.caller, samples, stream=True)
        await begin_all(request, jobs)
    except BaseException:
        for job in jobs:
            job.cancel()
        held.__exit__(None, None, None)
        raise
    headers = {"x-compute-type": compute_type(context, entry), "x-compute-characters": str(made.input_chars)}
    return EventStream(_events(context, entry, body, made, jobs), jobs=jobs, held=held, headers=headers)


async def _events(
    context: RequestContext, entry: ModelEntry, body: CompletionRequest, made: Plan, jobs: list[Job]
) -> AsyncGenerator[bytes, None]:
    envelope = _envelope(context, entry, jobs[0].release)
    wants_usage = bool(body.stream_options and body.stream_options.include_usage)
    if wants_usage:
        envelope["usage"] = None
    offsets = [0] * len(jobs)
    try:
        streams = {
            index: pieces(job, made.new_tokens, hold_back=made.hold_back) for index, job in enumerate(jobs)
        }
        async for index, group in merged(streams):
            choice = _delta(body, index, jobs[index], group, offsets)
            yield _event({**envelope, "choices": [choice]})
        if wants_usage:
            starts = [job.start or {} for job in jobs[:: made.samples]]
            usage = _usage(starts, [(job.end or {}).get("generated_tokens", 0) for job in jobs])
            yield _event({**envelope, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"
    except GatewayError as error:
        yield _event(error.openai())
    except Exception:
        # Headers are out: the one honest thing left is an error event; the cause goes to the log.
        log.exception("stream_failed")
        yield _event(InternalError().openai())


def _delta(
    body: CompletionRequest, index: int, job: Job, group: list[Piece], offsets: list[int]
) -> JsonObject:
    start, text = job.start or {}, "".join(piece.text for piece in group)
    first = group[0].index == 0
    tokens = [_piece_token(piece) for piece in group]
    if body.echo and first:
        text = start.get("prompt", "") + text
        tokens = _prompt_tokens(start) + tokens
    logprobs = None
    if body.logprobs is not None:
        logprobs = _logprobs(body.logprobs, tokens, offsets[index])
    offsets[index] += len(text)
    choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}
    if first:
        choice |= beginning(start)
    if body.trace:
        choice["trace"] = [piece.trace for piece in group if piece.trace is not None]
    if group[-1].last and job.end is not None:
        choice["finish_reason"] = _finish_reason(job.end)
        choice |= _judgement(job.end)
    return choice


def _choice(body: CompletionRequest, index: int, answer: Answer) -> JsonObject:
    text = answer.text
    tokens = []
    if body.logprobs is not None:
        job = answer.job
        tokens = [
            {**token, "top": job.top[at] if at < len(job.top) else None}
            for at, token in enumerate(tokens_of(job))
        ]
    if body.echo:
        text = answer.start.get("prompt", "") + text
        tokens = _prompt_tokens(answer.start) + tokens
    choice = {
        "index": index,
        "text": text,
        "logprobs": None if body.logprobs is None else _logprobs(body.logprobs, tokens, 0),
        "finish_reason": _finish_reason(answer.end),
        **beginning(answer.start),
        **_judgement(answer.end),
        **judged(answer, body),
    }
    if body.trace:
        choice["trace"] = answer.job.trace
    return choice


def _judgement(end: JsonObject) -> JsonObject:
    """What OpenAI's shape has no place for and was asked for."""
    return {} if end.get("novelty") is None else {"novelty": end["novelty"]}


def _prompt_tokens(start: JsonObject) -> list[JsonObject]:
    return [{**token, "top": None} for token in start.get("prefill", [])]


def _piece_token(piece: Piece) -> JsonObject:
    return {"text": piece.text, "logprob": piece.logprob, "top": piece.top}


def _logprobs(wanted: int, tokens: list[JsonObject], offset: int) -> JsonObject:
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["text"])
    return {
        "tokens": [token["text"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [_top_logprobs(token) for token in tokens] if wanted else None,
        "text_offset": offsets,
    }


def _top_logprobs(token: JsonObject) -> dict[str, float] | None:
    if token["logprob"] is None:
        return None
    # The token itself is always among them, as OpenAI has it.
    return {top["text"]: top["logprob"] for top in token["top"] or ()} | {token["text"]: token["logprob"]}


def _finish_reason(end: JsonObject) -> str:
    return "stop" if end["finish_reason"] in ("eos_token", "stop_sequence") else "length"


def _usage(starts: list[JsonObject], generated: list[int]) -> JsonObject:
    prompt = sum(start.get("prompt_tokens") or 0 for start in starts)
    completion = sum(generated)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _envelope(context: RequestContext, entry: ModelEntry, release: str | None) -> JsonObject:
    version = context.gateway.catalog.version(entry.name, release)
    return {
        "id": f"cmpl-{context.request_id}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": entry.name,
        "system_fingerprint": f"{entry.name}-{version}",
    }


def _model(name: str) -> JsonObject:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "inkwell"}


def _event(content: JsonObject) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"
