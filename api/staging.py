"""Archives on their way to TorchServe: checked against the store's index, unpacked beside what is served.

An archive is code that TorchServe will run. Only a file that `index.json` lists with its hash is touched, only
from the local store, and no path in it may lead out of the folder it is unpacked to.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

from api.errors import Conflict, InvalidRequest
from deploy import archives
from deploy.archives import DAMAGE, MANIFEST, MODEL_CONFIG, IndexEntry, RefusedArchiveError, worker_version

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.mar")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]{0,31}")


class Staging:
    """`model_store` holds archives and their index; `worker_store` is the folder that TorchServe loads from."""

    def __init__(self, model_store: Path, worker_store: Path | None) -> None:
        self._store = model_store
        self._worker_store = worker_store

    def listed(self) -> dict[str, IndexEntry]:
        """The store's archives by file name. Raises `Conflict` when the index is missing or malformed."""
        try:
            return archives.read_index(self._store)
        except FileNotFoundError:
            raise Conflict("the model store has no index.json, so no archive can be trusted") from None
        except (OSError, ValueError) as error:
            raise Conflict(f"the model store's index.json cannot be used: {error}") from error

    def check(self, archive: str, model: str) -> IndexEntry:
        """The index entry of an archive of `model` that lies unchanged in the store.

        Raises `InvalidRequest` for a name that is wrong or not listed, `Conflict` for a file that has changed or
        without a folder to unpack it to.
        """
        self._root()
        if not _NAME.fullmatch(archive):
            raise _refuse(f"must be a plain file name that ends with .mar, without folders; got {archive!r}")
        listed = self.listed()
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

    def unpack(self, entry: IndexEntry, worker: int) -> str:
        """Unpack for worker number `worker` (from 0); the name of its folder in TorchServe's store.

        The settings are those of the same worker of the version served first, so that it runs in its place.
        """
        root = self._root()
        folder = self._folder(entry.model, entry.version, worker)
        target, scratch = root / folder, root / f".{folder}.new"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            with zipfile.ZipFile(self._store / entry.archive) as archive:
                manifest = dict(archives.manifest_of(archive, entry.model))
                archive.extractall(scratch)
            version = worker_version(entry.version, worker)
            manifest["model"] = {**manifest["model"], "configFile": MODEL_CONFIG, "modelVersion": version}
            (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            if (settings := self._settings_of(entry.model, worker)) is not None:
                (scratch / MODEL_CONFIG).write_text(settings, encoding="utf-8")
            # Hashed again behind the unpacking: what was read is what was checked.
            self._check_hash(entry)
            shutil.rmtree(target, ignore_errors=True)
            scratch.rename(target)
        except RefusedArchiveError as refused:
            raise Conflict(f"{entry.archive} {refused}") from None
        except (OSError, *DAMAGE) as error:
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
            path = root / folder / MODEL_CONFIG
            if path.is_file():
                return path.read_text(encoding="utf-8")
        return None

    def _check_hash(self, entry: IndexEntry) -> None:
        try:
            archives.check_hash(self._store / entry.archive, entry)
        except RefusedArchiveError as refused:
            raise Conflict(f"{entry.archive} {refused}") from None
        except OSError as error:
            raise Conflict(f"{entry.archive} cannot be read: {error.strerror}") from error


def _refuse(complaint: str) -> InvalidRequest:
    return InvalidRequest(f"archive {complaint}", field="archive")
