"""Strict loading of small frozen dataclasses from plain mappings: unknown keys and wrong types are errors."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from inkwell.errors import ConfigError

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `cls` from `values`; `where` names the source in errors ("config.json, model").

    Integers are accepted for float fields. Raises ConfigError naming the field, the value and what is allowed.
    """
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls!r} is not a dataclass")
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} is {values!r}; a table of keys and values is needed")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; allowed are {', '.join(sorted(fields))}")
    hints = typing.get_type_hints(cls)
    ready: dict[str, Any] = {}
    for name, value in values.items():
        ready[name] = _coerce(value, hints[name], f"{where}: {name}")
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    for name in required:
        if name not in ready:
            raise ConfigError(f"{where}: {name} is missing")
    try:
        return cls(**ready)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _coerce(value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            allowed = ", ".join(map(repr, typing.get_args(hint)))
            raise ConfigError(f"{where} is {value!r}; allowed are {allowed}")
        return value
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        rest = [option for option in options if option is not type(None)]
        if len(rest) == 1:
            return _coerce(value, rest[0], where)
        return value
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} is {value!r}; a list is needed")
        return tuple(_coerce(item, inner, where) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is {value!r}; a table of keys and values is needed")
        return value
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and hint in (int, float, str, bool) and type(value) is not hint:
        raise ConfigError(f"{where} is {value!r}; a value of type {hint.__name__} is needed")
    return value


def check(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise ConfigError unless `condition`; used in `__post_init__` of configurations."""
    if not condition:
        raise ConfigError(f"{name} is {value!r}; allowed is {allowed}")
