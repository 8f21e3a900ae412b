"""Do categories help, and does grouping them?

`grouping` trains one recipe three times over the same names with the same split: without categories, with the
raw labels, and with groups of them. `conditioning` asks a finished model for names under each strength of
guidance. `echoes` looks for categories whose names merely repeat what the category is called.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from inkwell.bundle import Bundle
from training.data.corpus import Corpus, save_jsonl
from training.data.grouping import Grouping, apply_grouping, load_grouping
from training.data.split import key_of
from training.evaluation import category_figures, evaluate_bundle
from training.prepare import open_corpus, prepare
from training.produce import produce
from training.recipe import Recipe, recipe_from

Row = dict[str, Any]


def grouping(
    recipe: Recipe, mapping: Grouping | None = None, min_count: int = 1, device: str = "auto"
) -> list[Row]:
    """One row each for no categories, raw labels and groups: nats per token and bits per byte on held-out names,
    and how well the category of a generated name can be told.

    `recipe` must be one of a model with categories. Names and split are the same in all three.
    """
    corpus = open_corpus(recipe)
    grouped, _ = apply_grouping(corpus, mapping or load_grouping(), min_count=min_count)
    variants: list[tuple[str, Corpus, bool]] = [
        ("none", corpus, False),
        ("raw labels", corpus, True),
        ("groups", grouped, True),
    ]
    rows = []
    for name, variant, conditioned in variants:
        with tempfile.TemporaryDirectory(prefix="inkwell-grouping-") as scratch:
            figures = _train(recipe, _one_label_each(variant), conditioned, Path(scratch), device)
        held = figures.get("test") or figures["validation"]
        row: Row = {
            "labels": name,
            "categories": len(variant.categories) if conditioned else 0,
            "nats_per_token": held["nats_per_token"],
            "bits_per_byte": held["bits_per_byte"],
        }
        rows.append(row | figures.get("categories", {}))
    return rows


def _one_label_each(corpus: Corpus) -> Corpus:
    """Every name once, so that all variants are measured on the same names."""
    first = {key_of(document.text): document for document in reversed(corpus.documents)}
    kept = {id(document) for document in first.values()}
    return replace(corpus, documents=tuple(d for d in corpus.documents if id(d) in kept))


def _train(recipe: Recipe, corpus: Corpus, conditioned: bool, scratch: Path, device: str) -> dict[str, Any]:
    file = scratch / "corpus.jsonl"
    save_jsonl(corpus, file)
    values = recipe.as_mapping() | {"corpus": str(file), "kind": None, "separator": None, "novelty": False}
    if not conditioned:
        dropped = ("categories", "category_dropout", "steering", "adaptive")
        values["model"] = {key: value for key, value in recipe.model.items() if key not in dropped}
    produce(recipe_from(values, "recipe"), scratch / "bundle", device=device, runs=scratch / "runs")
    return evaluate_bundle(scratch / "bundle", samples=1, device=device, write=False)


def conditioning(
    bundle: Bundle, strengths: Sequence[float] = (0.0, 1.0, 2.0, 4.0), **options: Any
) -> list[Row]:
    """One row per strength of guidance: the figures of `category_figures`. 0 asks for no category at all."""
    recipe = recipe_from(bundle.config.training["recipe"], "config.json, training.recipe")
    prepared = prepare(recipe, bundle.tokenizer, bundle.categories)
    return [
        {"guidance": strength, **category_figures(bundle, prepared, guidance=strength, **options)}
        for strength in strengths
    ]


def echoes(names: Iterable[tuple[str, str]]) -> list[Row]:
    """Of (name, category) pairs, per category: the share of names in which a word of the category stands ("bear"
    among the names of "Bears"), the largest share first."""
    found: dict[str, list[bool]] = {}
    for name, category in names:
        text = key_of(name)
        found.setdefault(category, []).append(any(stem in text for stem in _stems(category)))
    rows = [
        {"category": category, "names": len(hits), "echoes": sum(hits) / len(hits)}
        for category, hits in found.items()
    ]
    return sorted(rows, key=lambda row: (-row["echoes"], row["category"]))


def _stems(category: str) -> list[str]:
    """Words of four letters or more, without the ending of their plural."""
    words = "".join(c if c.isalpha() else " " for c in key_of(category)).split()
    stems = (word.removesuffix("s") for word in words)
    return [stem for stem in stems if len(stem) >= 4]
