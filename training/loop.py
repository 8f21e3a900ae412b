"""The one training loop: torch models of every family, on CPU, CUDA or MPS, in one process or several.

Reports through a callback, so that progress bars, logs and tests see the same numbers. On a CPU a resumed run
gives the same parameters, to the bit, as one that was never broken off.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inkwell.models import IGNORE, LanguageModel, Output, detach_carry
from training.average import Average, copy_into
from training.batches import Batch, Source
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.device import NOT_HERE, autocast, has_bf16
from training.distributed import Processes
from training.health import Health
from training.optimizers import learning_rate, make_optimizer
from training.progress import Fitted, Progress
from training.recipe import FitRecipe
from training.scoring import evaluate
from training.teachers import Teachers, distillation_loss


class Trainer:
    """Fits one model. `run` may be called once; a checkpoint in `directory` is taken up when `resume`."""

    def __init__(
        self,
        model: LanguageModel,
        fit: FitRecipe,
        train: Source,
        validation: Source | None,
        directory: Path | None = None,
        device: torch.device | None = None,
        callback: Callable[[Progress], None] | None = None,
        processes: Processes | None = None,
        teachers: Teachers | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model, self.fit = model.to(self.device), fit
        self._train, self._validation = train, validation
        self._directory, self._callback = directory, callback or (lambda _: None)
        self._processes = processes or Processes()
        self._teachers = teachers
        self._optimizer = make_optimizer(model, fit, self.device)
        self._average = Average(model, fit.ema) if fit.ema else None
        self._forward: Callable[..., Any] = self._processes.wrap(model, self.device)
        if fit.compile and self.device.type == "cuda":
            self._forward = torch.compile(self._forward)
        wanted = fit.precision == "bf16"
        self._bf16 = wanted and has_bf16(self.device)
        self._notes: tuple[str, ...] = (NOT_HERE,) if wanted and not self._bf16 else ()
        self._notes += teachers.notes if teachers else ()
        self._health = Health(model)
        self._position = (0, 0)  # epoch, batch
        self._carry: Any = None
        self._best_values: dict[str, Tensor] | None = None
        self._fitted = Fitted(0, math.inf, 0, 0.0, 0, False)

    def run(self, resume: bool = False) -> Fitted:
        """Train to the end or until the validation loss stops falling; the best parameters are left in place."""
        torch.manual_seed(self.fit.seed + 7919 * self._processes.rank)
        if resume:
            self._resume()
        fitted, began, earlier = self._fitted, time.monotonic(), self._fitted.seconds
        batches = self._endless()
        self.model.train()
        smooth, since_best = math.nan, self._since_best()
        while fitted.steps < self.fit.steps:
            started = time.monotonic()
            measure = (fitted.steps + 1) % self.fit.evaluate_every == 0 or fitted.steps + 1 == self.fit.steps
            loss, counted, warnings = self._step(batches, measure)
            if self._notes:
                warnings, self._notes = self._notes + warnings, ()
                fitted.warnings.extend(w for w in warnings if w not in fitted.warnings)
            smooth = loss if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss
            fitted.tokens += counted
            speed = counted / max(1e-9, time.monotonic() - started)
            fitted.steps += 1
            fitted.seconds = earlier + time.monotonic() - began
            validation = None
            if measure:
                validation = self._measure()
                fitted.curve.append((fitted.steps, smooth, validation))
                fitted.warnings.extend(w for w in warnings if w not in fitted.warnings)
                since_best = 0 if self._keep_best(validation) else since_best + 1
                self._save()
            rate = learning_rate(self.fit, fitted.steps - 1)
            best = fitted.best if fitted.best < math.inf else None
            self._callback(
                Progress(fitted.steps, self.fit.steps, smooth, rate, speed, validation, best, warnings)
            )
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss became {loss} at step {fitted.steps}; a lower fit.rate helps"
                )
            if self.fit.patience and since_best >= self.fit.patience:
                fitted.stopped_early = True
                break
        if self._best_values is not None:
            copy_into(self.model, self._best_values)
        self.model.eval()
        return fitted

    def _since_best(self) -> int:
        return sum(1 for step, _, _ in self._fitted.curve if step > self._fitted.best_step)

    def _endless(self) -> Iterator[Batch]:
        epoch, skip = self._position
        while True:
            for index, batch in enumerate(self._train.epoch(epoch)):
                if index < skip:
                    continue
                self._position = (epoch, index + 1)
                yield batch
            epoch, skip = epoch + 1, 0

    def _step(self, batches: Iterator[Batch], watch: bool) -> tuple[float, int, tuple[str, ...]]:
        fit = self.fit
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(fit, self._fitted.steps)
        loss_sum, counted = 0.0, 0
        batch = next(batches)
        parts = _parts(batch, fit.accumulate)
        whole = self._processes.total(int((batch.targets != IGNORE).sum()), self.device)
        carries = []
        with self._health.watching(watch):
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                with self._processes.syncing(self._forward, last), autocast(self.device, self._bf16):
                    output = self._forward(
                        part.ids.to(self.device, non_blocking=True),
                        part.targets.to(self.device, non_blocking=True),
                        None if part.condition is None else part.condition.to(self.device),
                        self._carry_of(part, index),
                    )
                    loss, taught = self._loss(part, index, output)
                    share = int((part.targets != IGNORE).sum())
                    # the processes' gradients are averaged, so each counts by its share of all targets
                    torch.autograd.backward(loss * (share * self._processes.world / max(1, whole)))
                carries.append((None if output.carry is None else detach_carry(output.carry), taught))
                if watch or self.device.type == "cpu" or self._fitted.steps % 10 == 0:
                    loss_sum += float(output.loss.detach()) * share
                    counted += share
        self._carry = carries
        nn.utils.clip_grad_norm_(self.model.parameters(), fit.clip)
        with self._health.updating(watch, learning_rate(fit, self._fitted.steps) / fit.rate):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update(self.model)
        if counted:
            self._last_loss = loss_sum / counted
        return self._last_loss, whole, self._health.warnings() if watch else ()

    _last_loss = math.nan

    def _loss(self, part: Batch, index: int, output: Output) -> tuple[Tensor, Any]:
        """The loss against the text and what the teachers predict, and the teachers' state to carry on."""
        assert output.loss is not None
        if self._teachers is None:
            return output.loss, None
        condition = None if part.condition is None else part.condition.to(self.device)
        wanted, taught = self._teachers.predict(
            part.ids.to(self.device), condition, self._carried(part, index)[1]
        )
        against = distillation_loss(output.logits, wanted, part.targets.to(self.device))
        return torch.lerp(output.loss, against, self.fit.distill), taught

    def _carried(self, part: Batch, index: int) -> tuple[Any, Any]:
        """What the part of the same rows left behind: the model's state, and its teachers'."""
        goes_on = self.fit.carry and part.goes_on and self._carry and index < len(self._carry)
        return self._carry[index] if goes_on else (None, None)

    def _carry_of(self, part: Batch, index: int) -> Any:
        carry, _ = self._carried(part, index)
        if carry is None or not self.fit.fresh:
            return carry
        # Cells that only ever add up drift far from where a new text begins; clearing some rows keeps them near.
        kept = (torch.rand(part.ids.shape[0]) >= self.fit.fresh).to(self.device)
        return scale_rows(carry, kept)

    def _measure(self) -> float:
        if self._validation is None:
            return self._last_loss
        averaged = self._average.applied(self.model) if self._average else contextlib.nullcontext()
        with averaged:
            total = evaluate(self.model, self._validation, self.device, self.fit.evaluate_tokens, self._bf16)
        return total.per_token

    def _keep_best(self, validation: float) -> bool:
        fitted = self._fitted
        if not validation < fitted.best:
            return False
        fitted.best, fitted.best_step = validation, fitted.steps
        values = self._average.values if self._average else dict(self.model.named_parameters())
        self._best_values = {name: value.detach().clone() for name, value in values.items()}
        return True

    def _save(self) -> None:
        if self._directory is None or self._processes.rank:
            return
        tensors: dict[str, Tensor] = {f"model.{n}": p for n, p in self.model.named_parameters()}
        for name, value in (self._best_values or {}).items():
            tensors[f"best.{name}"] = value
        if self._average:
            tensors.update({f"average.{n}": v for n, v in self._average.values.items()})
        save_checkpoint(
            self._directory / "checkpoint.safetensors",
            Checkpoint(
                self._fitted, self._position, self._carry, self._average.count if self._average else 0
            ),
            tensors,
            self._optimizer,
        )

    def _resume(self) -> None:
        path = None if self._directory is None else self._directory / "checkpoint.safetensors"
        if path is None or not path.is_file():
            return
        shapes = {f"model.{n}": p.shape for n, p in self.model.named_parameters()}
        checkpoint, tensors = load_checkpoint(path, shapes, self._optimizer, self.device)
        copy_into(self.model, {n: tensors[f"model.{n}"] for n, _ in self.model.named_parameters()})
        best = {n.removeprefix("best."): v for n, v in tensors.items() if n.startswith("best.")}
        self._best_values = best or None
        if self._average:
            self._average.values = {
                n.removeprefix("average."): v for n, v in tensors.items() if n.startswith("average.")
            }
            self._average.count = checkpoint.averaged
        self._fitted, self._position, self._carry = checkpoint.fitted, checkpoint.position, checkpoint.carry


def scale_rows(carry: Any, factor: Tensor) -> Any:
    """A carried state of (layers, B, H) tensors with row b multiplied by factor (B,)."""
    if isinstance(carry, Tensor):
        return carry * factor[:, None]
    return type(carry)(scale_rows(part, factor) for part in carry)


def _parts(batch: Batch, count: int) -> list[Batch]:
    """The batch cut along its rows for gradient accumulation."""
    if count == 1:
        return [batch]
    conditions = [None] * count if batch.condition is None else list(batch.condition.chunk(count))
    ids, targets = batch.ids.chunk(count), batch.targets.chunk(count)
    return [Batch(i, t, c, batch.goes_on) for i, t, c in zip(ids, targets, conditions, strict=False)]
