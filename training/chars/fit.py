"""Training in NumPy: the loop around `CharRNN` and `Adam`, with the reports and checkpoints of `training.loop`.

What comes out is a torch model with the trained weights, so it is measured, saved and served like any other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from inkwell.models import IGNORE, LanguageModel
from inkwell.tokenizer import END_ID
from training.batches import Source
from training.chars import checkpoint
from training.chars.adam import Adam, clip
from training.chars.convert import check_model, from_torch, into_torch
from training.chars.health import warnings_of
from training.chars.rnn import CharRNN, Weights
from training.chars.windows import CharWindows, Window
from training.data.corpus import Corpus
from training.errors import UserError
from training.optimizers import learning_rate
from training.prepare import Prepared, windows
from training.progress import Fitted, Progress
from training.recipe import FitRecipe, Recipe
from training.scoring import Total

SMOOTHING = 0.999
CHECKPOINT = "checkpoint.safetensors"


class Held(NamedTuple):
    """One piece of a held-out text: ids and targets (T, B), targets IGNORE where nothing counts."""

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    goes_on: bool


def fit_numpy(
    model: LanguageModel,
    recipe: Recipe,
    prepared: Prepared,
    runs: Path,
    callback: Callable[[Progress], None] | None = None,
    resume: bool = False,
) -> Fitted:
    """Train `model` from its present weights; the best ones found are left in it.

    BLAS runs on `fit.threads` threads, on one when that is 0: these products are too small to be shared out.
    Raises UserError for settings that this trainer does not have.
    """
    network = check_model(model)
    _check(recipe, prepared)
    weights = from_torch(network)
    train = train_windows(recipe.fit, stream_ids(prepared, prepared.splits.train))
    part = prepared.validation
    held = None if part is None else held_windows(windows(recipe, prepared, part, False))
    with threadpool_limits(limits=recipe.fit.threads or 1, user_api="blas"):
        fitted = NumpyTrainer(weights, recipe.fit, train, held, runs, callback).run(resume)
    into_torch(weights, network)
    network.eval()
    return fitted


def _check(recipe: Recipe, prepared: Prepared) -> None:
    if prepared.corpus.kind != "stream":
        raise UserError(f"kind is {prepared.corpus.kind!r}; trainer 'numpy' reads 'stream' only")
    for name, only in (("accumulate", 1), ("precision", "fp32"), ("compile", False)):
        found = getattr(recipe.fit, name)
        if found != only:
            raise UserError(f"fit.{name} is {found!r}; trainer 'numpy' allows {only!r} only")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise UserError("trainer 'numpy' runs in one process; start it without torchrun")


def stream_ids(prepared: Prepared, part: Corpus) -> NDArray[np.int64]:
    """All ids of one part in a row, an end mark before each document."""
    ids: list[int] = []
    for document in part.documents:
        ids.extend((END_ID, *prepared.tokenizer.encode(document.text)))
    return np.array(ids, dtype=np.int64)


def train_windows(fit: FitRecipe, ids: NDArray[np.int64]) -> CharWindows:
    """The windows that `fit` asks for."""
    return CharWindows(ids, fit.batch, fit.length, fit.randomise, fit.seed, fit.carry, fit.fresh)


def held_windows(source: Source) -> list[Held]:
    """The pieces that every other trainer measures on, time-major."""
    return [
        Held(
            np.ascontiguousarray(batch.ids.numpy().T),
            np.ascontiguousarray(batch.targets.numpy().T),
            batch.goes_on,
        )
        for batch in source.epoch(0)
    ]


def measure(network: CharRNN, held: Sequence[Held], most: int | None = None) -> Total:
    """Loss over held-out text, state carried along; at most about `most` targets."""
    nats, targets, state = 0.0, 0, None
    for piece in held:
        if state is None or not piece.goes_on:
            state = network.start(piece.ids.shape[1])
        wanted = np.where(piece.targets == IGNORE, -1, piece.targets)
        loss, counted, state = network.nats(piece.ids, wanted, state)
        nats, targets = nats + loss, targets + counted
        if most is not None and targets >= most:
            break
    return Total(nats, targets)


class NumpyTrainer:
    """Fits `weights` in place. `run` may be called once."""

    def __init__(
        self,
        weights: Weights,
        fit: FitRecipe,
        train: CharWindows,
        held: Sequence[Held] | None = None,
        directory: Path | None = None,
        callback: Callable[[Progress], None] | None = None,
    ) -> None:
        self.weights, self.fit = weights, fit
        self._train, self._held, self._directory = train, held, directory
        self._callback = callback or (lambda _: None)
        self._network = CharRNN(weights)
        self._gradients = Weights.zeros(weights.shape, weights.flat.dtype)
        self._adam = Adam(weights, beta2=fit.beta2)
        self._average = weights.flat.copy() if fit.ema else None
        self._averaged = 0
        self._best = weights.flat.copy()
        self._state = self._network.start(train.batch)
        self._position = (0, 0)  # epoch, window
        self._smooth = math.nan
        self._fitted = Fitted(0, math.inf, 0, 0.0, 0, False)

    def run(self, resume: bool = False) -> Fitted:
        """Train to the end, or until the validation loss stops falling; the best weights are left in place.

        Raises FloatingPointError when the loss is no longer a finite number.
        """
        if resume:
            self._resume()
        fit, fitted = self.fit, self._fitted
        began, earlier, each = time.monotonic(), fitted.seconds, self._train.batch * self._train.length
        stream = self._endless()
        while fitted.steps < fit.steps:
            started = time.monotonic()
            due = (fitted.steps + 1) % fit.evaluate_every == 0 or fitted.steps + 1 == fit.steps
            rate = learning_rate(fit, fitted.steps)
            loss, warnings = self._step(next(stream), rate, due)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss became {loss} at step {fitted.steps + 1}; a lower fit.rate helps"
                )
            self._smooth = (
                loss if math.isnan(self._smooth) else SMOOTHING * self._smooth + (1 - SMOOTHING) * loss
            )
            now = time.monotonic()
            fitted.steps += 1
            fitted.tokens += each
            validation = None
            if due:
                validation = self._evaluate(loss)
                fitted.warnings.extend(w for w in warnings if w not in fitted.warnings)
                fitted.seconds = earlier + time.monotonic() - began
                self._save()
            best = fitted.best if math.isfinite(fitted.best) else None
            speed = each / max(1e-9, now - started)
            self._callback(
                Progress(fitted.steps, fit.steps, self._smooth, rate, speed, validation, best, warnings)
            )
            if fit.patience and self._since_best() >= fit.patience:
                fitted.stopped_early = fitted.steps < fit.steps
                break
        fitted.seconds = earlier + time.monotonic() - began
        self.weights.flat[:] = self._best
        return fitted

    def _since_best(self) -> int:
        return sum(1 for step, _, _ in self._fitted.curve if step > self._fitted.best_step)

    def _endless(self) -> Iterator[Window]:
        epoch, skip = self._position
        while True:
            for index, window in enumerate(self._train.epoch(epoch)):
                if index < skip:
                    continue
                self._position = (epoch, index + 1)
                yield window
            epoch, skip = epoch + 1, 0

    def _step(self, window: Window, rate: float, watch: bool) -> tuple[float, tuple[str, ...]]:
        if window.anew is not None:
            self._state[window.anew] = 0.0
        loss, self._state = self._network.gradients(window.ids, window.targets, self._state, self._gradients)
        clip(self._gradients, self.fit.clip)
        before = Weights(self.weights.shape, self.weights.flat.copy()) if watch else None
        self._adam.step(self._gradients, rate, self.fit.weight_decay)
        if self._average is not None:
            self._averaged += 1
            # early on, average over what there is, so that the random start is forgotten quickly
            decay = min(self.fit.ema, self._averaged / (self._averaged + 9.0))
            self._average += self._average.dtype.type(1.0 - decay) * (self.weights.flat - self._average)
        if before is None:
            return loss, ()
        return loss, warnings_of(self._network.hidden(*window.ids.shape), before, self.weights)

    def _evaluate(self, loss: float) -> float:
        """Measure what would be kept, and keep it when it is the best so far."""
        fitted = self._fitted
        kept = self.weights.flat if self._average is None else self._average
        if self._held is None:
            validation = loss
        else:
            network = CharRNN(Weights(self.weights.shape, kept))
            validation = measure(network, self._held, self.fit.evaluate_tokens).per_token
        fitted.curve.append((fitted.steps, self._smooth, validation))
        if validation < fitted.best:
            fitted.best, fitted.best_step = validation, fitted.steps
            self._best[:] = kept
        return validation

    def _save(self) -> None:
        if self._directory is None:
            return
        arrays = {
            "weights": self.weights.flat,
            "best": self._best,
            "first": self._adam.first,
            "second": self._adam.second,
            "state": self._state,
        }
        if self._average is not None:
            arrays["average"] = self._average
        standing = checkpoint.Standing(
            self._fitted, self._position, self._smooth, self._adam.steps, self._averaged
        )
        checkpoint.save(self._directory / CHECKPOINT, standing, arrays)

    def _resume(self) -> None:
        path = None if self._directory is None else self._directory / CHECKPOINT
        if path is None or not path.is_file():
            return
        flat = self.weights.flat.shape
        sizes = dict.fromkeys(("weights", "best", "first", "second"), flat) | {"state": self._state.shape}
        if self._average is not None:
            sizes["average"] = flat
        standing, arrays = checkpoint.load(path, sizes)
        self.weights.flat[:] = arrays["weights"]
        self._best[:] = arrays["best"]
        self._adam.first[:], self._adam.second[:] = arrays["first"], arrays["second"]
        self._state = arrays["state"]
        if self._average is not None:
            self._average[:] = arrays["average"]
        self._adam.steps, self._averaged = standing.adam_steps, standing.averaged
        self._fitted, self._position, self._smooth = standing.fitted, standing.position, standing.smooth
