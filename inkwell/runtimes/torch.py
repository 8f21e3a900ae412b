"""The reference: float32 by torch, on whatever device the model is."""

from __future__ import annotations

from inkwell.models.base import Decoder, LanguageModel
from inkwell.runtimes.base import Runtime


class TorchRuntime(Runtime):
    name = "torch"

    def decoder(self, model: LanguageModel) -> Decoder:
        return model.decoder()
