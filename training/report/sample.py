"""A sample to compare with: from a bundle here, or from a running server, many at once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from inkwell.bundle import open_bundle
from inkwell.client import AsyncClient, Retries, TimedOut, Unreachable
from training.data.sentences import split_sentences
from training.figures.samples import sample

SOULSGEN_SECONDS = 1.8
"""Seconds per sentence on a CPU, by SoulsGen's own README; each was a pass of 64 tokens through its GPT-2."""
ANSWER_SECONDS = 5.0
"""How long a server may take to say what it serves before it counts as not there."""


@dataclass(frozen=True)
class Sample:
    """Texts with their prompts, and the seconds they took together. `parameters`: of the model, where known."""

    texts: tuple[str, ...]
    seconds: float
    how: str
    parameters: int | None = None

    @property
    def seconds_each(self) -> float:
        """Seconds per text."""
        return self.seconds / max(1, len(self.texts))

    @property
    def seconds_per_sentence(self) -> float:
        """Seconds per sentence of the texts; what has no full stop counts as one."""
        return self.seconds / max(1, sum(len(split_sentences(text)) or 1 for text in self.texts))

    def speed(self) -> str:
        """The time per sentence beside SoulsGen's."""
        ratio = SOULSGEN_SECONDS / max(1e-9, self.seconds_per_sentence)
        size = f", with {self.parameters / 1e6:.1f} million parameters" if self.parameters else ""
        return (
            f"{self.how}: {self.seconds_each * 1000:.1f} ms per text, "
            f"{self.seconds_per_sentence * 1000:.1f} ms per sentence{size}. "
            f"SoulsGen took {SOULSGEN_SECONDS * 1000:,.0f} ms per sentence on a CPU, "
            f"with 159 million: {ratio:,.0f} times as long."
        )


def local_sample(path: Path, count: int, seed: int = 0) -> Sample:
    """`count` texts from the bundle or archive at `path`, in this process."""
    bundle = open_bundle(path)
    started = time.monotonic()
    found = sample(bundle, count, seed, None, logprobs=False)
    seconds = time.monotonic() - started
    texts = tuple(item.prompt + item.text for item in found)
    return Sample(texts, seconds, f"{count} texts from {path}, here", bundle.model.parameter_count())


def served_sample(url: str, model: str, count: int, seed: int = 0, in_flight: int = 64) -> Sample:
    """`count` texts from the server at `url`, `in_flight` at a time: the same as `local_sample` writes.

    Raises Unreachable within seconds when nothing answers there, and ModelNotFound for another model.
    """

    async def fetch() -> tuple[list[str], int | None, float]:
        gate = asyncio.Semaphore(in_flight)
        async with AsyncClient(url, retries=Retries(deadline=ANSWER_SECONDS)) as asking:
            try:
                served = {entry.id: entry for entry in await asking.models()}
            except (Unreachable, TimedOut) as error:
                raise Unreachable(
                    f"no server answers at {url} within {ANSWER_SECONDS:g} s ({error}); start one with "
                    "`make serve`, or leave out --url to generate here"
                ) from error
        known = served.get(model)
        categories = known.categories if known is not None else ()
        async with AsyncClient(url) as client:

            async def one(number: int) -> str:
                category = categories[number % len(categories)] if categories else None
                async with gate:
                    answer = await client.generate(
                        "", model=model, seed=seed + number, return_full_text=True, category=category
                    )
                    return answer.text

            started = time.monotonic()
            texts = await asyncio.gather(*(one(number) for number in range(count)))
            return texts, known.parameters if known else None, time.monotonic() - started

    texts, parameters, seconds = asyncio.run(fetch())
    how = f"{count} texts from model {model}, {in_flight} in flight through the server"
    return Sample(tuple(texts), seconds, how, parameters)
