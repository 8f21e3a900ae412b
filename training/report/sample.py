"""A sample to compare with: from a bundle here, or from a running server, many at once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from inkwell.bundle import open_bundle
from inkwell.client import AsyncClient
from training.evaluation import generate_texts


@dataclass(frozen=True)
class Sample:
    """Texts, and the seconds they took together."""

    texts: tuple[str, ...]
    seconds: float
    how: str

    @property
    def seconds_each(self) -> float:
        return self.seconds / max(1, len(self.texts))


def local_sample(path: Path, count: int, seed: int = 0) -> Sample:
    """`count` texts from the bundle or archive at `path`, in this process."""
    bundle = open_bundle(path)
    started = time.monotonic()
    texts = generate_texts(bundle, count, seed)
    return Sample(tuple(texts), time.monotonic() - started, f"{count} texts from {path}, in process")


def served_sample(url: str, model: str, count: int, seed: int = 0, in_flight: int = 64) -> Sample:
    """`count` texts from the server at `url`, `in_flight` at a time. Seed words are part of the texts."""

    async def fetch() -> list[str]:
        gate = asyncio.Semaphore(in_flight)
        async with AsyncClient(url) as client:

            async def one(number: int) -> str:
                async with gate:
                    answer = await client.generate("", model=model, seed=seed + number, return_full_text=True)
                    return answer.text

            return await asyncio.gather(*(one(number) for number in range(count)))

    started = time.monotonic()
    texts = asyncio.run(fetch())
    how = f"{count} texts from model {model}, {in_flight} in flight through the server"
    return Sample(tuple(texts), time.monotonic() - started, how)
