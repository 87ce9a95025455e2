"""Read one picture from a file, as people hand them in: any size, any turn, with or without colour."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ImageUnreadable
from edge.sight.header import require_pixels

__all__ = ["decode_image", "read_image"]

MAX_PIXELS = 80_000_000
"""A picture of more pixels is refused before it fills the memory; the largest phone camera has 50 million."""
JPEG_START = b"\xff\xd8"
JPEG_END = b"\xff\xd9"
GREY = 127.0
"""What a transparent picture is laid on: neither of the two colours that a hairline may have."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture as ``(H, W, 3)`` uint8 BGR, turned upright by its EXIF; alpha is laid on grey.

    Raises:
        ImageUnreadable: missing, empty, not a picture, cut off, or too large.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageUnreadable(str(path), f"cannot be read ({error.strerror})", "Check the path") from None
    if data.size == 0:
        raise ImageUnreadable(str(path), "is empty", "Copy the picture again")
    return decode_image(data, str(path))


def decode_image(data: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Decode an encoded picture; see :func:`read_image`."""
    require_pixels(data.tobytes(), name, MAX_PIXELS)
    # OpenCV may fill what a truncated JPEG lacks with grey and say nothing. An end marker in the first half
    # is that of an embedded thumbnail.
    jpeg = bytes(data[:2]) == JPEG_START
    if jpeg and data.tobytes().rfind(JPEG_END) < data.size // 2:
        raise ImageUnreadable(name, "is cut off", "Copy the picture again")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise ImageUnreadable(name, "is not a picture, or is damaged", "Give a JPEG, PNG or TIFF file")
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise ImageUnreadable(name, f"has more than {MAX_PIXELS // 1_000_000} million pixels", "Scale it down")
    if jpeg:
        return np.asarray(image, np.uint8)
    plain = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if plain is not None and plain.ndim == 3 and plain.shape[2] == 4 and plain.shape[:2] == image.shape[:2]:
        opacity = plain[:, :, 3:].astype(np.float32) / (65535.0 if plain.dtype == np.uint16 else 255.0)
        image = image * opacity + GREY * (1.0 - opacity)
    return np.ascontiguousarray(image, np.uint8)
