"""The worker container's program: `run` becomes TorchServe, `health` says whether every model is ready.

`run` ends in the JVM itself, so a dead JVM ends the container. `/ping` is no use for health: well before
a worker has loaded it answers 200, and while one crash-loops too.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import httpx
from rich.console import Console

from deploy import preparation, settings, torchserve_server
from deploy.errors import ArchiveError, DeployError, OptionError
from deploy.torchserve_server import Ports


def run() -> None:
    """Prepare, then replace this process by TorchServe. Returns only by raising `DeployError`."""
    options = settings.from_environment()
    try:
        prepared = preparation.prepare(options, Console(stderr=True), gateway=False)
    except PermissionError as error:
        # Archives come from outside, where they may belong to someone else.
        raise ArchiveError(
            f"{error.filename}: cannot be read by user {os.getuid()}, as whom this runs. Give it to that user, "
            "or let everyone read it."
        ) from error
    scratch = Path(tempfile.mkdtemp(prefix="inkwell-"))
    command = torchserve_server.command(prepared.java, prepared.config, prepared.store, scratch)
    logs = str(options.log_dir.resolve())
    environment = settings.child_environment(LOG_LOCATION=logs, METRICS_LOCATION=logs, TMPDIR=str(scratch))
    os.chdir(options.run_dir)
    os.execve(command[0], command, environment)  # noqa: S606 - a list of our own making, no shell


def health() -> bool:
    """Whether every worker of the plan in force is ready; prints those that are not."""
    options = settings.from_environment()
    plan = preparation.previous_plan(options.run_dir)
    if plan is None:
        print(f"{options.run_dir}: holds no plan yet")
        return False
    ports = Ports(options.worker_port)
    short = []
    with httpx.Client(timeout=5.0, trust_env=False) as client:
        for name, placement in plan.placements.items():
            ready = torchserve_server.workers(client, ports, name).ready
            if ready < placement.workers:
                short.append(f"{name}: {ready} of {placement.workers} workers are ready")
    print("; ".join(short) or "every model is ready")
    return not short


def main(arguments: list[str]) -> int:
    """The exit code for `arguments`: run or health."""
    try:
        match arguments:
            case ["run"]:
                run()
                return 1
            case ["health"]:
                return 0 if health() else 1
            case _:
                raise OptionError(f"arguments = {arguments!r}: must be run or health")
    except DeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
