"""The error tree of serving; the exit code of the command line stands on the class.

DeployError            1  something failed that has no better name
├─ OptionError         2  an option or setting that cannot be used
├─ AlreadyRunningError 3  another Inkwell runs from the same folder
├─ PortTakenError      4  a port is in use
├─ JavaMissingError    5  no Java 17 or newer
├─ DiskFullError       6  too little room on a disk
├─ ArchiveError        7  an archive is missing, not listed, changed or unsafe
├─ ModelLoadError      8  TorchServe could not start a model
└─ StartError          9  TorchServe or the gateway did not come up
"""

from __future__ import annotations


class DeployError(Exception):
    """Base of all errors that are shown as they are, without a traceback."""

    exit_code = 1


class OptionError(DeployError):
    """The message names the option, the value and what is allowed."""

    exit_code = 2


class AlreadyRunningError(DeployError):
    """The message says which process it is and how to stop it."""

    exit_code = 3


class PortTakenError(DeployError):
    """The message says which port, who holds it if that can be seen, and which option changes it."""

    exit_code = 4


class JavaMissingError(DeployError):
    """The message says what was looked at and how to get a Java."""

    exit_code = 5


class DiskFullError(DeployError):
    """The message gives the folder, what is needed and what is free."""

    exit_code = 6


class ArchiveError(DeployError):
    """The message names the archive, what is wrong with it, and how to build it again."""

    exit_code = 7


class ModelLoadError(DeployError):
    """The message carries the worker's own error."""

    exit_code = 8


class StartError(DeployError):
    """The message carries the last lines of the log."""

    exit_code = 9
