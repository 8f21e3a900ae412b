"""The gateway as the process that people start: environment in, JSON logs out, an orderly end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from deploy.ports import free_run


@pytest.fixture
def run(make_settings, worker):
    """Start a gateway process; gives the process and its base URL."""
    processes = []

    def start(*arguments, port_argument=False, **environment):
        port = free_run(1)
        settings = make_settings()
        values = {
            "INKWELL_PORT": str(port),
            "INKWELL_MODELS_FILE": str(settings.models_file),
            "INKWELL_INFERENCE": worker.url,
            "INKWELL_MANAGEMENT": worker.url,
            **environment,
        }
        command = [sys.executable, *arguments, *(["--port", str(port)] if port_argument else [])]
        process = subprocess.Popen(
            command, env={**os.environ, **values}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        processes.append(process)
        return process, f"http://127.0.0.1:{port}"

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


def answers(base):
    try:
        return httpx.get(base + "/health").status_code == 200
    except httpx.TransportError:
        return False


def until(condition, what):
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "port_argument"),
    [
        (["-m", "api"], False),
        (["-m", "uvicorn", "--factory", "api.main:create"], True),
    ],
    ids=["module", "uvicorn"],
)
def test_a_stop_signal_lets_work_in_hand_end(run, worker, expected, arguments, port_argument):
    process, base = run(*arguments, port_argument=port_argument)
    until(lambda: answers(base), "the gateway must come up")
    worker.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        body = {"inputs": "abc", "parameters": {"seed": 1, "max_new_tokens": 9}}
        answer = pool.submit(httpx.post, base + "/generate", json=body, timeout=20)
        until(lambda: worker.posts, "the request must be under way")
        process.send_signal(signal.SIGTERM)
        threading.Timer(0.3, worker.gate.set).start()
        assert answer.result().json()["generated_text"] == expected("abc", 1, 9)
    _, errors = process.communicate(timeout=20)
    lines = [json.loads(line) for line in errors.splitlines()]
    assert any(line["event"] == "draining" for line in lines)
    (request,) = [line for line in lines if line["event"] == "request" and line["path"] == "/generate"]
    assert request["status"] == 200
    assert worker.posts[0][0]["id"].startswith(request["request_id"])


def test_a_bad_setting_ends_the_process_with_its_name(run):
    process, _ = run("-m", "api", INKWELL_DEADLINE_S="-1")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert errors.decode().splitlines() == [
        "setting deadline_s: Input should be greater than 0; got '-1'",
    ]


def test_what_is_loaded_is_no_longer_searched_for_garbage(run):
    process, _ = run(
        "-c",
        "import api.__main__ as a, gc; a.uvicorn.run = check; a.main()".replace(
            "check", "lambda *_, **__: print(gc.get_freeze_count(), file=a.sys.stderr)"
        ),
    )
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert int(errors) > 10_000
