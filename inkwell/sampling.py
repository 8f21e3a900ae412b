"""From logits to tokens: one pure, vectorised function over rows with per-row parameters.

Order of operations for a row: bias and penalties, barred tokens, temperature, then top-k, top-p, min-p and
typical-p in that order, each on what the one before left over, and a draw by the Gumbel-max trick. That order
and each filter's meaning are those of the `transformers` library.

The draw takes the largest of `logit / temperature + noise`, with noise from (seed, position, token id). Unlike
a draw by cumulative sums it needs no order among tokens and does not flip under rounding. Filters compare
float64 sums, and a row takes the same path whatever its company.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from inkwell.noise import gumbel

FILTERS = ("barred", "top_k", "top_p", "min_p", "typical_p")


@dataclass(frozen=True)
class SamplingParams:
    """How one row is sampled. Values are checked where jobs are read (`inkwell.job`)."""

    seed: int = 0
    temperature: float = 1.0  # 0: the most likely token
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0  # on tokens of prompt and text (Keskar et al. 2019)
    frequency_penalty: float = 0.0  # times the count in the text
    presence_penalty: float = 0.0  # once if in the text
    no_repeat_ngram_size: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def penalised(self) -> bool:
        """Whether the row needs its token counts."""
        return self.repetition_penalty != 1.0 or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0

    @property
    def filtered(self) -> bool:
        """Whether the row needs its tokens in order of probability."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0 or self.typical_p < 1.0


class Counts(NamedTuple):
    """Token counts of rows: in the prompt and in the text so far, each (n, V) of any number type."""

    prompt: Tensor
    text: Tensor


class Trace(NamedTuple):
    """What happened to one row at one position. `rank` is 0 for the most likely token, `entropy` in nats."""

    probability: float
    rank: int
    entropy: float
    kept: int
    cut: dict[str, int]


class Plan:
    """Parameters of n rows as tensors, and which rows share a path. Made when rows change, used each step."""

    def __init__(self, rows: Sequence[SamplingParams], vocabulary: int, device: torch.device) -> None:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)[:, None]

        def indices(chosen: list[int]) -> Tensor:
            return torch.tensor(chosen, dtype=torch.long, device=device)

        self.rows = tuple(rows)
        self.device = device
        self.seeds = torch.tensor([row.seed for row in rows], dtype=torch.long, device=device)
        greedy = [i for i, row in enumerate(rows) if row.temperature == 0.0]
        plain = [i for i, row in enumerate(rows) if row.temperature > 0.0 and not row.filtered]
        groups: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            if row.temperature > 0.0 and row.filtered:
                groups.setdefault(_width(row.top_k, vocabulary), []).append(i)
        self.greedy, self.plain = indices(greedy), indices(plain)
        self.groups = [(width, indices(chosen)) for width, chosen in sorted(groups.items())]
        # the floor keeps quotients finite; far above it already, no noise can turn two logits round
        self.temperature = column([max(row.temperature, 1e-100) if row.temperature else 1.0 for row in rows])
        self.top_k = column([float(min(row.top_k or vocabulary, vocabulary)) for row in rows])
        self.top_p = column([row.top_p for row in rows])
        self.min_p = column([row.min_p for row in rows])
        self.typical_p = column([row.typical_p for row in rows])
        self.uses_typical = [
            any(rows[i].typical_p < 1.0 for i in chosen) for _, chosen in sorted(groups.items())
        ]
        self.penalised = any(row.penalised for row in rows)
        self.repetition = column([row.repetition_penalty for row in rows]).float()
        self.frequency = column([row.frequency_penalty for row in rows]).float()
        self.presence = column([row.presence_penalty for row in rows]).float()
        biases = [(i, token, bias) for i, row in enumerate(rows) for token, bias in row.logit_bias.items()]
        self.bias_rows = indices([i for i, _, _ in biases])
        self.bias_tokens = indices([token for _, token, _ in biases])
        self.bias_values = torch.tensor([bias for _, _, bias in biases], dtype=torch.float32, device=device)


def _width(top_k: int, vocabulary: int) -> int:
    """How many of the most likely tokens a row looks at: a power of two at or above its top_k, or all."""
    if not 0 < top_k < vocabulary:
        return vocabulary
    return min(1 << max(3, (top_k - 1).bit_length()), vocabulary)


def adjust(logits: Tensor, plan: Plan, counts: Counts | None = None, allowed: Tensor | None = None) -> Tensor:
    """Logits (n, V) after bias, penalties and barring. `allowed` (n, V) boolean bars tokens where False.

    Repetition: positive logits of seen tokens are divided by the penalty, negative ones multiplied by it.
    """
    if plan.bias_values.numel():
        logits = logits.index_put((plan.bias_rows, plan.bias_tokens), plan.bias_values, accumulate=True)
    if plan.penalised:
        if counts is None:
            raise ValueError("penalties need the token counts of the rows")
        seen = (counts.prompt > 0) | (counts.text > 0)
        scaled = torch.where(logits > 0, logits / plan.repetition, logits * plan.repetition)
        logits = torch.where(seen, scaled, logits)
        logits = logits - plan.frequency * counts.text - plan.presence * (counts.text > 0)
    if allowed is not None:
        logits = logits.masked_fill(~allowed, float("-inf"))
    return logits


def sample(logits: Tensor, plan: Plan, positions: Tensor) -> Tensor:
    """One token per row: adjusted logits (n, V), positions (n,) int64 → token ids (n,) int64."""
    n, vocabulary = logits.shape
    result = torch.empty(n, dtype=torch.long, device=logits.device)
    if plan.greedy.numel():
        result[plan.greedy] = logits.index_select(0, plan.greedy).argmax(-1)
    if plan.plain.numel():
        rows, whole = plan.plain, plan.plain.numel() == n
        part = logits if whole else logits.index_select(0, rows)
        scaled = part.double() / (plan.temperature if whole else plan.temperature[rows])
        tokens = torch.arange(vocabulary, device=logits.device)
        noise = gumbel(plan.seeds[rows], positions[rows], tokens)
        result[rows] = (scaled + noise).argmax(-1)
    for (width, rows), typical in zip(plan.groups, plan.uses_typical, strict=True):
        values, tokens = _most_likely(logits, rows, width, plan)
        kept = _filters(values, rows, plan, typical)[-1]
        noise = gumbel(plan.seeds[rows], positions[rows], tokens)
        best = (values + noise).masked_fill_(~kept, float("-inf")).argmax(-1, keepdim=True)
        result[rows] = tokens.gather(1, best)[:, 0]
    return result


def _most_likely(logits: Tensor, rows: Tensor, width: int, plan: Plan) -> tuple[Tensor, Tensor]:
    """The `width` largest tempered logits of `rows` in falling order, float64, and their token ids."""
    part = logits.index_select(0, rows)
    if width == part.shape[1]:
        # a stable sort, so that ties stand in order of token id
        values, tokens = part.sort(dim=-1, descending=True, stable=True)
    else:
        values, tokens = part.topk(width, dim=-1)
    return values.double() / plan.temperature[rows], tokens


def _filters(values: Tensor, rows: Tensor, plan: Plan, typical: bool) -> list[Tensor]:
    """Masks (m, K) of what is left after each of FILTERS, for values sorted in falling order."""
    finite = values > float("-inf")
    finite[:, 0] = True  # a row in which all is barred still has to give a token
    rank = torch.arange(values.shape[1], device=values.device)
    after_k = finite & (rank < plan.top_k[rows])
    probabilities = values.masked_fill(~after_k, float("-inf")).softmax(-1)
    # kept while what stands before is still short of top_p: the first token always stays
    before = probabilities.cumsum(-1) - probabilities
    after_p = after_k & (before < plan.top_p[rows])
    after_p[:, 0] = True
    after_min = after_p & (probabilities >= plan.min_p[rows] * probabilities[:, :1])
    after_typical = after_min & _typical(values, after_min, plan.typical_p[rows]) if typical else after_min
    return [finite, after_k, after_p, after_min, after_typical]


def _typical(values: Tensor, kept: Tensor, mass: Tensor) -> Tensor:
    """Locally typical set (Meister et al. 2022): tokens whose surprise is nearest to the entropy, until
    their probabilities reach `mass`. All of `kept` where mass is 1."""
    logs = values.masked_fill(~kept, float("-inf")).log_softmax(-1)
    probabilities = logs.exp()
    entropy = -(probabilities * logs.masked_fill(~kept, 0.0)).sum(-1, keepdim=True)
    shift = (-logs - entropy).abs().masked_fill(~kept, float("inf"))
    order = shift.argsort(dim=-1, stable=True)
    ordered = probabilities.gather(1, order)
    stays = (ordered.cumsum(-1) - ordered) < mass
    stays[:, 0] = True
    chosen = torch.zeros_like(kept).scatter(1, order, stays)
    return chosen | (mass >= 1.0)


def log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """Natural log-probability of tokens (n,) under raw model logits (n, V), float64 (n,)."""
    wide = logits.double()
    return wide.gather(1, tokens[:, None])[:, 0] - wide.logsumexp(-1)


def top_tokens(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most likely tokens of each row of raw logits: ids and log-probabilities, (n, count)."""
    logs = logits.double().log_softmax(-1)
    values, tokens = logs.topk(min(count, logits.shape[1]), dim=-1)
    return tokens, values


def trace(raw: Tensor, adjusted: Tensor, plan: Plan, row: int, token: int) -> Trace:
    """Explain one row's draw from its raw and adjusted logits, both (n, V)."""
    logs = raw[row].double().log_softmax(-1)
    probability = float(logs[token].exp())
    entropy = float(-(logs.exp() * logs.clamp_min(-1e9)).sum())
    rank = int((logs > logs[token]).sum())
    vocabulary = raw.shape[1]
    params = plan.rows[row]
    if params.temperature == 0.0:
        return Trace(probability, rank, entropy, 1, {})
    only = Plan([params], vocabulary, raw.device)
    values, _ = adjusted[row : row + 1].sort(dim=-1, descending=True, stable=True)
    masks = _filters(
        values.double() / only.temperature, torch.zeros(1, dtype=torch.long), only, params.typical_p < 1
    )
    left, cut = vocabulary, {}
    for name, mask in zip(FILTERS, masks, strict=True):
        count = int(mask.sum())
        if count < left:
            cut[name] = left - count
        left = count
    return Trace(probability, rank, entropy, left, cut)
