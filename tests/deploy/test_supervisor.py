"""The supervisor with a real TorchServe, a stand-in gateway, and archives of a few lines."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from rich.console import Console

from deploy import processes, state, supervisor
from deploy.errors import AlreadyRunningError, DeployError, ModelLoadError, PortTakenError, StartError
from deploy.settings import Options
from deploy.state import State

pytestmark = pytest.mark.e2e

TWO_WORKERS = '[models.prose]\nfamily = "prose"\ncpu_workers = 2\nslots = 5\n'
ONE_WORKER = '[models.prose]\nfamily = "prose"\n'


def quiet() -> Console:
    return Console(file=io.StringIO(), width=300)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    until = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@contextmanager
def detached(options: Options) -> Iterator[State]:
    """A run in the background, ended whatever happens."""
    supervisor.serve(options, detach=True, console=quiet())
    running = state.load(options.run_dir)
    assert running is not None
    try:
        yield running
    finally:
        supervisor.stop(options, console=quiet())
        processes.end_marked(running.run_id)


def generate(options: Options, path: str = "prose") -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{options.worker_port}/predictions/{path}"
    answer = httpx.post(url, json={}, timeout=10.0, trust_env=False)
    answer.raise_for_status()
    return [json.loads(line) for line in answer.text.splitlines()]


def test_serves_every_worker_and_stop_leaves_nothing(
    archives: Any, make_options: Callable[..., Options]
) -> None:
    archives.build("prose")
    archives.index()
    options = make_options(TWO_WORKERS)
    with detached(options) as running:
        assert running.phase == "ready"
        assert running.ready == {"prose": [2, 2]}
        assert supervisor.status(options) == running

        # Each worker alone answers to the end, again and again: two under one version would stand still.
        for _ in range(3):
            for path in ("prose", "prose/1.0-w2"):
                events = generate(options, path)
                assert [event["left"] for event in events] == [2, 1, 0]
                assert events[0]["settings"]["slots"] == 5
        assert generate(options)[0]["pid"] != generate(options, "prose/1.0-w2")[0]["pid"]

        ready = httpx.get(f"{options.url}/ready", trust_env=False).json()
        assert ready["inference"] == f"http://127.0.0.1:{options.worker_port}"
        assert Path(ready["models"]).is_file()

        with pytest.raises(AlreadyRunningError, match=str(running.pid)):
            supervisor.serve(options, console=quiet())
        with pytest.raises(PortTakenError, match="--port"):
            supervisor.serve(options.changed(run_dir=options.run_dir / "other"), console=quiet())

        family = processes.marked(running.run_id)
        assert len(family) >= 4  # the JVM, two workers, the gateway
        listening = [
            connection.laddr.ip
            for process in family
            for connection in process.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert len(listening) >= 6
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}

        console = quiet()
        assert supervisor.stop(options, console=console) == 0
        assert "no process is left" in text(console)
        assert processes.marked(running.run_id) == []
        assert not running_pid(running.pid)
        assert state.load(options.run_dir) is None
        assert not Path(running.scratch).exists()
    with pytest.raises(httpx.ConnectError):
        generate(options)


def running_pid(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_dead_torchserve_is_started_again_while_the_gateway_stays(
    archives: Any, make_options: Callable[..., Options]
) -> None:
    archives.build("prose")
    archives.index()
    options = make_options(ONE_WORKER)
    with detached(options) as running:
        family = {process.pid: process.cmdline() for process in processes.marked(running.run_id)}
        jvm = next(pid for pid, line in family.items() if "org.pytorch.serve.ModelServer" in line)
        gateway = next(pid for pid, line in family.items() if "stand_in_gateway" in line)
        os.kill(jvm, signal.SIGKILL)

        def recovered() -> bool:
            now = supervisor.status(options)
            return now is not None and now.phase == "ready" and jvm_of(running) not in (None, jvm)

        def answers() -> bool:
            # The state is written a moment after the new process starts, so "ready" may still be the old word.
            try:
                return len(generate(options)) == 3
            except httpx.HTTPError:
                return False

        wait_for(lambda: not psutil.pid_exists(jvm))
        wait_for(recovered)
        wait_for(answers)
        assert psutil.pid_exists(gateway)


def jvm_of(running: State) -> int | None:
    for process in processes.marked(running.run_id):
        if "org.pytorch.serve.ModelServer" in process.cmdline():
            return process.pid
    return None


def test_killed_supervisor_leaves_a_run_that_stop_still_ends(
    archives: Any, make_options: Callable[..., Options]
) -> None:
    archives.build("prose")
    archives.index()
    options = make_options(ONE_WORKER)
    with detached(options) as running:
        os.kill(running.pid, signal.SIGKILL)
        wait_for(lambda: not running_pid(running.pid))
        assert supervisor.status(options) is None
        assert len(processes.marked(running.run_id)) >= 3
        assert supervisor.stop(options, console=quiet()) == 0
        assert processes.marked(running.run_id) == []
        assert state.load(options.run_dir) is None


def test_interrupt_in_the_foreground_lets_requests_finish_first(
    archives: Any, make_options: Callable[..., Options], tmp_path: Path
) -> None:
    archives.build("prose")
    archives.index()
    options = make_options(ONE_WORKER)
    output = tmp_path / "output"
    with output.open("wb") as sink:
        foreground = subprocess.Popen(
            [sys.executable, "-m", "deploy.background", options.to_json()], stdout=sink, stderr=sink
        )
    answers: list[httpx.Response] = []
    try:
        running = wait_for(lambda: (s := supervisor.status(options)) and s.phase == "ready" and s)
        request = threading.Thread(
            target=lambda: answers.append(httpx.get(f"{options.url}/slow", timeout=20, trust_env=False))
        )
        request.start()
        time.sleep(0.5)
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(40) == 0
        request.join()
    finally:
        foreground.kill()
        foreground.wait()
        supervisor.stop(options, console=quiet())
    assert answers[0].json() == {"finished": True}
    assert processes.marked(running.run_id) == []
    printed = output.read_text()
    assert f"Inkwell is ready at {options.url}" in printed
    assert f"curl -s {options.url}/generate" in printed
    assert "no process is left" in printed


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (
            "import no_such_package\n\ndef handle(data, context): return data\n",
            "No module named 'no_such_package'",
        ),
        (
            "class Broken:\n    def initialize(self, context): raise ValueError('weights are torn')\n"
            "    def handle(self, data, context): return data\n",
            "ValueError: weights are torn",
        ),
    ],
)
def test_model_that_does_not_load_is_told_with_its_true_cause(
    archives: Any, make_options: Callable[..., Options], source: str, cause: str
) -> None:
    archives.build("prose", source)
    archives.index()
    options = make_options(ONE_WORKER)
    with pytest.raises(ModelLoadError) as refused:
        supervisor.serve(options, console=quiet())
    for part in (cause, "the model 'prose' does not load", "inkwell archive prose"):
        assert part in str(refused.value)
    assert state.load(options.run_dir) is None
    assert not [p for p in psutil.process_iter() if str(options.run_dir) in " ".join(cmdline(p))]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_gateway_that_does_not_start_is_told_with_the_end_of_its_log(
    archives: Any, make_options: Callable[..., Options], tmp_path: Path
) -> None:
    archives.build("prose")
    archives.index()
    (tmp_path / "broken_gateway.py").write_text("raise SystemExit('the key file is empty')")
    options = make_options(ONE_WORKER, gateway_module="broken_gateway")
    with pytest.raises(StartError, match="the key file is empty"):
        supervisor.serve(options, console=quiet())
    with pytest.raises(DeployError, match="the key file is empty") as refused:
        supervisor.serve(options, detach=True, console=quiet())
    assert refused.value.exit_code == StartError.exit_code
    assert state.load(options.run_dir) is None


def test_start_that_takes_too_long_says_what_it_waits_for(
    archives: Any, make_options: Callable[..., Options]
) -> None:
    slow = (
        "import time\n\nclass Slow:\n    def initialize(self, context): time.sleep(60)\n"
        "    def handle(self, data, context): return data\n"
    )
    archives.build("prose", slow)
    archives.index()
    options = make_options(ONE_WORKER, startup_s=3.0)
    with pytest.raises(StartError, match="prose has 0 of 1 workers ready"):
        supervisor.serve(options, console=quiet())
