"""Read and check `deploy/models.toml`, the one truth about what is served.

Standard library only, so the gateway's image can import it without torch. A file is either taken whole or
refused with a `ModelsFileError` that names the field, the value found, and what is allowed.

>>> loads('[models.prose]\\nfamily = "prose"\\ngpus = 0.5').models["prose"].gpus
0.5
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RUNTIMES = ("auto", "torch", "native", "onnx")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_ARCHIVE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.mar")


class ModelsFileError(ValueError):
    """The models file cannot be used as it stands."""


@dataclass(frozen=True)
class ModelEntry:
    """One served model: how it is trained, where it runs, and its limits.

    `gpus` is 0 (runs on the CPU), a fraction between 0 and 1 (shares one GPU with others), or a whole number
    of GPUs. `cpu_workers = 0` forbids the CPU. `memory_mb` (MiB per worker) replaces the estimate that the
    archive carries; None keeps the estimate.
    """

    name: str
    family: str
    preset: str
    default: bool
    archive: str
    gpus: int | float
    workers_per_gpu: int
    cpu_workers: int
    threads: int
    slots: int
    queue_tokens: int
    max_new_tokens: int
    replicas: int
    runtime: str
    memory_mb: int | None


@dataclass(frozen=True)
class ModelsFile:
    """All models in the order of the file; `default_model` is the name used when a request names none."""

    models: dict[str, ModelEntry]
    default_model: str


Check = Callable[[str, object], Any]


def _refuse(where: str, value: object, allowed: str) -> ModelsFileError:
    return ModelsFileError(f"{where} = {value!r}: must be {allowed}")


def _integer(low: int, high: int) -> Check:
    allowed = f"a whole number from {low} to {high}"

    def check(where: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _refuse(where, value, allowed)
        return value

    return check


def _gpus(where: str, value: object) -> int | float:
    allowed = "0, a fraction of one GPU (above 0, below 1), or a whole number of GPUs up to 64"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 64:
        raise _refuse(where, value, allowed)
    if float(value).is_integer():
        return int(value)
    if value > 1:
        raise _refuse(where, value, allowed)
    return float(value)


def _pattern(pattern: re.Pattern[str], allowed: str) -> Check:
    def check(where: str, value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _refuse(where, value, allowed)
        return value

    return check


def _runtime(where: str, value: object) -> str:
    if not isinstance(value, str) or value not in RUNTIMES:
        raise _refuse(where, value, f"one of {', '.join(RUNTIMES)}")
    return value


def _boolean(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _refuse(where, value, "true or false")
    return value


_WORD = _pattern(_NAME, "1 to 63 lower-case letters, digits, '-' or '_', the first a letter or digit")

_CHECKS: Mapping[str, Check] = {
    "family": _WORD,
    "preset": _WORD,
    "default": _boolean,
    "archive": _pattern(_ARCHIVE, "a plain file name that ends with .mar, without folders"),
    "gpus": _gpus,
    "workers_per_gpu": _integer(1, 16),
    "cpu_workers": _integer(0, 64),
    "threads": _integer(1, 256),
    "slots": _integer(1, 4096),
    "queue_tokens": _integer(1, 1_000_000_000),
    "max_new_tokens": _integer(1, 1_000_000),
    "replicas": _integer(1, 1000),
    "runtime": _runtime,
    "memory_mb": _integer(1, 10_000_000),
}

_BUILT_IN: Mapping[str, Any] = {
    "preset": "small",
    "default": False,
    "gpus": 0,
    "workers_per_gpu": 1,
    "cpu_workers": 1,
    "threads": 1,
    "slots": 64,
    "queue_tokens": 40_000,
    "max_new_tokens": 2_000,
    "replicas": 1,
    "runtime": "auto",
    "memory_mb": None,
}

_NOT_IN_DEFAULTS = ("family", "default", "archive")


def load(path: str | Path) -> ModelsFile:
    """Read the models file at `path`. Raises `ModelsFileError` when it is missing, malformed or wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelsFileError(f"{path}: there is no such models file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelsFileError(f"{path}: cannot be read: {error}") from error
    return loads(text, source=str(path))


def loads(text: str, source: str = "models.toml") -> ModelsFile:
    """The models described by `text` in TOML; `source` is the name used in errors."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a nesting without end
        raise ModelsFileError(f"{source}: not valid TOML: {error}") from error
    try:
        return _models_file(document)
    except ModelsFileError as error:
        raise ModelsFileError(f"{source}: {error}") from None


def _models_file(document: Mapping[str, object]) -> ModelsFile:
    _known(document, ("defaults", "models"), "")
    defaults = _table(document.get("defaults", {}), "defaults")
    allowed = tuple(key for key in _CHECKS if key not in _NOT_IN_DEFAULTS)
    checked = dict(_BUILT_IN) | _check_values(defaults, allowed, "defaults")

    tables = _table(document.get("models", {}), "models")
    if not tables:
        raise ModelsFileError("models: at least one [models.NAME] table is needed; found none")
    models = {name: _entry(name, _table(table, f"models.{name}"), checked) for name, table in tables.items()}

    marked = [name for name, entry in models.items() if entry.default]
    if len(marked) > 1:
        raise ModelsFileError(f"models: at most one model may have default = true; found {', '.join(marked)}")
    _no_shared_archive(models)
    return ModelsFile(models=models, default_model=marked[0] if marked else next(iter(models)))


def _entry(name: str, table: Mapping[str, object], defaults: Mapping[str, Any]) -> ModelEntry:
    where = f"models.{name}"
    _WORD(f"{where}: name", name)
    if "family" not in table:
        raise ModelsFileError(f"{where}.family: is required and missing")
    own = _check_values(table, tuple(_CHECKS), where)
    entry = ModelEntry(**{"name": name, "archive": f"{name}.mar", **defaults, **own})
    if entry.gpus == 0 and entry.cpu_workers == 0:
        raise ModelsFileError(f"{where}: gpus = 0 and cpu_workers = 0 leave it nowhere to run; raise one")
    if entry.queue_tokens < entry.max_new_tokens:
        raise _refuse(
            f"{where}.queue_tokens", entry.queue_tokens, f"at least max_new_tokens ({entry.max_new_tokens})"
        )
    return entry


def _check_values(table: Mapping[str, object], allowed: tuple[str, ...], where: str) -> dict[str, Any]:
    _known(table, allowed, where)
    return {key: _CHECKS[key](f"{where}.{key}", value) for key, value in table.items()}


def _known(table: Mapping[str, object], allowed: tuple[str, ...], where: str) -> None:
    for key in table:
        if key in allowed:
            continue
        full = f"{where}.{key}" if where else key
        close = difflib.get_close_matches(key, allowed, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ModelsFileError(f"{full}: unknown key{hint}; allowed: {', '.join(allowed)}")


def _table(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _refuse(where, value, "a table")
    return value


def _no_shared_archive(models: Mapping[str, ModelEntry]) -> None:
    owners: dict[str, str] = {}
    for name, entry in models.items():
        other = owners.setdefault(entry.archive, name)
        if other != name:
            raise ModelsFileError(f"models.{name}.archive = {entry.archive!r}: belongs to models.{other}")


def dumps(models_file: ModelsFile) -> str:
    """`models_file` as TOML that `loads` reads back to the same models."""
    lines = []
    for name, entry in models_file.models.items():
        lines.append(f"[models.{name}]")
        for key in _CHECKS:
            value = name == models_file.default_model if key == "default" else getattr(entry, key)
            if value is not None:
                lines.append(f"{key} = {json.dumps(value)}")
        lines.append("")
    return "\n".join(lines)


def chosen(models_file: ModelsFile, names: Iterable[str]) -> ModelsFile:
    """Only the models in `names`, in the order of the file. The default is kept if chosen, else the first."""
    wanted = list(names)
    for name in wanted:
        if name not in models_file.models:
            raise ModelsFileError(f"model = {name!r}: must be one of {', '.join(models_file.models)}")
    models = {name: entry for name, entry in models_file.models.items() if name in wanted}
    if not models:
        raise ModelsFileError("models: at least one must be chosen")
    default = models_file.default_model if models_file.default_model in models else next(iter(models))
    return ModelsFile(
        {name: replace(entry, default=name == default) for name, entry in models.items()}, default
    )
