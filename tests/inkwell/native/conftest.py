"""The core compiled once for all tests: as it is, and with emulated AVX-512 so that every path runs everywhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from inkwell.errors import RuntimeUnavailable
from inkwell.models import build_model
from inkwell.native import build
from inkwell.native.library import Library
from inkwell.native.settings import NativeSettings

HERE = Path(__file__).parent
V = 37
SHAPES: dict[str, dict[str, Any]] = {
    "rnn-1": {"cell": "rnn", "hidden": 1, "layers": 1},
    "rnn-33": {"cell": "rnn", "hidden": 33, "layers": 3, "embedding": 11},
    "gru-5": {"cell": "gru", "hidden": 5, "layers": 1},
    "gru-48": {"cell": "gru", "hidden": 48, "layers": 2, "embedding": 48, "tied": True},
    "gru-131": {"cell": "gru", "hidden": 131, "layers": 3, "embedding": 7},
    "lstm-24": {"cell": "lstm", "hidden": 24, "layers": 2},
    "lstm-100": {"cell": "lstm", "hidden": 100, "layers": 1, "embedding": 3},
    "lstm-17": {"cell": "lstm", "hidden": 17, "layers": 3},
    "gpt-2": {"heads": 1, "width": 2, "layers": 1, "window": 1},
    "gpt-20-swish": {"heads": 2, "width": 20, "layers": 2, "window": 7, "activation": "swish"},
    "gpt-36-steered": {"heads": 3, "width": 36, "layers": 2, "window": 9, "categories": 3},
    "gpt-66": {"heads": 1, "width": 66, "layers": 2, "window": 16, "rate": 3},
    "gpt-128": {"heads": 4, "width": 128, "layers": 3, "window": 33},
    "gpt-wide-head": {"heads": 1, "width": 150, "layers": 1, "window": 40, "rate": 1, "tied": False},
}


def make_model(shape: str, seed: int = 3, vocabulary: int = V) -> Any:
    """A model with random weights strong enough that its logits differ from token to token."""
    settings = dict(SHAPES[shape])
    settings["architecture"] = "gpt" if shape.startswith("gpt") else "recurrent"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model({**settings, "vocabulary": vocabulary}).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def settings(native_cache: Path) -> NativeSettings:
    """Settings with a cache of the tests' own."""
    return NativeSettings(None, native_cache, None, None)


@pytest.fixture(scope="session")
def compiler(settings: NativeSettings) -> str:
    try:
        return build.find_compiler(settings)
    except RuntimeUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def library(settings: NativeSettings, compiler: str) -> Library:
    """The core as workers get it."""
    return Library(build.build(settings))


@pytest.fixture(scope="session")
def every_path(library: Library, compiler: str, native_cache: Path) -> Library:
    """A library that has all paths that there are, with AVX-512 emulated where the processor has AVX2 only."""
    if "avx512" in library.paths or "avx2" not in library.paths:
        return library
    emulation = (HERE / "emulated_avx512.h").read_bytes()
    made_from = hashlib.sha256(emulation + build.source_hash().encode()).hexdigest()[:16]
    file = native_cache / f"emulated-{made_from}.so"
    if file.is_file():
        return Library(file)
    header = f'-DINKWELL_EMULATED_AVX512="{HERE / "emulated_avx512.h"}"'
    sources = [str(source) for source in sorted(build.SOURCES.glob("*.cpp"))]
    flags = [flag for flag in build.FLAGS if flag != "-O3"]
    made = file.with_suffix(f".{os.getpid()}")
    subprocess.run([compiler, "-O1", "-mavx2", *flags, header, *sources, "-o", str(made)], check=True)
    made.replace(file)
    return Library(file)
