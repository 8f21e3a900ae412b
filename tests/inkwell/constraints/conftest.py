"""A model that knows nothing: random logits, so that only constraints decide what comes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inkwell.models.base import Decoder, LanguageModel, Output, State
from inkwell.tokenizer import BPETokenizer, CharTokenizer

SAMPLE = (
    "The harbour lay quiet, and the lantern was lit early. Once upon a time a fox said: “Café, naïve!” — "
    "She sold 12 sea-shells by the sea shore; he asked why. A Name, an Other Name, 3 names… 😀 日本 end.\n"
) * 4


class NoiseDecoder(Decoder):
    """Fresh random logits for each row at each step."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        self._vocabulary = vocabulary
        self._random = torch.Generator().manual_seed(seed)

    def new_state(self, rows: int) -> State:
        return State({"unused": torch.zeros(rows, 1)})

    def step(self, tokens: Tensor, state: State) -> Tensor:
        return 4 * torch.randn(len(tokens), self._vocabulary, generator=self._random)


class NoiseModel(LanguageModel):
    """The model around `NoiseDecoder`."""

    context = None

    def __init__(self, vocabulary: int, seed: int = 0) -> None:
        super().__init__()
        self.vocabulary, self.seed = vocabulary, seed
        self.place = nn.Parameter(torch.zeros(1))

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, condition: Tensor | None = None, carry: Any = None
    ) -> Output:
        return Output(torch.zeros(*ids.shape, self.vocabulary), None, None)

    def decoder(self) -> Decoder:
        return NoiseDecoder(self.vocabulary, self.seed)


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, CharTokenizer | BPETokenizer]:
    return {"chars": CharTokenizer.fit([SAMPLE]), "bpe": BPETokenizer.fit([SAMPLE], 400)}


@pytest.fixture(scope="session")
def noise_model() -> type[NoiseModel]:
    return NoiseModel
