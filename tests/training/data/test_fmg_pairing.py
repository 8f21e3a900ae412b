from __future__ import annotations

from pathlib import Path

import pytest

from training.data.fmg_file import FmgEntry, FmgFile
from training.data.fmg_pairing import Role, link, role_of


@pytest.mark.parametrize(
    ("stem", "role"),
    [
        ("武器名", Role("weapon", "name")),
        ("武器説明", Role("weapon", "short")),
        ("武器うんちく", Role("weapon", "long")),
        ("アイテム名", Role("goods", "name")),
        ("防具説明", Role("armour", "short")),
        ("アクセサリうんちく", Role("ring", "long")),
        ("魔法名", Role("spell", "name")),
        ("武器名パッチ", Role("weapon", "name", "patch")),
        ("魔法うんちく_dlc1", Role("spell", "long", "dlc1")),
        ("防具名_dlc2", Role("armour", "name", "dlc2")),
        ("Weapon_name_", Role("weapon", "name")),
        ("Weapon_description_", Role("weapon", "short")),
        ("Weapon_long_desc_", Role("weapon", "long")),
        ("Item_long_desc_", Role("goods", "long")),
        ("Armor_name_", Role("armour", "name")),
        ("Accessory_description_", Role("ring", "short")),
        ("Magic_long_desc_", Role("spell", "long")),
        ("itemname", Role("item", "name")),
        ("simpleexplanation", Role("item", "short")),
        ("detailedexplanation", Role("item", "long")),
        ("WeaponName", Role("weapon", "name")),
        ("ProtectorCaption_dlc01", Role("armour", "long", "dlc01")),
        ("GoodsInfo", Role("goods", "short")),
        ("会話", None),
        ("NPC名", None),
        ("地名", None),
        ("メニュー共通テキスト", None),
        ("Item_", None),
        ("weaponsmith", None),
    ],
)
def test_file_names_of_all_games_are_known(stem: str, role: Role | None) -> None:
    assert role_of(stem) == role


def file(stem: str, texts: dict[int, str | None], folder: str = "game") -> tuple[FmgFile, Role]:
    entries = tuple(FmgEntry(number, text) for number, text in texts.items())
    role = role_of(stem)
    assert role is not None
    return FmgFile(Path(folder) / f"{stem}.fmg.xml", entries), role


def texts_of(items: object) -> list[tuple[str, int, dict[str, str | None]]]:
    return [(item.kind, item.id, item.texts) for item in items]  # type: ignore[attr-defined]


def test_parts_are_linked_by_id_in_the_order_of_the_name_file() -> None:
    items = link(
        [
            file("武器うんちく", {1: "Long one.", 2: "Long two."}),
            file("武器説明", {2: "Short two."}),
            file("武器名", {2: "Axe", 1: "Bow"}),
        ]
    )
    assert texts_of(items) == [
        ("weapon", 2, {"name": "Axe", "short": "Short two.", "long": "Long two."}),
        ("weapon", 1, {"name": "Bow", "long": "Long one."}),
    ]


def test_same_id_of_two_kinds_is_two_items() -> None:
    items = link([file("武器名", {1: "Axe"}), file("魔法名", {1: "Heal"})])
    assert texts_of(items) == [("spell", 1, {"name": "Heal"}), ("weapon", 1, {"name": "Axe"})]


def test_patch_replaces_and_add_on_adds_but_blanks_erase_nothing() -> None:
    items = link(
        [
            file("武器名_dlc1", {9: "Whip"}),
            file("武器名パッチ", {1: "Great Axe", 2: None, 3: " "}),
            file("武器名", {1: "Axe", 2: "Bow", 3: "Club"}),
        ]
    )
    assert [(item.id, item.texts["name"]) for item in items] == [
        (1, "Great Axe"),
        (2, "Bow"),
        (3, "Club"),
        (9, "Whip"),
    ]


def test_patch_in_another_bundle_finds_its_item() -> None:
    items = link(
        [
            file("武器名", {1: "Axe"}, "ds1/item"),
            file("武器うんちく", {1: "Old text."}, "ds1/item"),
            file("武器うんちくパッチ", {1: "New text."}, "ds1/menu"),
        ]
    )
    assert texts_of(items) == [("weapon", 1, {"name": "Axe", "long": "New text."})]


def test_two_games_in_one_tree_do_not_mix() -> None:
    items = link(
        [
            file("武器名", {1: "Axe"}, "ds1"),
            file("武器うんちく", {1: "Of the first."}, "ds1"),
            file("武器名", {1: "Bow"}, "ds3"),
            file("武器うんちく", {1: "Of the third."}, "ds3"),
        ]
    )
    assert [(item.texts["name"], item.texts["long"]) for item in items] == [
        ("Axe", "Of the first."),
        ("Bow", "Of the third."),
    ]
