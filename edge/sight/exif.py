"""Which way up a picture is, by the EXIF that its container carries: JPEG, PNG and WebP. Pure.

OpenCV knows only part of it: it passes over the EXIF of WebP, and over that of a JPEG in which XMP comes first. TIFF
keeps its orientation in itself, and the TIFF decoder obeys it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["orientation", "upright"]

EXIF = b"Exif\0\0"
ORIENTATION = 0x0112
SHORT = 3
LONGEST_WALK = 1000
"""Segments, chunks or tags that are looked at, at most."""
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
"""JPEG markers that stand alone: TEM and RST0 to RST7."""
SCAN, END = 0xDA, 0xD9


def orientation(data: bytes) -> int:
    """How an encoded picture lies: 1 (upright) to 8, as EXIF numbers it; 1 where nothing is said (JEITA CP-3451)."""
    if data.startswith(b"\xff\xd8"):
        blocks = _jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        blocks = _chunks(data, 8, ">I4s", b"eXIf", after=4)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        blocks = _chunks(data, 12, "<4sI", b"EXIF", after=0)
    else:
        return 1
    return next((found for block in blocks if (found := _tag(block))), 1)


def upright(image: NDArray[np.uint8], lies: int) -> NDArray[np.uint8]:
    """Turn and mirror a picture ``(H, W, …)`` as it was seen; ``lies`` is what :func:`orientation` gave."""
    if lies in {5, 6, 7, 8}:
        image = np.asarray(cv2.transpose(image), np.uint8)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(lies)
    return image if flip is None else np.asarray(cv2.flip(image, flip), np.uint8)


def _jpeg(data: bytes) -> Iterator[bytes]:
    """What the APP1 segments before the first scan hold."""
    at = 2
    for _ in range(LONGEST_WALK):
        at = data.find(b"\xff", at)
        while 0 <= at < len(data) and data[at] == 0xFF:
            at += 1
        if not 0 < at <= len(data) - 3 or data[at] in {SCAN, END}:
            return
        marker = data[at]
        at += 1
        if marker in WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if marker == 0xE1:
            yield data[at + 2 : at + length]
        at += max(2, length)


def _chunks(data: bytes, at: int, head: str, wanted: bytes, *, after: int) -> Iterator[bytes]:
    """The content of a PNG's or a WebP's chunks of one kind."""
    for _ in range(LONGEST_WALK):
        if at + 8 > len(data):
            return
        one, other = struct.unpack_from(head, data, at)
        kind, length = (one, other) if isinstance(one, bytes) else (other, one)
        if kind == wanted:
            yield data[at + 8 : at + 8 + length]
        at += 8 + length + after
        if wanted == b"EXIF":
            at += length % 2


def _tag(block: bytes) -> int:
    """The orientation in an EXIF block; 0 where it has none."""
    block = block.removeprefix(EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return 0
    (at,) = struct.unpack_from(order + "I", block, 4)
    if at + 2 > len(block):
        return 0
    (count,) = struct.unpack_from(order + "H", block, at)
    for number in range(min(count, LONGEST_WALK)):
        entry = at + 2 + 12 * number
        if entry + 12 > len(block):
            return 0
        tag, kind, _, value = struct.unpack_from(order + "HHIH", block, entry)
        if tag == ORIENTATION:
            return int(value) if kind == SHORT and 1 <= value <= 8 else 0
    return 0
