"""A record of a zip archive, local header and packed content -> the content.

Source: PKWARE's .ZIP File Format Specification (APPNOTE) 6.3.10, section 4.3.7.
"""

import bz2
import struct
import zlib
from collections.abc import Callable
from typing import Any

from src.core.cli import InputError
from src.sources.origins.stores import Missing

LOCAL = struct.Struct("<4s5H3I2H")
_SIGNATURE = b"PK\3\4"
_STORED = 0
_UNPACKERS: dict[int, Callable[[], Any]] = {
    8: lambda: zlib.decompressobj(-zlib.MAX_WBITS),
    12: bz2.BZ2Decompressor,
}
# No image and no table of ours is larger, or shrinks more: deflate's limit is 1,032.
MAX_CONTENT = 2**30
MAX_RATIO = 200
_SMALL = 2**20


def content(record: bytes | memoryview, name: str, size: int, crc: int) -> bytes:
    """Return the content of a member from its record: local header and packed content.

    Raises:
        Missing: the record is not this member's, or its CRC-32 is wrong.
        InputError: it declares or holds more than an image can (a zip bomb), or is packed by a
            method other than stored and deflate.
    """
    if size > MAX_CONTENT or (size > _SMALL and size > MAX_RATIO * len(record)):
        raise InputError(f"{name}: refused, {len(record)} bytes that unpack to {size} are no image")
    if len(record) < LOCAL.size or record[:4] != _SIGNATURE:
        raise Missing("no zip record where the directory says")
    header = LOCAL.unpack_from(record)
    method, begin = header[3], LOCAL.size + header[9] + header[10]
    data = _unpacked(memoryview(record)[begin:], method, size, name)
    if len(data) != size or zlib.crc32(data) != crc:
        raise Missing("wrong CRC-32 or size: the archive is damaged")
    return data


def _unpacked(packed: memoryview, method: int, size: int, name: str) -> bytes:
    if method == _STORED:
        return bytes(packed[:size])
    if method not in _UNPACKERS:
        raise InputError(
            f"{name}: packed by method {method}, only stored, deflate and bzip2 are read; unpack "
            "the archive with `7z x` and set download.origin to the folder"
        )
    try:
        # One byte more than declared, so that a member that lies about its size is noticed.
        data: bytes = _UNPACKERS[method]().decompress(packed, size + 1)
    except (zlib.error, OSError, EOFError) as error:
        raise Missing(f"does not unpack: {error}") from error
    return data
