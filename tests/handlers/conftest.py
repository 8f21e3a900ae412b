"""One thread: the models are tiny, and other tests share the cores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from handlers.posts import Desk
from inkwell.bundle import load_bundle
from inkwell.session import TextEngine


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class FrontEnd:
    """Calls a desk as TorchServe does: again and again with all live requests, until each has its last chunk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.live: dict[str, object] = {}
        self.chunks: dict[str, list[bytes]] = {}
        self.last: dict[str, bool | None] = {}
        self.types: dict[str, list[str]] = {}

    def post(self, name: str, body: object) -> None:
        self.live[name] = body
        self.chunks[name], self.types[name] = [], []

    def vanish(self, name: str) -> None:
        """The client has closed its connection."""
        del self.live[name]

    def turn(self) -> None:
        names = list(self.live)
        replies = self.desk.call(names, [self.live[name] for name in names])
        assert len(replies) == len(names)
        for name, reply in zip(names, replies, strict=True):
            # TorchServe cannot send an empty chunk.
            assert reply.chunk
            self.chunks[name].append(reply.chunk)
            self.types[name].append(reply.content_type)
            if reply.last is not False:
                self.last[name] = reply.last
                del self.live[name]

    def finish(self, most: int = 10_000) -> None:
        for _ in range(most):
            if not self.live:
                return
            self.turn()
        raise AssertionError(f"still open after {most} turns: {list(self.live)}")

    def ask(self, body: object, name: str = "asked") -> dict:
        """The one object that answers a body without jobs."""
        self.post(name, body)
        while name in self.live:
            self.turn()
        return json.loads(b"".join(self.chunks[name]))

    def events(self, name: str) -> list[dict]:
        lines = b"".join(self.chunks[name]).split(b"\n")
        assert lines[-1] == b"", "every line ends with a line feed"
        return [json.loads(line) for line in lines if line]

    def by_job(self, name: str) -> dict[str | None, list[dict]]:
        found: dict[str | None, list[dict]] = {}
        for event in self.events(name):
            found.setdefault(event["job"], []).append(event)
        return found


class Clock:
    """Time that moves by `tick` seconds each time it is looked at."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now, self.tick = 1000.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def front(char_bundle: Path) -> FrontEnd:
    """Time stands still, so a slice is long enough for everything to end in one turn."""
    return FrontEnd(Desk(TextEngine(load_bundle(char_bundle), slots=8, clock=Clock())))


@pytest.fixture
def slow(char_bundle: Path) -> FrontEnd:
    """A slice is used up after about ten looks at the clock: a few steps per turn, on any machine."""
    engine = TextEngine(load_bundle(char_bundle), slots=4, queue=64, clock=Clock(0.002))
    return FrontEnd(Desk(engine, slice_seconds=0.02))


@pytest.fixture
def categorised(gpt_bundle: Path) -> FrontEnd:
    """A model with categories and without seed words."""
    return FrontEnd(Desk(TextEngine(load_bundle(gpt_bundle), slots=8, clock=Clock())))
