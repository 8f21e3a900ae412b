"""What can go wrong with a post; exit codes tell a CronJob what to do next.

TrainingError
└─ BotError              1  the history is in use or cannot be read
   ├─ NothingSuitable   10  no candidate may be posted; another run may have more luck
   ├─ RateLimited       11  the platform wants us to wait longer than this run may
   ├─ AuthFailed        12  credentials are missing or refused; nothing gets better by itself
   ├─ PlatformDown      13  the platform does not answer, or only with errors
   ├─ NoText            14  the gateway or the model gave no text
   └─ Refused            -  this one text is refused; the next candidate is tried
"""

# ruff: noqa: N818 - the names say what happened

from __future__ import annotations

from training.errors import TrainingError


class BotError(TrainingError):
    """Base of the bot's own errors. With `uncertain` the post may have got through all the same."""

    retryable = False
    retry_after: float | None = None
    uncertain = False


class NothingSuitable(BotError):
    """None of the candidates may be posted; the message counts the reasons."""

    exit_code = 10


class RateLimited(BotError):
    """The platform refuses posts for now; `retry_after` is in seconds, where it said."""

    exit_code = 11
    retryable = True

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AuthFailed(BotError):
    """A credential is missing, wrong, or does not allow posting."""

    exit_code = 12


class PlatformDown(BotError):
    """The platform does not answer, or only with errors."""

    exit_code = 13
    retryable = True


class NoText(BotError):
    """No text could be had to choose from."""

    exit_code = 14


class Refused(BotError):
    """The platform will not take this text."""
