"""Every setting of the native runtime; the one file of it that reads the environment.

INKWELL_NATIVE_LIBRARY   a library that was built beforehand, as the worker's image does
INKWELL_NATIVE_CACHE     where libraries that are built here are kept  [~/.cache/inkwell/native]
INKWELL_NATIVE_COMPILER  a C++ compiler; empty: never compile  [the first of c++, g++, clang++]
INKWELL_NATIVE_PATH      avx512, avx2 or portable instead of the fastest that the processor has
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NativeSettings:
    """See above. `compiler` is None when none was named and "" when compiling is forbidden."""

    library: Path | None
    cache: Path
    compiler: str | None
    path: str | None


def of_child(**changes: str) -> dict[str, str]:
    """The environment of a process that this one starts."""
    return {**os.environ, **changes}


def from_environment(environment: Mapping[str, str] | None = None) -> NativeSettings:
    """The settings of this process. Values are checked where they are used, which knows what is possible."""
    values = os.environ if environment is None else environment
    library, cache = values.get("INKWELL_NATIVE_LIBRARY"), values.get("INKWELL_NATIVE_CACHE")
    home = Path(values.get("XDG_CACHE_HOME") or Path(values.get("HOME") or "~").expanduser() / ".cache")
    return NativeSettings(
        library=Path(library) if library else None,
        cache=Path(cache) if cache else home / "inkwell" / "native",
        compiler=values.get("INKWELL_NATIVE_COMPILER"),
        path=values.get("INKWELL_NATIVE_PATH") or None,
    )
