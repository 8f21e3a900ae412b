from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.data.gutenberg import plain_typography, read_book, strip_boilerplate
from training.data.recipes import azgaar_names, fantasygen_names, gutenberg, srd_items
from training.errors import DataError

NEW = (
    "\ufeffThe Project Gutenberg EBook of Tides\r\n\r\nTitle: Tides\r\n\r\n"
    "*** START OF THIS PROJECT GUTENBERG EBOOK TIDES, VOLUME I (OF\r\nII) ***\r\n\r\n\r\n"
    "Produced by A. Person and the\r\nProofreading Team\r\n\r\n\r\n"
    "TIDES\r\n\r\nThe sea said: “No.”  It was  \r\n"
    "late—so late…\r\n\r\n\r\nEnd of the Project Gutenberg EBook of Tides\r\n\r\n"
    "*** END OF THIS PROJECT GUTENBERG EBOOK TIDES ***\r\nlicence\r\n"
)
OLD = (
    "*Project Gutenberg Etext of Sand, by B.*\n\n"
    "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\nlegal\n"
    "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n\nSAND\n\nIt ran.\n\n"
    "*Project Gutenberg Etext of Sand, by B.*\n\n"
)


def test_new_and_old_boilerplate_is_cut() -> None:
    assert strip_boilerplate(NEW, "x") == "TIDES\n\nThe sea said: “No.”  It was  \nlate—so late…"
    assert strip_boilerplate(OLD, "x") == "SAND\n\nIt ran."


def test_small_print_behind_the_book_does_not_open_it() -> None:
    book = "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n" + "Line.\n" * 50
    text = book + "*** END OF THE PROJECT GUTENBERG EBOOK X ***\n*END THE SMALL PRINT! Ver.1*END*\nrest"
    assert strip_boilerplate(text, "x") == ("Line.\n" * 50).strip()


def test_other_text_is_refused() -> None:
    with pytest.raises(DataError, match="x: no Project Gutenberg start mark"):
        strip_boilerplate("Just a novel.", "x")


def test_typography_becomes_ascii_and_letters_keep_their_accents() -> None:
    assert plain_typography("“É”—‘ä’ – a… \t\nb\u00a0c") == "\"É\"--'ä' - a...\nb c"


def test_books_are_joined_by_two_blank_lines(tmp_path: Path) -> None:
    one, two = tmp_path / "1-0.txt", tmp_path / "2-8.txt"
    one.write_bytes(NEW.encode())
    two.write_bytes(OLD.replace("It ran", "Il a coulé").encode("latin-1"))
    assert (
        gutenberg([one, two])
        == 'TIDES\n\nThe sea said: "No."  It was\nlate--so late...\n\n\nSAND\n\nIl a coulé.'
    )
    assert read_book(two).endswith("coulé.")


def test_name_bases_become_rows_in_order_with_their_repeats(tmp_path: Path) -> None:
    path = tmp_path / "name-bases.ts"
    path.write_text(
        "export interface NameBase { name: string; b: string; // base\n}\n"
        'return [ { name: "German", i: 0, min: 5, d: "lt", m: 0.1, b: "Achern,Aitern, Achern" },\n'
        '  {\n name: "Dark Elven",\n i: 1,\n b: "Ab\'ok,Chi Ber,"\n } ];\n',
        encoding="utf-8",
    )
    assert azgaar_names([path]) == (
        "name,category\r\nAchern,German\r\nAitern,German\r\n"
        "Achern,German\r\nAb'ok,Dark Elven\r\nChi Ber,Dark Elven\r\n"
    )
    path.write_text("nothing", encoding="utf-8")
    with pytest.raises(DataError, match="no entry of the form"):
        azgaar_names([path])


def test_dictionaries_become_rows_with_capitals(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps([{"_id": "x", "title": "Old Gods", "values": ["an-nur", "the worm"]}]))
    assert fantasygen_names([path]) == "name,category\r\nAn-nur,Old Gods\r\nThe Worm,Old Gods\r\n"
    path.write_text('[{"title": "x"}]')
    with pytest.raises(DataError, match="needs a title and a list of values"):
        fantasygen_names([path])


def test_items_are_unique_and_described(tmp_path: Path) -> None:
    def entry(key: str, name: str, desc: str, **more: str) -> dict[str, object]:
        return {"pk": key, "fields": {"name": name, "desc": desc, "document": "srd", **more}}

    item, spell = tmp_path / "srd_Item.json", tmp_path / "srd_Spell.json"
    long = "A long enough description—with a dash."
    item.write_text(json.dumps([entry("a", "Axe", long, category="weapon"), entry("b", "Bit", "Short.")]))
    spell.write_text(json.dumps([entry("c", "Axe", long + " "), entry("d", "Mend", long, school="life")]))
    lines = srd_items([item, spell]).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": "a", "name": "Axe", "kind": "Item", "category": "weapon", "doc": "srd", "text": long},
        {"id": "d", "name": "Mend", "kind": "Spell", "category": "life", "doc": "srd", "text": long},
    ]
    assert lines[0].isascii()
