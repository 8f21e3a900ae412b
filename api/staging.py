"""Archives on their way to TorchServe: checked against the store's index, unpacked beside what is served.

An archive is code that TorchServe will run. Only a file that `index.json` lists with its hash is touched, only
from the local store, and no path in it may lead out of the folder it is unpacked to.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from api.errors import Conflict, InvalidRequest

_MANIFEST = "MAR-INF/MANIFEST.json"
_CONFIG = "model-config.yaml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.mar")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]{0,31}")
_PATH_FIELDS = ("handler", "serializedFile", "modelFile", "requirementsFile", "configFile")
# What reading a damaged zip file, or the JSON in it, ends with; a nesting without end is a RuntimeError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError, ValueError)


@dataclass(frozen=True)
class Listed:
    """One archive of the store's index."""

    archive: str
    model: str
    version: str
    sha256: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def version_name(release: str, worker: int) -> str:
    """The version that worker number `worker` (from 0) of a release is registered as."""
    return release if worker == 0 else f"{release}-w{worker + 1}"


class Staging:
    """`model_store` holds archives and their index; `worker_store` is the folder that TorchServe loads from."""

    def __init__(self, model_store: Path, worker_store: Path | None) -> None:
        self._store = model_store
        self._worker_store = worker_store

    def listed(self) -> list[Listed]:
        """The store's archives. Raises `Conflict` when the index is missing or malformed."""
        path = self._store / "index.json"
        try:
            archives = json.loads(path.read_text(encoding="utf-8"))["archives"]
            return [
                Listed(name, str(raw["model"]), str(raw["version"]), str(raw["sha256"]))
                for name, raw in archives.items()
            ]
        except FileNotFoundError:
            raise Conflict("the model store has no index.json, so no archive can be trusted") from None
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise Conflict(f"the model store's index.json cannot be used: {error!r}") from error

    def check(self, archive: str, model: str) -> Listed:
        """The index entry of an archive of `model` that lies unchanged in the store.

        Raises `InvalidRequest` for a name that is wrong or not listed, `Conflict` for a file that has changed or
        without a folder to unpack it to.
        """
        self._root()
        if not _NAME.fullmatch(archive):
            raise _refuse(f"must be a plain file name that ends with .mar, without folders; got {archive!r}")
        listed = {entry.archive: entry for entry in self.listed()}
        entry = listed.get(archive)
        if entry is None:
            raise _refuse(
                f"must be one of {', '.join(listed) or 'none, the store is empty'}; got {archive!r}"
            )
        if entry.model != model:
            raise _refuse(f"must hold the model {model!r}; {archive!r} holds {entry.model!r}")
        if not _VERSION.fullmatch(entry.version):
            raise _refuse(
                f"holds the version {entry.version!r}, which is not of letters, digits, '.' and '_'"
            )
        self._check_hash(entry)
        return entry

    def unpack(self, entry: Listed, worker: int) -> str:
        """Unpack for worker number `worker` (from 0); the name of its folder in TorchServe's store.

        The settings are those of the same worker of the version served first, so that it runs in its place.
        """
        root = self._root()
        folder = self._folder(entry.model, entry.version, worker)
        target, scratch = root / folder, root / f".{folder}.new"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            with zipfile.ZipFile(self._store / entry.archive) as archive:
                manifest = self._inspect(archive, entry)
                archive.extractall(scratch)
            version = version_name(entry.version, worker)
            manifest["model"] = {**manifest["model"], "configFile": _CONFIG, "modelVersion": version}
            (scratch / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            if (settings := self._settings_of(entry.model, worker)) is not None:
                (scratch / _CONFIG).write_text(settings, encoding="utf-8")
            # Hashed again behind the unpacking: what was read is what was checked.
            self._check_hash(entry)
            shutil.rmtree(target, ignore_errors=True)
            scratch.rename(target)
        except (OSError, *_DAMAGE) as error:
            raise Conflict(f"{entry.archive} cannot be unpacked: {error}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return folder

    def remove(self, model: str, release: str, worker: int) -> None:
        """Delete what `unpack` made; a folder that another put there stays."""
        if self._worker_store is not None:
            shutil.rmtree(self._worker_store / self._folder(model, release, worker), ignore_errors=True)

    def _root(self) -> Path:
        if self._worker_store is None:
            raise Conflict(
                "nothing can be registered: the gateway was not told the folder that TorchServe loads from "
                "(setting worker_store)"
            )
        return self._worker_store

    @staticmethod
    def _folder(model: str, release: str, worker: int) -> str:
        return f"{model}.v{release}.w{worker + 1}"

    def _settings_of(self, model: str, worker: int) -> str | None:
        root = self._root()
        for folder in (model if worker == 0 else f"{model}.w{worker + 1}", model):
            path = root / folder / _CONFIG
            if path.is_file():
                return path.read_text(encoding="utf-8")
        return None

    def _check_hash(self, entry: Listed) -> None:
        try:
            with (self._store / entry.archive).open("rb") as file:
                digest = hashlib.sha256()
                while block := file.read(2**20):
                    digest.update(block)
        except OSError as error:
            raise Conflict(f"{entry.archive} cannot be read: {error.strerror}") from error
        if digest.hexdigest() != entry.sha256:
            raise Conflict(
                f"{entry.archive} has changed since it was built: sha256 {digest.hexdigest()[:12]}…, listed "
                f"{entry.sha256[:12]}…"
            )

    def _inspect(self, archive: zipfile.ZipFile, entry: Listed) -> dict[str, Any]:
        for info in archive.infolist():
            if _leads_out(info.filename) or stat.S_ISLNK(info.external_attr >> 16):
                raise Conflict(f"{entry.archive} holds {info.filename!r}, which leads out of the archive")
        try:
            manifest: dict[str, Any] = json.loads(archive.read(_MANIFEST))
            described = manifest["model"]
            paths = [str(described[field]) for field in _PATH_FIELDS if field in described]
            name = described["modelName"]
        except (*_DAMAGE, TypeError) as error:
            raise Conflict(f"{entry.archive} has no manifest that can be read: {error!r}") from error
        for path in paths:
            if _leads_out(path):
                raise Conflict(
                    f"the manifest of {entry.archive} names {path!r}, which leads out of the archive"
                )
        if name != entry.model:
            raise Conflict(f"the manifest of {entry.archive} is for {name!r}, not for {entry.model!r}")
        return manifest


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or "\0" in name


def _refuse(complaint: str) -> InvalidRequest:
    return InvalidRequest(f"archive {complaint}", field="archive")
