"""The containers on a Docker engine of the tests' own; only tests marked `docker` ask for it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# The modules beside this file serve the tests only, and are no package.
sys.path.insert(0, str(Path(__file__).parent))

from proof_engine import Engine
from proof_stack import Stack

FIGURES = pytest.StashKey[dict[str, str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """An engine is started for those who ask for it by name: `-m docker`."""
    if "docker" in (config.option.markexpr or ""):
        return
    asked = [item for item in items if item.get_closest_marker("docker") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in asked])
    items[:] = asked


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> dict[str, str]:
    """What was measured on the way, printed at the end."""
    return request.config.stash.setdefault(FIGURES, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, value in config.stash.get(FIGURES, {}).items():
        terminalreporter.write_line(f"{name:<34} {value}")


@pytest.fixture(scope="session")
def engine(figures: dict[str, str]) -> Iterator[Engine]:
    """A running engine. With INKWELL_PROOF_FOLDER set, downloads and images are kept there for the next time."""
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    if os.geteuid() != 0 or "VERSION_CODENAME=bookworm" not in release:
        raise RuntimeError(
            "the containers are proven as root on Debian bookworm; this is neither or only one"
        )
    kept = os.environ.get("INKWELL_PROOF_FOLDER")
    # Short, since sockets lie in it.
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="ink-", dir="/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    engine = Engine(folder, figures)
    try:
        engine.prepare()
        engine.start()
        yield engine
    finally:
        engine.stop()
        processes = engine.processes()
        if not kept:
            shutil.rmtree(folder)
        assert not processes, processes


@pytest.fixture(scope="session")
def stack(
    engine: Engine,
    figures: dict[str, str],
    char_bundle: Path,
    gpt_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """The shipped compose project with two tiny models, built and up."""
    stack = Stack(engine, tmp_path_factory.mktemp("stack"), (char_bundle, gpt_bundle), figures)
    try:
        stack.up()
        yield stack
    except RuntimeError:
        print(stack.logs())
        raise
    finally:
        stack.down()
