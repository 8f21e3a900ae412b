"""Run TorchServe and the gateway together: start, watch, revive, and end them without remains.

serve(options)  checks everything first, starts both, waits for every model, then watches until a signal
stop(options)   ends the run of `options.run_dir`, however it was started
status(options) what runs now
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import psutil
from rich.console import Console

from deploy import processes, state
from deploy.errors import AlreadyRunningError, DeployError
from deploy.preparation import Prepared, prepare
from deploy.service import Service
from deploy.settings import Options
from deploy.state import State
from deploy.views import announce, progress

_TICK_S = 0.25
# Python warns when it forgets a process that still runs; these are meant to outlive it.
_BACKGROUND: list[subprocess.Popen[bytes]] = []
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(options: Options, *, detach: bool = False, console: Console | None = None) -> int:
    """Serve until SIGINT or SIGTERM (or, with `detach`, in the background once all is ready).

    Returns 0. Raises `DeployError` when something stands in the way; nothing is left running then.
    """
    console = console or Console()
    _refuse_second_run(options, console)
    prepared = prepare(options, console)
    if detach:
        return _serve_detached(options, prepared, console)
    return _serve_here(options, prepared, console)


def stop(options: Options, *, console: Console | None = None) -> int:
    """End the run of `options.run_dir` and everything it started; 0 when nothing remains, 1 otherwise."""
    console = console or Console()
    found = state.load(options.run_dir)
    if found is None:
        console.print(f"Nothing runs from {options.run_dir}.")
        return 0
    if found.alive():
        _signal(found.pid, signal.SIGTERM)
        with console.status("stopping: the gateway finishes what it has in hand …"):
            # The supervisor drains and then needs moments; it removes its state file as its last act.
            until = time.monotonic() + options.drain_s + 30
            while found.alive() and time.monotonic() < until:
                time.sleep(0.1)
        if found.alive():
            _signal(found.pid, signal.SIGKILL)
    left = _clean_up(found, options.run_dir)
    # what this very process began is its child, and remains a zombie until somebody asks
    _BACKGROUND[:] = [child for child in _BACKGROUND if child.poll() is None]
    if left:
        console.print(f"Could not end the processes {', '.join(map(str, left))}.", style="red")
        return 1
    console.print("Stopped; no process is left.")
    return 0


def status(options: Options) -> State | None:
    """The state of the run in `options.run_dir`; None when nothing runs there."""
    found = state.load(options.run_dir)
    return found if found is not None and found.alive() else None


def _refuse_second_run(options: Options, console: Console) -> None:
    found = state.load(options.run_dir)
    if found is None:
        return
    if found.alive():
        raise AlreadyRunningError(
            f"Inkwell already runs from {options.run_dir} as process {found.pid} at {found.url}. "
            "Stop it with `inkwell stop`."
        )
    left = _clean_up(found, options.run_dir)
    if left:
        raise AlreadyRunningError(f"processes {', '.join(map(str, left))} of an earlier run cannot be ended")
    console.print("Cleaned up after an earlier run that was cut short.", style="dim")


def _clean_up(found: State, run_dir: Path) -> list[int]:
    left = processes.end_marked(found.run_id)
    if found.scratch:
        shutil.rmtree(found.scratch, ignore_errors=True)
    if not left:
        state.remove(run_dir)
    return left


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class _Stop:
    """Set by the first stop signal; a second one asks to hurry.

    Plain flags, not events: the handler runs in the thread that waits, and `Event.set` would wait there for
    ever for the lock that the interrupted `Event.wait` holds.
    """

    def __init__(self) -> None:
        self.asked = False
        self.hurry = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.hurry = self.asked
        self.asked = True

    def wait(self, seconds: float) -> bool:
        """Sleep, and tell whether a stop has been asked for."""
        if not self.asked:
            time.sleep(seconds)
        return self.asked


@contextlib.contextmanager
def _stop_signals() -> Iterator[_Stop]:
    stop_asked = _Stop()
    before = {number: signal.signal(number, stop_asked.on_signal) for number in _SIGNALS}
    try:
        yield stop_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve_here(options: Options, prepared: Prepared, console: Console) -> int:
    with _stop_signals() as stop_asked:
        run = State(
            run_id=uuid.uuid4().hex,
            pid=os.getpid(),
            created=psutil.Process().create_time(),
            url=options.url,
            # The paths of sockets have a limit of about 100 characters, so this cannot lie in the run folder.
            scratch=tempfile.mkdtemp(prefix="inkwell-"),
            ready={name: [0, placement.workers] for name, placement in prepared.plan.placements.items()},
        )
        run.save(options.run_dir)
        service = Service(options, prepared, run)
        try:
            service.start()
            run = _wait_until_ready(service, run, options, stop_asked, console)
            if not stop_asked.asked:
                for difference in service.differences():
                    console.print(f"warning: {difference}", style="yellow")
                announce(console, options, prepared, log_dir=options.log_dir)
                _watch(service, run, options, stop_asked, console)
        except DeployError as error:
            run = run.with_phase("failed", str(error))
            run.save(options.run_dir)
            raise
        finally:
            if stop_asked.asked:
                console.print("\nStopping: the gateway finishes what it has in hand (again to hurry) …")
            run.with_phase("stopping").save(options.run_dir)
            service.end(hurry=lambda: stop_asked.hurry)
            left = _clean_up(run, options.run_dir)
        if left:
            raise DeployError(f"the processes {', '.join(map(str, left))} could not be ended")
        console.print("Stopped; no process is left.")
    return 0


def _wait_until_ready(
    service: Service, run: State, options: Options, stop_asked: _Stop, console: Console
) -> State:
    with progress(console) as show:
        until = time.monotonic() + options.startup_s
        while not stop_asked.asked:
            run = replace(run, ready=service.ready_workers())
            run.save(options.run_dir)
            show(run.ready, service.gateway_answers())
            if service.is_ready():
                service.raise_if_exposed()
                run = run.with_phase("ready")
                run.save(options.run_dir)
                return run
            service.raise_if_failed(timed_out=time.monotonic() > until)
            stop_asked.wait(_TICK_S)
    return run


def _watch(service: Service, run: State, options: Options, stop_asked: _Stop, console: Console) -> None:
    while not stop_asked.wait(_TICK_S):
        for name in service.revive_the_dead():
            console.print(f"{name} died and was started again; see {options.log_dir}.", style="yellow")
            run = run.with_phase("degraded", f"{name} was started again")
            run.save(options.run_dir)
        if run.phase == "degraded" and service.is_ready():
            console.print("Every model is ready again.")
            run = run.with_phase("ready")
            run.save(options.run_dir)


def _serve_detached(options: Options, prepared: Prepared, console: Console) -> int:
    log = options.log_dir / "supervisor.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "deploy.background", options.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with progress(console) as show:
            while child.poll() is None:
                found = state.load(options.run_dir)
                if found is not None and found.pid == child.pid:
                    show(found.ready, True)
                    if found.phase == "ready":
                        break
                time.sleep(_TICK_S)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    if child.poll() is not None:
        error = DeployError(log.read_text(encoding="utf-8").strip() or "the supervisor ended without a word")
        error.exit_code = child.returncode or 1
        raise error
    _BACKGROUND.append(child)
    announce(console, options, prepared, log_dir=options.log_dir, detached=True)
    return 0
