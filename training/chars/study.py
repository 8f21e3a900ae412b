"""The study of a character RNN: how batch size and reading order shape the loss, and how sampling shapes the text.

`run_study` writes three tables to a folder:

    curves.csv     batch, order, step, characters, training and validation loss: one line per measurement
    growth.csv     texts of one model while it learns
    sampling.csv   texts of that model by temperature and by nucleus, each with its share of known words
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from inkwell.config import check
from inkwell.engine import Engine, Request
from inkwell.models import LanguageModel, build_model
from inkwell.sampling import SamplingParams
from inkwell.tokenizer import END_ID
from training.chars.convert import check_model, from_torch, into_torch
from training.chars.fit import NumpyTrainer, held_windows, stream_ids, train_windows
from training.chars.windows import ORDERS, Order
from training.errors import UserError
from training.prepare import Prepared, Tokenizer, model_values, prepare, windows
from training.progress import Fitted, Progress
from training.recipe import FitRecipe, Recipe


@dataclass(frozen=True)
class StudyOptions:
    """What is compared. Every run reads `epochs` times the training text and is measured `points` times."""

    batches: tuple[int, ...] = (1, 10, 50)
    orders: tuple[Order, ...] = ("none", "random", "chunk")
    epochs: float = 2.0
    points: int = 20
    temperatures: tuple[float, ...] = (0.2, 0.5, 0.8, 1.0, 1.3)
    nuclei: tuple[float, ...] = (0.5, 0.7, 0.85, 0.95)
    texts: int = 4  # for each line of sampling.csv
    tokens: int = 200

    def __post_init__(self) -> None:
        check(self.epochs > 0, "epochs", self.epochs, "above 0")
        check(set(self.orders) <= set(ORDERS), "orders", self.orders, f"some of {', '.join(ORDERS)}")
        for name in ("points", "texts", "tokens"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")


@dataclass(frozen=True)
class CurvePoint:
    """One measurement; losses in nats per character."""

    batch: int
    order: str
    step: int
    characters: int
    train: float
    validation: float


@dataclass(frozen=True)
class Growth:
    """A text of an unfinished model."""

    step: int
    characters: int
    validation: float
    text: str


@dataclass(frozen=True)
class Sample:
    """Texts under one setting. `known`: share of their words that stand in the training text."""

    temperature: float
    top_p: float
    known: float
    text: str


def run_study(
    recipe: Recipe,
    out: Path,
    options: StudyOptions | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[CurvePoint]:
    """Train one model per batch size and order, all from the same start, then sample from the best of them.

    Raises UserError when the recipe is not one for the NumPy trainer, or holds nothing out.
    """
    options = options or StudyOptions()
    prepared = prepare(recipe)
    if prepared.validation is None:
        raise UserError("the study compares validation losses; use --set split.val=0.1")
    points: list[CurvePoint] = []
    best = float("inf")
    growth: list[Growth] = []
    chosen: LanguageModel | None = None
    for batch in options.batches:
        for order in options.orders:
            fit = replace(recipe.fit, batch=batch, randomise=order)
            model, fitted, grown = train_one(replace(recipe, fit=fit), prepared, options)
            points.extend(
                CurvePoint(batch, order, step, step * fitted.tokens // fitted.steps, train, held)
                for step, train, held in fitted.curve
            )
            say(f"batch {batch}, order {order}: {fitted.best:.3f} nats/character in {fitted.seconds:.0f} s")
            if chosen is None or fitted.best < best:
                best, chosen, growth = fitted.best, model, grown
    _write(out / "curves.csv", CurvePoint, points)
    _write(out / "growth.csv", Growth, growth)
    if chosen is not None:
        _write(out / "sampling.csv", Sample, sampling_table(chosen, recipe, prepared, options))
    return points


def train_one(
    recipe: Recipe,
    prepared: Prepared,
    options: StudyOptions,
    heard: Callable[[Progress], None] = lambda _: None,
) -> tuple[LanguageModel, Fitted, list[Growth]]:
    """One run of the study: the trained model, how it went, and a text at every measurement. `heard` is told of
    every step."""
    part = prepared.validation
    if part is None:
        raise UserError("the study compares validation losses; use --set split.val=0.1")
    torch.manual_seed(recipe.fit.seed)
    model = build_model(model_values(recipe, prepared), "recipe.model")
    network = check_model(model)
    weights = from_torch(network)
    ids = stream_ids(prepared, prepared.splits.train)
    train = train_windows(recipe.fit, ids)
    fit = _lasting(recipe.fit, train.batches, options)
    # the same pieces for every batch size, or their validation losses could not be compared
    held = held_windows(windows(replace(recipe, fit=replace(fit, batch=16)), prepared, part, False))
    growth: list[Growth] = []

    def hear(progress: Progress) -> None:
        heard(progress)
        if progress.validation is None:
            return
        into_torch(weights, network)
        text = texts(model, prepared.tokenizer, recipe.start, [SamplingParams(seed=1)], options.tokens)[0]
        read = progress.step * train.batch * train.length
        growth.append(Growth(progress.step, read, progress.validation, text))

    with threadpool_limits(limits=fit.threads or 1, user_api="blas"):
        fitted = NumpyTrainer(weights, fit, train, held, callback=hear).run()
    into_torch(weights, network)
    return model.eval(), fitted, growth


def _lasting(fit: FitRecipe, windows_per_epoch: int, options: StudyOptions) -> FitRecipe:
    steps = max(1, round(options.epochs * windows_per_epoch))
    return replace(fit, steps=steps, evaluate_every=-(-steps // options.points), patience=0)


def sampling_table(
    model: LanguageModel, recipe: Recipe, prepared: Prepared, options: StudyOptions
) -> list[Sample]:
    """Texts at each temperature with the whole distribution, then at each nucleus with temperature 1."""
    known = {word for document in prepared.splits.train.documents for word in _words(document.text)}
    settings = [(t, 1.0) for t in options.temperatures] + [(1.0, p) for p in options.nuclei]
    table = []
    for temperature, top_p in settings:
        rows = [SamplingParams(seed=n, temperature=temperature, top_p=top_p) for n in range(options.texts)]
        found = texts(model, prepared.tokenizer, recipe.start, rows, options.tokens)
        # the last word may be cut by the limit
        words = [word for text in found for word in _words(text)[:-1]]
        share = sum(word in known for word in words) / len(words) if words else 0.0
        table.append(Sample(temperature, top_p, round(share, 4), found[0]))
    return table


def texts(
    model: LanguageModel, tokenizer: Tokenizer, start: str, rows: Sequence[SamplingParams], tokens: int
) -> list[str]:
    """One text of `tokens` tokens per row, all made together by the engine that serves."""
    engine = Engine(model.decoder(), model.vocabulary, slots=len(rows))
    prompt = tuple(tokenizer.encode(start)) or (END_ID,)
    for index, sampling in enumerate(rows):
        engine.submit(Request(str(index), prompt, sampling, tokens, stops_at_end=False))
    made: list[list[int]] = [[] for _ in rows]
    while not engine.idle:
        for emission in engine.step():
            if emission.token is not None:
                made[int(emission.request_id)].append(emission.token)
    return [tokenizer.decode(ids) for ids in made]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())


def _write(path: Path, kind: type, rows: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(kind)]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(names)
        table.writerows([getattr(row, name) for name in names] for row in rows)
