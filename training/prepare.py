"""From a recipe to everything a trainer needs: split corpus, tokenizer, windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inkwell.tokenizer import END_ID, BPETokenizer, CharTokenizer
from training.batches import DocumentWindows, Share, Source, StreamReading, StreamWindows
from training.data.corpus import Corpus
from training.data.fetch import Fetcher, open_source
from training.data.load import LoadOptions, load
from training.data.sources import list_sources
from training.data.split import Splits, split
from training.errors import UserError
from training.recipe import CORPORA, Recipe
from training.settings import Settings

Tokenizer = CharTokenizer | BPETokenizer


@dataclass(frozen=True)
class Prepared:
    """A corpus ready for training. `categories` are names in order of index 1, 2, …"""

    corpus: Corpus
    splits: Splits
    tokenizer: Tokenizer
    categories: tuple[str, ...]

    @property
    def validation(self) -> Corpus | None:
        """What training looks at: the validation part, else the test part."""
        return self.splits.val or self.splits.test


def prepare(
    recipe: Recipe, tokenizer: Tokenizer | None = None, categories: Sequence[str] | None = None
) -> Prepared:
    """Load, split and tokenize. A given tokenizer and categories (fine-tuning) are kept as they are."""
    corpus = open_corpus(recipe)
    splits = split(corpus, recipe.split)
    texts = [document.text for document in splits.train.documents]
    if tokenizer is None:
        # every character of the corpus gets an id, so that held-out text can be scored in full
        every = [document.text for document in corpus.documents]
        tokenizer = (
            CharTokenizer.fit([*every, recipe.start])
            if recipe.tokenizer.kind == "chars"
            else BPETokenizer.fit(texts, recipe.tokenizer.size)
        )
    wanted = bool(recipe.model.get("categories", 0))
    found = tuple(sorted(corpus.categories)) if wanted else ()
    if wanted and not found:
        raise UserError(
            f"corpus {corpus.name!r} has no categories; use --set model.categories=0 or name a column"
        )
    return Prepared(corpus, splits, tokenizer, found if categories is None else tuple(categories))


def open_corpus(recipe: Recipe) -> Corpus:
    """The recipe's corpus: a path, a sample corpus, or a public one that has been fetched."""
    given, sample = Path(recipe.corpus), CORPORA / recipe.corpus
    path = given if given.exists() else sample
    if path.exists():
        division = recipe.separator or "auto"
        return load(path, recipe.kind, LoadOptions(division=division))  # type: ignore[arg-type]
    known = {spec.name: spec for spec in list_sources()}
    if recipe.corpus not in known:
        samples = ", ".join(sorted(item.name for item in CORPORA.iterdir()))
        raise UserError(
            f"corpus {recipe.corpus!r} is no file or folder, no sample corpus ({samples}) and no public one "
            f"({', '.join(known)})"
        )
    settings = Settings.from_env()
    spec = known[recipe.corpus]
    if settings.data_mirror is None and not (settings.data_dir / spec.name / spec.corpus.file).is_file():
        raise UserError(
            f"corpus {spec.name!r} is not here yet; bring it with `inkwell data fetch {spec.name}`"
        )
    return open_source(Fetcher(settings.data_dir, settings.data_mirror, say=lambda _: None).fetch(spec))


def model_values(recipe: Recipe, prepared: Prepared) -> dict[str, object]:
    """The recipe's model with its sizes taken from the data. `categories = 1` in a recipe means "as many as
    the corpus has"."""
    values = {**recipe.model, "vocabulary": prepared.tokenizer.size}
    if prepared.categories:
        values["categories"] = len(prepared.categories) + 1
    return values


def windows(
    recipe: Recipe,
    prepared: Prepared,
    part: Corpus,
    train: bool,
    share: Share | None = None,
    batch: int | None = None,
) -> Source:
    """Windows over one part of the corpus, in random order for training and in fixed order for evaluation."""
    fit = recipe.fit
    tokenizer = prepared.tokenizer
    if prepared.corpus.kind == "stream":
        ids: list[int] = []
        for document in part.documents:
            ids.extend((END_ID, *tokenizer.encode(document.text)))
        if not train:
            return StreamReading(np.array(ids), min(fit.batch, 16), fit.length)
        return StreamWindows(np.array(ids), batch or fit.batch, fit.length, fit.randomise, fit.seed, share)
    documents = [tokenizer.encode(document.text) for document in part.documents]
    conditions = None
    if prepared.categories:
        index = {name: place for place, name in enumerate(prepared.categories, 1)}
        conditions = [index.get(document.category or "", 0) for document in part.documents]
    return DocumentWindows(documents, conditions, batch or fit.batch, fit.length, fit.seed, train, share)


def byte_count(part: Corpus) -> int:
    """UTF-8 bytes of the texts of a part, without any marks."""
    return sum(len(document.text.encode()) for document in part.documents)
