"""Deterministic splits without leaks.

A stream is cut by position: the end of every document is held back, as the published figures for single
books do (first 90 % train, last 10 % validation). Documents are split by their *key*, the text without
regard to case and spacing: all documents of one key lie on the same side, and exact copies are left out
first. The side of a key depends only on the seed and the key, not on the order of the documents.

`copies = "kept"` is for comparing with published figures that did neither: it shuffles the documents as they
are, so that a copy of a held-out one may be trained on; `Splits.shared` counts those.
"""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from training.data.corpus import Corpus, Document
from training.errors import UserError

PARTS = ("train", "val", "test")
Copies = Literal["out", "kept"]


@dataclass(frozen=True)
class SplitOptions:
    """val, test: fractions of characters (stream) or of keys (documents). holdout: the group to test on.
    by_group: the corpus has been split already, and the groups `train`, `val` and `test` are its parts.
    copies: of documents, `out` before they are split, or `kept`, on whichever side they come to lie."""

    val: float = 0.1
    test: float = 0.0
    seed: int = 42
    holdout: str | None = None
    by_group: bool = False
    copies: Copies = "out"

    def __post_init__(self) -> None:
        for field in ("val", "test"):
            value = getattr(self, field)
            if not 0.0 <= value < 1.0:
                raise UserError(f"{field} is {value}; it must be at least 0 and less than 1")
        if self.val + self.test >= 1.0:
            raise UserError(f"val {self.val} and test {self.test} leave nothing to train on")
        if self.holdout is not None and self.test:
            raise UserError("holdout names the test set already; test must be 0")
        if self.by_group and self.holdout is not None:
            raise UserError("by_group takes all parts from the groups; holdout must not be given")
        if self.copies not in ("out", "kept"):
            raise UserError(f"copies is {self.copies!r}; allowed are out, kept")
        if self.copies == "kept" and (self.by_group or self.holdout is not None):
            raise UserError("copies = 'kept' shuffles all documents; holdout and by_group must not be given")


@dataclass(frozen=True)
class Splits:
    """Parts of one corpus; a part whose fraction is 0 is None. `copies` documents were left out as copies,
    `leaking` because their key stands in the held-out group. `shared` held-out ones are trained on as well."""

    train: Corpus
    val: Corpus | None
    test: Corpus | None
    copies: int = 0
    leaking: int = 0
    shared: int = 0


def key_of(text: str) -> str:
    """What makes two texts the same name: NFKC, case folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def split(corpus: Corpus, options: SplitOptions | None = None) -> Splits:
    """Train, validation and test parts. Raises UserError when a part that was asked for would be empty."""
    options = options or SplitOptions()
    if options.by_group:
        return _by_group(corpus, options)
    if options.holdout is not None:
        return _hold_out(corpus, options)
    if corpus.kind == "stream":
        return _split_stream(corpus, options)
    return _split_documents(corpus, options) if options.copies == "out" else _shuffled(corpus, options)


def _needed(corpus: Corpus, documents: Iterable[Document], suffix: str) -> Corpus:
    kept = tuple(documents)
    if not kept:
        raise UserError(
            f"corpus {corpus.name!r}: the {suffix} part would be empty "
            f"({len(corpus)} documents, {corpus.characters} characters); "
            f"a larger fraction or more text is needed"
        )
    return replace(corpus, documents=kept, name=f"{corpus.name}/{suffix}")


def _splits(corpus: Corpus, parts: dict[str, list[Document]], options: SplitOptions, copies: int) -> Splits:
    train = _needed(corpus, parts["train"], "train")
    return Splits(
        train,
        _needed(corpus, parts["val"], "val") if options.val > 0 else None,
        _needed(corpus, parts["test"], "test") if options.test > 0 else None,
        copies,
    )


def _split_stream(corpus: Corpus, options: SplitOptions) -> Splits:
    parts: dict[str, list[Document]] = {"train": [], "val": [], "test": []}
    for document in corpus.documents:
        size = len(document.text)
        val_at = int(size * (1 - options.val - options.test))
        test_at = int(size * (1 - options.test))
        bounds = {"train": (0, val_at), "val": (val_at, test_at), "test": (test_at, size)}
        for name, (start, end) in bounds.items():
            text = document.text[start:end]
            if text.strip():
                parts[name].append(replace(document, text=text))
    return _splits(corpus, parts, options, copies=0)


def _split_documents(corpus: Corpus, options: SplitOptions) -> Splits:
    unique, copies = _without_copies(corpus.documents)
    keys = sorted({key for key, _ in unique}, key=lambda key: _rank(options.seed, key))
    tests, vals = _count(len(keys), options.test), _count(len(keys), options.val)
    side = dict.fromkeys(keys[:tests], "test") | dict.fromkeys(keys[tests : tests + vals], "val")
    parts: dict[str, list[Document]] = {"train": [], "val": [], "test": []}
    for key, document in unique:
        parts[side.get(key, "train")].append(document)
    return _splits(corpus, parts, options, copies)


def _shuffled(corpus: Corpus, options: SplitOptions) -> Splits:
    """As makemore's lectures split their names: `random.shuffle` after `random.seed`, then cut."""
    documents = list(corpus.documents)
    random.Random(options.seed).shuffle(documents)
    val_at = int((1 - options.val - options.test) * len(documents))
    test_at = int((1 - options.test) * len(documents))
    parts = {"train": documents[:val_at], "val": documents[val_at:test_at], "test": documents[test_at:]}
    trained = {key_of(document.text) for document in parts["train"]}
    shared = sum(key_of(document.text) in trained for name in ("val", "test") for document in parts[name])
    return replace(_splits(corpus, parts, options, copies=0), shared=shared)


def _count(keys: int, fraction: float) -> int:
    return max(1, round(keys * fraction)) if fraction > 0 and keys > 1 else 0


def _without_copies(documents: Iterable[Document]) -> tuple[list[tuple[str, Document]], int]:
    """Documents with their keys; of one key in one category only the first. Second: how many went."""
    seen: set[tuple[str, str | None]] = set()
    kept: list[tuple[str, Document]] = []
    copies = 0
    for document in documents:
        key = key_of(document.text)
        if (key, document.category) in seen:
            copies += 1
        else:
            seen.add((key, document.category))
            kept.append((key, document))
    return kept, copies


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{key}".encode()).digest()


def _by_group(corpus: Corpus, options: SplitOptions) -> Splits:
    """Parts as the groups say. A training text that is held out as well is left out of training."""
    unknown = sorted({document.group or "(none)" for document in corpus.documents} - set(PARTS))
    if unknown:
        raise UserError(
            f"corpus {corpus.name!r}: by_group needs the groups {', '.join(PARTS)}; "
            f"it has {', '.join(unknown[:20])}"
        )
    held = {key_of(document.text) for document in corpus.documents if document.group != "train"}
    clean = [d for d in corpus.documents if d.group != "train" or key_of(d.text) not in held]
    unique, copies = _without_copies(clean)
    parts: dict[str, list[Document]] = {name: [] for name in PARTS}
    for _, document in unique:
        parts[document.group or "train"].append(document)
    present = replace(options, val=0.1 if parts["val"] else 0.0, test=0.1 if parts["test"] else 0.0)
    return replace(_splits(corpus, parts, present, copies), leaking=len(corpus.documents) - len(clean))


def _hold_out(corpus: Corpus, options: SplitOptions) -> Splits:
    groups = sorted({document.group for document in corpus.documents if document.group is not None})
    if options.holdout not in groups:
        raise UserError(
            f"holdout {options.holdout!r} is no group of corpus {corpus.name!r}; "
            f"its groups are {', '.join(groups[:20]) or 'none at all'}"
        )
    held = [document for document in corpus.documents if document.group == options.holdout]
    rest = [document for document in corpus.documents if document.group != options.holdout]
    held_keys = {key_of(document.text) for document in held}
    clean = [document for document in rest if key_of(document.text) not in held_keys]
    train = _needed(corpus, clean, "train")
    inner = split(replace(train, name=corpus.name), replace(options, holdout=None))
    return replace(inner, test=_needed(corpus, held, "test"), leaking=len(rest) - len(clean))
