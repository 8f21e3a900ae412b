"""What the gateway promises of its texts, counted: shapes kept, copies withheld, nothing given twice.

Starts the stack itself with the trained models, asks over HTTP as anybody would, and judges every answer with
rules of its own: Python's `re` and `str` for shapes, plain search in the training documents for copies. Then
measures the novelty index: its size beside the corpus, and its time for one answer.

    inkwell bench promises [--constrained 10000] [--rejected 2000] [--unique 1500]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import sys
import time
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from measure import console, machine, show
from rich.markup import escape
from serving.stack import installed

from inkwell.bundle import open_bundle

Shape = dict[str, Any]
_AT_ONCE = 8  # requests
_EACH = 50  # answers of one
_PATIENCE_S = 300.0
_LONGEST_RUN = 30

NAMES: list[Shape] = [
    {"regex": "[A-Z][a-z]{3,7}"},
    {"regex": "[A-Z][a-z]+( [A-Z][a-z]+)?", "max_chars": 16},
    {"regex": "(?i).*(el|or|an)$", "max_chars": 12},
    {"starts_with": "Ar", "max_chars": 9},
    {"starts_with": "b", "ends_with": "a", "min_chars": 4, "max_chars": 9},
    {"contains": "lo", "max_chars": 10},
    {"allowed_chars": "abcdefghijklmnopqrstuvwxyz", "min_chars": 4, "max_chars": 8},
    {"min_chars": 7, "max_chars": 7},
    {"regex": "[^aeiou]*[aeiou][^aeiou]*[aeiou][^aeiou]*", "max_chars": 10},
    {"ends_with": "th", "category": {"elf": 2, "dwarf": 1}, "max_chars": 11},
]
STORIES: list[Shape] = [
    {"regex": r"[A-Z][a-z]+( [a-z]+){2,6}[.!?]", "max_new_tokens": 60},
    {"starts_with": "Once ", "ends_with": ".", "max_chars": 70, "max_new_tokens": 60},
    {"contains": "lantern", "max_chars": 60, "max_new_tokens": 50},
    {"regex": "[^.]*", "stop": ["."], "min_chars": 6, "max_new_tokens": 60},
]


def keeps(text: str, shape: Shape) -> bool:
    """Whether `text` has the shape, by the standard library."""
    return (
        shape.get("min_chars", 0) <= len(text) <= shape.get("max_chars", len(text))
        and re.fullmatch(shape.get("regex", "(?s).*"), text) is not None
        and text.startswith(shape.get("starts_with", ""))
        and text.endswith(shape.get("ends_with", ""))
        and shape.get("contains", "") in text
        and set(text) <= set(shape.get("allowed_chars", text))
        and not any(stop in text for stop in shape.get("stop", ()))
    )


@dataclass
class Corpus:
    """The training documents of a model, searched without its index."""

    documents: tuple[str, ...]
    whole: str = field(init=False)
    known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.whole = "\0".join(self.documents)
        self.known = frozenset(document.strip().casefold() for document in self.documents)

    @classmethod
    def of(cls, model: str) -> Corpus:
        index = open_bundle(Path("model_store") / f"{model}.mar").load_novelty()
        if index is None:
            raise SystemExit(f"model {model} carries no index of its training text")
        return cls(tuple(index.documents))

    def has(self, text: str) -> bool:
        """Whether `text` is a training document."""
        return text.strip().casefold() in self.known

    def runs(self, text: str, length: int) -> bool:
        """Whether more than `length` characters in a row of `text` stand in a training document."""
        size = length + 1
        return any(text[at : at + size] in self.whole for at in range(len(text) - size + 1))


class Asking:
    """Native requests, a few at a time. Seeds count up, so that a run can be had again."""

    def __init__(self, base: str) -> None:
        self._client = httpx.AsyncClient(base_url=base, timeout=_PATIENCE_S)
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._seed = 0

    async def answers(self, model: str, count: int, **parameters: Any) -> list[dict[str, Any]]:
        """`count` answers, or fewer where the gateway refuses to give so many."""
        self._seed += 1_000_000
        body = {"model": model, "inputs": "", "parameters": {"n": count, "seed": self._seed, **parameters}}
        async with self._room:
            response = await self._client.post("/generate", json=body)
        if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            console.print(f"refused: {response.json()['error']}", highlight=False)
            return []
        response.raise_for_status()
        found = response.json()
        return found if isinstance(found, list) else [found]

    async def many(self, model: str, count: int, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
        sizes = [min(_EACH, count - done) for done in range(0, count, _EACH)]
        asked = [asyncio.ensure_future(self.answers(model, size, **parameters)) for size in sizes]
        for done in asyncio.as_completed(asked):
            for answer in await done:
                yield answer

    async def aclose(self) -> None:
        await self._client.aclose()


Row = tuple[object, ...]


async def constrained(ask: Asking, count: int) -> list[Row]:
    """Answers of every shape, and how many break it."""
    rows: list[Row] = []
    shapes = [("names", shape) for shape in NAMES] + [("stories", shape) for shape in STORIES]
    # A token limit that comes before the shape is complete would be the caller's fault, not the text's.
    for number, (model, shape) in enumerate(shapes):
        share = count * (number + 1) // len(shapes) - count * number // len(shapes)
        told = {"max_new_tokens": 40, "return_full_text": False, "seed_word": "none", **shape}
        given = broken = 0
        async for answer in ask.many(model, share, **told):
            given += 1
            broken += not keeps(answer["generated_text"], shape)
        shown = ", ".join(f"{name} {value!r}" for name, value in shape.items())
        rows.append((model, escape(shown), given, broken))
    return rows


async def rejected(ask: Asking, model: str, count: int, rule: dict[str, Any], **more: Any) -> list[Row]:
    """Answers with and without `reject`, and how many of them are copies by plain search."""
    corpus = Corpus.of(model)
    longest = rule.get("max_overlap_chars")

    def copied(answer: dict[str, Any]) -> bool:
        text = answer["generated_text"]
        return corpus.has(text) or (longest is not None and corpus.runs(text, longest))

    rows: list[Row] = []
    for mode in ("mark", "reject"):
        texts = [a async for a in ask.many(model, count, novelty={"mode": mode, **rule}, **more)]
        says = "a training document" if longest is None else f"a document, or more than {longest} in a row"
        rows.append((model, f"{mode}: {says}", len(texts), sum(map(copied, texts))))
    return rows


async def unique(ask: Asking, count: int) -> list[Row]:
    """Names of one session: how many are alike, and how many stand in the corpus."""
    corpus, given = Corpus.of("names"), []
    async for answer in ask.many("names", count, unique=True, session="promises", max_new_tokens=24):
        given.append(answer["generated_text"])
    alike = len(given) - len({" ".join(name.split()).casefold() for name in given})
    return [
        ("names", "one session: given twice", len(given), alike),
        ("names", "one session: in the training corpus", len(given), sum(map(corpus.has, given))),
    ]


async def count_all(base: str, options: argparse.Namespace) -> list[Row]:
    ask = Asking(base)
    try:
        rows = await constrained(ask, options.constrained)
        total = ("all", f"{len(rows)} shapes", _sum(rows, 2), _sum(rows, 3))
        rows += [total]
        rows += await rejected(ask, "names", options.rejected, {}, max_new_tokens=24, temperature=0.3)
        rows += await rejected(
            ask, "stories", options.rejected // 10, {"max_overlap_chars": _LONGEST_RUN},
            max_new_tokens=60, temperature=0.6,
        )  # fmt: skip
        rows += await unique(ask, options.unique)
    finally:
        await ask.aclose()
    return rows


def novelty_index(model: str, texts: int = 200) -> Row:
    """The size of a model's index beside its corpus, and CPU milliseconds for one answer of 300 characters."""
    archive = Path("model_store") / f"{model}.mar"
    index = open_bundle(archive).load_novelty()
    if index is None:
        raise SystemExit(f"model {model} carries no index of its training text")
    with zipfile.ZipFile(archive) as packed:
        size = packed.getinfo("bundle/novelty.npz").file_size
    whole = "\n".join(index.documents)
    corpus = len(whole.encode())
    # Half a copy and half a shuffled one: what copies takes longer than what does not.
    source, spent = random.Random(0), []
    for _ in range(texts):
        at = source.randrange(max(1, len(whole) - 150))
        copied = whole[at : at + 150]
        text = copied + "".join(source.sample(copied, len(copied)))
        started = time.process_time()  # whatever else the machine does
        index.check(text)
        spent.append(time.process_time() - started)
    spent.sort()
    return (
        model,
        f"{corpus:,}",
        f"{size:,}",
        f"{size / corpus:.2f}",
        f"{statistics.median(spent) * 1000:.3f}",
        f"{spent[int(0.99 * len(spent))] * 1000:.3f}",
    )


def _sum(rows: list[Row], column: int) -> int:
    return sum(int(str(row[column])) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--constrained", type=int, default=10_000)
    parser.add_argument("--rejected", type=int, default=2_000)
    parser.add_argument("--unique", type=int, default=1_500)
    options = parser.parse_args()
    with installed("names", "stories") as servers:
        rows = asyncio.run(count_all(servers.gateway, options))
    console.print(machine(), highlight=False)
    show("What was promised, and how often it was not kept", ("model", "promise", "answers", "broken"), rows)
    sizes = [novelty_index(model) for model in ("names", "stories", "prose", "souls")]
    headings = ("model", "corpus bytes", "index bytes", "share", "median CPU ms", "99 % under")
    show("The novelty index, and an answer of 300 characters checked", headings, sizes)
    if any(int(str(row[3])) for row in rows if "mark:" not in str(row[1])):
        sys.exit(1)


if __name__ == "__main__":
    main()
