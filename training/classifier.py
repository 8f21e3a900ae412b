"""Which category does a text belong to? A judge that knows nothing of the model it judges.

Multinomial logistic regression over the character n-grams of a text (Cavnar and Trenkle 1994 for the features),
weighted by rarity. The problem is convex and solved to its end, so the same texts give the same judge.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.split import key_of
from training.errors import DataError

LONGEST = 4
FEWEST = 2
"""Texts that an n-gram must stand in to count."""


class Classifier:
    """Made by `fit`. `labels` are in order of their name."""

    def __init__(self, labels: tuple[str, ...], rarity: dict[str, float], strength: float) -> None:
        self.labels = labels
        self._rarity = rarity
        self._columns = {gram: index for index, gram in enumerate(rarity)}
        self._strength = strength
        self._weight = torch.zeros(len(rarity), len(labels))
        self._bias = torch.zeros(len(labels))

    @classmethod
    def fit(cls, texts: Sequence[str], labels: Sequence[str], strength: float = 10.0) -> Classifier:
        """Learn from texts and their labels. `strength` is how much a text's error weighs against the size of
        the weights (the C of other libraries). Raises DataError unless there are two labels."""
        names = tuple(sorted(set(labels)))
        if len(names) < 2:
            raise DataError(f"a classifier needs two categories or more; found {', '.join(names) or 'none'}")
        found: Counter[str] = Counter()
        for text in texts:
            found.update(set(grams(text)))
        rarity = {
            gram: 1.0 + math.log((1 + len(texts)) / (1 + count))
            for gram, count in sorted(found.items())
            if count >= FEWEST
        }
        made = cls(names, rarity, strength)
        index = {name: place for place, name in enumerate(names)}
        made._solve(texts, torch.tensor([index[label] for label in labels]))
        return made

    def _solve(self, texts: Sequence[str], wanted: Tensor) -> None:
        features = self._features(texts)
        weight, bias = self._weight.requires_grad_(), self._bias.requires_grad_()
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=150, history_size=10, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            solver.zero_grad()
            error = F.cross_entropy(torch.sparse.mm(features, weight) + bias, wanted)
            total = error + weight.square().sum() / (2 * self._strength * len(texts))
            total.backward()  # type: ignore[no-untyped-call]
            return total

        solver.step(loss)  # type: ignore[no-untyped-call]
        self._weight, self._bias = weight.detach(), bias.detach()

    def _features(self, texts: Sequence[str]) -> Tensor:
        """Sparse (N, n-grams): weighted by rarity, each row of length 1."""
        rows: list[int] = []
        columns: list[int] = []
        values: list[float] = []
        for row, text in enumerate(texts):
            counts = Counter(gram for gram in grams(text) if gram in self._columns)
            found = {gram: (1 + math.log(n)) * self._rarity[gram] for gram, n in counts.items()}
            length = math.sqrt(sum(value * value for value in found.values())) or 1.0
            for gram, value in found.items():
                rows.append(row)
                columns.append(self._columns[gram])
                values.append(value / length)
        shape = (len(texts), len(self._columns))
        where = torch.tensor([rows, columns], dtype=torch.long)
        return torch.sparse_coo_tensor(where, torch.tensor(values), shape, check_invariants=True).coalesce()

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The likeliest label of each text."""
        if not texts:
            return []
        scores = torch.sparse.mm(self._features(texts), self._weight) + self._bias
        return [self.labels[index] for index in scores.argmax(-1).tolist()]

    def accuracy(self, texts: Sequence[str], labels: Sequence[str]) -> float:
        """Share of texts whose label is found."""
        right = sum(a == b for a, b in zip(self.predict(texts), labels, strict=True))
        return right / len(texts) if texts else math.nan


def grams(text: str) -> Iterable[str]:
    """All runs of one to LONGEST characters, the beginning and the end counting as characters."""
    marked = f"\x02{key_of(text)}\x03"
    return (
        marked[start : start + size]
        for size in range(1, LONGEST + 1)
        for start in range(len(marked) - size + 1)
    )
