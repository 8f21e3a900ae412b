"""The characters that one item of a regular expression matches, exactly as the standard library has them."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache
from typing import Any

import numpy as np

from inkwell.constraints.charset import END, SURROGATES, CharSet

if sys.version_info >= (3, 11):
    from re import _constants as names  # type: ignore[attr-defined]
else:
    import sre_constants as names

CHARACTER_FLAGS = re.IGNORECASE | re.ASCII | re.DOTALL
_CASED_BELOW = 0x20000  # Unicode has no letters with case above
_NEWLINE = CharSet.of("\n")
_CATEGORIES = {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s", "CATEGORY_WORD": r"\w"}


@lru_cache(maxsize=1024)
def characters_of(operation: str, argument: Any, flags: int) -> CharSet:
    """The characters that one item of a pattern matches."""
    if operation == "ANY":
        return CharSet.of_ranges([(0, END - 1)]) if flags & re.DOTALL else _NEWLINE.complement()
    if operation in ("LITERAL", "NOT_LITERAL"):
        items = [(names.LITERAL, argument)]
        if operation == "NOT_LITERAL":
            items.insert(0, (names.NEGATE, None))
    else:
        items = list(argument)
    chars = CharSet.of_ranges([])
    negated = False
    source = ""
    ascii_only = bool(flags & re.ASCII)
    for kind, value in items:
        name = str(kind)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            chars = chars.union(CharSet.of_ranges([(value, value)]))
            source += _escaped(value)
        elif name == "RANGE":
            chars = chars.union(CharSet.of_ranges([value]))
            source += f"{_escaped(value[0])}-{_escaped(value[1])}"
        else:
            base = str(value).replace("_NOT", "")
            category = _category(_CATEGORIES[base], ascii_only)
            inverse = base != str(value)
            chars = chars.union(category.complement() if inverse else category)
            source += _CATEGORIES[base].upper() if inverse else _CATEGORIES[base]
    if negated:
        chars = chars.complement()
    if flags & re.IGNORECASE:
        cased, text = _cased()
        wanted = re.compile(f"[{'^' if negated else ''}{source}]", flags & (re.IGNORECASE | re.ASCII))
        chars = chars.minus(cased).union(CharSet.of(wanted.findall(text)))
    return chars


def _escaped(point: int) -> str:
    return f"\\U{point:08x}"


@lru_cache(maxsize=8)
def _category(escape: str, ascii_only: bool) -> CharSet:
    points = np.concatenate([np.arange(SURROGATES[0]), np.arange(SURROGATES[1], END)])
    everything = points.astype("<u4").tobytes().decode("utf-32-le")
    ranges = []
    for match in re.finditer(escape + "+", everything, re.ASCII if ascii_only else 0):
        low, high = ord(everything[match.start()]), ord(everything[match.end() - 1])
        if low < SURROGATES[0] <= high:
            ranges += [(low, SURROGATES[0] - 1), (SURROGATES[1], high)]
        else:
            ranges.append((low, high))
    return CharSet.of_ranges(ranges)


@lru_cache(maxsize=1)
def _cased() -> tuple[CharSet, str]:
    """All characters whose match may depend on letter case, as a set and as a string."""
    every = [chr(point) for point in range(_CASED_BELOW) if not SURROGATES[0] <= point < SURROGATES[1]]
    text = "".join(c for c in every if c.lower() != c or c.upper() != c or unicodedata.category(c) == "Lt")
    return CharSet.of(text), text
