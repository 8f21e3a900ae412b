"""Which file holds what, and linking names to their descriptions by id.

An item's name, short text and long text stand in three files under the same id. The files' names differ
between the games; patches and add-ons come as further files of the same part.

    Dark Souls, III, Sekiro, Bloodborne   武器名 / 武器説明 / 武器うんちく   (+ パッチ, _dlc1, _dlc2)
    Dark Souls Remastered                 Weapon_name_ / Weapon_description_ / Weapon_long_desc_
    Dark Souls II                         itemname / simpleexplanation / detailedexplanation (all kinds)
    Elden Ring                            WeaponName / WeaponInfo / WeaponCaption   (+ _dlc01)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from training.data.fmg_file import FmgFile

Part = Literal["name", "short", "long"]
PARTS: tuple[Part, ...] = ("name", "short", "long")

_JAPANESE_KINDS = {
    "武器": "weapon",
    "アイテム": "goods",
    "防具": "armour",
    "アクセサリ": "ring",
    "魔法": "spell",
}
_JAPANESE_PARTS: dict[str, Part] = {"名": "name", "説明": "short", "うんちく": "long"}
_ENGLISH_KINDS = {
    "weapon": "weapon",
    "item": "goods",
    "goods": "goods",
    "armor": "armour",
    "protector": "armour",
    "accessory": "ring",
    "magic": "spell",
}
_REMASTERED_PARTS: dict[str, Part] = {"name": "name", "description": "short", "long_desc": "long"}
_ELDEN_PARTS: dict[str, Part] = {"name": "name", "info": "short", "caption": "long"}
_SECOND_GAME: dict[str, Part] = {
    "itemname": "name",
    "simpleexplanation": "short",
    "detailedexplanation": "long",
}
# Later layers replace earlier ones where both have text: a patch corrects, an add-on adds.
_LAYER = re.compile(r"^(?P<base>.*?)_?(?P<layer>パッチ|patch|dlc_?0?\d)?_?$", re.IGNORECASE)


@dataclass(frozen=True)
class Role:
    """What a file is: kind of item ("item": one file has all kinds), part, and layer ("" is the base)."""

    kind: str
    part: Part
    layer: str = ""


def role_of(stem: str) -> Role | None:
    """The role of a file by its name without endings; None for menus, talk and everything else."""
    found = _LAYER.match(stem)
    if found is None:
        return None
    base = found["base"].rstrip("_")
    layer = {"パッチ": "patch", "patch": "patch"}.get(
        (found["layer"] or "").lower(), (found["layer"] or "").lower()
    )
    for word, kind in _JAPANESE_KINDS.items():
        if base.startswith(word) and base[len(word) :] in _JAPANESE_PARTS:
            return Role(kind, _JAPANESE_PARTS[base[len(word) :]], layer)
    lowered = base.lower()
    if lowered in _SECOND_GAME:
        return Role("item", _SECOND_GAME[lowered], layer)
    head, _, tail = lowered.partition("_")
    if head in _ENGLISH_KINDS and tail in _REMASTERED_PARTS:
        return Role(_ENGLISH_KINDS[head], _REMASTERED_PARTS[tail], layer)
    for word, kind in _ENGLISH_KINDS.items():
        if lowered.startswith(word) and lowered[len(word) :] in _ELDEN_PARTS:
            return Role(kind, _ELDEN_PARTS[lowered[len(word) :]], layer)
    return None


@dataclass
class Item:
    """Raw texts of one id, each with the file it came from; None where there was no entry."""

    kind: str
    id: int
    folder: Path
    texts: dict[Part, str | None] = field(default_factory=dict)

    def has(self, part: Part) -> bool:
        return bool((self.texts.get(part) or "").strip())


def _layer_order(file: FmgFile, role: Role) -> tuple[int, str, str]:
    return (PARTS.index(role.part), role.layer and f"{role.layer != 'patch'}{role.layer}", str(file.path))


def link(files: Iterable[tuple[FmgFile, Role]]) -> list[Item]:
    """Items in order of folder, kind and name file, then of id within the files.

    Files of one folder belong together. A description whose folder knows no name for its id (patches lie
    in another bundle) goes to the nearest folder that has one.
    """
    tables: dict[tuple[Path, str], dict[int, Item]] = {}
    for file, role in sorted(files, key=lambda pair: _layer_order(*pair)):
        folder = file.path.parent
        table = tables.setdefault((folder, role.kind), {})
        for entry in file.entries:
            item = table.setdefault(entry.id, Item(role.kind, entry.id, folder))
            # an empty patch entry must not erase the base text
            if not item.has(role.part) or (entry.text or "").strip():
                item.texts[role.part] = entry.text
    _adopt_orphans(tables)
    ordered = sorted(tables, key=lambda key: (str(key[0]), key[1]))
    return [item for key in ordered for item in tables[key].values()]


def _adopt_orphans(tables: dict[tuple[Path, str], dict[int, Item]]) -> None:
    for (folder, kind), table in tables.items():
        others = sorted(
            (key for key in tables if key[1] == kind and key[0] != folder),
            key=lambda key: (-_shared(key[0], folder), str(key[0])),
        )
        for number, item in list(table.items()):
            if item.has("name") or not (item.has("short") or item.has("long")):
                continue
            for key in others:
                owner = tables[key].get(number)
                if owner is not None and owner.has("name"):
                    for part, text in item.texts.items():
                        if part != "name" and (text or "").strip():
                            owner.texts[part] = text
                    del table[number]
                    break


def _shared(one: Path, two: Path) -> int:
    count = 0
    for left, right in zip(one.parts, two.parts, strict=False):
        if left != right:
            break
        count += 1
    return count
