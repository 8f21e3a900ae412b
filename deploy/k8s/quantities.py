"""Kubernetes' quantities: `1500m` of a core, `1792Mi` of memory."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {"": Decimal(1), "m": Decimal("0.001")}
_SUFFIXES |= {letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)}
_SUFFIXES |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)}
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([a-zA-Z]{0,2})")


def quantity(value: str | int | float) -> Decimal:
    """The number that `value` stands for. Raises `ValueError`.

    >>> quantity("1.5Gi") == 3 * quantity("512Mi"), quantity("250m")
    (True, Decimal('0.250'))
    """
    match = _QUANTITY.fullmatch(str(value))
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"{value!r} is not a quantity such as 250m, 2 or 1792Mi")
    return Decimal(match[1]) * _SUFFIXES[match[2]]
