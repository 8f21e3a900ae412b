"""The C++ core in int8 (`inkwell.native`), for recurrent models and GPTs on a CPU."""

from __future__ import annotations

import torch

from inkwell.errors import RuntimeUnavailable
from inkwell.models.base import Decoder, LanguageModel
from inkwell.native import build
from inkwell.native.decoders import DECODERS
from inkwell.native.library import open_library
from inkwell.native.settings import from_environment
from inkwell.runtimes.base import Runtime, maker_of


class NativeRuntime(Runtime):
    name = "native"
    scheme = 1  # raise it with every change of the core that changes logits

    def decoder(self, model: LanguageModel) -> Decoder:
        make = maker_of(model, DECODERS)
        settings = from_environment()
        library = open_library(settings)
        return make(model, library, library.choose(settings.path), torch.get_num_threads())

    def missing(self) -> str | None:
        settings = from_environment()
        try:
            if settings.library is None:
                build.find_compiler(settings)
            else:
                open_library(settings)
        except RuntimeUnavailable as error:
            return str(error)
        return None
