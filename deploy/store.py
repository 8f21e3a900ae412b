"""The model store: archives that were built here, listed by hash, and their safe unpacking.

A `.mar` is a zip file full of code that TorchServe will run. So only an archive whose hash stands in
`index.json` is touched, and TorchServe is never given the archive itself but a folder that was unpacked here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from deploy.errors import ArchiveError, DiskFullError

INDEX = "index.json"
MANIFEST = "MAR-INF/MANIFEST.json"
MODEL_CONFIG = "model-config.yaml"
# Beyond what the archives unpack to: logs, TorchServe's scratch files.
_HEADROOM = 200 * 2**20
# Fields of the manifest that name files inside the archive.
_PATH_FIELDS = ("handler", "serializedFile", "modelFile", "requirementsFile", "configFile")
# What reading a damaged zip file, or the JSON in it, ends with; a nesting without end is a RuntimeError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError, ValueError)


@dataclass(frozen=True)
class IndexEntry:
    """What `index.json` says of one archive; `memory_mb` is MiB for one worker's weights and states."""

    archive: str
    sha256: str
    model: str
    version: str
    memory_mb: int | None


@dataclass(frozen=True)
class Archive:
    """An archive whose hash and contents were checked; `unpacked_bytes` is its size on disk afterwards."""

    path: Path
    entry: IndexEntry
    manifest: Mapping[str, Any]
    unpacked_bytes: int


def read_index(store: Path) -> dict[str, IndexEntry]:
    """Archive file name -> entry. Raises `ArchiveError` when the index is missing or malformed."""
    path = store / INDEX
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["archives"]
        return {
            name: IndexEntry(name, raw["sha256"], raw["model"], str(raw["version"]), raw.get("memory_mb"))
            for name, raw in listed.items()
        }
    except FileNotFoundError:
        raise ArchiveError(
            f"{path}: is missing, so no archive can be trusted. Build them with `inkwell archive --missing`."
        ) from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(
            f"{path}: is not an index of archives ({error!r}). Build it again with `inkwell archive`."
        ) from None


def verify(store: Path, index: Mapping[str, IndexEntry], file_name: str, model: str) -> Archive:
    """Check the archive `file_name` of `model`: listed, unchanged, for this model, and safe to unpack."""
    path = store / file_name
    rebuild = f"Build it with `inkwell archive {model}`."
    if not path.is_file():
        raise ArchiveError(f"{path}: is missing. {rebuild}")
    entry = index.get(file_name)
    if entry is None:
        raise ArchiveError(f"{path}: is not listed in {store / INDEX}, so it was not built here. {rebuild}")
    found = sha256(path)
    if found != entry.sha256:
        raise ArchiveError(
            f"{path}: has changed since it was built (sha256 {found[:12]}…, listed {entry.sha256[:12]}…). "
            f"{rebuild}"
        )
    if entry.model != model:
        raise ArchiveError(f"{path}: holds the model {entry.model!r}, but {model!r} is expected. {rebuild}")
    return _inspect(path, entry, rebuild)


def _inspect(path: Path, entry: IndexEntry, rebuild: str) -> Archive:
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                _refuse_unsafe(path, info.filename, "holds the path")
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise ArchiveError(f"{path}: holds the link {info.filename!r}, which could lead anywhere")
            manifest = json.loads(archive.read(MANIFEST))
            size = sum(info.file_size for info in archive.infolist())
    except (
        *_DAMAGE,
        OSError,
    ) as error:  # its hash was taken, so the file can be read; its places may be wrong
        raise ArchiveError(f"{path}: is not a model archive ({error}). {rebuild}") from None
    described = manifest.get("model") if isinstance(manifest, dict) else None
    if not isinstance(described, dict):
        raise ArchiveError(f"{path}: is not a model archive (its manifest describes no model). {rebuild}")
    for field in _PATH_FIELDS:
        if field in described:
            _refuse_unsafe(path, str(described[field]), f"manifest field {field} =")
    if described.get("modelName") != entry.model:
        raise ArchiveError(
            f"{path}: manifest field modelName = {described.get('modelName')!r}: must be {entry.model!r}. "
            f"{rebuild}"
        )
    return Archive(path, entry, manifest, size)


def _refuse_unsafe(path: Path, name: str, what: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or "\0" in name:
        raise ArchiveError(f"{path}: {what} {name!r}, which leads out of the archive")


def worker_version(version: str, worker: int) -> str:
    """The version that worker number `worker` (from 0) is registered as; the first is the archive's own."""
    return version if worker == 0 else f"{version}-w{worker + 1}"


def worker_folder(model: str, worker: int) -> str:
    """The folder of that worker. Model names hold no dot, so no two models meet."""
    return model if worker == 0 else f"{model}.w{worker + 1}"


def unpack(archive: Archive, store: Path, model_configs: Sequence[str]) -> list[str]:
    """Unpack `archive` once for each worker into the folder `store`; the names of the folders.

    `model_configs` holds each worker's model-config.yaml. The copies share the large files on disk.
    """
    model = archive.entry.model
    first = store / model
    for old in [first, *store.glob(f"{model}.w*")]:
        shutil.rmtree(old, ignore_errors=True)
    first.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive.path) as source:
            source.extractall(first)
    except (*_DAMAGE, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise ArchiveError(
            f"{archive.path}: cannot be unpacked ({error}). Build it with `inkwell archive {model}`."
        ) from None
    folders = [worker_folder(model, worker) for worker in range(len(model_configs))]
    for folder in folders[1:]:
        shutil.copytree(first, store / folder, copy_function=_link)
    for worker, (folder, config) in enumerate(zip(folders, model_configs, strict=True)):
        described = dict(archive.manifest["model"]) | {
            "configFile": MODEL_CONFIG,
            "modelVersion": worker_version(archive.entry.version, worker),
        }
        manifest = dict(archive.manifest) | {"model": described}
        _replace(store / folder / MODEL_CONFIG, config)
        _replace(store / folder / MANIFEST, json.dumps(manifest, indent=1))
    return folders


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Not every file system has hard links.
        shutil.copy2(source, target)


def _replace(path: Path, text: str) -> None:
    # Never written in place: the file may be shared with another worker's folder.
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def check_room(folder: Path, archives: list[Archive]) -> None:
    """Raises `DiskFullError` unless `folder` has room for the unpacked archives and some headroom."""
    needed = sum(archive.unpacked_bytes for archive in archives) + _HEADROOM
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"{folder.resolve()}: {free // 2**20} MiB free, {needed // 2**20} MiB needed. Free some room, or "
            "choose another folder with INKWELL_RUN_DIR."
        )


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
