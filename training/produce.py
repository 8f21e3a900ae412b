"""A recipe in, a bundle on disk out."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from inkwell import __version__
from inkwell.bundle import Bundle, BundleConfig, load_bundle
from inkwell.models import LanguageModel, build_model, model_settings
from inkwell.novelty import NoveltyIndex
from inkwell.words import SeedWords
from training.batches import Share
from training.card import model_card
from training.device import pick_device
from training.distributed import Processes, processes
from training.errors import UserError
from training.loop import Trainer
from training.prepare import Prepared, byte_count, model_values, prepare, windows
from training.progress import Fitted, Progress
from training.recipe import Recipe
from training.scoring import evaluate
from training.teachers import Interleaved, Teachers, load_teachers, teachers_of


def produce(
    recipe: Recipe,
    out: Path,
    name: str | None = None,
    device: str = "auto",
    resume: bool = False,
    start_from: Path | None = None,
    callback: Callable[[Progress], None] | None = None,
    runs: Path | None = None,
) -> Bundle | None:
    """Train what `recipe` says and write the bundle to `out`.

    `start_from` is a bundle whose weights, tokenizer and categories are taken over (fine-tuning). Under
    `torchrun` only the first process writes; the others return None.
    """
    place = pick_device(device)
    torch.set_num_threads(recipe.fit.threads or os.cpu_count() or 1)
    base = load_bundle(start_from) if start_from is not None else None
    taught_by = load_teachers(recipe, base)
    if base is not None:
        recipe = replace(recipe, model={**base.config.model})
    known = [base, *taught_by] if base is not None else taught_by
    prepared = prepare(recipe, known[0].tokenizer, known[0].categories) if known else prepare(recipe)
    runs = runs or Path("runs") / (name or recipe.family)
    torch.manual_seed(recipe.fit.seed)
    model = build_model(model_values(recipe, prepared), "recipe.model")
    if base is not None:
        model.load_state_dict(base.model.state_dict())
    with processes(place) as group:
        if place.type == "cuda":
            place = torch.device("cuda", group.local_rank)
        if recipe.trainer == "numpy":
            from training.chars.fit import fit_numpy

            fitted = fit_numpy(model, recipe, prepared, runs, callback, resume)
        else:
            teachers = teachers_of(taught_by, recipe, prepared, place)
            fitted = _fit(model, recipe, prepared, place, group, runs, callback, resume, teachers)
        if group.rank:
            return None
    bundle = _bundle(model.cpu(), recipe, prepared, fitted, name or recipe.family, place)
    if recipe.novelty:
        bundle.novelty = NoveltyIndex.build(document.text for document in prepared.splits.train.documents)
    bundle.save(out)
    return load_bundle(out)


def _fit(
    model: LanguageModel,
    recipe: Recipe,
    prepared: Prepared,
    place: torch.device,
    group: Processes,
    runs: Path,
    callback: Callable[[Progress], None] | None,
    resume: bool,
    teachers: Teachers | None,
) -> Fitted:
    if recipe.fit.batch % (group.world * recipe.fit.accumulate):
        raise UserError(
            f"fit.batch is {recipe.fit.batch}; it must be a multiple of accumulate × {group.world} processes"
        )
    fit, share = recipe.fit, Share(group.rank, group.world)
    train = windows(recipe, prepared, prepared.splits.train, True, share)
    if teachers is not None and fit.written:
        train = Interleaved(train, teachers, fit.written, fit.length, fit.seed, share)
    held = prepared.validation
    validation = None if held is None else windows(recipe, prepared, held, False)
    trainer = Trainer(model, fit, train, validation, runs, place, callback, group, teachers)
    return trainer.run(resume)


def measure(
    model: LanguageModel, recipe: Recipe, prepared: Prepared, place: torch.device, part: str = "validation"
) -> dict[str, float]:
    """Loss over a whole part (`validation` or `test`): nats per token, bits per byte, counts."""
    corpus = prepared.validation if part == "validation" else prepared.splits.test
    if corpus is None:
        raise UserError(
            f"this recipe holds out no {part} part; use --set split.{part[:4].removesuffix('i')}=0.1"
        )
    total = evaluate(model.to(place), windows(recipe, prepared, corpus, False), place)
    size = byte_count(corpus)
    return {
        "nats_per_token": total.per_token,
        "bits_per_byte": total.bits_per_byte(size),
        "tokens": float(total.targets),
        "bytes": float(size),
    }


def _bundle(
    model: LanguageModel, recipe: Recipe, prepared: Prepared, fitted: Fitted, name: str, place: torch.device
) -> Bundle:
    metrics: dict[str, Any] = {
        "training": {
            "steps": fitted.steps,
            "best_step": fitted.best_step,
            "seconds": round(fitted.seconds, 1),
            "tokens": fitted.tokens,
            "stopped_early": fitted.stopped_early,
            "curve": [
                [step, round(train, 5), round(validation, 5)] for step, train, validation in fitted.curve
            ],
            "warnings": fitted.warnings,
            "device": str(place),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
        },
        "corpus": {
            "name": prepared.corpus.name,
            "documents": len(prepared.corpus),
            "characters": prepared.corpus.characters,
            "sha256": prepared.corpus.sha256,
            "copies_left_out": prepared.splits.copies,
            "held_out_and_trained_on": prepared.splits.shared,
        },
    }
    if prepared.validation is not None:
        metrics["validation"] = measure(model, recipe, prepared, torch.device("cpu"))
    texts = [document.text for document in prepared.splits.train.documents]
    recipe_values = recipe.as_mapping()
    config = BundleConfig(
        name=name,
        family=recipe.family,
        model=model_settings(model),
        kind=prepared.corpus.kind,
        start=recipe.start,
        seed_words=recipe.seed_words,
        defaults=recipe.defaults,
        limits=recipe.limits,
        training={"recipe": recipe_values, "inkwell": __version__},
    )
    bundle = Bundle(
        config,
        model,
        prepared.tokenizer,
        SeedWords.collect(texts) if recipe.seed_words else SeedWords((), ()),
        prepared.categories,
        metrics,
    )
    bundle.card = model_card(bundle, prepared.corpus)
    return bundle
