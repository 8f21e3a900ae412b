"""One table of game text: what both the XML and the binary reader give back."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

_SUFFIXES = (".xml", ".dcx", ".fmg")


@dataclass(frozen=True)
class FmgEntry:
    """A text and its number; `text` is None where the game stores no string at all."""

    id: int
    text: str | None


@dataclass(frozen=True)
class FmgFile:
    """All entries of a file in their order. `version` is DemonsSouls, DarkSouls1, DarkSouls3 or None."""

    path: Path
    entries: tuple[FmgEntry, ...]
    version: str | None = None

    @property
    def stem(self) -> str:
        """File name without its endings, composed (macOS stores `グ` as two characters)."""
        return fmg_stem(self.path)


def fmg_stem(path: Path) -> str:
    """`武器名.fmg.xml` → `武器名`."""
    name = unicodedata.normalize("NFC", path.name)
    while name.lower().endswith(_SUFFIXES):
        name = name[:-4]
    return name


def is_fmg_path(path: Path) -> bool:
    """Whether the file name is one that a game or an unpacker gives to text tables."""
    name = path.name.lower()
    return name.endswith((".fmg.xml", ".fmg", ".fmg.dcx", ".msgbnd", ".msgbnd.dcx"))


_VERSIONS = {
    "0": "DemonsSouls",
    "demonssouls": "DemonsSouls",
    "des": "DemonsSouls",
    "1": "DarkSouls1",
    "darksouls1": "DarkSouls1",
    "darksouls2": "DarkSouls1",
    "ds1": "DarkSouls1",
    "ds2": "DarkSouls1",
    "2": "DarkSouls3",
    "darksouls3": "DarkSouls3",
    "bloodborne": "DarkSouls3",
    "sekiro": "DarkSouls3",
    "eldenring": "DarkSouls3",
    "ds3": "DarkSouls3",
}


def normal_version(spelled: str) -> str | None:
    """The layout behind a spelled version; None for one that is not known (the text can still be read)."""
    return _VERSIONS.get(spelled.strip().replace(" ", "").replace("_", "").lower())
