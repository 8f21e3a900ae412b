"""What a runtime that rounds costs a model, on held-out text of the model's own source, and whether that passes.

The verdict is a line in the bundle's runtimes.json, which `archive` packs with everything else. So the bundle, its
archive and every worker agree on the runtime that `auto` means, and a seed gives the same text by all of them.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from inkwell.bundle import Bundle, load_bundle
from inkwell.errors import BundleError, RuntimeUnavailable
from inkwell.models import IGNORE
from inkwell.models.base import Decoder, State
from inkwell.runtimes import AUTO, RUNTIMES, Verdict, check_name
from training.batches import Batch, Source
from training.errors import DataError, TrainingError, UserError
from training.evaluation import recipe_of
from training.prepare import byte_count, prepare, windows

MOST_LOSS = 0.01
"""Nats per token by which predictions may differ from float32's (Kullback-Leibler) when nothing else is said.
Models of this size predict a character with a loss of 1 to 2 nats; this is a hundredth of it."""
MOST_TOKENS = 4096
"""Held-out tokens that are looked at: enough to know the mean to a few per cent, in seconds."""
FILE = "runtimes.json"


class Judgement(NamedTuple):
    """A runtime's name, its verdict, and whether it was there already."""

    runtime: str
    verdict: Verdict
    known: bool = False


def judge(bundle_dir: Path, runtime: str = AUTO, limit: float = MOST_LOSS) -> Judgement | None:
    """Decide which runtime `auto` means for this bundle, and write that into it. None when there is nothing to
    decide: no runtime that rounds can run this model.

    A `runtime` that does not round, "torch" or "onnx", switches rounding off without measuring. `auto` measures and
    lets the figures speak. "native" wants rounding: DataError when it costs more than `limit`, UserError when that
    cannot be measured here.
    """
    try:
        check_name(runtime)
    except RuntimeUnavailable as error:
        raise UserError(f"--{error}") from None
    try:
        bundle = load_bundle(bundle_dir)
    except BundleError as error:
        raise DataError(f"{error}. Train it again, or name another bundle.") from error
    name = next(name for name, candidate in RUNTIMES.items() if candidate.scheme is not None)
    scheme = RUNTIMES[name].scheme or 0
    if runtime != AUTO and RUNTIMES[runtime].scheme is None:
        refused = Verdict(scheme, False, reason=f"archived with --runtime {runtime}")
        _write(bundle_dir, bundle, name, refused)
        return Judgement(name, refused)
    known = _known(bundle, name, scheme, limit)
    verdict = known
    if verdict is None:
        try:
            verdict = measure(bundle, name, scheme, limit)
        except (RuntimeUnavailable, TrainingError) as error:
            if runtime != AUTO:
                raise UserError(
                    f"{bundle.config.name}: what runtime {name} would cost cannot be measured: {error}"
                ) from error
            return Judgement(name, Verdict(scheme, False, limit=limit, reason=str(error)))
        _write(bundle_dir, bundle, name, verdict)
    if runtime != AUTO and not verdict.passed:
        raise DataError(
            f"{bundle.config.name}: runtime {name} would cost {verdict.kl:.4f} nats per token, and --max-loss is "
            f"{limit:g}. Nothing was archived; allow more, or archive with --runtime torch."
        )
    return Judgement(name, verdict, known is not None)


def measure(bundle: Bundle, runtime: str, scheme: int, limit: float, most: int = MOST_TOKENS) -> Verdict:
    """Feed held-out text to torch's decoder and the runtime's, side by side. Raises RuntimeUnavailable when the
    runtime cannot run here, DataError or UserError when there is no held-out text at hand."""
    decoders = bundle.model.decoder(), RUNTIMES[runtime].decoder(bundle.model)
    recipe = recipe_of(bundle)
    prepared = prepare(recipe, bundle.tokenizer, bundle.categories)
    learned = bundle.metrics.get("corpus", {}).get("sha256")
    if learned not in (None, prepared.corpus.sha256):
        # what is held out of another text may be what this model was trained on
        raise DataError(f"corpus {recipe.corpus!r} is not the text that it learned from; it has changed")
    held = prepared.splits.test or prepared.splits.val
    if held is None:
        raise DataError("its recipe holds out no text")
    source = windows(recipe, prepared, held, False)
    # end marks are targets without bytes of their own, here as in the whole
    bytes_per_token = byte_count(held) / sum(_counted(batch) for batch in source.epoch(0))
    divergence, lost, tokens = 0.0, 0.0, 0
    states: tuple[State, State] | None = None
    for batch in _spread(source, most):
        if states is None or not batch.goes_on:
            states = _begin(decoders[0], batch), _begin(decoders[1], batch)
        for ids, targets in zip(batch.ids.t(), batch.targets.t(), strict=True):
            exact, rounded = (
                decoder.step(ids.contiguous(), state) for decoder, state in zip(decoders, states, strict=True)
            )
            rows = (targets != IGNORE).nonzero()[:, 0]
            p, q = (logits[rows].double().log_softmax(-1) for logits in (exact, rounded))
            divergence += float((p.exp() * (p - q)).sum())
            lost += float((p - q).gather(1, targets[rows, None]).sum())
            tokens += len(rows)
    kl = divergence / tokens
    return Verdict(
        scheme=scheme,
        passed=kl <= limit,
        kl=kl,
        bits_per_byte_lost=lost / tokens / bytes_per_token / math.log(2),
        tokens=tokens,
        limit=limit,
    )


def _spread(source: Source, most: int) -> Iterator[Batch]:
    """Batches with about `most` targets: the first ones of running text, whose state is carried along, and of
    documents, which stand in order of length, every so manieth."""
    batches = list(source.epoch(0))
    total = sum(map(_counted, batches))
    step = 1 if any(batch.goes_on for batch in batches) else max(1, total // most)
    counted = 0
    for batch in batches[::step]:
        if counted >= most:
            return
        counted += _counted(batch)
        yield batch


def _counted(batch: Batch) -> int:
    return int((batch.targets != IGNORE).sum())


def _begin(decoder: Decoder, batch: Batch) -> State:
    conditions: Tensor = torch.zeros(len(batch.ids)) if batch.condition is None else batch.condition
    state = decoder.new_state(len(batch.ids))
    for row, condition in enumerate(conditions.tolist()):
        decoder.admit(state, row, {int(condition): 1.0})
    return state


def _known(bundle: Bundle, name: str, scheme: int, limit: float) -> Verdict | None:
    """The verdict that the bundle has, judged by `limit`; None for one without figures or of another scheme."""
    line = bundle.runtimes.get(name)
    if not isinstance(line, dict) or line.get("scheme") != scheme or not isinstance(line.get("kl"), float):
        return None
    try:
        verdict = Verdict(**{**line, "limit": limit, "passed": line["kl"] <= limit})
    except TypeError:  # written by another version
        return None
    # The limit may be another one now.
    return verdict if line.get("passed") is verdict.passed and line.get("limit") == limit else None


def _write(bundle_dir: Path, bundle: Bundle, name: str, verdict: Verdict) -> None:
    """Put the verdict into the bundle's runtimes.json, which appears whole or not at all."""
    lines = {**bundle.runtimes, name: asdict(verdict)}
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=bundle_dir, prefix=f".{FILE}.", delete=False
        ) as file:
            try:
                json.dump(lines, file, indent=2, sort_keys=True)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o644)
                os.replace(file.name, bundle_dir / FILE)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise TrainingError(
            f"{bundle_dir / FILE} cannot be written ({error.strerror or error}); a worker would not know what "
            "was decided. Nothing was archived."
        ) from error
