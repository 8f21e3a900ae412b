from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy import worker
from deploy.settings import Options


def environment(options: Options) -> dict[str, str]:
    return dict(os.environ) | {
        "INKWELL_MODELS_FILE": str(options.models_file),
        "INKWELL_MODEL_STORE": str(options.model_store),
        "INKWELL_RUN_DIR": str(options.run_dir),
        "INKWELL_LOG_DIR": str(options.log_dir),
        "INKWELL_WORKER_PORT": str(options.worker_port),
        "TMPDIR": str(options.run_dir.parent / "scratch"),
    }


def health(options: Options) -> tuple[int, str]:
    answer = subprocess.run(
        [sys.executable, "-m", "deploy.worker", "health"],
        env=environment(options),
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.returncode, answer.stdout.strip()


@pytest.mark.e2e
def test_worker_becomes_the_jvm_and_is_healthy_only_with_every_worker_ready(
    archives: Any, make_options: Callable[..., Options]
) -> None:
    archives.build("prose")
    archives.index()
    options = make_options('[models.prose]\nfamily = "prose"\ncpu_workers = 2\n')
    assert health(options) == (1, f"{options.run_dir}: holds no plan yet")
    process = subprocess.Popen([sys.executable, "-m", "deploy.worker", "run"], env=environment(options))
    family: list[psutil.Process] = []
    try:
        until = time.monotonic() + 90
        seen = set()
        while (answer := health(options))[0] != 0:
            seen.add(answer[1])
            assert time.monotonic() < until, seen
            assert process.poll() is None
        assert answer[1] == "every model is ready"
        assert "prose: 0 of 2 workers are ready" in seen
        parent = psutil.Process(process.pid)
        assert "org.pytorch.serve.ModelServer" in parent.cmdline()
        family = parent.children(recursive=True)
        assert len(family) == 2

        family[0].kill()
        while health(options)[0] == 0:
            assert time.monotonic() < until
        assert health(options) == (1, "prose: 1 of 2 workers are ready")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        for member in family:
            if member.is_running():
                member.kill()


@pytest.mark.parametrize("arguments", [[], ["serve"], ["run", "fast"]])
def test_other_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert worker.main(arguments) == 2
    assert "must be run or health" in capsys.readouterr().err


def test_worker_without_archives_ends_with_the_reason(
    make_options: Callable[..., Options], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = make_options('[models.prose]\nfamily = "prose"\n')
    answer = subprocess.run(
        [sys.executable, "-m", "deploy.worker", "run"],
        env=environment(options),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 7
    assert "index.json: is missing" in answer.stderr
