"""On what a decode step runs. A further runtime is one more file and one line in the table below.

`torch` runs everywhere and is the reference. `native` is a C++ core in int8, many times faster on a CPU, whose
texts are its own: rounded weights give other logits. So `auto` takes it only where the bundle says that the loss
was measured on held-out text and found small (runtimes.json, written by `inkwell archive`).

`onnx` is a library that runs a float32 graph of a step, faster than torch does, for machines without a C++
compiler. `auto` takes it only there: elsewhere an installed package would change the texts of seeds.

A seed gives one text per runtime. Whoever compares texts has to use the same one; `make_decoder` says which.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from inkwell.errors import RuntimeUnavailable
from inkwell.models.base import Decoder, LanguageModel
from inkwell.runtimes.base import Runtime, Verdict
from inkwell.runtimes.native import NativeRuntime
from inkwell.runtimes.onnx import OnnxRuntime
from inkwell.runtimes.torch import TorchRuntime

logger = logging.getLogger(__name__)
AUTO = "auto"
RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime for runtime in (NativeRuntime(), OnnxRuntime(), TorchRuntime())
}
"""All of them, in the order in which `auto` tries them: the fastest first."""

__all__ = ["AUTO", "RUNTIMES", "Runtime", "RuntimeUnavailable", "Verdict", "check_name", "make_decoder"]


def check_name(name: str) -> None:
    """Raises RuntimeUnavailable for a runtime that there is not."""
    if name != AUTO and name not in RUNTIMES:
        raise RuntimeUnavailable(f"runtime is {name!r}; allowed are {', '.join((AUTO, *RUNTIMES))}")


def make_decoder(
    model: LanguageModel, runtime: str = AUTO, verdicts: Mapping[str, Any] | None = None
) -> tuple[Decoder, str]:
    """`model` prepared for generation, and the name of the runtime that it got.

    A runtime that is named is used or RuntimeUnavailable says why it cannot be. `auto` takes the fastest that
    runs here and, where it changes a model's predictions, has passed by the bundle's `verdicts`. One that stands
    in for another is taken where the machine lacks that one.
    """
    check_name(runtime)
    if runtime != AUTO:
        try:
            return RUNTIMES[runtime].decoder(model), runtime
        except RuntimeUnavailable as error:
            raise RuntimeUnavailable(f"runtime {runtime!r} cannot run here: {error}") from error
    for name, candidate in RUNTIMES.items():
        if not candidate.trusted((verdicts or {}).get(name)):
            continue
        if candidate.stands_in_for is not None:
            hoped_for = RUNTIMES[candidate.stands_in_for]
            if hoped_for.missing() is None or candidate.missing() is not None:
                continue
        try:
            return candidate.decoder(model), name
        except RuntimeUnavailable as error:
            logger.warning("runtime %s cannot run here, the next one is taken: %s", name, error)
    raise RuntimeUnavailable("no runtime can run this model")  # torch always can
