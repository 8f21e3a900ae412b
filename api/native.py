"""The native routes: what text-generation-inference's clients speak, and our own details beside it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

import orjson
import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.context import RequestContext, context_of
from api.details import beginning, compute_type, details_of, judged, timing, tokens_of, top_token
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
        for which in range(min(made.keep, len(group)))  # a search may find fewer
    ]
    single = not isinstance(body.inputs, list) and made.keep == 1 and not always_list
    headers = timing(context, entry, made, [a for group in groups for a in group], validated)
    return json_response(answers[0] if single else answers, headers=headers)


async def _stream(request: Request, body: GenerateRequest) -> Response:
    context = context_of(request)
    entry, made = await _plan(request, context, body)
    refuse_stream(made, body.inputs)
    held = context.gateway.quotas.stream(context.caller.name)
    held.__enter__()
    try:
        jobs = context.gateway.jobs(made, context.request_id, context.caller, [(0, 0)], stream=True)
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
    if made.beams > 1:
        raise InvalidRequest(f"num_beams must be 1 when streaming; got {made.beams}", field="num_beams")
    if made.keep > 1:
        raise InvalidRequest(f"n must be 1 when streaming; got {made.keep}", field="n")
    if (field := made.needs_whole_answers) is not None:
        raise InvalidRequest(f"{field} needs whole texts and is not supported when streaming", field=field)


async def _plan(request: Request, context: RequestContext, body: GenerateRequest) -> tuple[ModelEntry, Plan]:
    entry = context.model(body.model)
    params = body.settings()
    prompts: list[Prompt] = [*body.inputs] if isinstance(body.inputs, list) else [body.inputs]
    streams = bool(body.stream) or request.scope["path"].endswith("/generate_stream")
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
    details = details_of(context, entry, answer.job, answer.start, answer.end)
    details |= judged(answer, params)
    details["prefill"] = answer.start.get("prefill", [])
    details["tokens"] = tokens_of(answer.job) if params.details else []
    if params.details and params.top_n_tokens:
        details["top_tokens"] = [list(map(top_token, top)) for top in answer.job.top]
    if params.trace:
        details["trace"] = answer.job.trace
    if params.details and which == 0 and made.samples > made.keep:
        details["best_of_sequences"] = [
            {
                "generated_text": _text(params, other.start, other.text),
                **details_of(context, entry, other.job, other.start, other.end),
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
        event["top_tokens"] = list(map(top_token, piece.top))
    if piece.trace is not None:
        event["trace"] = piece.trace
    if piece.index == 0 and job.start is not None:
        event |= beginning(job.start)
    event["generated_text"] = None
    event["details"] = None
    if piece.last and job.start is not None and job.end is not None:
        event["generated_text"] = _text(params, job.start, job.end["text"])
        event["details"] = details_of(context, entry, job, job.start, job.end)
        event["details"]["input_length"] = job.start.get("prompt_tokens", 0)
    return b"data:" + orjson.dumps(event) + b"\n\n"


def _text(params: Parameters, start: JsonObject, text: str) -> str:
    full = params.return_full_text
    if full is None:
        # Who left the beginning to the model wants to read it, too.
        full = bool(start.get("seed_word"))
    return start.get("prompt", "") + text if full else text
