"""BND3 and BND4, the bundles in which the games keep their text tables (`item.msgbnd`, `menu.msgbnd`).

BND3 (32 bytes, then file headers): "BND3", 8 letters of version, u8 format, u8 big endian, u8 bit order,
u8 0, u32 files, u32 end of headers, u32, u32. File: u8 flags, 3 zeros, u32 size, data offset, u32 id,
u32 name offset, u32 unpacked size; which of these are there says the format.

BND4 (64 bytes, then file headers): "BND4", 5 bytes, u8 big endian, u8 reversed bit order, u8 0, u32 files,
u64 header size, 8 letters, u64 size of a file header, u64 end of headers, u8 names are UTF-16, u8 format,
u8, u8, u32, u64. File: u8 flags, 3 zeros, u32 -1, u64 size, u64 unpacked size, data offset, u32 id,
u32 name offset.

Format bits: 2 ids, 4 and 8 names, 16 data offsets of 64 bits, 32 unpacked sizes; 1 forces big endian.
Unless the file says otherwise the bits of the byte stand in reverse.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from training.errors import DataError

MAX_FILES = 100_000
_BIG, _IDS, _NAMES, _LONG, _SIZES = 1, 2, 4 | 8, 16, 32
_COMPRESSED = 1


@dataclass(frozen=True)
class Bound:
    """A file in a bundle: its bare name (folders and drive cut off) and its bytes."""

    name: str
    data: bytes


def is_binder(data: bytes) -> bool:
    """Whether bytes begin as one of the two bundles does."""
    return data[:4] in (b"BND3", b"BND4")


def unbind(data: bytes, where: str) -> list[Bound]:
    """All files of a bundle in order. Raises DataError naming what does not fit the layout."""
    try:
        if data[:4] == b"BND3":
            return _unbind3(data, where)
        if data[:4] == b"BND4":
            return _unbind4(data, where)
    except struct.error:
        raise DataError(f"{where}: the bundle is cut short at {len(data)} bytes") from None
    raise DataError(f"{where}: begins with {data[:4]!r}, not with BND3 or BND4")


def _unbind3(data: bytes, where: str) -> list[Bound]:
    raw_format, big, plain = struct.unpack_from("BBB", data, 12)
    plain_bits = plain != 0
    kind = _format(raw_format, plain_bits)
    order = ">" if big or kind & _BIG else "<"
    (count,) = struct.unpack_from(f"{order}I", data, 16)
    fields = (
        "B3xI"
        + ("Q" if kind & _LONG else "I")
        + ("I" if kind & _IDS else "")
        + ("I" if kind & _NAMES else "")
    )
    layout = struct.Struct(order + fields + ("I" if kind & _SIZES else ""))
    found, room = [], len(data)
    for number in range(_checked(count, where)):
        values = layout.unpack_from(data, 32 + number * layout.size)
        name_at = values[3 + bool(kind & _IDS)] if kind & _NAMES else None
        room = _fits(room - values[1], where)
        found.append(
            _bound(data, values[0], values[1], values[2], name_at, "shift_jis", plain_bits, where, number)
        )
    return found


def _unbind4(data: bytes, where: str) -> list[Bound]:
    big, reversed_bits = struct.unpack_from("BB", data, 9)
    order = ">" if big else "<"
    (count,) = struct.unpack_from(f"{order}I", data, 12)
    (step,) = struct.unpack_from(f"{order}Q", data, 32)
    utf16, raw_format = struct.unpack_from("BB", data, 48)
    kind = _format(raw_format, not reversed_bits)
    codec = ("utf-16-be" if big else "utf-16-le") if utf16 else "shift_jis"
    fields = "B3xiQ" + ("Q" if kind & _SIZES else "") + ("Q" if kind & _LONG else "I")
    layout = struct.Struct(order + fields + ("I" if kind & _IDS else "") + ("I" if kind & _NAMES else ""))
    if step < layout.size:
        raise DataError(f"{where}: file headers of {step} bytes, the format {kind:#x} needs {layout.size}")
    found, room = [], len(data)
    for number in range(_checked(count, where)):
        values = layout.unpack_from(data, 64 + number * step)
        data_at = values[3 + bool(kind & _SIZES)]
        name_at = values[-1] if kind & _NAMES else None
        room = _fits(room - values[2], where)
        found.append(
            _bound(data, values[0], values[2], data_at, name_at, codec, not reversed_bits, where, number)
        )
    return found


def _fits(room: int, where: str) -> int:
    """Files lie one behind the other; many that overlap could fill any memory."""
    if room < 0:
        raise DataError(f"{where}: its files overlap: they hold more than the bundle has bytes")
    return room


def _format(raw: int, plain_bits: bool) -> int:
    # the low bit without the high one only occurs where the bits are in plain order
    return raw if plain_bits or (raw & 1 and not raw & 0x80) else _reverse(raw)


def _reverse(value: int) -> int:
    return int(f"{value:08b}"[::-1], 2)


def _checked(count: int, where: str) -> int:
    if count > MAX_FILES:
        raise DataError(f"{where}: claims {count} files; at most {MAX_FILES} are accepted")
    return count


def _bound(
    data: bytes,
    flags: int,
    size: int,
    at: int,
    name_at: int | None,
    codec: str,
    plain_bits: bool,
    where: str,
    number: int,
) -> Bound:
    if at + size > len(data):
        raise DataError(f"{where}: file {number} has {size} bytes from byte {at}, the bundle has {len(data)}")
    name = f"{number}" if name_at is None else _name(data, name_at, codec, where, number)
    if (flags if plain_bits else _reverse(flags)) & _COMPRESSED:
        raise DataError(f"{where}: file {number} ({name}) is compressed inside the bundle; unpack it first")
    return Bound(name, data[at : at + size])


def _name(data: bytes, at: int, codec: str, where: str, number: int) -> str:
    width = 1 if codec == "shift_jis" else 2
    end = at
    while end + width <= len(data) and data[end : end + width] != b"\0" * width:
        end += width
    try:
        path = data[at:end].decode(codec)
    except UnicodeDecodeError:
        raise DataError(f"{where}: the name of file {number} is not {codec}") from None
    return path.replace("\\", "/").rpartition("/")[2]
