"""First names times surnames, after the split.

A full name made of two halves that both stand in the training part is no test of anything. So both lists are
split first, each by itself, and only halves of the same part are put together: no half of a held-out name has
been seen in training. The part stands in each document's group, and `split.by_group` keeps to it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from training.data.corpus import Corpus, Document
from training.data.report import DropLog, DropReport
from training.data.split import PARTS, SplitOptions, key_of, split
from training.errors import UserError


@dataclass(frozen=True)
class ProductOptions:
    """count: full names over all parts, each category in proportion to its first names. match: only halves of
    the same category; otherwise any, and the first name's category holds."""

    count: int = 10_000
    val: float = 0.1
    test: float = 0.0
    seed: int = 42
    match: bool = True

    def __post_init__(self) -> None:
        if self.count < 2:
            raise UserError(f"count is {self.count}; it must be 2 or more")


def product(
    given: Corpus, family: Corpus, options: ProductOptions | None = None
) -> tuple[Corpus, DropReport]:
    """Full names, part by part, and a report. The same seed makes the same names.

    Raises UserError when a part has no first name or no surname to go with it.
    """
    options = options or ProductOptions()
    log = DropLog()
    log.file(given.name, f"first names, {len(given)}")
    log.file(family.name, f"surnames, {len(family)}")
    sides = [
        _parts(_without_doubles(given, log), options),
        _parts(_without_shared(family, given, log), options),
    ]
    documents: list[Document] = []
    shares = {"train": 1.0 - options.val - options.test, "val": options.val, "test": options.test}
    for part in PARTS:
        if part in sides[0]:
            wanted = max(1, round(options.count * shares[part]))
            documents += _pairs(sides[0][part], sides[1][part], part, wanted, options, log)
    name = f"{given.name} x {family.name}"
    if not documents:
        raise UserError(
            f"{name}: no category has both first names and surnames; --any-pair does not ask for that"
        )
    corpus = Corpus("documents", tuple(documents), name, (*given.sources, *family.sources))
    return corpus, log.freeze(name, len(given) + len(family), len(corpus), "halves")


def _without_doubles(corpus: Corpus, log: DropLog) -> Corpus:
    """Each half once per category."""
    seen: set[tuple[str, str | None]] = set()
    kept = []
    for document in corpus.documents:
        key = (key_of(document.text), document.category)
        if key in seen:
            log.drop(
                "half", "stands twice in its category", f"{document.category or '(none)'}: {document.text}"
            )
        else:
            seen.add(key)
            kept.append(document)
    return replace(corpus, documents=tuple(kept))


def _without_shared(family: Corpus, given: Corpus, log: DropLog) -> Corpus:
    """Surnames that are no first names: one that is both could be in training as the one and held out as the
    other."""
    first = {key_of(document.text) for document in given.documents}
    kept = []
    for document in _without_doubles(family, log).documents:
        if key_of(document.text) in first:
            log.drop("half", "surname that is a first name too", document.text)
        else:
            kept.append(document)
    if not kept:
        raise UserError(f"corpus {family.name!r}: every surname is a first name too")
    return replace(family, documents=tuple(kept))


def _parts(corpus: Corpus, options: ProductOptions) -> dict[str, tuple[Document, ...]]:
    parts = split(corpus, SplitOptions(options.val, options.test, options.seed))
    found = {"train": parts.train, "val": parts.val, "test": parts.test}
    return {name: part.documents for name, part in found.items() if part is not None}


def _pairs(
    given: Sequence[Document],
    family: Sequence[Document],
    part: str,
    wanted: int,
    options: ProductOptions,
    log: DropLog,
) -> list[Document]:
    """`wanted` different pairs of one part, fewer where there are not as many."""
    by_category: dict[str | None, list[Document]] = {}
    for document in given:
        by_category.setdefault(document.category, []).append(document)
    surnames: dict[str | None, list[Document]] = {}
    for document in family:
        surnames.setdefault(document.category if options.match else None, []).append(document)
    fitting = {
        category: found
        for category in sorted(by_category, key=str)
        if (found := surnames.get(category if options.match else None))
    }
    for category in sorted(by_category.keys() - fitting.keys(), key=str):
        for document in by_category[category]:
            reason = f"first name without a surname of its category ({part})"
            log.drop("half", reason, f"{category}: {document.text}")
    total = sum(len(by_category[category]) for category in fitting)
    made: list[Document] = []
    for category, others in fitting.items():
        firsts = by_category[category]
        share = max(1, round(wanted * len(firsts) / total))
        possible = len(firsts) * len(others)
        draw = random.Random(f"{options.seed} {part} {category}")
        for index in sorted(draw.sample(range(possible), min(share, possible))):
            first, last = firsts[index // len(others)], others[index % len(others)]
            identity = f"{first.id or first.text} x {last.id or last.text}"
            made.append(Document(f"{first.text} {last.text}", category, identity, part))
    log.note(f"full names of the {part} part", len(made))
    return made
