"""A picture as the office gets it: what a van's reader reads, and the formats of telephones, HEIC and AVIF."""

from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from edge.errors import ImageUnreadable
from edge.sight.picture import AGAIN, AS_JPEG, GREY, MAX_PIXELS, PICTURES, decode_image, format_of

__all__ = ["PHOTOGRAPHS", "decode_photograph"]

OF_TELEPHONES = {"HEIC", "AVIF"}
PHOTOGRAPHS = PICTURES | {".heic", ".heif", ".hif", ".avif", ".jxl", ".gif", ".pdf", ".doc", ".docx", ".pptx"}
"""Files that are looked at: those that can be read, and those that people take for one and are told what to do."""


def decode_photograph(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a picture as ``(H, W, 3)`` uint8 BGR, upright by its own word; see :func:`edge.sight.picture.read_image`.

    Called in a child process that has limits of its own: :mod:`provisioning.reading`.

    Raises:
        ImageUnreadable: not a picture, of a format that is not read, cut off, damaged, or too large.
    """
    kind = format_of(data)
    if kind in OF_TELEPHONES:
        return _of_a_telephone(data, kind, name)
    return decode_image(np.frombuffer(data, np.uint8), name)


def _of_a_telephone(data: bytes, kind: str, name: str) -> NDArray[np.uint8]:
    """HEIC and AVIF: the decoder applies their rotation and mirroring, and takes it out of the EXIF that repeats it."""
    try:
        from PIL import Image, ImageOps  # noqa: PLC0415 - only offices have it

        if kind == "HEIC":
            from pi_heif import register_heif_opener  # noqa: PLC0415

            register_heif_opener()
    except ImportError:
        cause = f"is in the format {kind}, and what reads that is not installed here"
        raise ImageUnreadable(name, cause, AS_JPEG) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(BytesIO(data)) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    cause = f"has more than {MAX_PIXELS // 1_000_000} million pixels"
                    raise ImageUnreadable(name, cause, "Scale it down")
                opened.load()
                layers = np.asarray(ImageOps.exif_transpose(opened).convert("RGBA"), np.float32)
    except (OSError, ValueError, RuntimeError, SyntaxError, EOFError, Warning):
        raise ImageUnreadable(name, "is cut off or damaged", AGAIN) from None
    opacity = layers[:, :, 3:] / 255.0
    colours = layers[:, :, 2::-1] * opacity + GREY * (1.0 - opacity)
    return np.ascontiguousarray(np.rint(colours), np.uint8)
