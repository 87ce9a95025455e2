"""Pictures as people hand them in: EXIF of every kind, damage of every kind. Made here, from what a test gives."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
HERE = Path(__file__).resolve().parents[1] / "pictures"


def lying(image: Picture, orientation: int) -> Picture:
    """A picture as the sensor stored it, when its EXIF has to say ``orientation`` for it to be shown upright."""
    inverse = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }
    return np.ascontiguousarray(inverse[orientation](image))


def exif(orientation: int, order: str = "<") -> bytes:
    """An EXIF block that says nothing but how the picture lies."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def encoded(image: Picture, ending: str, orientation: int = 1, order: str = "<") -> bytes:
    """JPEG, PNG, WebP or TIFF, with its orientation where that format keeps it."""
    if ending == ".tif":
        return _tiff(image, orientation)
    quality = [cv2.IMWRITE_WEBP_QUALITY, 95] if ending == ".webp" else []
    data = cv2.imencode(ending, image, quality)[1].tobytes()
    block = exif(orientation, order)
    if ending == ".jpg":
        return data[:2] + segment(0xE1, b"Exif\0\0" + block) + data[2:]
    if ending == ".png":
        chunk = b"eXIf" + block
        return data[:33] + struct.pack(">I", len(block)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    height, width = image.shape[:2]
    alpha = 0x10 if image.shape[2] == 4 else 0
    header = b"VP8X" + struct.pack("<IB3x", 10, 0x08 | alpha)
    header += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    pixels = data[12:] if data[12:16] != b"VP8X" else data[30:]
    body = header + pixels + b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _tiff(image: Picture, orientation: int) -> bytes:
    """Without compression, in one strip."""
    height, width, bands = image.shape
    pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if bands == 3 else cv2.COLOR_BGRA2RGBA).tobytes()
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, bands, 0), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [
        (273, 4, 1, 0),
        (274, 3, 1, orientation),
        (277, 3, 1, bands),
        (278, 4, 1, height),
        (279, 4, 1, len(pixels)),
    ]
    tags += [(338, 3, 1, 2)] if bands == 4 else []
    depths = 8 + 2 + 12 * len(tags) + 4
    start = depths + 2 * bands
    where = {258: depths, 273: start}
    entries = b"".join(
        struct.pack("<HHI", tag, kind, count)
        + (struct.pack("<HH", value, 0) if kind == 3 and tag != 258 else struct.pack("<I", where.get(tag, value)))
        for tag, kind, count, value in tags
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head + struct.pack(f"<{bands}H", *[8] * bands) + pixels


def segment(marker: int, content: bytes) -> bytes:
    """A JPEG segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def zeroed(data: bytes, start: float = 0.5, length: int = 2000) -> bytes:
    """Part of a file overwritten with zeros."""
    at = int(len(data) * start)
    return data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]


def missing(data: bytes, start: float = 0.5, length: int = 2000) -> bytes:
    """A file without its middle."""
    at = int(len(data) * start)
    return data[:at] + data[at + length :]


def cut(data: bytes, share: float = 0.67) -> bytes:
    """The first part of a file."""
    return data[: int(len(data) * share)]
