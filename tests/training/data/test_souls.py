from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from training.data.fmg_clean import (
    HOLE,
    is_body_part,
    is_menu_string,
    plain,
    take_labels,
    take_prefix,
    take_upgrade,
)
from training.data.souls import SoulsOptions, build_souls
from training.errors import DataError, UserError

Write = Callable[..., Path]


def texts(root: Path, **options: Any) -> list[str]:
    corpus, _ = build_souls(root, SoulsOptions(**options))
    return [document.text for document in corpus.documents]


def dropped(root: Path, **options: Any) -> dict[str, int]:
    _, report = build_souls(root, SoulsOptions(**options))
    return {drop.reason: drop.count for drop in report.drops}


@pytest.fixture
def weapons(write_fmg: Write) -> Write:
    """Writes names, short and long texts of weapons in one call."""

    def write(**items: tuple[str | None, str | None, str | None]) -> Path:
        numbers = {int(key[1:]): value for key, value in items.items()}
        write_fmg("武器名", {n: v[0] for n, v in numbers.items()})
        write_fmg("武器説明", {n: v[1] for n, v in numbers.items()})
        return write_fmg("武器うんちく", {n: v[2] for n, v in numbers.items()})

    return write


def test_item_is_name_short_text_and_long_text(weapons: Write) -> None:
    root = weapons(i1=("Salt Axe", "A wide blade.", "Forged at low tide.\nIt never dries."))
    assert texts(root) == ["Salt Axe. A wide blade. Forged at low tide. It never dries."]


def test_sentences_are_documents_of_their_own_and_never_twice(weapons: Write) -> None:
    root = weapons(
        i1=("Axe", "A wide blade.", "It never dries. Nor does its bearer"),
        i2=("Bow", "A wide blade.", "It sings."),
    )
    assert texts(root, output="sentences") == ["A wide blade.", "It never dries.", "It sings."]
    assert dropped(root, output="sentences") == {"not a whole sentence": 1, "duplicate sentence": 1}


def test_short_text_that_the_long_text_repeats_is_said_once(weapons: Write) -> None:
    assert texts(weapons(i1=("Axe", "A wide blade.", "A wide blade. It never dries."))) == [
        "Axe. A wide blade. It never dries."
    ]


@pytest.mark.parametrize(
    "blank", [None, "", " ", "no_text", "no text", "none text", "(dummyText)", "%null%\n"]
)
def test_blank_entries_are_dropped_and_counted(weapons: Write, blank: str | None) -> None:
    root = weapons(i1=("Axe", blank, "It never dries."), i2=("Bow", blank, blank))
    assert texts(root) == ["Axe. It never dries."]
    assert dropped(root) == {"blank (empty, %null%, no_text …)": 3, "name without a description": 1}


def test_labels_become_the_category_and_leave_the_text(weapons: Write) -> None:
    root = weapons(i1=("Axe", "A blade.", "Weapon type: Great Axe\nAttack type: Slash\n\nIt never dries."))
    corpus, report = build_souls(root, SoulsOptions(category="type"))
    assert [(d.text, d.category) for d in corpus.documents] == [
        ("Axe. A blade. It never dries.", "great axe")
    ]
    assert report.noted("label line taken off (weapon type:)") == 1


def test_skill_texts_are_left_out_unless_wanted(weapons: Write) -> None:
    long = "It never dries.\nSkill: Stance\nFrom stance, strike low.\n\nOne was found in a well."
    root = weapons(i1=("Axe", None, long))
    assert texts(root) == ["Axe. It never dries. One was found in a well."]
    assert texts(root, keep_skills=True) == [
        "Axe. It never dries. One was found in a well. From stance, strike low."
    ]


def test_prefixes_become_the_category_and_leave_the_name(write_fmg: Write) -> None:
    write_fmg("Magic_name_", {1: "Miracle: Mend", 2: "Pyromancy : Ash"})
    root = write_fmg("Magic_long_desc_", {1: "It knits bone.", 2: "It burns bone."})
    corpus, _ = build_souls(root, SoulsOptions(category="type"))
    assert [(d.text, d.category) for d in corpus.documents] == [
        ("Mend. It knits bone.", "miracle"),
        ("Ash. It burns bone.", "pyromancy"),
    ]


def test_upgrades_fold_into_their_base_unless_they_say_something_new(weapons: Write) -> None:
    root = weapons(
        i100=("Axe", "A blade.", "It never dries."),
        i101=("Axe+1", "A blade.", "It never dries."),
        i102=("Axe +2", None, None),
        i103=("Axe +3", None, "Now it weeps."),
        i200=("Bow +1", None, "It sings."),
        i201=("Bow +2", None, "It sings."),
    )
    assert texts(root) == ["Axe. A blade. It never dries.", "Axe. Now it weeps.", "Bow. It sings."]
    assert dropped(root)["upgrade (+N) of an item that is there"] == 3


def test_infusions_fold_into_their_base_but_other_items_at_the_offset_stay(weapons: Write) -> None:
    root = weapons(
        i1500000=("Main-gauche", "A dagger.", "It parries."),
        i1500100=("Heavy Main-gauche", "A dagger.", "It parries."),
        i1500200=("Keen Main-gauche", None, None),
        i1500300=("Saint's Main-gauche", None, "It forgives."),
        i1500400=("Rapier", None, "It is another thing."),
    )
    assert texts(root) == [
        "Main-gauche. A dagger. It parries.",
        "Saint's Main-gauche. It forgives.",
        "Rapier. It is another thing.",
    ]
    assert dropped(root)["infusion of an item that is there"] == 2


def test_body_parts_and_carvings_are_dropped_and_headbands_stay(write_fmg: Write) -> None:
    names = {1: "Female Head", 2: "Head", 3: "Carving: Hello", 4: "Headband of Wit", 5: "Hello Carving"}
    write_fmg("防具名", names)
    root = write_fmg("防具うんちく", dict.fromkeys(names, "It is worn.") | {4: "It thinks."})
    assert texts(root) == ["Headband of Wit. It thinks."]
    assert dropped(root) == {"body part": 2, "carving": 2}


def test_duplicate_descriptions_are_merged_and_the_first_stays(weapons: Write) -> None:
    root = weapons(
        i1=("Iron Helm", None, "Iron Helm worn by the drowned. It rusts."),
        i2=("Iron Greaves", None, "Iron Greaves worn by the drowned. It rusts."),
        i3=("Rag", None, "it RUSTS."),
        i4=("Cloak", None, "It shines."),
    )
    assert texts(root) == ["Iron Helm. Iron Helm worn by the drowned. It rusts.", "Cloak. It shines."]
    assert dropped(root)["same description as an earlier item"] == 2
    assert len(texts(root, keep_duplicates=True)) == 4


def test_sentences_with_gaps_or_about_the_console_are_dropped_alone(weapons: Write) -> None:
    root = weapons(
        i1=(
            "Axe",
            None,
            "It never dries. Costs <?gdsparam@0?> souls. Online play item. In service of the sea.",
        )
    )
    assert texts(root) == ["Axe. It never dries. In service of the sea."]


def test_talk_is_kept_and_menus_are_dropped(write_fmg: Write) -> None:
    write_fmg("会話", {1: "Press on, host of crows.", 2: "Press on, host of crows.", 3: "hm", 4: None})
    menu = {
        1: "Return to menu?",
        2: "Press any key.",
        3: "The fire keeps. Rest here, &amp; be warm.",
        4: "Settings",
    }
    root = write_fmg("メニュー共通テキスト", menu)
    assert texts(root) == ["The fire keeps. Rest here, & be warm.", "Press on, host of crows."]
    assert dropped(root)["menu or system message"] == 3
    with pytest.raises(DataError, match="nothing is left of 8 entries in 2 files"):
        build_souls(root, SoulsOptions(keep_lines=False))


def test_every_entry_is_accounted_for(weapons: Write, write_fmg: Write) -> None:
    weapons(i1=("Axe", "A blade.", None), i2=(None, None, "Nameless text."), i3=(None, None, None))
    root = write_fmg("会話", {1: "Well met.", 2: "%s", 3: ""})
    corpus, report = build_souls(root)
    # 9 weapon entries: 3 with text (one dropped with its item), 6 blank; 3 lines: 1 kept, 1 gap, 1 blank
    assert report.read == 12
    assert {(d.unit, d.reason): d.count for d in report.drops} == {
        ("entry", "blank (empty, %null%, no_text …)"): 7,
        ("item", "description without a name"): 1,
        ("item", "nothing left of its entries"): 1,
        ("entry", "has a gap for a value or button"): 1,
    }
    assert report.kept == len(corpus) == 2
    # and so is every item: what was linked is kept or left out
    assert report.stages == (("entries", 12), ("items linked by id and 3 loose lines", 3))


def test_rows_of_a_table_are_no_sentence(weapons: Write) -> None:
    root = weapons(i1=("Axe", "It has a blade.", "Roll once. d10 Kind 1 Acid 2 Cold 3 Fire 4 Force 5 Ice"))
    assert texts(root) == ["Axe. It has a blade. Roll once."]
    assert dropped(root)["rows of a table, not a sentence"] == 1


def test_order_is_that_of_the_files(weapons: Write) -> None:
    root = weapons(
        i3=("Cat", None, "Three."), i1=("Ant", None, "One of them."), i2=("Bee", None, "Two of them.")
    )
    assert [text[:3] for text in texts(root)] == ["Cat", "Ant", "Bee"]


def test_second_game_has_all_kinds_in_one_file(write_fmg: Write) -> None:
    write_fmg("itemname", {1: "Fang Key", 2: "Fists"}, version="DarkSouls1")
    write_fmg("simpleexplanation", {1: "Opens a fang.", 2: "Fists."}, version="DarkSouls1")
    root = write_fmg("detailedexplanation", {1: "Nobody knows which.", 2: "They hit."}, version="DarkSouls1")
    assert texts(root) == ["Fang Key. Opens a fang. Nobody knows which."]


def test_game_files_and_containers_are_read_directly(tmp_path: Path, makers: Any) -> None:
    (tmp_path / "Weapon_name_.fmg").write_bytes(makers.fmg_bytes({1: "Axe"}, 1))
    (tmp_path / "Weapon_long_desc_.fmg.dcx").write_bytes(
        makers.dcx_bytes(makers.fmg_bytes({1: "It never dries."}, 2))
    )
    assert texts(tmp_path) == ["Axe. It never dries."]


def test_unpacked_copy_beside_the_game_file_is_read_once(tmp_path: Path, makers: Any) -> None:
    (tmp_path / "会話.fmg").write_bytes(makers.fmg_bytes({1: "From the game."}, 1))
    (tmp_path / "会話.fmg.xml").write_text(makers.fmg_xml({1: "From the unpacker."}), encoding="utf-8")
    assert texts(tmp_path) == ["From the unpacker."]


def test_groups_are_the_folders(write_fmg: Write) -> None:
    write_fmg("会話", {1: "Of the first game."}, folder="ds1/menu")
    root = write_fmg("会話", {1: "Of the third game."}, folder="ds3/menu")
    corpus, _ = build_souls(root)
    assert [d.group for d in corpus.documents] == ["ds1/menu", "ds3/menu"]


def test_report_is_json_and_a_table_with_square_brackets_intact(weapons: Write) -> None:
    root = weapons(i1=("Axe [b]", None, None), i2=("Bow", None, "It sings."))
    _, report = build_souls(root)
    assert json.loads(json.dumps(report.to_dict()))["kept"] == 1
    out = StringIO()
    Console(file=out, width=160).print(report.render())
    assert "name without a description" in out.getvalue()
    assert "Axe [b]" in out.getvalue()


def test_folder_without_game_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*\.fmg\.xml"):
        build_souls(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        build_souls(tmp_path / "nothing")


@pytest.mark.parametrize(("field", "value"), [("output", "words"), ("category", "colour"), ("min_chars", 0)])
def test_bad_options_are_named(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{field} is {value!r}"):
        SoulsOptions(**{field: value})


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A &amp;amp; B &lt;i&gt;C&lt;/i&gt;", "A & B C"),
        ("one\\ntwo\r\nthree", "one\ntwo\nthree"),
        (
            "the _plane shift_ spell, **bold**, snake_case_word",
            "the plane shift spell, bold, snake_case_word",
        ),
        ("5 < 6 and 7 > 2", "5 < 6 and 7 > 2"),
        ("| a | b |\n|---|---|\ntext", "text"),
        ("full\u3000width\u00a0space .", "full width space."),
        ("Costs %d souls", f"Costs {HOLE} souls"),
        ("#c00FF00Red", HOLE),
        ("100% sure", "100% sure"),
    ],
)
def test_markup_goes_and_text_stays(raw: str, clean: str) -> None:
    assert plain(raw) == clean


def test_names_are_taken_apart() -> None:
    assert take_upgrade("Ring of Favor+2") == ("Ring of Favor", 2)
    assert take_upgrade("Battleaxe (+3)") == ("Battleaxe", 3)
    assert take_upgrade("+1") == ("+1", 0)
    assert take_upgrade("A+ Student") == ("A+ Student", 0)
    assert take_prefix("Sorcery: Soul Arrow") == ("Soul Arrow", "sorcery")
    assert take_prefix("Sorcery Clutch Ring") == ("Sorcery Clutch Ring", None)
    assert take_labels("weapon Type：Axe\nrest").fields == {"weapon type": "Axe"}
    assert is_body_part("male hands", "armour")
    assert not is_body_part("Face", "goods")
    assert is_menu_string("Check your settings.", "会話")
    assert not is_menu_string("Save us, Lord.", "会話")
