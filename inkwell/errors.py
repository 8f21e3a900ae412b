"""The library's error tree. `InvalidJob` is the caller's fault, the others are ours or the disk's."""

from __future__ import annotations


class InkwellError(Exception):
    """Root of everything this library raises on purpose."""


class ConfigError(InkwellError, ValueError):
    """A configuration has an unknown key, a wrong type or a value out of range."""


class BundleError(InkwellError):
    """A bundle on disk is missing a file, is damaged, or does not fit its own configuration."""


class RuntimeUnavailable(InkwellError):  # noqa: N818  reads as what it is where it is raised
    """A runtime cannot run a model on this machine; the message says why."""


class InvalidJob(InkwellError, ValueError):  # noqa: N818  reads as what it is where it is raised
    """A generation job asks for something impossible. Names the field, so that a client can show it."""

    error_type = "validation"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


class EngineFull(InkwellError):  # noqa: N818  a state, not a mistake
    """The engine's waiting line is full; the job can be sent again later."""

    error_type = "overloaded"
