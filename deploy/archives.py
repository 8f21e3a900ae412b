"""What is checked of an archive before TorchServe sees anything of it, and how a store lists its archives.

A `.mar` is a zip file full of code that TorchServe will run. Both who starts TorchServe and the gateway, which
registers releases, look here. The gateway's image holds this file without the rest of its package, so it imports
nothing of it.
"""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

INDEX = "index.json"
MANIFEST = "MAR-INF/MANIFEST.json"
MODEL_CONFIG = "model-config.yaml"
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError, ValueError)
"""What reading a damaged zip file, or the JSON in it, ends with; a nesting without end is a RuntimeError."""

# Fields of the manifest that name files inside the archive.
_PATH_FIELDS = ("handler", "serializedFile", "modelFile", "requirementsFile", "configFile")


class RefusedArchiveError(Exception):
    """What is wrong with an archive, as the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class IndexEntry:
    """What `index.json` says of one archive; `memory_mb` is MiB for one worker's weights and states."""

    archive: str
    sha256: str
    model: str
    version: str
    memory_mb: int | None = None


def read_index(store: Path) -> dict[str, IndexEntry]:
    """Archive file name -> entry. Raises `OSError` when the index cannot be read, `ValueError` when it is none."""
    text = (store / INDEX).read_text(encoding="utf-8")
    try:
        return {
            name: IndexEntry(
                name, str(raw["sha256"]), str(raw["model"]), str(raw["version"]), raw.get("memory_mb")
            )
            for name, raw in json.loads(text)["archives"].items()
        }
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(repr(error)) from None


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def check_hash(path: Path, entry: IndexEntry) -> None:
    """Raises `RefusedArchiveError` unless the file is what was listed, `OSError` when it cannot be read."""
    found = sha256_of(path)
    if found != entry.sha256:
        raise RefusedArchiveError(
            f"has changed since it was built (sha256 {found[:12]}…, listed {entry.sha256[:12]}…)"
        )


def manifest_of(archive: zipfile.ZipFile, model: str) -> Mapping[str, Any]:
    """The manifest of an archive of `model` that may be unpacked: nothing in it leads out of its folder.

    Raises `RefusedArchiveError`.
    """
    for info in archive.infolist():
        _check_inside(info.filename, "holds the path")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise RefusedArchiveError(f"holds the link {info.filename!r}, which could lead anywhere")
    try:
        manifest = json.loads(archive.read(MANIFEST))
    except DAMAGE as error:
        raise RefusedArchiveError(f"is not a model archive (no manifest can be read: {error!r})") from error
    described = manifest.get("model") if isinstance(manifest, dict) else None
    if not isinstance(described, dict):
        raise RefusedArchiveError("is not a model archive (its manifest describes no model)")
    for field in _PATH_FIELDS:
        if field in described:
            _check_inside(str(described[field]), f"has manifest field {field} =")
    if described.get("modelName") != model:
        raise RefusedArchiveError(
            f"has manifest field modelName = {described.get('modelName')!r}: must be {model!r}"
        )
    return dict(manifest)


def worker_version(version: str, worker: int) -> str:
    """The version that worker number `worker` (from 0) is registered as; the first is the archive's own."""
    return version if worker == 0 else f"{version}-w{worker + 1}"


def _check_inside(name: str, what: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise RefusedArchiveError(f"{what} {name!r}, which leads out of the archive")
