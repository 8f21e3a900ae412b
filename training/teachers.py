"""Learning from finished models: what they predict, and texts that they write.

A student fitted to its teachers' distributions learns more from a text than the one token that came next (Hinton,
Vinyals and Dean 2015). Fitted to several teachers it comes near to their average, which is better than any of
them, at the cost of one model. Texts that the teachers write give it more to learn from than the corpus has (Kim
and Rush 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inkwell.bundle import Bundle, load_bundle
from inkwell.models import IGNORE, LanguageModel, detach_carry
from inkwell.tokenizer import END_ID
from training.batches import Batch, Share, Source
from training.errors import UserError
from training.prepare import Prepared
from training.recipe import Recipe


class Teachers:
    """One or more models over the same tokens. Row b of a batch belongs to teacher b mod K: over many batches a
    student learns their average, and the cost is that of one teacher, however many there are."""

    def __init__(
        self, models: Sequence[LanguageModel], device: torch.device, notes: tuple[str, ...] = ()
    ) -> None:
        self.notes = notes
        self._models = [model.to(device).eval().requires_grad_(False) for model in models]
        self._device = device

    @torch.no_grad()
    def predict(self, ids: Tensor, condition: Tensor | None, carries: Any) -> tuple[Tensor, Any]:
        """Probabilities (B, T, V) of each next token, and what to hand over with the rows' next windows."""
        count = len(self._models)
        shares, following = [], []
        for index, model in enumerate(self._models[: len(ids)]):
            output = model(
                ids[index::count],
                condition=None if condition is None else condition[index::count],
                carry=None if carries is None else carries[index],
            )
            shares.append(output.logits.float().softmax(-1))
            following.append(None if output.carry is None else detach_carry(output.carry))
        probabilities = shares[0].new_empty(*ids.shape, shares[0].shape[-1])
        for index, share in enumerate(shares):
            probabilities[index::count] = share
        return probabilities, following

    @cached_property
    def _decoders(self) -> list[Any]:
        return [model.decoder() for model in self._models]

    @torch.no_grad()
    def write(self, rows: int, length: int, condition: Tensor | None, random: torch.Generator) -> Batch:
        """A batch of texts drawn from the teachers as they are, each to its end mark or to `length` tokens."""
        tokens = torch.full((rows, length + 1), END_ID)
        targets = torch.full((rows, length), IGNORE)
        for index, decoder in enumerate(self._decoders[:rows]):
            share = slice(index, rows, len(self._decoders))
            own = None if condition is None else condition[share]
            tokens[share], targets[share] = self._draw(decoder, tokens[share], own, random)
        longest = int((targets != IGNORE).sum(1).max())
        return Batch(tokens[:, :longest], targets[:, :longest], condition, False)

    def _draw(
        self, decoder: Any, tokens: Tensor, condition: Tensor | None, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        rows, length = tokens.shape[0], tokens.shape[1] - 1
        state = decoder.new_state(rows)
        for row in range(rows):
            decoder.admit(state, row, None if condition is None else {int(condition[row]): 1.0})
        targets = torch.full((rows, length), IGNORE)
        going = torch.ones(rows, dtype=torch.bool)
        for place in range(length):
            logits = decoder.step(tokens[:, place].to(self._device), state)
            drawn = torch.multinomial(logits.float().softmax(-1).cpu(), 1, generator=random)[:, 0]
            tokens[:, place + 1] = torch.where(going, drawn, END_ID)
            targets[going, place] = drawn[going]
            going &= drawn != END_ID
            if not going.any():
                break
        return tokens, targets


class Interleaved:
    """The batches of `source`, each followed by `written` batches of as many rows that the teachers write.

    Categories are those of the batch before. Everything follows from (seed, epoch, batch), as for any source.
    """

    def __init__(
        self, source: Source, teachers: Teachers, written: int, length: int, seed: int, share: Share
    ) -> None:
        self._source, self._teachers = source, teachers
        self._written, self._length, self._seed, self._share = written, length, seed, share

    @property
    def batches(self) -> int:
        return self._source.batches * (1 + self._written)

    def epoch(self, number: int) -> Iterator[Batch]:
        """All batches of one epoch."""
        for index, batch in enumerate(self._source.epoch(number)):
            yield batch
            words = np.random.SeedSequence([self._seed, number, index, self._share.rank]).generate_state(
                1, np.uint64
            )
            random = torch.Generator().manual_seed(int(words[0]) >> 1)
            for _ in range(self._written):
                yield self._teachers.write(len(batch.ids), self._length, batch.condition, random)


def distillation_loss(logits: Tensor, probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats between the teachers' probabilities and the student's, both (B, T, V), over the
    places (B, T) whose target is not IGNORE. Least where the two agree."""
    losses = -(probabilities * logits.float().log_softmax(-1)).sum(-1)
    counted = targets != IGNORE
    return losses[counted].mean()


def load_teachers(recipe: Recipe, start_from: Bundle | None = None) -> list[Bundle]:
    """The bundles that `fit.teachers` names. Raises UserError where one cannot teach a student of this recipe."""
    if recipe.fit.teachers and recipe.trainer == "numpy":
        raise UserError("fit.teachers: the trainer in NumPy learns from text alone; use --set trainer=torch")
    if recipe.fit.written and not recipe.fit.teachers:
        raise UserError(
            f"fit.written is {recipe.fit.written}, and nobody is there to write; name a --teacher"
        )
    steered = bool((start_from.config.model if start_from else recipe.model).get("categories", 0))
    found: list[Bundle] = []
    for name in recipe.fit.teachers:
        if not Path(name).is_dir():
            raise UserError(f"fit.teachers: {name!r} is not a bundle directory")
        bundle = load_bundle(Path(name))
        first = start_from or (found[0] if found else bundle)
        if not _same_tokens(first, bundle) or first.categories != bundle.categories:
            raise UserError(
                f"fit.teachers: {name!r} reads other tokens or categories than {first.config.name!r}; teachers and "
                f"student must share both, as models trained on one corpus do"
            )
        if steered != bool(bundle.categories):
            has, lacks = ("the student", repr(name)) if steered else (repr(name), "the student")
            raise UserError(f"fit.teachers: {has} has categories and {lacks} has none (model.categories)")
        if bundle.model.context is not None and bundle.model.context < recipe.fit.length:
            raise UserError(
                f"fit.teachers: {name!r} sees {bundle.model.context} tokens; fit.length is {recipe.fit.length} "
                f"and must not be more"
            )
        found.append(bundle)
    return found


def teachers_of(
    bundles: Sequence[Bundle], recipe: Recipe, prepared: Prepared, device: torch.device
) -> Teachers | None:
    """What a trainer learns from; None without bundles. Notes tell whose figures could not be compared."""
    if not bundles:
        return None
    if recipe.fit.written and prepared.corpus.kind == "stream":
        raise UserError(
            f"fit.written is {recipe.fit.written}; teachers write documents only, and this is a stream"
        )
    notes = [
        f"teacher {bundle.config.name!r} learned from another corpus or split and may have read what is held out"
        for bundle in bundles
        if bundle.metrics.get("corpus", {}).get("sha256") != prepared.corpus.sha256
        or bundle.config.training.get("recipe", {}).get("split") != asdict(recipe.split)
    ]
    return Teachers([bundle.model for bundle in bundles], device, tuple(notes))


def _same_tokens(one: Bundle, other: Bundle) -> bool:
    a, b = one.tokenizer, other.tokenizer
    return a.size == b.size and a.kind == b.kind and all(a.piece(i) == b.piece(i) for i in range(a.size))
