"""What a picture says of itself before a byte of it is decoded: its format and its size. Pure.

A few hundred bytes can decode to gigabytes. So a picture is only decoded when it begins as one of the formats that
people hand in, and when its own header keeps to a number of pixels. The decoder knows many more formats than these.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edge.errors import ImageUnreadable

__all__ = ["Header", "read_header", "require_pixels"]

_MEANT = "Give a JPEG, PNG or TIFF file"


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture's first bytes say.

    Attributes:
        kind: ``jpeg``, ``png``, ``bmp``, ``webp`` or ``tiff``.
        width: pixels.
        height: pixels.
    """

    kind: str
    width: int
    height: int


def require_pixels(data: bytes, name: str, most: int) -> Header:
    """The header of a picture that may be decoded.

    Args:
        data: the whole file.
        name: for the error.
        most: pixels at most.

    Raises:
        ImageUnreadable: it is of no format that is meant, says nothing of its size, or has more pixels.
    """
    header = read_header(data)
    if header is None or header.width < 1 or header.height < 1:
        raise ImageUnreadable(name, "is not a picture, or is damaged", _MEANT)
    if header.width * header.height > most:
        raise ImageUnreadable(name, f"has more than {most // 1_000_000} million pixels", "Scale it down")
    return header


def read_header(data: bytes) -> Header | None:
    """Format and size of a picture; None when it is none of ours, or its header is damaged."""
    for magic, kind, size in _FORMATS:
        if data.startswith(magic):
            try:
                found = size(data)
            except (struct.error, IndexError, OverflowError):
                return None
            return None if found is None else Header(kind, *found)
    return None


_Size = tuple[int, int]
"""Width and height."""
_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
"""Start of frame in all of its kinds (ITU-T T.81, table B.1)."""
_BARE = {0x01, *range(0xD0, 0xD8)}
"""Markers without a length."""


def _jpeg(data: bytes) -> _Size | None:
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _SOF:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker in {0xD9, 0xDA}:  # the end, or pixels before any size
            return None
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _png(data: bytes) -> _Size | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _bmp(data: bytes) -> _Size | None:
    (length,) = struct.unpack_from("<I", data, 14)
    if length == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def _webp(data: bytes) -> _Size | None:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


_WIDTH, _HEIGHT = 256, 257
_SHORT, _LONG = 3, 4


def _tiff(data: bytes) -> _Size | None:
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    found: dict[int, int] = {}
    for number in range(count):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", data, start + 2 + 12 * number)
        if tag in {_WIDTH, _HEIGHT} and kind in {_SHORT, _LONG}:
            form = "H" if kind == _SHORT else "I"
            (value,) = struct.unpack_from(f"{order}{form}", data, start + 2 + 12 * number + 8)
            found[tag] = max(found.get(tag, 0), value)
    if found.keys() != {_WIDTH, _HEIGHT}:
        return None
    return found[_WIDTH], found[_HEIGHT]


_FORMATS = (
    (b"\xff\xd8\xff", "jpeg", _jpeg),
    (b"\x89PNG\r\n\x1a\n", "png", _png),
    (b"BM", "bmp", _bmp),
    (b"RIFF", "webp", _webp),
    (b"II*\0", "tiff", _tiff),
    (b"MM\0*", "tiff", _tiff),
)
