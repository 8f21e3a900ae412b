"""The compiled core as Python sees it: found or built, loaded once per process, its functions typed."""

from __future__ import annotations

import ctypes
import logging
from ctypes import POINTER, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p
from functools import lru_cache
from pathlib import Path

from inkwell.errors import RuntimeUnavailable
from inkwell.native import build
from inkwell.native.settings import NativeSettings, from_environment

logger = logging.getLogger(__name__)
_SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "inkwell_source": (c_char_p, []),
    "inkwell_path": (c_char_p, [c_int]),
    "inkwell_reason": (c_char_p, []),
    "inkwell_recurrent": (c_void_p, [c_char_p, *[c_int] * 5, c_void_p, POINTER(c_void_p)]),
    "inkwell_transformer": (c_void_p, [c_char_p, *[c_int] * 8, POINTER(c_void_p)]),
    "inkwell_reserve": (c_int, [c_void_p, c_int]),
    "inkwell_free": (None, [c_void_p]),
    "inkwell_recurrent_step": (c_int, [c_void_p, c_void_p, c_int, *[c_void_p] * 3]),
    "inkwell_transformer_step": (c_int, [c_void_p, c_void_p, c_void_p, c_int, *[c_void_p] * 5]),
    "inkwell_run": (c_int, [c_void_p, c_void_p, c_void_p]),
    "inkwell_draw": (c_int, [c_void_p, c_void_p, c_void_p, c_void_p, c_int, c_void_p]),
    "inkwell_spin": (c_int64, [c_char_p, c_int, c_int64]),
    "inkwell_read": (c_uint64, [c_void_p, c_size_t, c_int, c_int]),
}
Weights = POINTER(c_void_p)
Floats = POINTER(c_float)


class Library:
    """The core's functions, and the paths that this processor can run."""

    def __init__(self, file: Path) -> None:
        try:
            self.functions = ctypes.CDLL(str(file))
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(self.functions, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            raise RuntimeUnavailable(f"{file} cannot be loaded: {error}") from error
        self.file = file
        self.source: str = self.functions.inkwell_source().decode()

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths that this processor can run, fastest first."""
        found: list[str] = []
        while (name := self.functions.inkwell_path(len(found))) is not None:
            found.append(name.decode())
        return tuple(found)

    def choose(self, path: str | None) -> str:
        """`path`, or the fastest. Raises RuntimeUnavailable for one that this processor cannot run."""
        if path is None:
            return self.paths[0]
        if path not in self.paths:
            raise RuntimeUnavailable(
                f"INKWELL_NATIVE_PATH is {path!r}; this processor has {', '.join(self.paths)}"
            )
        return path


def open_library(settings: NativeSettings | None = None) -> Library:
    """The library that the settings name, if it was made from these sources, or one from the cache.
    Raises RuntimeUnavailable with the reason."""
    settings = settings or from_environment()
    if settings.library is not None:
        try:
            return _load(settings.library, build.source_hash())
        except RuntimeUnavailable as error:
            # An archive brings its own sources, which may be newer than the image's library.
            logger.warning("INKWELL_NATIVE_LIBRARY is not used: %s", error)
    return _load(build.build(settings), build.source_hash())


@lru_cache(maxsize=8)
def _load(file: Path, source: str) -> Library:
    library = Library(file)
    if library.source != source:
        raise RuntimeUnavailable(
            f"{file} was made from other sources ({library.source[:8]} instead of {source[:8]})"
        )
    return library
