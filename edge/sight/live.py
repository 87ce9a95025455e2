"""The live picture for the crew: the street as the camera sees it, and nobody in it who could be known.

It is made in the pipeline's own turn, from the very frame on which the detector has just run, so that no frame that was
not looked at is ever shown and no copy with faces leaves that turn. Every detection is covered, also those that are far
too unsure to be matched, with half its size more on each side, and so is every place where a face was a moment ago: a
detector that misses somebody in one frame has mostly seen them in the one before. Covered means filled with one
colour: there is nothing to be calculated back. The picture is smaller than what the detector looked at, so that whoever
was too small for it is smaller here.

It is made only while somebody looks, some times a second, in memory; whoever is late gets the newest.
"""

from __future__ import annotations

import threading
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.clock import NS_PER_MS, NS_PER_S, Clock
from edge.custody.erase import Kind
from edge.custody.retention import Custodian
from edge.records import Detections

__all__ = ["LiveView", "cover"]

WIDTH = 640
"""Pixels across at most; the smallest detector looks at as many."""
MARGIN = 0.5
"""How far a cover reaches round a detection, in parts of its size."""
COVER = 96
"""Grey level of a cover."""
EVERY_NS = 250 * NS_PER_MS
LOOKED_NS = 3 * NS_PER_S
"""For so long after a question somebody is taken to look."""
REMEMBERED_NS = 2 * NS_PER_S
"""For so long the place of a face stays covered."""
OLD_NS = 2 * NS_PER_S
JPEG_QUALITY = 70


def cover(picture: NDArray[np.uint8], boxes: NDArray[np.float32]) -> None:
    """Fill every box and its margin, in place.

    Args:
        picture: ``(H, W, 3)`` uint8 BGR.
        boxes: ``(n, 4)`` float32, left, top, right, bottom in pixels of the picture.
    """
    height, width = picture.shape[:2]
    for left, top, right, bottom in boxes:
        wide, high = MARGIN * (right - left), MARGIN * (bottom - top)
        x1, y1 = max(0, int(left - wide) - 1), max(0, int(top - high) - 1)
        x2, y2 = min(width, int(right + wide) + 2), min(height, int(bottom + high) + 2)
        picture[y1:y2, x1:x2] = COVER


class LiveView:
    """See the module. :meth:`see` is for the pipeline's thread, the others for any.

    Args:
        custodian: holds the picture until it is covered.
        clock: for how old it may be.
        clear_px: pixels between the eyes from which on a face is searched.
        sure: score from which on a detection counts as a face, for :meth:`words`.
    """

    def __init__(self, custodian: Custodian, clock: Clock, *, clear_px: float, sure: float) -> None:
        self._custodian = custodian
        self._clock = clock
        self._clear_px = clear_px
        self._sure = sure
        self._lock = threading.Lock()
        self._places: deque[tuple[int, NDArray[np.float32]]] = deque()
        self._asked_ns: int | None = None
        self._made_ns: int | None = None
        self._number = 0
        self._jpeg = b""
        self._eyes_px: tuple[int, float] | None = None

    def see(self, image: NDArray[np.uint8], found: Detections) -> None:
        """A frame on which the detector has just run, ``(H, W, 3)`` uint8 BGR, and all that it found in it."""
        now = self._clock.monotonic_ns()
        self._places.append((now, found.boxes))
        while self._places and now - self._places[0][0] > REMEMBERED_NS:
            self._places.popleft()
        faces = found.landmarks[found.scores >= self._sure]
        if len(faces):
            eyes = float(np.median(np.linalg.norm(faces[:, 0] - faces[:, 1], axis=1)))
            self._eyes_px = (now, eyes)
        looked = self._asked_ns is not None and now - self._asked_ns <= LOOKED_NS
        if not looked:
            self.forget()
        elif self._made_ns is None or now - self._made_ns >= EVERY_NS:
            self._made_ns = now
            self._make(image)

    def _make(self, image: NDArray[np.uint8]) -> None:
        height, width = image.shape[:2]
        scale = min(1.0, WIDTH / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.empty((size[1], size[0], 3), np.uint8)
        cv2.resize(image, size, dst=small, interpolation=cv2.INTER_AREA)
        with self._custodian.hold(Kind.FRAME, small) as held:
            for _, boxes in self._places:
                cover(held.array, boxes * np.float32(scale))
            good, data = cv2.imencode(".jpg", held.array, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        del small
        if good:
            with self._lock:
                self._jpeg = data.tobytes()
                self._number += 1

    def latest(self, after: int) -> tuple[int, bytes]:
        """The newest picture as JPEG and its number; no bytes where it is the one with the number ``after``, or old.

        To ask is to look: pictures are made for some seconds from now on.
        """
        now = self._clock.monotonic_ns()
        self._asked_ns = now
        with self._lock:
            if self._made_ns is None or now - self._made_ns > OLD_NS:
                self._jpeg = b""
            return self._number, b"" if after == self._number else self._jpeg

    def words(self) -> str:
        """How large the faces are, and what to do; empty where none was seen in the last seconds."""
        if self._eyes_px is None or self._clock.monotonic_ns() - self._eyes_px[0] > LOOKED_NS:
            return ""
        eyes = self._eyes_px[1]
        return f"{eyes:.0f} px between the eyes" + (": come closer" if eyes < self._clear_px else "")

    def forget(self) -> None:
        """Drop the picture: nobody looks, or nobody may."""
        with self._lock:
            self._jpeg = b""
