"""A bundle packed into a `.mar` that a stock TorchServe can load with nothing but the worker's four libraries.

Inside: the packages `inkwell/` and `handlers/` and the folder `bundle/`, so that import lines are the same as
in the repository. An archive appears in the store whole or not at all, and its hash is listed in `index.json`;
nothing else is ever loaded.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.plan_views import BATCH_DELAY_MS, LIVE_POSTS, RESPONSE_TIMEOUT_S
from inkwell.bundle import FILES, OPTIONAL_FILES, Bundle, load_bundle
from inkwell.errors import BundleError
from training.errors import DataError, TrainingError, UserError

INDEX = "index.json"
HANDLER = "continuous.py"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # as in models.toml
# The client speaks HTTP to a gateway and has no business in a worker.
_NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", "client")
# What one worker needs besides weights and states: Python, torch, buffers.
_BASE_MB = 350


@dataclass(frozen=True)
class Archived:
    """An archive in the store."""

    path: Path
    sha256: str
    size: int
    memory_mb: int


def archive(bundle_dir: Path, store: Path, slots: int = 64) -> Archived:
    """Pack a bundle into `store/NAME.mar` and list it. Raises DataError for a bad bundle or index, TrainingError
    when the store cannot be written or its disk is full; then nothing has changed."""
    try:
        bundle = load_bundle(bundle_dir)
    except BundleError as error:
        raise DataError(f"{error}. Train it again, or name another bundle.") from error
    check_name(bundle.config.name)
    try:
        store.mkdir(parents=True, exist_ok=True)
        # The archiver deletes a scratch folder named after the model, so every build gets a place of its own.
        with tempfile.TemporaryDirectory(prefix=".build-", dir=store) as scratch:
            built = _build(bundle, bundle_dir, Path(scratch), slots)
            with built.open("rb+") as file:
                os.fsync(file.fileno())
            made = Archived(
                store / built.name, _sha256(built), built.stat().st_size, _memory_mb(bundle, slots)
            )
            _publish(built, made, bundle, Path(scratch))
    except OSError as error:
        if _is_full(error):
            raise TrainingError(
                f"the disk of {store} is full; packing {bundle.config.name} needs about "
                f"{_size(bundle_dir) * 3 // 2**20 + 1} MiB. Nothing was changed."
            ) from error
        raise TrainingError(f"{store}: {error.strerror or error}. Nothing was changed.") from error
    return made


def check_name(name: str) -> None:
    """Raises UserError for a name that models.toml would not take: it becomes a file name and part of a URL."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"model name is {name!r}; it must be 1 to 63 lower-case letters, digits, '-' or '_', the first a "
            "letter or digit"
        )


def _is_full(error: OSError) -> bool:
    # copytree gathers its errors into one that has lost their numbers
    gathered = isinstance(error, shutil.Error) and os.strerror(errno.ENOSPC) in str(error)
    return error.errno == errno.ENOSPC or gathered


def _build(bundle: Bundle, bundle_dir: Path, scratch: Path, slots: int) -> Path:
    from model_archiver.model_packaging_utils import ModelExportUtils

    staging = scratch / "staging"
    for package in ("inkwell", "handlers"):
        shutil.copytree(_package(package), staging / package, ignore=_NOT_SHIPPED)
    (staging / "bundle").mkdir()
    for name in (*FILES, *OPTIONAL_FILES):
        if (bundle_dir / name).is_file():
            shutil.copy2(bundle_dir / name, staging / "bundle" / name)
    # TorchServe imports its handler as a top-level module of the archive.
    shutil.copy2(staging / "handlers" / HANDLER, staging / HANDLER)
    config = staging / "model-config.yaml"
    config.write_text(yaml.safe_dump(default_config(slots), sort_keys=False), encoding="utf-8")
    arguments = _Arguments(bundle.config.name, bundle.config.version, HANDLER, str(staging), config.name)
    manifest = ModelExportUtils.generate_manifest_json(arguments)
    target = scratch / f"{bundle.config.name}.mar"
    # `package_model` would copy all of this into a folder under the system's temporary directory that is named
    # after the model and deleted first, so two builds of one name would destroy each other.
    ModelExportUtils.archive(str(scratch), bundle.config.name, str(staging), manifest, "default")
    return target


@dataclass
class _Arguments:
    """What torch-model-archiver's manifest is made from."""

    model_name: str
    version: str
    handler: str
    extra_files: str
    config_file: str
    serialized_file: str | None = None
    model_file: str | None = None
    runtime: str = "python"
    requirements_file: str | None = None


def default_config(slots: int) -> dict[str, Any]:
    """`model-config.yaml` for a stock TorchServe: one CPU worker. `inkwell serve` puts the plan's in its place."""
    return {
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": LIVE_POSTS,
        "maxBatchDelay": BATCH_DELAY_MS,
        "responseTimeout": RESPONSE_TIMEOUT_S,
        "continuousBatching": True,
        "handler": {"slots": slots, "threads": 1},
    }


def _memory_mb(bundle: Bundle, slots: int) -> int:
    weights = sum(p.numel() * p.element_size() for p in bundle.model.parameters())
    states = bundle.model.decoder().new_state(1).bytes_per_row * slots
    # Packed copies of the weights lie beside the loaded ones.
    return _BASE_MB + (2 * weights + states) // 2**20


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise TrainingError(f"package {name!r} is not installed beside this program")
    return Path(spec.submodule_search_locations[0])


def _publish(built: Path, made: Archived, bundle: Bundle, scratch: Path) -> None:
    """Put the archive and its line in index.json in place. Everything is written first, so that only two renames
    are left, and one build at a time does this, so that a line always belongs to the archive that is there."""
    with _locked(made.path.parent):
        index = made.path.parent / INDEX
        archives = _listed(index)
        archives[made.path.name] = {
            "sha256": made.sha256,
            "model": bundle.config.name,
            "version": bundle.config.version,
            "memory_mb": made.memory_mb,
        }
        draft = scratch / INDEX
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"archives": dict(sorted(archives.items()))}, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        built.replace(made.path)
        draft.replace(index)


def _listed(index: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(index.read_text(encoding="utf-8"))["archives"])
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{index} is damaged ({error}); delete it and build all archives again") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold `folder` against other builds, in this process and in others."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
