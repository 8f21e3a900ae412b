"""What the gateway answers, as frozen dataclasses.

Each keeps the JSON it was made from in `raw`, so that a newer gateway's additions can be had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inkwell.client.errors import ServerError

Json = Mapping[str, Any]


@dataclass(frozen=True)
class TopToken:
    """One of the likeliest tokens at a place. `logprob` is in nats."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True)
class Novelty:
    """How much of a text is copied from the training corpus.

    `longest`: characters of the longest copied part; `ratio`: share of the text, 0 to 1, that is copied;
    `verdict`: `novel`, `copy`, or `unknown` where the model has no index of its corpus; `exact_copy`: it is
    a training text as a whole. None where the worker did not say.
    """

    longest: int | None = None
    ratio: float | None = None
    verdict: str | None = None
    exact_copy: bool | None = None
    raw: Json = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Token:
    """One token. `index` counts from 1; `logprob` is in nats; `answer` is there with a stream's last one."""

    index: int
    id: int
    text: str
    logprob: float | None
    special: bool = False
    top: tuple[TopToken, ...] = ()
    trace: Json | None = None
    answer: Answer | None = None


@dataclass(frozen=True)
class Answer:
    """A generated text and what is known of it. Times are in milliseconds.

    `finish_reason` is `length`, `eos_token` or `stop_sequence`; `ended_by` says more where it was none of
    these. `tokens` and `best_of` are filled when `details` was asked for, `prefill` by
    `decoder_input_details`.
    """

    text: str
    finish_reason: str
    generated_tokens: int
    seed: int | None = None
    seed_word: str | None = None
    category: Any = None
    model: str | None = None
    version: str | None = None
    queue_ms: float | None = None
    inference_ms: float | None = None
    ended_by: str | None = None
    novelty: Novelty | None = None
    tokens: tuple[Token, ...] = ()
    prefill: tuple[Json, ...] = ()
    best_of: tuple[Json, ...] = ()
    raw: Json = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class ModelInfo:
    """One model that the gateway serves, as `GET /models` describes it."""

    id: str
    family: str | None
    default: bool
    state: str
    version: str | None
    parameters: int | None
    categories: tuple[str, ...]
    limits: Json
    defaults: Json
    metrics: Json
    device: str | None
    raw: Json = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class ServerInfo:
    """The gateway and one of its models, as `GET /info` describes them."""

    model: str
    version: str
    default_model: str
    models: tuple[str, ...]
    limits: Json
    raw: Json = field(default_factory=dict, repr=False, compare=False)


def read_answer(value: Any) -> Answer:
    """An element of a native answer. Raises ServerError when it is something else."""
    try:
        return _answer(value["generated_text"], value["details"], value)
    except (KeyError, TypeError, AttributeError) as error:
        raise unexpected("an answer", value) from error


def read_event(value: Any) -> Token:
    """A token of a native stream. Raises ServerError when it is something else."""
    try:
        token = value["token"]
        answer = None
        if value.get("details") is not None:
            answer = _answer(value["generated_text"], value["details"], value)
        return Token(
            index=value["index"],
            id=token["id"],
            text=token["text"],
            logprob=token.get("logprob"),
            special=token.get("special", False),
            top=_top(value.get("top_tokens")),
            trace=value.get("trace"),
            answer=answer,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise unexpected("a token event", value) from error


def read_models(value: Any) -> tuple[ModelInfo, ...]:
    try:
        return tuple(_model(model) for model in value["models"])
    except (KeyError, TypeError, AttributeError) as error:
        raise unexpected("a list of models", value) from error


def read_info(value: Any) -> ServerInfo:
    try:
        return ServerInfo(
            model=value["model_id"],
            version=value["version"],
            default_model=value["default_model"],
            models=tuple(value["models"]),
            limits=value["limits"],
            raw=value,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise unexpected("information", value) from error


def unexpected(wanted: str, got: object) -> ServerError:
    """The server answered 200 and something that no gateway says."""
    shown = repr(got)
    shown = shown if len(shown) <= 120 else f"{shown[:117]}..."
    return ServerError(f"expected {wanted} of an inkwell gateway; got {shown}", status=200)


def _answer(text: str, details: Json, raw: Json) -> Answer:
    tops = details.get("top_tokens") or []
    traces = details.get("trace") or []
    tokens = tuple(
        Token(
            index=at + 1,
            id=token["id"],
            text=token["text"],
            logprob=token.get("logprob"),
            special=token.get("special", False),
            top=_top(tops[at] if at < len(tops) else None),
            trace=traces[at] if at < len(traces) else None,
        )
        for at, token in enumerate(details.get("tokens") or [])
    )
    return Answer(
        text=text,
        finish_reason=details["finish_reason"],
        generated_tokens=details["generated_tokens"],
        seed=details.get("seed"),
        seed_word=details.get("seed_word"),
        category=details.get("category"),
        model=details.get("model"),
        version=details.get("version"),
        queue_ms=details.get("queue_ms"),
        inference_ms=details.get("inference_ms"),
        ended_by=details.get("ended_by"),
        novelty=_novelty(details.get("novelty")),
        tokens=tokens,
        prefill=tuple(details.get("prefill") or ()),
        best_of=tuple(details.get("best_of_sequences") or ()),
        raw=raw,
    )


def _novelty(value: Json | None) -> Novelty | None:
    if value is None:
        return None
    return Novelty(
        longest=value.get("longest"),
        ratio=value.get("ratio"),
        verdict=value.get("verdict"),
        exact_copy=value.get("exact_copy"),
        raw=value,
    )


def _top(values: Any) -> tuple[TopToken, ...]:
    return tuple(TopToken(value["id"], value["text"], value["logprob"]) for value in values or ())


def _model(value: Json) -> ModelInfo:
    return ModelInfo(
        id=value["id"],
        family=value.get("family"),
        default=bool(value.get("default")),
        state=value["state"],
        version=value.get("version"),
        parameters=value.get("parameters"),
        categories=tuple(value.get("categories") or ()),
        limits=value.get("limits") or {},
        defaults=value.get("defaults") or {},
        metrics=value.get("metrics") or {},
        device=value.get("device"),
        raw=value,
    )
