"""The error tree of the offline side; the exit code of the command line stands on the class.

TrainingError        1  something failed that has no better name
├─ UserError         2  an option or a value that cannot be used
├─ DataError         3  an input file that cannot be read as what it should be
├─ FetchError        4  a download failed (offline, 404, disk)
└─ IntegrityError    5  a file whose hash is not the recorded one
"""

from __future__ import annotations


class TrainingError(Exception):
    """Base of all errors that are shown to the user as one sentence, without a traceback."""

    exit_code = 1


class UserError(TrainingError):
    """A bad option, name or value; the message says which one and what is allowed."""

    exit_code = 2


class DataError(TrainingError):
    """An input file that is broken, empty or of another format; the message names file and place."""

    exit_code = 3


class FetchError(TrainingError):
    """A file could not be brought here."""

    exit_code = 4


class IntegrityError(TrainingError):
    """A file is there but its content is not the recorded one."""

    exit_code = 5
