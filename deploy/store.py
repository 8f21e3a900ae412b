"""The model store: archives that were built here, listed by hash, and their safe unpacking.

A `.mar` is a zip file full of code that TorchServe will run. So only an archive whose hash stands in
`index.json` is touched, and TorchServe is never given the archive itself but a folder that was unpacked here.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import archives
from deploy.archives import (
    DAMAGE,
    INDEX,
    MANIFEST,
    MODEL_CONFIG,
    IndexEntry,
    RefusedArchiveError,
    worker_version,
)
from deploy.errors import ArchiveError, DiskFullError

# Beyond what the archives unpack to: logs, TorchServe's scratch files.
_HEADROOM = 200 * 2**20


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
        return archives.read_index(store)
    except FileNotFoundError:
        raise ArchiveError(
            f"{path}: is missing, so no archive can be trusted. Build them with `inkwell archive --missing`."
        ) from None
    except ValueError as error:
        raise ArchiveError(
            f"{path}: is not an index of archives ({error}). Build it again with `inkwell archive`."
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
    try:
        archives.check_hash(path, entry)
        if entry.model != model:
            raise RefusedArchiveError(f"holds the model {entry.model!r}, but {model!r} is expected")
        with zipfile.ZipFile(path) as archive:
            manifest = archives.manifest_of(archive, entry.model)
            size = sum(info.file_size for info in archive.infolist())
    except RefusedArchiveError as refused:
        raise ArchiveError(f"{path}: {refused}. {rebuild}") from None
    except (*DAMAGE, OSError) as error:  # the file was read for its hash; places that it names may be wrong
        raise ArchiveError(f"{path}: is not a model archive ({error}). {rebuild}") from None
    return Archive(path, entry, manifest, size)


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
    except (*DAMAGE, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
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
