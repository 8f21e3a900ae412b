"""Strict reading of small dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from inkwell.config import check, from_mapping
from inkwell.errors import ConfigError


@dataclass(frozen=True)
class Example:
    name: str
    size: int = 1
    rate: float = 0.5
    on: bool = False
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    parts: tuple[int, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self.size > 0, "size", self.size, "1 or more")


def test_values_arrive_with_their_types() -> None:
    got = from_mapping(
        Example, {"name": "n", "rate": 2, "parts": [1, 2], "limit": None, "more": {"x": 1}}, "here"
    )
    assert got == Example("n", rate=2.0, parts=(1, 2), more={"x": 1})
    assert type(got.rate) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "here: name is missing"),
        ({"name": "n", "sise": 3}, "here: unknown key 'sise'; allowed are kind, limit, more, name, on"),
        ({"name": 3}, "here: name is 3; a value of type str"),
        ({"name": "n", "size": 1.0}, "here: size is 1.0; a value of type int"),
        ({"name": "n", "size": True}, "here: size is True; a value of type int"),
        ({"name": "n", "size": 0}, "here: size is 0; allowed is 1 or more"),
        ({"name": "n", "rate": "fast"}, "here: rate is 'fast'; a value of type float"),
        ({"name": "n", "rate": True}, "here: rate is True"),
        ({"name": "n", "on": 1}, "here: on is 1; a value of type bool"),
        ({"name": "n", "kind": "c"}, "here: kind is 'c'; allowed are 'a', 'b'"),
        ({"name": "n", "limit": "x"}, "here: limit is 'x'; a value of type int"),
        ({"name": "n", "parts": 3}, "here: parts is 3; a list is needed"),
        ({"name": "n", "parts": [1, "x"]}, "here: parts is 'x'"),
        ({"name": "n", "more": [1]}, r"here: more is \[1\]; a table of keys and values is needed"),
        (7, "here is 7; a table of keys and values is needed"),
        (None, "here is None"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_value(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(Example, values, "here")


def test_only_dataclasses_are_read() -> None:
    with pytest.raises(TypeError, match="is not a dataclass"):
        from_mapping(int, {}, "here")
