"""Copy archives from one store to another, each checked first: `python -m deploy.copy_models SOURCE TARGET`.

What an init container does for a pod. Only the archives of the models file are copied, only when their hashes are
those listed, and the index last, so that a store that has one is whole.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from deploy import settings, store
from deploy.archives import INDEX, sha256_of
from deploy.errors import ArchiveError, DeployError, OptionError
from deploy.models_file import ModelsFile, ModelsFileError, load


def copy(models_file: ModelsFile, source: Path, target: Path) -> list[str]:
    """Copy what `models_file` serves; the names of the archives. Raises `DeployError`, and then writes no index."""
    index = store.read_index(source)
    (target / INDEX).unlink(missing_ok=True)
    for name, entry in models_file.models.items():
        archive = store.verify(source, index, entry.archive, name)
        _whole(archive.path, target / entry.archive)
        # Read again: a disk that is full or broken is noticed here and not by TorchServe.
        if sha256_of(target / entry.archive) != archive.entry.sha256:
            raise ArchiveError(f"{target / entry.archive}: is not what was copied; is the disk sound?")
    _whole(source / INDEX, target / INDEX)
    return [entry.archive for entry in models_file.models.values()]


def _whole(source: Path, target: Path) -> None:
    """Copy a file so that it is there whole or not at all."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.chmod(0o644)
    os.replace(partial, target)


def main(arguments: list[str]) -> int:
    """The exit code."""
    try:
        match arguments:
            case [source, target]:
                models_file = load(settings.from_environment().models_file)
                copied = copy(models_file, Path(source), Path(target))
            case _:
                raise OptionError(f"arguments = {arguments!r}: must be two folders, SOURCE and TARGET")
    except ModelsFileError as error:
        print(f"error: {error}", file=sys.stderr)
        return OptionError.exit_code
    except DeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return DeployError.exit_code
    print(f"copied and checked: {', '.join(copied)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
