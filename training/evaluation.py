"""Figures of a finished bundle: held-out loss, and how much of what it writes stands in its corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from inkwell.bundle import Bundle, load_bundle
from inkwell.novelty import NoveltyIndex, memorisation
from inkwell.session import Event, TextEngine
from training.classifier import Classifier
from training.data.split import key_of
from training.device import pick_device
from training.errors import DataError
from training.prepare import Prepared, byte_count, prepare, windows
from training.recipe import Recipe, recipe_from, with_corpus
from training.scoring import evaluate

Figures = dict[str, dict[str, Any]]
MOST_JUDGED = 2000


def evaluate_bundle(
    path: Path, corpus: str | None = None, samples: int = 64, device: str = "auto", write: bool = True
) -> Figures:
    """Loss on the validation and test parts of the bundle's own split (or of another corpus, taken whole), and
    the memorisation of `samples` generated texts against that of held-out ones. For a model with categories also
    how well they can be told apart, see `category_figures`."""
    bundle = load_bundle(path, pick_device(device))
    recipe = recipe_of(bundle)
    if corpus is not None:
        # all of a foreign corpus is held out, so none of it may be set aside for training
        recipe = replace(with_corpus(recipe, corpus), kind=None, separator=None)
    prepared = prepare(recipe, bundle.tokenizer, bundle.categories)
    parts = {"validation": prepared.splits.val, "test": prepared.splits.test}
    if corpus is not None:
        parts = {"corpus": prepared.corpus}
    figures: Figures = {}
    for name, part in parts.items():
        if part is None:
            continue
        total = evaluate(bundle.model, windows(recipe, prepared, part, False), pick_device(device))
        figures[name] = {
            "nats_per_token": total.per_token,
            "bits_per_byte": total.bits_per_byte(byte_count(part)),
            "tokens": total.targets,
            "bytes": byte_count(part),
        }
    if samples:
        figures["memorisation"] = _memorisation(bundle, path, prepared, samples)
        if bundle.categories and corpus is None and prepared.validation is not None:
            figures["categories"] = category_figures(bundle, prepared)
    if write and corpus is None:
        bundle.metrics.update(figures)
        bundle.save(path)
    return figures


def recipe_of(bundle: Bundle) -> Recipe:
    """The recipe that the bundle was trained by. Raises DataError for a bundle that does not say."""
    values = bundle.config.training.get("recipe")
    if not isinstance(values, dict):
        raise DataError(f"{bundle.path}: config.json has no training recipe, so its held-out text is unknown")
    return recipe_from(values, "config.json, training.recipe")


def _memorisation(bundle: Bundle, path: Path, prepared: Prepared, samples: int) -> dict[str, Any]:
    """Overlap with the training text of generated texts, and of held-out texts of the same length."""
    index_file = path / "novelty.npz"
    texts = [document.text for document in prepared.splits.train.documents]
    index = NoveltyIndex.load(index_file) if index_file.is_file() else NoveltyIndex.build(texts)
    written = generate_texts(bundle, samples)
    result: dict[str, Any] = {
        f"generated_{name}": value for name, value in memorisation(written, index).items()
    }
    held = prepared.validation
    if held is not None:
        length = max(1, sum(map(len, written)) // max(1, len(written)))
        pieces = [
            document.text[at : at + length]
            for document in held.documents
            for at in range(0, max(1, len(document.text) - length + 1), length)
        ]
        step = max(1, len(pieces) // samples)
        result |= {
            f"held_out_{name}": value for name, value in memorisation(pieces[::step][:samples], index).items()
        }
    return result


def category_figures(bundle: Bundle, prepared: Prepared, **options: Any) -> dict[str, Any]:
    """How well a classifier that learned from the training part finds the category of held-out texts, and of as
    many generated ones asked for under the same categories; how many of those are new, and how many differ.

    `options` are job fields such as guidance and temperature.
    """
    train = [d for d in prepared.splits.train.documents if d.category]
    parts = [part for part in (prepared.splits.test, prepared.splits.val) if part is not None]
    held = [d for part in parts for d in part.documents if d.category][:MOST_JUDGED]
    judge = Classifier.fit([d.text for d in train], [d.category or "" for d in train])
    asked = [d.category or "" for d in held]
    written = generate_texts(bundle, len(asked), categories=asked, **options)
    known = {key_of(d.text) for d in prepared.splits.train.documents}
    keys = [key_of(text) for text in written]
    real, generated = judge.accuracy([d.text for d in held], asked), judge.accuracy(written, asked)
    return {
        "texts": len(asked),
        "classifier_on_held_out": real,
        "classifier_on_generated": generated,
        "ratio": generated / real if real else 0.0,
        "new_share": sum(key not in known for key in keys) / len(keys),
        "unique_share": len(set(zip(keys, asked, strict=True))) / len(keys),
    }


def generate_texts(
    bundle: Bundle,
    count: int,
    first_seed: int = 0,
    categories: Sequence[str] = (),
    **options: Any,
) -> list[str]:
    """`count` texts with the bundle's own defaults, seeds first_seed, first_seed + 1, …; all categories in turn,
    or those of `categories` in turn.

    Prompts are left out of the texts.
    """
    categories = categories or bundle.categories
    engine = TextEngine(bundle, slots=max(2, min(64, count)))
    sinks: list[list[Event]] = []
    for number in range(count):
        job: dict[str, Any] = {"id": str(number), "seed": first_seed + number, **options}
        if categories and "category" not in options:
            job["category"] = categories[number % len(categories)]
        sinks.append([])
        engine.submit(job, sinks[-1])
    while not engine.idle:
        engine.advance()
    wrong = [events[-1] for events in sinks if events[-1]["event"] != "end"]
    if wrong:
        raise DataError(f"generation failed: {wrong[0]['error']}")
    return [events[-1]["text"] for events in sinks]
