from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.binder import Bound, unbind
from training.data.souls import build_souls
from training.errors import DataError

FILES = {
    "N:\\FRPG\\data\\Msg\\武器名.fmg": b"one",
    "N:\\FRPG\\data\\Msg\\会話.fmg": b"",
    "plain.txt": b"three",
}
BOUND = [Bound("武器名.fmg", b"one"), Bound("会話.fmg", b""), Bound("plain.txt", b"three")]
WRITERS = ["bnd3_bytes", "bnd4_bytes"]


@pytest.mark.parametrize("writer", WRITERS)
def test_files_come_out_in_order_with_bare_names(makers: Any, writer: str) -> None:
    assert unbind(getattr(makers, writer)(FILES), "x") == BOUND


def test_big_endian_bundle_with_plain_bits_and_no_names_is_read() -> None:
    head = b"BND3" + bytes(8) + bytes([0x03, 1, 1, 0]) + struct.pack(">IIII", 1, 48, 0, 0)
    data = head + struct.pack(">B3xIII", 0x02, 2, 48, 7) + b"hi"
    assert unbind(data, "x") == [Bound("0", b"hi")]


def test_file_compressed_inside_is_named() -> None:
    head = b"BND3" + bytes(8) + bytes([0x74, 0, 0, 0]) + struct.pack("<IIII", 1, 0, 0, 0)
    data = head + struct.pack("<IIIIII", 0xC0 | 0x80, 2, 58, 0, 56, 9) + b"a\0hi"
    with pytest.raises(DataError, match=r"x: file 0 \(a\) is compressed inside the bundle"):
        unbind(data, "x")


@pytest.mark.parametrize("writer", WRITERS)
@given(position=st.integers(0, 180), value=st.integers(0, 255))
def test_damaged_bundle_is_read_or_refused(makers: Any, writer: str, position: int, value: int) -> None:
    data = bytearray(getattr(makers, writer)(FILES))
    data[position % len(data)] = value
    with contextlib.suppress(DataError):  # any other error would fail the test
        unbind(bytes(data), "x")


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("size", [4, 13, 15, 40, 70, 100])
def test_cut_bundle_is_refused(makers: Any, writer: str, size: int) -> None:
    with pytest.raises(DataError, match="x: "):
        unbind(getattr(makers, writer)(FILES)[:size], "x")


def test_other_bytes_are_refused() -> None:
    with pytest.raises(DataError, match=r"b'PK.x03.x04', not with BND3 or BND4"):
        unbind(b"PK\x03\x04", "x")


@pytest.mark.parametrize(("writer", "version"), [("bnd3_bytes", 1), ("bnd4_bytes", 2)])
def test_game_bundles_are_read_without_unpacking(
    tmp_path: Path, makers: Any, writer: str, version: int
) -> None:
    def bundle(name: str, tables: dict[str, dict[int, str]]) -> None:
        files = {f"N:\\msg\\{stem}.fmg": makers.fmg_bytes(texts, version) for stem, texts in tables.items()}
        (tmp_path / name).write_bytes(makers.dcx_bytes(getattr(makers, writer)(files)))

    bundle(
        "item.msgbnd.dcx", {"武器名": {1: "Axe", 2: "Bow"}, "武器うんちく": {1: "It never dries.", 2: "Old."}}
    )
    bundle("menu.msgbnd.dcx", {"武器うんちくパッチ": {2: "It sings now."}, "会話": {7: "Well met."}})
    corpus, report = build_souls(tmp_path)
    assert [d.text for d in corpus.documents] == ["Axe. It never dries.", "Bow. It sings now.", "Well met."]
    assert [source.name for source in corpus.sources] == ["item.msgbnd.dcx", "menu.msgbnd.dcx"]
    assert report.files[0][0] == "item.msgbnd.dcx/武器名.fmg"
