"""Makers of small files, written byte by byte from the documented layouts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

Entries = dict[int, str | None]


class Makers:
    """Reached through the fixture `makers`: test modules cannot import one another."""

    @staticmethod
    def fmg_xml(entries: Entries, version: str = "DarkSouls3", filename: str | None = None) -> str:
        """As an unpacker writes it: None becomes %null%, an empty text an empty element."""
        head = f"<filename>{filename}</filename>\n" if filename else ""
        texts = "\n".join(
            f'<text id="{number}">{escape("%null%" if text is None else text)}</text>'
            for number, text in entries.items()
        )
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n<fmg>\n'
            f"{head}<compression>None</compression>\n<version>{version}</version>\n<bigendian>False</bigendian>\n"
            f"<entries>\n{texts}\n</entries>\n</fmg>\n"
        )

    @staticmethod
    def fmg_bytes(entries: Entries, version: int, big: bool = False, utf16: bool = True) -> bytes:
        """The game's own file: header, groups of consecutive ids, string offsets, strings."""
        order = ">" if big else "<"
        wide = version == 2
        ids = sorted(entries)
        groups: list[tuple[int, int, int]] = []
        for index, number in enumerate(ids):
            if groups and groups[-1][2] == number - 1:
                groups[-1] = (groups[-1][0], groups[-1][1], number)
            else:
                groups.append((index, number, number))
        header_size, group_size, offset_size = (40, 16, 8) if wide else (28, 12, 4)
        table_at = header_size + group_size * len(groups)
        strings_at = table_at + offset_size * len(ids)
        codec = ("utf-16-be" if big else "utf-16-le") if utf16 else "shift_jis"
        end = b"\0\0" if utf16 else b"\0"
        offsets, strings = [], b""
        for number in ids:
            text = entries[number]
            offsets.append(0 if text is None else strings_at + len(strings))
            strings += b"" if text is None else text.encode(codec) + end
        size = strings_at + len(strings)
        out = bytes([0, int(big), version, 0])
        out += struct.pack(f"{order}IBBH", size, int(utf16), 0xFF if version == 0 else 0, 0)
        out += struct.pack(f"{order}II", len(groups), len(ids))
        out += (
            struct.pack(f"{order}IQQ", 0xFF, table_at, 0) if wide else struct.pack(f"{order}II", table_at, 0)
        )
        for index, first, last in groups:
            out += struct.pack(f"{order}Iii", index, first, last) + (
                struct.pack(f"{order}I", 0) if wide else b""
            )
        out += b"".join(struct.pack(f"{order}{'Q' if wide else 'I'}", offset) for offset in offsets)
        return out + strings

    @staticmethod
    def dcx_bytes(data: bytes, method: bytes = b"DFLT", claimed: int | None = None) -> bytes:
        """The DCX wrapper of Dark Souls: six numbers, DCS with both sizes, DCP with the method, DCA."""
        packed = zlib.compress(data, 9)
        head = b"DCX\0" + struct.pack(">IIIII", 0x10000, 0x18, 0x24, 0x24, 0x2C)
        sizes = b"DCS\0" + struct.pack(">II", len(data) if claimed is None else claimed, len(packed))
        settings = b"DCP\0" + method + struct.pack(">IIIIII", 0x20, 0x9000000, 0, 0, 0, 0x00010100)
        return head + sizes + settings + b"DCA\0" + struct.pack(">I", 8) + packed

    @staticmethod
    def bnd3_bytes(files: dict[str, bytes]) -> bytes:
        """The bundle of Dark Souls: format 0x74 = ids, names and unpacked sizes, its bits in reverse."""
        headers_end = 32 + 24 * len(files)
        names = b"".join(name.encode("shift_jis") + b"\0" for name in files)
        out = b"BND307D7R6\0\0" + bytes([0x74, 0, 0, 0])
        out += struct.pack("<IIII", len(files), headers_end + len(names), 0, 0)
        name_at, data_at = headers_end, headers_end + len(names)
        for number, (name, data) in enumerate(files.items()):
            out += struct.pack("<IIIIII", 0x40, len(data), data_at, number, name_at, len(data))
            name_at += len(name.encode("shift_jis")) + 1
            data_at += len(data)
        return out + names + b"".join(files.values())

    @staticmethod
    def bnd4_bytes(files: dict[str, bytes]) -> bytes:
        """The bundle of Dark Souls III: the same format byte, UTF-16 names, 36 bytes for a file."""
        headers_end = 64 + 36 * len(files)
        encoded = [name.encode("utf-16-le") + b"\0\0" for name in files]
        out = b"BND4" + bytes([0, 0, 0, 0, 0, 0, 1, 0]) + struct.pack("<IQ", len(files), 64) + b"07D7R6\0\0"
        out += (
            struct.pack("<QQ", 36, headers_end + sum(map(len, encoded))) + bytes([1, 0x74, 0, 0]) + bytes(12)
        )
        name_at, data_at = headers_end, headers_end + sum(map(len, encoded))
        for number, (name, data) in enumerate(zip(encoded, files.values(), strict=True)):
            out += struct.pack("<IiQQIII", 0x40, -1, len(data), len(data), data_at, number, name_at)
            name_at += len(name)
            data_at += len(data)
        return out + b"".join(encoded) + b"".join(files.values())

    @staticmethod
    def dcp_bytes(data: bytes) -> bytes:
        """The older wrapper of Demon's Souls."""
        packed = zlib.compress(data, 9)
        head = b"DCP\0DFLT" + struct.pack(">IIIIII", 0x20, 0x9000000, 0, 0, 0, 0x00010100)
        return (
            head
            + b"DCS\0"
            + struct.pack(">II", len(data), len(packed))
            + packed
            + b"DCA\0"
            + struct.pack(">I", 8)
        )


@pytest.fixture(scope="session")
def makers() -> type[Makers]:
    return Makers


@pytest.fixture
def write_fmg(tmp_path: Path) -> Callable[..., Path]:
    """Write `stem.fmg.xml` under tmp_path/souls (or a folder in it) and return the folder of all."""
    root = tmp_path / "souls"

    def write(stem: str, entries: Entries, folder: str = ".", **options: str) -> Path:
        path = root / folder / f"{stem}.fmg.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Makers.fmg_xml(entries, **options), encoding="utf-8")
        return root

    return write
