"""The game's own FMG files.

Header: u8 0, u8 big-endian flag, u8 version (0 Demon's Souls, 1 Dark Souls 1 and 2, 2 later games), u8 0,
u32 file size, u8 1 for UTF-16 (0: Shift-JIS), u8 0xFF in version 0 else 0, u16 0, u32 groups, u32 strings,
then the offset of the string table: u32 and u32 0 in versions 0 and 1; in version 2 first u32 0xFF, then
u64 and u64 0. A group is u32 index of its first string, u32 first id, u32 last id (version 2: and u32 0).
The string table holds one offset per string, 32 or 64 bits; 0 means that there is no string.
"""

from __future__ import annotations

import struct
from pathlib import Path

from training.data import dcx
from training.data.binder import is_binder, unbind
from training.data.fmg_file import FmgEntry, FmgFile
from training.errors import DataError

MAX_BYTES = 256 << 20
MAX_STRINGS = 2_000_000
MAX_TEXT_BYTES = 4_000_000  # of one text; the longest of the games have some thousand
_VERSIONS = {0: "DemonsSouls", 1: "DarkSouls1", 2: "DarkSouls3"}


def read_fmg_binary(path: Path) -> list[FmgFile]:
    """The table in a `.fmg`, or all tables in a bundle (`.msgbnd`), each of them maybe in a `.dcx`.

    A table in a bundle has the bundle's path as its folder. Raises DataError naming the place that does
    not fit the layout.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes; a text table has at most {MAX_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if dcx.is_dcx(data):
        data = dcx.unpack(data, str(path))
    if not is_binder(data):
        return [parse_fmg(data, path)]
    bound = [file for file in unbind(data, str(path)) if file.name.lower().endswith(".fmg")]
    return [parse_fmg(file.data, path / file.name) for file in bound]


def parse_fmg(data: bytes, path: Path) -> FmgFile:
    """Entries of FMG bytes; `path` only names them in errors."""
    try:
        return _parse(data, path)
    except struct.error:
        raise DataError(f"{path}: the FMG is cut short at {len(data)} bytes") from None


def _parse(data: bytes, path: Path) -> FmgFile:
    if len(data) < 4 or data[0] != 0 or data[1] > 1 or data[2] not in _VERSIONS or data[3] != 0:
        raise DataError(f"{path}: begins with {data[:4].hex(' ')}; this is not an FMG")
    order = ">" if data[1] else "<"
    wide = data[2] == 2
    size, unicode_flag = struct.unpack_from(f"{order}IB", data, 4)
    if size > len(data):  # a container may pad the end
        raise DataError(f"{path}: the header says {size} bytes, the file has {len(data)}")
    groups, strings = struct.unpack_from(f"{order}II", data, 12)
    table_at, groups_at = _table_offset(data, order, wide)
    if strings > MAX_STRINGS:
        raise DataError(f"{path}: claims {strings} strings; at most {MAX_STRINGS} are accepted")
    entries: list[FmgEntry] = []
    # Texts may share their place. Each is read once and all together fit the file: none of it can fill memory.
    known: dict[int, str] = {}
    size_of_texts = 0
    group_format = f"{order}IiiI" if wide else f"{order}Iii"
    step = struct.calcsize(group_format)
    for group in range(groups):
        fields = struct.unpack_from(group_format, data, groups_at + group * step)
        index, first, last = fields[0], fields[1], fields[2]
        count = last - first + 1
        if count < 1 or index + count > strings:
            raise DataError(
                f"{path}: group {group} has ids {first} to {last} at string {index}; "
                f"the file has {strings} strings"
            )
        offset_format = f"{order}{count}{'Q' if wide else 'I'}"
        offsets = struct.unpack_from(offset_format, data, table_at + index * (8 if wide else 4))
        for number, offset in enumerate(offsets, start=first):
            if offset and offset not in known:
                known[offset] = _string(data, offset, bool(unicode_flag), order, path, number)
                size_of_texts += len(known[offset])
                if size_of_texts > len(data):
                    raise DataError(f"{path}: its texts overlap: they hold more than the file has bytes")
            entries.append(FmgEntry(number, known[offset] if offset else None))
        if len(entries) > strings:
            raise DataError(f"{path}: groups hold more than the {strings} strings of the header")
    return FmgFile(path, tuple(entries), _VERSIONS[data[2]])


def _table_offset(data: bytes, order: str, wide: bool) -> tuple[int, int]:
    if wide:
        (table_at,) = struct.unpack_from(f"{order}Q", data, 24)
        return table_at, 40
    (table_at,) = struct.unpack_from(f"{order}I", data, 20)
    return table_at, 28


def _string(data: bytes, offset: int, utf16: bool, order: str, path: Path, number: int) -> str:
    if offset >= len(data):
        raise DataError(f"{path}: text {number} should be at byte {offset}, the file has {len(data)}")
    if utf16:
        end = offset
        while True:  # a zero byte may be half of a letter: only an aligned pair of zeros ends the string
            end = data.find(b"\0\0", end)
            if end < 0:
                raise DataError(f"{path}: text {number} at byte {offset} never ends")
            if (end - offset) % 2 == 0:
                break
            end += 1
        codec = "utf-16-be" if order == ">" else "utf-16-le"
    else:
        end = data.find(b"\0", offset)
        if end < 0:
            raise DataError(f"{path}: text {number} at byte {offset} never ends")
        codec = "shift_jis"
    if end - offset > MAX_TEXT_BYTES:
        raise DataError(
            f"{path}: text {number} has {end - offset} bytes; at most {MAX_TEXT_BYTES} are accepted"
        )
    try:
        return data[offset:end].decode(codec).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: text {number} is not {codec} at byte {offset + error.start}") from None
