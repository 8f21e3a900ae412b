"""What can go wrong when asking a gateway.

ClientError
├─ MissingDependency     httpx is not installed
├─ Unreachable           no connection, or it broke before an answer   (repeated until the deadline)
├─ TimedOut              the deadline passed while waiting for the answer
└─ AnswerError           the gateway answered with an error
   ├─ ValidationError    a parameter is wrong; `field` names it
   ├─ NotAuthorized      the API key is missing, unknown, or not allowed to do this
   ├─ ModelNotFound      no such model; the message lists those that are served
   ├─ Overloaded         no room now                                   (repeated until the deadline)
   ├─ GenerationFailed   the workers could not carry it out
   ├─ IncompleteGeneration  the text broke off; `text` is what had come
   └─ ServerError        anything else of 500 and more                 (502, 503 and 504 are repeated)
"""

# ruff: noqa: N818 - the names are the gateway's words; "Error" after each would say nothing

from __future__ import annotations

from typing import Any

from inkwell.errors import InkwellError


class ClientError(InkwellError):
    """Base of everything the client raises."""

    retryable = False


class MissingDependency(ClientError, ImportError):
    """An optional package that this part needs is not installed."""


class Unreachable(ClientError):
    """The gateway could not be reached, or the connection broke before the answer."""

    retryable = True


class TimedOut(ClientError):
    """The answer did not come within the deadline."""


class AnswerError(ClientError):
    """The gateway answered with an error.

    `status` is the HTTP status, None for an error found before or after it; `kind` the gateway's
    `error_type`; `request_id` finds the request in the gateway's log.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        kind: str | None = None,
        field: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.field = field
        self.request_id = request_id
        self.retry_after = retry_after


class ValidationError(AnswerError, ValueError):
    """A parameter cannot be used; `field` names it where the gateway says so."""


class NotAuthorized(AnswerError):
    """The API key is missing, unknown, or not allowed to do this."""


class ModelNotFound(AnswerError):
    """There is no such model; the message lists those that are served."""


class Overloaded(AnswerError):
    """There is no room now; `retry_after` is the gateway's advice in seconds, where it gave one."""

    retryable = True


class GenerationFailed(AnswerError):
    """The workers could not carry this request out."""


class IncompleteGeneration(AnswerError):
    """The text broke off; `text` is what had arrived."""

    text = ""


class ServerError(AnswerError):
    """The gateway, or a proxy before it, failed."""

    def __init__(self, message: str, *, status: int | None = None, **known: Any) -> None:
        super().__init__(message, status=status, **known)
        self.retryable = status in (502, 503, 504)
