from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.dcx import unpack
from training.data.fmg_binary import parse_fmg, read_fmg_binary
from training.data.fmg_file import FmgEntry
from training.errors import DataError

HERE = Path("test.fmg")
TEXTS: dict[int, str | None] = {
    10: "Knife",
    11: None,
    12: "二行\r\nあり",
    500: "",
    1_000_000: "Ā ends in zero byte: Ā",
}
READ = (
    FmgEntry(10, "Knife"),
    FmgEntry(11, None),
    FmgEntry(12, "二行\nあり"),
    FmgEntry(500, ""),
    FmgEntry(1_000_000, "Ā ends in zero byte: Ā"),
)


@pytest.mark.parametrize(
    ("version", "big", "name"), [(0, True, "DemonsSouls"), (1, False, "DarkSouls1"), (2, False, "DarkSouls3")]
)
def test_all_three_layouts_are_read(makers: Any, version: int, big: bool, name: str) -> None:
    file = parse_fmg(makers.fmg_bytes(TEXTS, version, big), HERE)
    assert file.entries == READ
    assert file.version == name


def test_narrow_layout_written_by_hand_is_read() -> None:
    data = bytes.fromhex(
        "00 00 01 00  2e 00 00 00  01 00 00 00  01 00 00 00  01 00 00 00  28 00 00 00  00 00 00 00"  # header
        "00 00 00 00  07 00 00 00  07 00 00 00"  # one group: string 0, ids 7 to 7
        "2c 00 00 00"  # its string stands at 0x2c
        "21 00"  # an exclamation mark …
    )
    with pytest.raises(DataError, match="text 7 at byte 44 never ends"):
        parse_fmg(data, HERE)
    assert parse_fmg(data[:4] + struct.pack("<I", 48) + data[8:] + b"\0\0", HERE).entries == (
        FmgEntry(7, "!"),
    )


def test_shift_jis_strings_are_read(makers: Any) -> None:
    entries = parse_fmg(makers.fmg_bytes({1: "武器", 2: "abc"}, 0, big=True, utf16=False), HERE).entries
    assert entries == (FmgEntry(1, "武器"), FmgEntry(2, "abc"))


@given(
    st.dictionaries(
        st.integers(0, 2**31 - 2),
        st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12),
        max_size=12,
    ),
    st.sampled_from([(0, True), (1, False), (1, True), (2, False)]),
)
def test_whatever_is_written_is_read(
    makers: Any, texts: dict[int, str | None], layout: tuple[int, bool]
) -> None:
    entries = parse_fmg(makers.fmg_bytes(texts, *layout), HERE).entries
    assert {entry.id: entry.text for entry in entries} == texts
    assert [entry.id for entry in entries] == sorted(texts)


@given(st.integers(0, 200), st.integers(0, 255))
def test_damaged_file_is_read_or_refused_but_never_crashes(makers: Any, position: int, value: int) -> None:
    data = bytearray(makers.fmg_bytes(TEXTS, 2))
    data[position % len(data)] = value
    with contextlib.suppress(DataError):  # any other error would fail the test
        parse_fmg(bytes(data), HERE)


@pytest.mark.parametrize("size", [0, 3, 20, 39, 60])
def test_cut_file_is_refused(makers: Any, size: int) -> None:
    with pytest.raises(DataError, match=r"not an FMG|cut short|header says"):
        parse_fmg(makers.fmg_bytes(TEXTS, 2)[:size], HERE)


def test_group_beyond_the_strings_is_refused(makers: Any) -> None:
    data = bytearray(makers.fmg_bytes({1: "a", 2: "b"}, 1))
    data[36:40] = struct.pack("<i", 2_000_000_000)
    with pytest.raises(
        DataError, match="group 0 has ids 1 to 2000000000 at string 0; the file has 2 strings"
    ):
        parse_fmg(bytes(data), HERE)


def test_xml_is_not_taken_for_a_binary() -> None:
    with pytest.raises(DataError, match="3c 66 6d 67; this is not an FMG"):
        parse_fmg(b"<fmg/>", HERE)


@pytest.mark.parametrize("wrap", ["dcx_bytes", "dcp_bytes"])
def test_zlib_containers_are_unpacked(makers: Any, tmp_path: Path, wrap: str) -> None:
    path = tmp_path / "item.fmg.dcx"
    path.write_bytes(getattr(makers, wrap)(makers.fmg_bytes(TEXTS, 1)))
    assert [file.entries for file in read_fmg_binary(path)] == [READ]


@pytest.mark.parametrize(
    ("method", "name"),
    [(b"KRAK", "KRAK .Oodle Kraken"), (b"EDGE", "EDGE"), (b"ZSTD", "ZSTD"), (b"ABCD", "b'ABCD'")],
)
def test_other_compressions_are_named(makers: Any, method: bytes, name: str) -> None:
    with pytest.raises(DataError, match=f"x: compressed with {name}.*only DFLT"):
        unpack(makers.dcx_bytes(b"data", method), "x")


def test_container_that_lies_about_its_size_is_refused(makers: Any) -> None:
    with pytest.raises(DataError, match="promises 10 unpacked bytes"):
        unpack(makers.dcx_bytes(b"x" * 1000, claimed=10), "x")
    with pytest.raises(DataError, match="claims 4294967295 unpacked bytes"):
        unpack(makers.dcx_bytes(b"x", claimed=2**32 - 1), "x")


@given(st.integers(0, 120), st.integers(0, 255))
def test_damaged_container_is_unpacked_or_refused(makers: Any, position: int, value: int) -> None:
    data = bytearray(makers.dcx_bytes(makers.fmg_bytes(TEXTS, 2)))
    data[position % len(data)] = value
    with contextlib.suppress(DataError):  # any other error would fail the test
        assert len(unpack(bytes(data), "x")) == len(makers.fmg_bytes(TEXTS, 2))


@pytest.mark.parametrize("size", [4, 30, 50, 80])
def test_cut_container_is_refused(makers: Any, size: int) -> None:
    with pytest.raises(DataError, match="x: "):
        unpack(makers.dcx_bytes(b"some text that is long enough")[:size], "x")
