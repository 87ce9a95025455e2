"""The pictures of a list while its report is made: small, with the faces framed, in memory only.

They go into the page that the officer looks at (:mod:`provisioning.list_page`) and nowhere else.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.records import Detections

__all__ = ["Album"]

SIDE = 240
"""Pixels of the longest side: enough to see who it is and where the frame lies, about 10 kB a picture."""
THE_ONE, ANOTHER = (200, 80, 0), (140, 140, 140)
"""Blue round the largest face, grey round every other."""


class Album:
    """Small framed copies, by reference and file."""

    def __init__(self) -> None:
        self._pictures: dict[tuple[str, str], bytes] = {}

    def __len__(self) -> int:
        return len(self._pictures)

    def take(self, reference: str, file: str, image: NDArray[np.uint8], found: Detections | None) -> None:
        """Keep a copy of ``image``, ``(H, W, 3)`` uint8 BGR, with the faces that were ``found`` in it framed."""
        scale = min(1.0, SIDE / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        copy = np.array(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        if found is not None and len(found):
            boxes = found.boxes * np.float32(scale)
            largest = int(np.argmax(boxes[:, 3] - boxes[:, 1]))
            for number, box in enumerate(boxes):
                x1, y1, x2, y2 = (round(float(side)) for side in box)
                cv2.rectangle(copy, (x1, y1), (x2, y2), THE_ONE if number == largest else ANOTHER, 2)
        self._pictures[reference, file] = cv2.imencode(".jpg", copy, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
        copy.fill(0)

    def picture(self, reference: str, file: str) -> bytes | None:
        """The copy as JPEG, or None where the file could not be read."""
        return self._pictures.get((reference, file))
