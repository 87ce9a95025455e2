"""Read one picture from a file, as people hand them in: any size, any turn, with or without colour.

Decoders mend what they can of a damaged file and say so at most in a warning. A face that was mended is not the face:
so a warning is a refusal, and where a format carries its own length or check sums, they are looked at. BMP, TIFF
without compression and the pixels within a WebP carry none; damage in them cannot be told from what was photographed.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from edge.errors import ImageUnreadable
from edge.sight.exif import orientation, upright
from edge.sight.header import require_pixels

__all__ = ["PICTURES", "decode_image", "format_of", "read_image"]

PICTURES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"}
"""How the files that can be read are called; what they are is seen by their first bytes."""
MAX_PIXELS = 80_000_000
"""A picture of more pixels is refused before it fills the memory; the largest phone camera has 50 million."""
GREY = 127.0
"""What a transparent picture is laid on: neither of the two colours that a hairline may have."""
AGAIN = "Copy the picture again from where it came, or find another"
AS_JPEG = "Open it with any picture program, save it as JPEG, and give that file"
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"MiHB", b"miaf"}
SIGNATURES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"BM", "BMP"),
    (b"GIF8", "GIF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "Word, PowerPoint or ZIP"),
    (b"\xd0\xcf\x11\xe0", "Word, PowerPoint or Excel"),
)
"""How a file begins, and what it is then."""
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
"""What a decoder complains of is said once, in an error's words."""
READ_HERE = {"JPEG", "PNG", "TIFF", "BMP", "WebP", ""}


def format_of(data: bytes) -> str:
    """What a file is by its first bytes, in the name that people know; empty when it is none of those known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(int.from_bytes(data[:4], "big"), 64), 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIC" if brands & HEIC else "film"
    return next((name for start, name in SIGNATURES if data.startswith(start)), "")


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture as ``(H, W, 3)`` uint8 BGR, turned and mirrored as its EXIF says; alpha is laid on grey.

    Raises:
        ImageUnreadable: missing, empty, not a picture, of a format that is not read, cut off, damaged, or too large.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageUnreadable(str(path), f"cannot be read ({error.strerror})", "Check the path") from None
    if data.size == 0:
        raise ImageUnreadable(str(path), "is empty", AGAIN)
    return decode_image(data, str(path))


def decode_image(data: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Decode an encoded picture; see :func:`read_image`."""
    content = data.tobytes()
    kind = format_of(content)
    if kind not in READ_HERE:
        raise ImageUnreadable(name, f"is in the format {kind}, which is not read here", AS_JPEG)
    require_pixels(content, name, MAX_PIXELS)
    fault = _fault(content, kind)
    if fault:
        raise ImageUnreadable(name, fault, AGAIN)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise ImageUnreadable(name, "is not a picture, or is damaged", "Give a JPEG, PNG or TIFF file")
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise ImageUnreadable(name, f"has more than {MAX_PIXELS // 1_000_000} million pixels", "Scale it down")
    if kind != "JPEG":
        plain = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if plain is not None and plain.ndim == 3 and plain.shape[2] == 4 and plain.shape[:2] == image.shape[:2]:
            opacity = plain[:, :, 3:].astype(np.float32) / (65535.0 if plain.dtype == np.uint16 else 255.0)
            image = image * opacity + GREY * (1.0 - opacity)
    return np.ascontiguousarray(upright(np.asarray(image, np.uint8), orientation(content)))


def _fault(content: bytes, kind: str) -> str:
    """What is wrong with a file by its own check sums, lengths and decoder, in a clause; empty when nothing is."""
    if kind == "JPEG":
        return _jpeg_fault(content)
    if kind == "PNG":
        return _png_fault(content)
    if kind == "WebP":
        return "is cut off" if int.from_bytes(content[4:8], "little") + 8 > len(content) else ""
    if kind == "BMP":
        size, start = struct.unpack_from("<I4xI", content.ljust(14, b"\0"), 2)
        return "is cut off" if max(size, start) > len(content) else ""
    return ""


def _jpeg_fault(content: bytes) -> str:
    """What libjpeg complains of. OpenCV fills what is missing with grey and says nothing."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if height * width <= MAX_PIXELS:  # else it is refused for that; an eighth is enough to go through all of it
            wanted = "CMYK" if colours in {"CMYK", "YCCK"} else "GRAY"
            simplejpeg.decode_jpeg(content, wanted, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        said = str(error).lower()
        return "is cut off" if "premature end of jpeg" in said or "no image" in said else "is damaged"
    return ""


def _png_fault(content: bytes) -> str:
    """What the check sums of a PNG's chunks say (ISO/IEC 15948, 5.3)."""
    at = 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(content):
            break
        if zlib.crc32(memoryview(content)[at + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            return "is damaged"
        if content[at + 4 : at + 8] == b"IEND":
            return ""
        at = end + 4
    return "is cut off"
