"""Stacks that are harmed on purpose, and the table of what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The modules beside this file serve these tests only, and are no package.
sys.path.insert(0, str(Path(__file__).parent))

import fault_report
from fault_report import Fault
from fault_stack import FaultStack, e2e, write_prose

one_thread = e2e.one_thread
served_folder = e2e.served_folder
FAULTS = pytest.StashKey[list[Fault]]()

ONE_WORKER = """
[defaults]
slots = 64
max_new_tokens = 100000
queue_tokens = 10000000

[models.prose]
family = "prose"
default = true

[models.names]
family = "names"
max_new_tokens = 64
"""
TWO_WORKERS = ONE_WORKER.replace("default = true", "default = true\ncpu_workers = 2")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--faults-report", default=None, help="folder for faults.json and faults.md")
    group.addoption("--overload-seconds", type=float, default=60.0, help="how long the overload lasts")
    group.addoption("--soak-minutes", type=float, default=30.0, help="how long the soak lasts")


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Callable[[str], Fault]:
    """Makes a row of the table."""
    rows = request.config.stash.setdefault(FAULTS, [])

    def make(name: str) -> Fault:
        rows.append(Fault(name))
        return rows[-1]

    return make


def pytest_terminal_summary(config: pytest.Config) -> None:
    rows = config.stash.get(FAULTS, [])
    if rows:
        fault_report.show(rows)
        folder = config.getoption("faults_report", default=None)
        if folder is not None:
            fault_report.write(rows, Path(folder))


@pytest.fixture(scope="session")
def single(served_folder: Callable[[], Path]) -> Iterator[FaultStack]:
    """One worker for each of two models; every test leaves it as it found it."""
    stack = FaultStack(served_folder(), ONE_WORKER, deadline_s=120, drain_s=60)
    try:
        stack.start()
        yield stack
    finally:
        stack.end()


@pytest.fixture(scope="session")
def double(served_folder: Callable[[], Path]) -> Iterator[FaultStack]:
    """Two workers of `prose`, and a short patience with silent ones."""
    stack = FaultStack(served_folder(), TWO_WORKERS, deadline_s=120, drain_s=60, liveness_s=2)
    try:
        stack.start()
        yield stack
    finally:
        stack.end()


@pytest.fixture
def folder(served_folder: Callable[[], Path]) -> Path:
    """A folder to serve from, whose archives may be damaged."""
    return served_folder()


@pytest.fixture
def stacks(folder: Path) -> Iterator[Callable[..., FaultStack]]:
    """Makes a stack in `folder`, not yet started, and ends it with the test."""
    made: list[FaultStack] = []

    def make(models: str | None = None, **settings: object) -> FaultStack:
        made.append(FaultStack(folder, models, **settings))
        return made[-1]

    yield make
    for stack in made:
        stack.end()


@pytest.fixture
def larger_prose(folder: Path) -> None:
    """A model of some size, so that the worker and not the gateway is what limits."""
    write_prose(folder, hidden=192)
