"""A token for every row, from the logits of one step: guidance, masks, filters, draws, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from inkwell import courses, searching
from inkwell.barring import allowed_of, masks_of
from inkwell.beams import Top
from inkwell.request import UNDRAWN, Emission
from inkwell.rows import Row, Rows, Search
from inkwell.running import Runner
from inkwell.sampling import Plan, Trace, adjust, log_probabilities, sample, trace
from inkwell.tokenizer import END_ID


class Drawer:
    """Draws for the rows in use: by the runtime's `runner` where it has one, else by torch."""

    def __init__(self, rows: Rows, runner: Runner | None, vocabulary: int, device: torch.device) -> None:
        self._rows, self._runner = rows, runner
        self._vocabulary, self._device = vocabulary, device
        self._plan: Plan | None = None

    def changed(self) -> None:
        """Other rows are in use, or they stand elsewhere."""
        self._plan = None

    def draw(
        self, raw: Tensor, sampling: Sequence[bool], searches: Sequence[Search]
    ) -> tuple[list[Emission], list[Row]]:
        """A token for each row that `sampling` marks, and one more for the beams of each search, from logits
        (n, V) of all rows in use. What came of it, and a row of each request that is over."""
        rows = self._rows.used
        emissions: list[Emission] = []
        raw = self._guide(raw)
        masks = masks_of(rows, sampling, self._vocabulary, self._device)
        adjusted = raw
        # a runner adjusts for itself
        if self._runner is None or searches or any(row.request.trace for row in rows):
            counts = self._rows.counts if self._planned().penalised else None
            adjusted = adjust(
                raw,
                self._planned(),
                counts,
                allowed_of(rows, sampling, masks, self._vocabulary, self._device),
            )
        done: list[Row] = []
        if any(sampling):
            tokens, logs = self._tokens(raw, adjusted, sampling, masks)
            drawn = torch.tensor(tokens, dtype=torch.long, device=self._device)
            ready = [index for index, one in enumerate(sampling) if one]
            counted = [index for index in ready if rows[index].request.sampling.penalised]
            if counted:
                self._rows.count(torch.tensor(counted, device=self._device), drawn[counted])
            for index in reversed(ready):
                emission = self._take(index, tokens[index], logs[index], raw, adjusted)
                emissions.append(emission)
                if emission.finished is not None:
                    done.append(rows[index])
        for search in searches:
            if searching.lengthen(self._rows, search, raw, adjusted):
                emissions.extend(searching.told(search))
                done.append(search.rows[0])
        return emissions, done

    def _guide(self, raw: Tensor) -> Tensor:
        """Logits (n, V) with those of guided rows moved away from their shadows'."""
        rows = self._rows.used
        places = {id(row): index for index, row in enumerate(rows)}
        pairs = [
            (index, places[id(row.shadow)], row.request.guidance)
            for index, row in enumerate(rows)
            if row.shadow is not None
        ]
        if not pairs:
            return raw
        own, shadows, strengths = (list(part) for part in zip(*pairs, strict=True))
        without = raw[shadows]
        strength = torch.tensor(strengths, dtype=raw.dtype, device=self._device)[:, None]
        return raw.index_put(
            (torch.tensor(own, device=self._device),), without + strength * (raw[own] - without)
        )

    def _tokens(
        self, raw: Tensor, adjusted: Tensor, sampling: Sequence[bool], masks: Mapping[int, Tensor]
    ) -> tuple[list[int], list[float]]:
        """A token for every row, and log-probabilities, of rows that want them; those of rows that are not drawn
        mean nothing."""
        rows = self._rows.used
        logs = [0.0] * len(rows)
        if self._runner is None:
            positions = [row.request.position + len(row.text) for row in rows]
            tokens = sample(
                adjusted, self._planned(), torch.tensor(positions, dtype=torch.long, device=self._device)
            ).tolist()
        else:
            which = [index for index, one in enumerate(sampling) if one]
            allowed = None
            if masks:
                allowed = torch.ones((len(which), self._vocabulary), dtype=torch.bool)
                for place, index in enumerate(which):
                    if index in masks:
                        allowed[place] = masks[index]
            cursors, _ = courses.cursors_of(rows)
            tokens = [END_ID] * len(rows)
            found = self._runner.draw(raw, cursors, self._rows.all_counts, which, allowed)
            for index, token, log in zip(which, *found, strict=True):
                tokens[index], logs[index] = token, log
        own = [index for index, row in enumerate(rows) if row.request.logprobs and self._runner is None]
        for index, row in enumerate(rows):
            if sampling[index] and row.request.constraint is not None:
                written = row.request.constraint.instead(tokens[index])
                if written != tokens[index]:
                    tokens[index] = written
                    own.append(index)
        if own:
            chosen = torch.tensor([tokens[index] for index in own], dtype=torch.long, device=self._device)
            for index, log in zip(own, log_probabilities(raw[own], chosen).tolist(), strict=True):
                logs[index] = log
        return tokens, logs

    def _planned(self) -> Plan:
        """How the rows in use are sampled by torch."""
        if self._plan is None:
            rows = self._rows.used
            asked = [row.draws or row.search is not None for row in rows]
            params = [row.request.sampling if own else UNDRAWN for row, own in zip(rows, asked, strict=True)]
            self._plan = Plan(params, self._vocabulary, self._device)
        return self._plan

    def _take(self, index: int, token: int, log: float, raw: Tensor, adjusted: Tensor) -> Emission:
        row = self._rows.used[index]
        request = row.request
        explained: Trace | None = None
        top: Top = ()
        if request.trace:
            explained = trace(raw, adjusted, self._planned(), index, token)
        if request.top_n_tokens:
            top = searching.likeliest(raw[index : index + 1], request.top_n_tokens)[0]
        row.text.append(token)
        self._rows.chosen(row, token)
        if request.constraint is not None:
            request.constraint.advance(token)
        finished = courses.ended(request, len(row.text), token)
        logprobs = (log,) if request.logprobs else ()
        return Emission(request.id, (token,), finished, logprobs, top, explained)
