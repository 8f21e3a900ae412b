"""Small files that would fill a machine if they were believed."""

from __future__ import annotations

import json
import shutil
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from fuzz_corpus import Makers
from fuzz_targets import saved

from inkwell import bundle
from inkwell.bundle import load_bundle, open_bundle
from inkwell.errors import BundleError
from training.data.binder import unbind
from training.data.fmg_binary import parse_fmg
from training.data.fmg_xml import iter_entries
from training.errors import DataError


def table(strings: int, offsets: list[int], text: bytes) -> bytes:
    """A table of Dark Souls' layout whose strings stand at `offsets` of `text`."""
    head, group = 28, 12
    strings_at = head + group + 4 * strings
    out = bytes([0, 0, 1, 0]) + struct.pack("<IBBH", strings_at + len(text), 1, 0, 0)
    out += struct.pack("<IIII", 1, strings, head + group, 0)
    out += struct.pack("<Iii", 0, 1, strings)
    return out + struct.pack(f"<{strings}I", *(strings_at + offset for offset in offsets)) + text


def test_texts_that_share_one_place_are_read_once():
    text = "x".encode("utf-16-le") * 100_000 + b"\0\0"
    tracemalloc.start()
    try:
        file = parse_fmg(table(5_000, [0] * 5_000, text), Path("x.fmg"))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(file.entries) == 5_000
    assert {entry.text for entry in file.entries} == {"x" * 100_000}
    assert most < 20_000_000


def test_texts_that_overlap_are_refused():
    text = "x".encode("utf-16-le") * 100_000 + b"\0\0"
    data = table(5_000, [2 * number for number in range(5_000)], text)
    with pytest.raises(DataError, match="texts overlap"):
        parse_fmg(data, Path("x.fmg"))


def test_one_text_has_a_limit():
    text = "x".encode("utf-16-le") * 2_100_000 + b"\0\0"
    with pytest.raises(DataError, match="at most 4000000"):
        parse_fmg(table(1, [0], text), Path("x.fmg"))


def test_files_of_a_bundle_that_overlap_are_refused():
    data = bytearray(Makers.bnd3_bytes({f"{n}.fmg": b"x" * 1000 for n in range(8)}))
    for number in range(8):
        size_at = 32 + 24 * number + 4
        struct.pack_into("<II", data, size_at, len(data) - 300, 300)
    with pytest.raises(DataError, match="files overlap"):
        unbind(bytes(data), "x.msgbnd")


def test_an_xml_without_end_is_read_in_little_memory(tmp_path: Path):
    path = tmp_path / "w.fmg.xml"
    with path.open("w") as file:
        file.write("<fmg><entries>")
        for number in range(60_000):
            file.write(f'<text id="{number}">{"y" * 100}</text>')
        file.write("</entries></fmg>")
    tracemalloc.start()
    try:
        count = sum(1 for _ in iter_entries(path))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 60_000
    assert most < 2_000_000


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bundle, "_MAX_UNPACKED", 5_000_000)
    path = tmp_path / "prose.mar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle/weights.safetensors", b"\0" * 5_000_001)
    assert path.stat().st_size < 10_000
    with pytest.raises(BundleError, match="unpacks to 5000001 bytes"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("hidden", 1 << 40), ("layers", 1 << 40), ("hidden", 30_000), ("vocabulary", 1 << 50)],
)
def test_a_model_larger_than_its_weights_is_refused_before_it_is_made(
    tmp_path: Path, setting: str, value: int
):
    copy = Path(shutil.copytree(saved(), tmp_path / "prose"))
    config = json.loads((copy / "config.json").read_text())
    config["model"][setting] = value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"config\.json|tokenizer\.json"):
        load_bundle(copy)
