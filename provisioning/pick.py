"""The faces of a group picture, numbered; and one of them cut out, so that nobody else is on the list's picture."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.commandline import several
from edge.errors import BadInput, EnvironmentFault
from edge.records import Detections

__all__ = ["Finder", "cut_out", "marked", "write_picture"]

MARGIN = 0.6
"""How much of a face's size is kept round it when it is cut out."""
WIDE = 1600
"""Pixels of the longest side of the numbered picture."""
BLUE = (200, 80, 0)


class Finder(Protocol):
    """What is needed of :class:`provisioning.encoder.ModelEncoder`."""

    def faces(self, image: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], Detections]:
        """The picture, upright, and its faces from left to right.

        Raises:
            FaceNotEnrollable: it holds none.
        """
        ...


def marked(image: NDArray[np.uint8], found: Detections) -> NDArray[np.uint8]:
    """A copy of the picture with every face framed and numbered from 1, left to right."""
    scale = min(1.0, WIDE / max(image.shape[:2]))
    copy = np.array(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    thick = max(2, round(max(copy.shape[:2]) / 400))
    for number, box in enumerate(found.boxes * scale, start=1):
        x1, y1, x2, y2 = (round(float(side)) for side in box)
        cv2.rectangle(copy, (x1, y1), (x2, y2), BLUE, thick)
        size = max(0.6, (x2 - x1) / 60)
        (wide, high), _ = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, size, thick)
        top = y1 - high - 2 * thick if y1 > high + 2 * thick else y2
        cv2.rectangle(copy, (x1, top), (x1 + wide + 2 * thick, top + high + 2 * thick), BLUE, cv2.FILLED)
        place = (x1 + thick, top + high + thick)
        cv2.putText(copy, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), thick, cv2.LINE_AA)
    return copy


def cut_out(image: NDArray[np.uint8], found: Detections, number: int, name: str) -> NDArray[np.uint8]:
    """Face ``number``, counted from 1, with a margin; the faces of others that reach into it are painted over.

    Raises:
        BadInput: there is no face of that number.
    """
    if not 1 <= number <= len(found):
        raise BadInput(
            name,
            f"has {several(len(found), 'face', 'faces')}, and no number {number}",
            "Write the numbered picture and look again",
        )
    mine = found.boxes[number - 1]
    x1, y1, x2, y2 = (float(side) for side in mine)
    wide, high = MARGIN * (x2 - x1), MARGIN * (y2 - y1)
    left, top = max(0, round(x1 - wide)), max(0, round(y1 - high))
    right, bottom = min(image.shape[1], round(x2 + wide)), min(image.shape[0], round(y2 + high))
    copy = image.copy()
    inside = copy[round(max(0.0, y1)) : round(y2), round(max(0.0, x1)) : round(x2)].copy()
    for other, box in enumerate(found.boxes, start=1):
        if other != number:
            a, b, c, d = (max(0, round(float(side))) for side in box)
            copy[b:d, a:c] = copy[b:d, a:c].mean(axis=(0, 1)).astype(np.uint8) if d > b and c > a else 0
    copy[round(max(0.0, y1)) : round(y2), round(max(0.0, x1)) : round(x2)] = inside
    return np.ascontiguousarray(copy[top:bottom, left:right])


def write_picture(image: NDArray[np.uint8], out: Path) -> None:
    """Write a picture for its owner only; the file's ending says in which format.

    Raises:
        BadInput: the ending is not .jpg or .png, or the file exists.
        EnvironmentFault: the disk refuses.
    """
    if out.suffix.lower() not in {".jpg", ".jpeg", ".png"}:
        raise BadInput(str(out), "does not end in .jpg or .png", "Give another name")
    data = cv2.imencode(out.suffix.lower(), image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    try:
        with out.open("xb") as file:
            out.chmod(0o600)
            file.write(data)
    except FileExistsError:
        raise BadInput(str(out), "exists", "Give another name, or remove it first") from None
    except OSError as error:
        raise EnvironmentFault(str(out), f"cannot be written ({error.strerror})", "Give another folder") from None
