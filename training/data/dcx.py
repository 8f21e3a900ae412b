"""DCX and DCP, the wrapper around compressed game files; only its zlib form (DFLT) is public.

All numbers are big endian. DCX: "DCX\\0", version, offsets of the two blocks that follow, then the
block "DCS\\0" (u32 unpacked size, u32 packed size), the block "DCP\\0" (4 letters of the method), and
"DCA\\0" (u32 length of that block, counted from its name), behind which the packed bytes begin.
DCP is the older, shorter form: "DCP\\0", method, 24 bytes of settings, "DCS\\0", both sizes, packed bytes.
"""

from __future__ import annotations

import struct
import zlib

from training.errors import DataError

MAX_UNPACKED = 256 << 20  # text files of these games stay under 10 MiB
_METHODS = {
    b"EDGE": "EDGE (Demon's Souls, PlayStation 3)",
    b"KRAK": "KRAK (Oodle Kraken, a closed library)",
    b"ZSTD": "ZSTD (Zstandard)",
}


def is_dcx(data: bytes) -> bool:
    """Whether bytes begin as one of the two wrappers do."""
    return data[:4] in (b"DCX\0", b"DCP\0")


def unpack(data: bytes, where: str) -> bytes:
    """The bytes inside. Raises DataError naming the compression when it is not DFLT, or what is damaged."""
    try:
        if data[:4] == b"DCX\0":
            method, unpacked, packed, start = _read_dcx(data, where)
        elif data[:4] == b"DCP\0":
            method, unpacked, packed, start = _read_dcp(data, where)
        else:
            raise DataError(f"{where}: begins with {data[:4]!r}, not with DCX or DCP")
    except struct.error:
        raise DataError(f"{where}: the DCX header is cut short ({len(data)} bytes)") from None
    if method != b"DFLT":
        name = _METHODS.get(method, repr(method))
        raise DataError(f"{where}: compressed with {name}; only DFLT (zlib) can be read, unpack it first")
    if unpacked > MAX_UNPACKED:
        raise DataError(f"{where}: claims {unpacked} unpacked bytes; at most {MAX_UNPACKED} are accepted")
    if start + packed > len(data):
        raise DataError(
            f"{where}: {packed} packed bytes promised from byte {start}, the file has {len(data)}"
        )
    inflate = zlib.decompressobj()
    try:
        # one byte more than promised: enough to see a lie, never a bomb
        result = inflate.decompress(data[start : start + packed], unpacked + 1)
    except zlib.error as error:
        raise DataError(f"{where}: the zlib stream is damaged ({error})") from None
    if len(result) != unpacked or not inflate.eof:
        raise DataError(
            f"{where}: header promises {unpacked} unpacked bytes, the stream holds another number"
        )
    return result


def _read_dcx(data: bytes, where: str) -> tuple[bytes, int, int, int]:
    sizes_at, method_at = struct.unpack_from(">II", data, 8)
    _expect(data, sizes_at, b"DCS\0", where)
    unpacked, packed = struct.unpack_from(">II", data, sizes_at + 4)
    _expect(data, method_at, b"DCP\0", where)
    method = data[method_at + 4 : method_at + 8]
    if method != b"DFLT":
        return method, unpacked, packed, 0
    (block,) = struct.unpack_from(">I", data, method_at + 8)
    area_at = method_at + block
    _expect(data, area_at, b"DCA\0", where)
    (length,) = struct.unpack_from(">I", data, area_at + 4)
    return method, unpacked, packed, area_at + length


def _read_dcp(data: bytes, where: str) -> tuple[bytes, int, int, int]:
    method = data[4:8]
    if method != b"DFLT":
        return method, 0, 0, 0
    (block,) = struct.unpack_from(">I", data, 8)
    _expect(data, block, b"DCS\0", where)
    unpacked, packed = struct.unpack_from(">II", data, block + 4)
    return method, unpacked, packed, block + 12


def _expect(data: bytes, at: int, name: bytes, where: str) -> None:
    if data[at : at + 4] != name:
        raise DataError(f"{where}: byte {at} should begin {name!r}, found {data[at : at + 4]!r}")
