"""The program `inkwell`, run in a folder of its own, and one tiny model that was trained with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from training.cli import app

PROSE = (
    "The harbour lay quiet under the lantern. Old sailors said the lantern had burned since the first winter. "
    "When the lantern went out, the harbour went dark and the sailors went home.\n"
    "In the morning a grey ship stood in the harbour. Its captain asked for bread and for a lantern.\n"
) * 4
NAMES = "name,category\n" + "\n".join(
    f"{first}{last},{kind}"
    for kind, firsts, lasts in (
        ("elf", ("Ael", "Lir", "Thal", "Nim"), ("iel", "orn", "wen", "dil", "rion")),
        ("dwarf", ("Bor", "Grum", "Thrak", "Dur"), ("in", "ok", "dun", "gar", "li")),
    )
    for first in firsts
    for last in lasts
)
SMALL = {
    "fit.steps": 4,
    "fit.batch": 4,
    "fit.length": 16,
    "fit.evaluate_every": 2,
    "fit.warmup": 1,
    "fit.threads": 1,
}
SMALL_PROSE = {**SMALL, "model.hidden": 16, "model.layers": 1, "model.embedding": 0}
SMALL_NAMES = {**SMALL, "model.width": 16, "model.heads": 2, "model.layers": 1}


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class Program:
    """`inkwell` in one folder, with nothing of this machine's settings."""

    small_prose, small_names = SMALL_PROSE, SMALL_NAMES

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("INKWELL_")
        }
        self.environment |= {
            "COLUMNS": "200",
            "OMP_NUM_THREADS": "1",
            "INKWELL_DATA_DIR": str(folder / "data"),
            **{name: os.environ[name] for name in ("INKWELL_NATIVE_CACHE",) if name in os.environ},
        }

    def __call__(
        self, *words: object, sets: dict[str, object] | None = None, stdin: str | None = None
    ) -> Result:
        arguments = [str(word) for word in words]
        for name, value in (sets or {}).items():
            arguments += ["--set", f"{name}={value}"]
        unset = {name: None for name in os.environ if name.startswith("INKWELL_")}
        with inside(self.folder):
            result = CliRunner().invoke(app, arguments, input=stdin, env={**unset, **self.environment})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def succeed(self, *words: object, **more: object) -> Result:
        result = self(*words, **more)  # type: ignore[arg-type]
        assert result.exit_code == 0, result.output
        return result

    def fail(self, code: int, *words: object, **more: object) -> str:
        """What the program says on standard error; nothing of a traceback may be among it."""
        result = self(*words, **more)  # type: ignore[arg-type]
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return " ".join(result.stderr.split())

    def start(self, *words: object, sets: dict[str, object] | None = None) -> subprocess.Popen[str]:
        """The program as a process of its own."""
        arguments = [str(word) for word in words]
        for name, value in (sets or {}).items():
            arguments += ["--set", f"{name}={value}"]
        return subprocess.Popen(
            [sys.executable, "-m", "training", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def interrupt_when(self, process: subprocess.Popen[str], ready: Callable[[], bool]) -> tuple[str, str]:
        """Press Ctrl-C once `ready`; what it printed."""
        until = time.monotonic() + 60
        try:
            while not ready():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < until, "the moment to interrupt did not come"
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            return process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(autouse=True, scope="session")
def archiver() -> None:
    """torch-model-archiver leaves a file of its own open when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        import model_archiver.model_packaging_utils  # noqa: F401


@pytest.fixture
def program(tmp_path: Path, native_cache: Path) -> Program:
    (tmp_path / "prose.txt").write_text(PROSE, encoding="utf-8")
    (tmp_path / "names.csv").write_text(NAMES, encoding="utf-8")
    return Program(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, native_cache: Path) -> Program:
    """A folder in which `prose` and `names` are trained, and `prose` is archived. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "prose.txt").write_text(PROSE, encoding="utf-8")
    (folder / "names.csv").write_text(NAMES, encoding="utf-8")
    program = Program(folder)
    program.succeed("train", "prose", "--corpus", "prose.txt", sets=SMALL_PROSE)
    program.succeed("train", "names", "--corpus", "names.csv", sets=SMALL_NAMES)
    program.succeed("archive", "prose")
    return program
