"""The native routes: what text-generation-inference's clients speak, and our own details beside it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

import orjson
import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import phonetics
from api.context import RequestContext, context_of
from api.errors import GatewayError, InternalError, InvalidRequest
from api.generation import Answer, run_plan
from api.jobs import Job, JsonObject
from api.native_schema import GenerateRequest, Parameters, TokenizeRequest
from api.openapi import body_of
from api.parsing import parse_body
from api.pieces import Piece, pieces
from api.plan import Plan, Prompt, plan
from api.responses import json_response
from api.streaming import EventStream, begin_all, unless_gone
from deploy.models_file import ModelEntry

log = structlog.get_logger("api.native")
router = APIRouter(tags=["generation"])

_FINISH_REASONS = {"length", "eos_token", "stop_sequence"}


@router.post("/generate", openapi_extra=body_of(GenerateRequest))
async def generate(request: Request) -> Response:
    """Generate text: one answer, or a list of them for a list of inputs or n > 1."""
    body = await parse_body(request, GenerateRequest)
    if body.stream:
        return await _stream(request, body)
    return await _whole(request, body, always_list=False)


@router.post("/generate_stream", openapi_extra=body_of(GenerateRequest))
async def generate_stream(request: Request) -> Response:
    """Generate text as server-sent events, one per token."""
    return await _stream(request, await parse_body(request, GenerateRequest))


@router.post("/", openapi_extra=body_of(GenerateRequest))
async def compatible(request: Request) -> Response:
    """As text-generation-inference's root: a list of answers, or a stream when `stream` is true."""
    body = await parse_body(request, GenerateRequest)
    if body.stream:
        return await _stream(request, body)
    return await _whole(request, body, always_list=True)


@router.post("/tokenize", openapi_extra=body_of(TokenizeRequest))
async def tokenize(request: Request) -> Response:
    """The tokens of a text: ids, texts and offsets in characters."""
    context = context_of(request)
    body = await parse_body(request, TokenizeRequest)
    entry = context.model(body.model)
    limit = context.gateway.settings.max_input_chars
    if len(body.inputs) > limit:
        raise InvalidRequest(f"inputs must be at most {limit} long; got {len(body.inputs)}", field="inputs")
    tokens = await unless_gone(request, context.gateway.worker.tokenize(entry.name, body.inputs))
    return json_response(tokens)


async def _whole(request: Request, body: GenerateRequest, *, always_list: bool) -> Response:
    context = context_of(request)
    entry, made = await _plan(request, context, body)
    validated = time.monotonic()
    groups = await unless_gone(request, run_plan(context.gateway, made, context.request_id, context.caller))
    answers = [
        _answer(context, entry, body.settings(), made, group, which)
        for group in groups
        for which in range(made.keep)
    ]
    single = not isinstance(body.inputs, list) and made.keep == 1 and not always_list
    headers = _timing(context, entry, made, [a for group in groups for a in group], validated)
    return json_response(answers[0] if single else answers, headers=headers)


async def _stream(request: Request, body: GenerateRequest) -> Response:
    context = context_of(request)
    entry, made = await _plan(request, context, body)
    refuse_stream(made, body.inputs)
    held = context.gateway.quotas.stream(context.caller.name)
    held.__enter__()
    try:
        jobs = context.gateway.jobs(made, context.request_id, context.caller, [(0, 0)])
        try:
            await begin_all(request, jobs)
        except BaseException:
            jobs[0].cancel()
            raise
    except BaseException:
        held.__exit__(None, None, None)
        raise
    headers = {
        "x-compute-type": compute_type(context, entry),
        "x-compute-characters": str(made.input_chars),
        "x-prompt-tokens": str((jobs[0].start or {}).get("prompt_tokens", 0)),
    }
    events = _events(context, entry, body.settings(), made, jobs[0])
    return EventStream(events, jobs=jobs, held=held, headers=headers)


def refuse_stream(made: Plan, inputs: object) -> None:
    """Raises `InvalidRequest` for what a native stream of one text cannot carry."""
    if isinstance(inputs, list):
        raise InvalidRequest("inputs must be one text when streaming; got a list", field="inputs")
    if made.keep > 1:
        raise InvalidRequest(f"n must be 1 when streaming; got {made.keep}", field="n")
    if (field := made.needs_whole_answers) is not None:
        raise InvalidRequest(f"{field} needs whole texts and is not supported when streaming", field=field)


async def _plan(request: Request, context: RequestContext, body: GenerateRequest) -> tuple[ModelEntry, Plan]:
    entry = context.model(body.model)
    params = body.settings()
    prompts: list[Prompt] = [*body.inputs] if isinstance(body.inputs, list) else [body.inputs]
    streams = bool(body.stream) or request.url.path.endswith("/generate_stream")
    made = plan(
        entry,
        context.gateway.settings,
        params,
        prompts,
        prompt_field="inputs",
        tokens_field="max_new_tokens",
        logprobs=streams or bool(params.details),
        default_new_tokens=context.gateway.catalog.card(entry.name).get("defaults", {}).get("max_new_tokens"),
    )
    if params.truncate is None:
        return entry, made
    cut = [await _truncated(request, context, entry, prompt, params.truncate) for prompt in made.prompts]
    return entry, made.with_prompts(tuple(cut))


async def _truncated(
    request: Request, context: RequestContext, entry: ModelEntry, prompt: Prompt, keep: int
) -> Prompt:
    if not isinstance(prompt, str):
        return prompt
    tokens = await unless_gone(request, context.gateway.worker.tokenize(entry.name, prompt))
    return prompt if len(tokens) <= keep else prompt[tokens[-keep]["start"] :]


def _answer(
    context: RequestContext,
    entry: ModelEntry,
    params: Parameters,
    made: Plan,
    group: list[Answer],
    which: int,
) -> JsonObject:
    answer = group[which]
    details = _details(context, entry, answer.job, answer.start, answer.end)
    if params.syllables is not None:
        details["syllables"] = phonetics.syllables(answer.whole)
    if params.rank == "pronounceable":
        details["pronounceability"] = round(phonetics.score(answer.whole), 4)
    details["prefill"] = answer.start.get("prefill", [])
    details["tokens"] = tokens_of(answer.job) if params.details else []
    if params.details and params.top_n_tokens:
        details["top_tokens"] = [list(map(_top_token, top)) for top in answer.job.top]
    if params.trace:
        details["trace"] = answer.job.trace
    if params.details and which == 0 and made.samples > made.keep:
        details["best_of_sequences"] = [
            {
                "generated_text": _text(params, other.start, other.text),
                **_details(context, entry, other.job, other.start, other.end),
                "prefill": other.start.get("prefill", []),
                "tokens": tokens_of(other.job),
            }
            for other in group[made.keep :]
        ]
    return {"generated_text": _text(params, answer.start, answer.text), "details": details}


async def _events(
    context: RequestContext, entry: ModelEntry, params: Parameters, made: Plan, job: Job
) -> AsyncGenerator[bytes, None]:
    try:
        async for group in pieces(job, made.new_tokens, hold_back=made.hold_back):
            yield b"".join(_event(context, entry, params, job, piece) for piece in group)
    except GatewayError as error:
        yield b"data:" + orjson.dumps(error.native()) + b"\n\n"
    except Exception:
        # Headers are out: the one honest thing left is an error event; the cause goes to the log.
        log.exception("stream_failed")
        yield b"data:" + orjson.dumps(InternalError().native()) + b"\n\n"


def _event(context: RequestContext, entry: ModelEntry, params: Parameters, job: Job, piece: Piece) -> bytes:
    token = {"id": piece.id, "text": piece.text, "logprob": piece.logprob or 0.0, "special": piece.special}
    event: JsonObject = {"index": piece.index + 1, "token": token}
    if piece.top is not None:
        event["top_tokens"] = list(map(_top_token, piece.top))
    if piece.trace is not None:
        event["trace"] = piece.trace
    event["generated_text"] = None
    event["details"] = None
    if piece.last and job.start is not None and job.end is not None:
        event["generated_text"] = _text(params, job.start, job.end["text"])
        event["details"] = _details(context, entry, job, job.start, job.end)
        event["details"]["input_length"] = job.start.get("prompt_tokens", 0)
    return b"data:" + orjson.dumps(event) + b"\n\n"


def _details(
    context: RequestContext, entry: ModelEntry, job: Job, start: JsonObject, end: JsonObject
) -> JsonObject:
    reason = end["finish_reason"]
    details = {
        # Clients know three reasons. What ended early for any other is a cut length, and says so beside it.
        "finish_reason": reason if reason in _FINISH_REASONS else "length",
        "generated_tokens": end["generated_tokens"],
        "seed": start.get("seed"),
        "seed_word": start.get("seed_word"),
        "category": start.get("category"),
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


def _top_token(token: JsonObject) -> JsonObject:
    return {"special": False, **token}


def _text(params: Parameters, start: JsonObject, text: str) -> str:
    return start.get("prompt", "") + text if params.return_full_text else text


def _queue_ms(job: Job, end: JsonObject) -> float:
    in_gateway = ((job.sent_at or job.created) - job.created) * 1000
    return round(in_gateway + (end.get("queue_ms") or 0.0), 3)


def compute_type(context: RequestContext, entry: ModelEntry) -> str:
    """The device that the model's workers run on, as last seen."""
    return str(context.gateway.catalog.card(entry.name).get("device") or "unknown")


def _timing(
    context: RequestContext, entry: ModelEntry, made: Plan, answers: list[Answer], validated: float
) -> dict[str, str]:
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
