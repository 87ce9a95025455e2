"""The picture of a face that goes with an alert: that face, and nobody else's.

Round the matched face the picture keeps a margin, so that hair, hat and collar can be compared; all of
it outside the head is blurred, whether the detector saw a face there or not, and every other face that
it did see is reduced to four colours.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import SOFTWARE_FAULT, BadInput

__all__ = ["encode", "probe_picture"]

JPEG_QUALITY = 90
HEAD_MARGIN = 0.15
"""How far hair and chin reach round the detector's box, in parts of its size."""
MOSAIC = 2
"""Cells per side that are left of a bystander's face."""


def probe_picture(
    image: NDArray[np.uint8], boxes: NDArray[np.float32], face: NDArray[np.float32], margin: float
) -> NDArray[np.uint8]:
    """Cut the probe picture out of a frame.

    Args:
        image: the frame, ``(H, W, 3)`` uint8 BGR.
        boxes: ``(n, 4)`` float32, all faces that were detected in it.
        face: ``(4,)`` float32, the matched one.
        margin: how far round the face the picture reaches, in parts of the face's size.

    Returns:
        ``(h, w, 3)`` uint8 BGR, memory of its own.
    """
    height, width = image.shape[:2]
    size = face[2:] - face[:2]

    def grown(share: float) -> NDArray[np.float32]:
        return np.concatenate([face[:2] - share * size, face[2:] + share * size])

    x1, y1, x2, y2 = _clip(grown(margin), width, height)
    kernel = max(3, int(size.max() / 3) | 1)
    probe = cv2.GaussianBlur(image[y1:y2, x1:x2], (kernel, kernel), kernel / 2)

    def show(region: NDArray[np.float32]) -> None:
        rx1, ry1, rx2, ry2 = _clip(region, width, height)
        rx1, ry1, rx2, ry2 = max(rx1, x1), max(ry1, y1), min(rx2, x2), min(ry2, y2)
        probe[ry1 - y1 : ry2 - y1, rx1 - x1 : rx2 - x1] = image[ry1:ry2, rx1:rx2]

    show(grown(HEAD_MARGIN))
    for other in boxes:
        ox1, oy1, ox2, oy2 = _clip(other, width, height)
        ox1, oy1, ox2, oy2 = max(ox1, x1), max(oy1, y1), min(ox2, x2), min(oy2, y2)
        if ox1 < ox2 and oy1 < oy2:
            cells = cv2.resize(image[oy1:oy2, ox1:ox2], (MOSAIC, MOSAIC), interpolation=cv2.INTER_AREA)
            probe[oy1 - y1 : oy2 - y1, ox1 - x1 : ox2 - x1] = cv2.resize(cells, (ox2 - ox1, oy2 - oy1))
    show(face)
    return np.ascontiguousarray(probe, np.uint8)


def encode(picture: NDArray[np.uint8]) -> bytes:
    """The picture as a JPEG.

    Raises:
        BadInput: it is empty.
    """
    good, data = (
        cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]) if picture.size else (False, None)
    )
    if not good or data is None:
        raise BadInput("the probe picture", "is empty", SOFTWARE_FAULT)
    encoded: bytes = data.tobytes()
    data.fill(0)
    return encoded


def _clip(box: NDArray[np.float32], width: int, height: int) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    return max(0, x1), max(0, y1), min(width, x2), min(height, y2)
