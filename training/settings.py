"""The only file of `training` that reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from training.errors import UserError


@dataclass(frozen=True)
class Settings:
    """Where downloaded and built corpora live.

    data_dir: `INKWELL_DATA_DIR`, else `data/` in the checkout that this package runs from, else the
        user's cache folder (`~/.cache/inkwell/data` on Linux) when it is installed.
    data_mirror: `INKWELL_DATA_MIRROR`, a local folder that replaces the network, else None.
    """

    data_dir: Path
    data_mirror: Path | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read `env` (the process environment when None). Raises UserError for a mirror that is no folder."""
        values = os.environ if env is None else env
        data = values.get("INKWELL_DATA_DIR", "").strip()
        mirror = values.get("INKWELL_DATA_MIRROR", "").strip()
        if mirror and not Path(mirror).is_dir():
            raise UserError(f"INKWELL_DATA_MIRROR={mirror!r} is not a folder")
        return cls(
            data_dir=Path(data) if data else _default_data_dir(Path(__file__).resolve().parents[1]),
            data_mirror=Path(mirror) if mirror else None,
        )


def _default_data_dir(root: Path) -> Path:
    if (root / "pyproject.toml").is_file():
        return root / "data"
    return Path(platformdirs.user_cache_dir("inkwell")) / "data"


def process_group(env: Mapping[str, str] | None = None) -> tuple[int, int, int] | None:
    """(rank, world size, local rank) as `torchrun` sets them, or None outside of it."""
    values = os.environ if env is None else env
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if any(name not in values for name in names):
        return None
    try:
        rank, world, local = (int(values[name]) for name in names)
    except ValueError:
        raise UserError("RANK, WORLD_SIZE and LOCAL_RANK must be integers; start with torchrun") from None
    return rank, world, local
