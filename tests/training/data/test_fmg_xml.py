from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.fmg_file import FmgEntry, fmg_stem
from training.data.fmg_xml import iter_entries, read_fmg_xml
from training.errors import DataError


def put(folder: Path, text: str | bytes) -> Path:
    path = folder / "武器名.fmg.xml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_null_empty_and_wrapped_texts_are_told_apart(tmp_path: Path, makers: Any) -> None:
    text = makers.fmg_xml({1: None, 2: "", 3: "two\nlines & <b>"}).replace(
        '<text id="2"></text>', '<text id="2"/>'
    )
    file = read_fmg_xml(put(tmp_path, text))
    assert file.entries == (FmgEntry(1, None), FmgEntry(2, ""), FmgEntry(3, "two\nlines & <b>"))


@pytest.mark.parametrize("filename", [None, "武器名"])
def test_entries_are_found_by_name_not_by_position(tmp_path: Path, makers: Any, filename: str | None) -> None:
    assert read_fmg_xml(put(tmp_path, makers.fmg_xml({5: "Axe"}, filename=filename))).entries == (
        FmgEntry(5, "Axe"),
    )


def test_entries_may_stand_before_the_other_elements(tmp_path: Path) -> None:
    file = read_fmg_xml(
        put(tmp_path, '<fmg><entries><text id="1">a</text></entries><version>2</version></fmg>')
    )
    assert file.entries == (FmgEntry(1, "a"),)
    assert file.version == "DarkSouls3"


@pytest.mark.parametrize(
    ("spelled", "version"),
    [
        ("DarkSouls1", "DarkSouls1"),
        ("DarkSouls3", "DarkSouls3"),
        ("1", "DarkSouls1"),
        ("Sekiro", "DarkSouls3"),
        ("9", None),
    ],
)
def test_versions_are_known_by_name_and_number(
    tmp_path: Path, makers: Any, spelled: str, version: str | None
) -> None:
    assert read_fmg_xml(put(tmp_path, makers.fmg_xml({1: "a"}, version=spelled))).version == version


def test_entity_bomb_is_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE fmg [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>'
    bomb += '<fmg><entries><text id="1">&b;</text></entries></fmg>'
    with pytest.raises(DataError, match=r"line 1: a document type \(fmg\) is not allowed"):
        read_fmg_xml(put(tmp_path, bomb))


def test_external_entity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="document type"):
        read_fmg_xml(put(tmp_path, '<!DOCTYPE fmg SYSTEM "file:///etc/hostname"><fmg/>'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("<html/>", "outermost element is <html>, not <fmg>"),
        ('<fmg><entries><text id="x">a</text></entries></fmg>', "id='x'; a whole number"),
        ("<fmg><entries><text>a</text></entries></fmg>", "id=None"),
        ('<fmg>\n<entries>\n<text id="1">a', "line 3, column 14: no element found"),
        ('<fmg><entries><text id="1"><b>a</b></text></entries></fmg>', "<b> inside <text>"),
        (b"<fmg><entries><text id='1'>\xff</text></entries></fmg>", "line 1, column 27"),
    ],
)
def test_bad_file_is_refused_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_fmg_xml(put(tmp_path, text))


def test_memory_does_not_grow_with_the_file(tmp_path: Path, makers: Any) -> None:
    line = "A sword that sank with its bearer. " * 30
    path = put(tmp_path, makers.fmg_xml(dict.fromkeys(range(12_000), line)))
    assert path.stat().st_size > 12_000_000
    tracemalloc.start()
    count = sum(1 for _ in iter_entries(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 12_000
    assert peak < 2_000_000


def test_stem_is_composed_and_without_endings() -> None:
    assert fmg_stem(Path("a/アイテムうんちく.fmg.xml")) == "アイテムうんちく"
    assert fmg_stem(Path("フ\u3099.fmg.dcx")) == "ブ"
    assert fmg_stem(Path("Weapon_name_.fmg")) == "Weapon_name_"


@given(
    st.dictionaries(
        st.integers(-5, 10**9),
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=20).filter(
            lambda t: t.strip() != "%null%"
        ),
        max_size=6,
    )
)
def test_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, makers: Any, texts: dict[int, str]
) -> None:
    path = put(tmp_path_factory.mktemp("x"), makers.fmg_xml(texts))
    assert {entry.id: entry.text for entry in read_fmg_xml(path).entries} == texts
