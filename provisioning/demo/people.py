"""The heads of the people of the street: each cut out of one public-domain portrait.

They are cut at 1000 pixels to the metre around the chin. A face is 0.21 m from chin to hairline, so 210
pixels high, and is never enlarged in the scene.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import cv2
import msgspec
import numpy as np

from provisioning.demo.world import Floats, Pixels

__all__ = ["CUT_FOOT", "CUT_HALF", "CUT_TOP", "FACE_HEIGHT", "PER_METRE", "Portrait", "cut_out"]

PER_METRE: Final = 1000.0
"""Canvas pixels to the metre."""
FACE_HEIGHT: Final = 0.21
"""Chin to hairline of an adult, in metres; what a face detector draws its box around."""
CUT_TOP: Final = 0.40
CUT_FOOT: Final = 0.30
CUT_HALF: Final = 0.26
"""The window that is cut out, in metres: above the chin, below it, and to either side."""


class Portrait(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the head is in one photograph, measured by hand on the file in `portraits/`.

    Attributes:
        person: who it is; the same text for every photograph of one person.
        file: name in `portraits/`.
        face: left, top, right, bottom of the face, chin to hairline, in pixels.
        head: centre x, centre y, half width, half height of an ellipse around the head with its hair or cap;
            nothing outside it and the neck is taken from the photograph.
        neck: half width of the neck, in metres.
        collar: how far below the chin the photograph's own collar is kept, in metres; 0 keeps the neck only.
        upright: degrees by which the photograph is turned clockwise to stand the head up.
        cap: outline of headgear that belongs to the head and that colour alone would not tell from the flag behind.
    """

    person: str
    file: str
    face: tuple[float, float, float, float]
    head: tuple[float, float, float, float]
    neck: float = 0.06
    collar: float = 0.0
    upright: float = 0.0
    cap: tuple[tuple[float, float], ...] = ()


@lru_cache(maxsize=16)
def cut_out(portrait: Portrait, folder: Path) -> tuple[Floats, Floats]:
    """Cut head, neck and collar out of a photograph.

    Returns:
        The picture h x w x 3 and its coverage h x w (0 to 1), at canvas scale, for the window from 0.40 m
        above the chin to 0.30 m below it and 0.26 m to either side.

    Raises:
        FileNotFoundError: the photograph is not there.
    """
    photo = cv2.imread(str(folder / portrait.file), cv2.IMREAD_COLOR)
    if photo is None:
        raise FileNotFoundError(folder / portrait.file)
    left, top, right, chin = portrait.face
    scale = FACE_HEIGHT * PER_METRE / (chin - top)
    middle = (left + right) / 2
    rows, cols = int((CUT_TOP + CUT_FOOT) * PER_METRE), int(2 * CUT_HALF * PER_METRE)
    origin = (CUT_HALF * PER_METRE, CUT_TOP * PER_METRE)
    turn: Floats = cv2.getRotationMatrix2D((middle, (top + chin) / 2), -portrait.upright, scale)
    turn[:, 2] += np.array(origin) - turn[:, :2] @ np.array([middle, chin]) - turn[:, 2]
    small = scale < 1
    window = cv2.warpAffine(
        photo, turn, (cols, rows), flags=cv2.INTER_AREA if small else cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    cx, cy, rx, ry = portrait.head
    head_x, head_y = turn @ np.array([cx, cy, 1.0])
    allowed = np.zeros((rows, cols), np.uint8)
    head = ((float(head_x), float(head_y)), (2 * rx * scale, 2 * ry * scale), portrait.upright)
    cv2.ellipse(allowed, head, (255,), -1)
    below = origin[1]
    neck, deep = portrait.neck * PER_METRE, portrait.collar * PER_METRE
    throat = np.array(
        [
            (origin[0] - neck, below - 60),
            (origin[0] + neck, below - 60),
            (origin[0] + neck + 0.12 * deep, below + 60),
            (origin[0] + 14, below + max(60.0, deep)),
            (origin[0] - 14, below + max(60.0, deep)),
            (origin[0] - neck - 0.12 * deep, below + 60),
        ],
        np.int32,
    )
    cv2.fillPoly(allowed, [throat], (255,))
    labels = np.where(allowed > 0, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    face = (
        (origin[0], below - 0.5 * FACE_HEIGHT * PER_METRE),
        (0.62 * (right - left) * scale, 0.86 * (chin - top) * scale),
        0.0,
    )
    cv2.ellipse(labels, face, (cv2.GC_FGD,), -1)
    spine = ((origin[0], below + 0.3 * deep), (0.9 * neck, 0.08 * PER_METRE + 1.3 * deep), 0.0)
    cv2.ellipse(labels, spine, (cv2.GC_FGD,), -1)
    if portrait.cap:
        outline = np.array([turn @ np.array([x, y, 1.0]) for x, y in portrait.cap]).round().astype(np.int32)
        cv2.fillPoly(labels, [outline], (cv2.GC_FGD,))
    half = cv2.resize(window, (cols // 2, rows // 2), interpolation=cv2.INTER_AREA)
    marks = cv2.resize(labels, (cols // 2, rows // 2), interpolation=cv2.INTER_NEAREST)
    cv2.setRNGSeed(7)  # GrabCut seeds its colour clusters from OpenCV's own generator
    cv2.grabCut(half, marks, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    inside: Pixels = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    _, parts, sizes, _ = cv2.connectedComponentsWithStats(inside)
    inside = (parts == 1 + int(np.argmax(sizes[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    inside = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    inside = cv2.morphologyEx(inside, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    inside = cv2.erode(inside, np.ones((3, 3), np.uint8))
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.6)
    cover = cv2.resize(soft, (cols, rows), interpolation=cv2.INTER_LINEAR)
    edge = cv2.GaussianBlur(allowed.astype(np.float32) / 255.0, (0, 0), 3.0)
    return window.astype(np.float32), np.asarray(cover * edge, np.float32)
