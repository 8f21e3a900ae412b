"""The core compiled once for all tests: as it is, and with emulated AVX-512 so that every path runs everywhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from inkwell.errors import RuntimeUnavailable
from inkwell.native import build
from inkwell.native.library import Library
from inkwell.native.settings import NativeSettings

HERE = Path(__file__).parent


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
