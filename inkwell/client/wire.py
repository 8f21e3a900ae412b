"""The HTTP side that both clients share: requests to send, errors to raise, events to read."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from inkwell.client.answers import Token, read_event
from inkwell.client.errors import (
    AnswerError,
    ClientError,
    GenerationFailed,
    IncompleteGeneration,
    MissingDependency,
    ModelNotFound,
    NotAuthorized,
    Overloaded,
    ServerError,
    TimedOut,
    Unreachable,
    ValidationError,
)
from inkwell.client.parameters import NAMES, checked

if TYPE_CHECKING:
    import httpx

Prompts = str | Sequence[str] | None

CONNECT_S = 5.0
_KINDS: dict[str, type[AnswerError]] = {
    "validation": ValidationError,
    "overloaded": Overloaded,
    "generation": GenerationFailed,
    "incomplete_generation": IncompleteGeneration,
    "model_not_found": ModelNotFound,
    "unauthorized": NotAuthorized,
    "forbidden": NotAuthorized,
}
_STATUSES: dict[int, type[AnswerError]] = {
    400: ValidationError,
    401: NotAuthorized,
    403: NotAuthorized,
    413: ValidationError,
    422: ValidationError,
    424: GenerationFailed,
    429: Overloaded,
}


def load_httpx() -> Any:
    """The module httpx. Raises MissingDependency that says how to get it."""
    try:
        return importlib.import_module("httpx")
    except ImportError as error:
        raise MissingDependency("inkwell.client needs httpx; get it with: pip install httpx") from error


def base_url(url: str) -> str:
    """`url` without a slash at its end. Raises ValidationError when it is no address of a server."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValidationError(f"url must look like http://127.0.0.1:8000; got {url!r}", field="url")
    return url.rstrip("/")


def headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


def generate_body(
    prompt: Prompts, model: str | None, parameters: Mapping[str, Any], *, many: bool
) -> dict[str, Any]:
    """The body of a native request. Raises ValidationError for an unknown parameter, or n without `many`."""
    chosen = checked(parameters)
    if not many and chosen.get("n", 1) != 1:
        raise ValidationError(
            f"n must be 1 here; got {chosen['n']!r} (generate_many gives several answers)", field="n"
        )
    body: dict[str, Any] = {"parameters": chosen}
    if prompt is not None:
        body["inputs"] = prompt if isinstance(prompt, str) else list(prompt)
    if model is not None:
        body["model"] = model
    return body


def info_path(model: str | None) -> str:
    return "/info" if model is None else f"/m/{quote(model, safe='')}/info"


def error_of(status: int, body: bytes, answer_headers: Mapping[str, str]) -> AnswerError:
    """The error that an answer of `status` 400 or more (or a redirect) means."""
    value = _object(body)
    kind = value.get("error_type")
    message = value.get("error")
    if not isinstance(message, str):
        message = f"the server answered {status} without saying why"
    found = _KINDS.get(str(kind)) or _STATUSES.get(status) or ServerError
    return found(
        message,
        status=status,
        kind=kind if isinstance(kind, str) else None,
        field=_field(value, message) if found is ValidationError else None,
        request_id=answer_headers.get("x-request-id"),
        retry_after=retry_after(answer_headers),
    )


def retry_after(answer_headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, of `retry-after-ms` or else `Retry-After` (seconds or a date); None without either."""
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = answer_headers.get(name, "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value) * factor
    try:
        when = parsedate_to_datetime(answer_headers.get("retry-after", ""))
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def transport_error(error: httpx.TransportError, url: str) -> ClientError:
    """Ours for httpx's own. A connection that cannot be had may be tried again, a late answer not."""
    httpx = load_httpx()
    reason = str(error) or type(error).__name__
    if isinstance(error, (httpx.ReadTimeout, httpx.WriteTimeout)):
        return TimedOut(f"{url} did not answer in time")
    return Unreachable(f"{url}: {reason}")


class EventReader:
    """Bytes of a native stream in, tokens out. `text` is what has come so far."""

    def __init__(self) -> None:
        self.text = ""
        self.started = False
        self.done = False
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Token]:
        """The tokens that `chunk` completes. Raises the error that an error event means."""
        # Not by splitlines: U+2028 and its like stand unescaped inside events.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [self._token(line[5:]) for line in lines if line.startswith(b"data:")]

    def _token(self, data: bytes) -> Token:
        value = _object(data)
        if "error" in value:
            error = error_of(200, data, {})
            if isinstance(error, IncompleteGeneration):
                error.text = self.text
            raise error
        token = read_event(value)
        self.text += token.text
        self.started = True
        self.done = token.answer is not None
        return token

    def broken(self, reason: str) -> IncompleteGeneration:
        """The error for a stream that ended before its last event."""
        error = IncompleteGeneration(f"the stream broke off: {reason}")
        error.text = self.text
        return error


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _field(value: Mapping[str, Any], message: str) -> str | None:
    """The field that a refusal names: in its own key, or as the message's first word."""
    if isinstance(value.get("field"), str):
        return str(value["field"])
    word = re.match(r"[\w.]+", message)
    name = word.group().removeprefix("parameters.") if word else ""
    known = NAMES | {"inputs", "model", "stream", "parameters"}
    is_unknown = f"{name} is not a known parameter" in message
    return name if name.partition(".")[0] in known or (name and is_unknown) else None
