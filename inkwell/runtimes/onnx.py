"""ONNX Runtime (`inkwell.onnx`): float32 by a maintained library, for recurrent models and GPTs on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from inkwell.errors import RuntimeUnavailable
from inkwell.models.base import Decoder, LanguageModel
from inkwell.models.gpt import GPTModel
from inkwell.models.recurrent import RecurrentModel
from inkwell.onnx.decoder import check_rows
from inkwell.onnx.gpt import OnnxGPTDecoder
from inkwell.onnx.graph import libraries
from inkwell.onnx.recurrent import OnnxRecurrentDecoder
from inkwell.runtimes.base import Runtime, maker_of

DECODERS: dict[type, Callable[[Any, int], Decoder]] = {
    RecurrentModel: OnnxRecurrentDecoder,
    GPTModel: OnnxGPTDecoder,
}


class OnnxRuntime(Runtime):
    name = "onnx"
    stands_in_for = "native"  # so that installing a package changes no texts where there is a C++ core

    def decoder(self, model: LanguageModel) -> Decoder:
        libraries()
        make = maker_of(model, DECODERS)
        decoder = make(model, torch.get_num_threads())
        check_rows(decoder, model.vocabulary)
        return decoder

    def missing(self) -> str | None:
        try:
            libraries()
        except RuntimeUnavailable as error:
            return str(error)
        return None
