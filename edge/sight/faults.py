"""What is wrong with a live camera's pictures: frozen, black, covered, blinded, out of focus. Named within 5 seconds.

Each limit is set between what real pictures reach and what the fault makes of them, as measured on 199 street and event
photographs, on 23 films of a street, a stage in poor light and people at a camera, and on the same made darker, whiter,
noisier and blurred:

=============  ==========================================  ===============================  =========
fault          sign                                        real pictures                    limit
=============  ==========================================  ===============================  =========
frozen         every sampled pixel the same, for 4 s       no two pictures were the same    all of it
black          brightest of 64 x 36 cells                  135 and more (a dark stage)      below 25
covered        cells with an edge to the next of 8 levels  339 and more; 23 at a tenth      3 or less
blinded        as covered, and the mean                    as covered                       200
glare          share of pixels of 250 and more             0.57 at most, 0.30 but for one   0.6
out of focus   fine edges over coarse, where those are     0.21 and more; 0.16 and less     0.175
               strongest                                   with a blur of 3 pixels in 640
=============  ==========================================  ===============================  =========

A quiet street never stands still: a sensor's noise of a third of a grey level shows in every picture after MJPEG,
MPEG-4 and VP8. The price is that a camera whose sensor hangs while its encoder goes on encoding the one picture is not
found: its pictures differ by more than those of a quiet street do. And noise looks sharp, so a camera out of focus in
the dark is not named. None of the limits may turn a night or a crowd into a fault.

Nothing of a picture is kept: a salted digest tells whether two are the same, and what is computed is overwritten.
"""

from __future__ import annotations

import hashlib
import os
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Fault", "PictureWatch"]

CELLS = (64, 36)
"""Columns and rows of the coarse picture that is judged."""
GRID = (160, 90)
"""Columns and rows of pixels that must all be the same in a frozen picture."""
FOCUS_WIDTH = 640
"""Pixels across at which focus is judged: what is blurred there makes a face of 60 pixels in 1920 useless."""
BLOCK = 8
"""Pixels of a coarse edge against one of a fine one."""
BLACK = 25.0
"""Grey level; a face below it is not searched either (:class:`edge.config.QualitySection`, ``min_brightness``)."""
EDGE, EDGES = 8.0, 3
WHITE, SATURATED, GLARE = 200.0, 250, 0.6
BLURRED = 0.175
SLACK = {"BLACK": 1.2, "COVERED": 4.0, "BLINDED": 4.0, "GLARE": 0.9, "BLURRED": 1.1}
"""By how much a fault that is named must be past its limit to be over: at dusk it does not come and go."""
EVERY_S = 0.5
"""Between two looks at a picture; whether it is frozen is asked of each."""
FROZEN_S, FROZEN_PICTURES = 4.0, 3
NAMED_S = 2.0
"""A fault that lasts so long is named: a hand before the lens, a bus and an exposure that settles are none."""
CLEAR = 2
"""Looks without the fault after which it is over. A frozen picture is over with the first that differs."""


class Fault(Enum):
    """What is wrong: whether anybody could be matched, and what the crew is told."""

    FROZEN = (True, "shows the same picture again and again: it is frozen. Pull its plug and put it in again.")
    BLACK = (True, "shows nothing but black. Take the cap off its lens, or give it light.")
    BLINDED = (True, "is blinded: its picture is white. Turn it away from the sun or the lamp.")
    COVERED = (True, "is covered or fogged. Clean its lens, and take away what hangs in front of it.")
    GLARE = (False, "looks into the light: most of its picture is white. Turn it away from the sun or the lamp.")
    BLURRED = (False, "is out of focus. Clean its lens and focus it.")

    def __init__(self, blocks: bool, words: str) -> None:  # noqa: FBT001 - a column of the table above
        self.blocks = blocks
        self.words = words


class PictureWatch:
    """Looks at every picture of one live camera, in the order in which they come. Not for two threads at once."""

    def __init__(self) -> None:
        self._salt = os.urandom(16)
        self._digest = b""
        self._same_since = 0.0
        self._same = 0
        self._looked_at = -EVERY_S
        self._seen: Fault | None = None
        self._seen_since = 0.0
        self._clear = 0
        self._named: Fault | None = None

    def look(self, picture: NDArray[np.uint8], now: float) -> Fault | None:
        """The fault that is named from now on; None while there is none.

        Args:
            picture: uint8[H, W, 3], BGR; it is not kept.
            now: seconds on a clock that never goes back.
        """
        if self._frozen(picture, now):
            return Fault.FROZEN
        if now - self._looked_at >= EVERY_S:
            self._looked_at = now
            self._take(_fault(picture, self._named), now)
        return self._named

    def _frozen(self, picture: NDArray[np.uint8], now: float) -> bool:
        height, width = picture.shape[:2]
        points = picture[:: max(1, height // GRID[1]), :: max(1, width // GRID[0])].copy()
        digest = hashlib.blake2b(points.data, key=self._salt, digest_size=16).digest()
        points.fill(0)
        if digest != self._digest:
            self._digest, self._same_since, self._same = digest, now, 0
        self._same += 1
        return self._same >= FROZEN_PICTURES and now - self._same_since >= FROZEN_S

    def _take(self, seen: Fault | None, now: float) -> None:
        if seen is not self._seen:
            self._seen, self._seen_since = seen, now
        if seen is not None and now - self._seen_since >= NAMED_S:
            self._named = seen
        self._clear = 0 if seen is self._named else self._clear + 1
        if self._clear >= CLEAR:
            self._named = None


def _fault(picture: NDArray[np.uint8], named: Fault | None = None) -> Fault | None:
    """What is wrong with one picture by itself; one that is ``named`` already stays until it is clearly over."""

    def slack(*faults: Fault) -> float:
        return SLACK[named.name] if named is not None and named in faults else 1.0

    height, width = picture.shape[:2]
    size = (min(width, FOCUS_WIDTH), max(1, round(height * min(1.0, FOCUS_WIDTH / width))))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    plain = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))
    grey = plain.astype(np.float32)
    cells = np.asarray(cv2.resize(grey, CELLS, interpolation=cv2.INTER_AREA), np.float32)
    try:
        if float(cells.max()) < BLACK * slack(Fault.BLACK):
            return Fault.BLACK
        if int((_edges(cells) > EDGE).sum()) <= EDGES * slack(Fault.COVERED, Fault.BLINDED):
            return Fault.BLINDED if float(cells.mean()) >= WHITE else Fault.COVERED
        if float((grey >= SATURATED).mean()) >= GLARE * slack(Fault.GLARE):
            return Fault.GLARE
        return Fault.BLURRED if 0.0 <= _focus(grey) < BLURRED * slack(Fault.BLURRED) else None
    finally:
        for scratch in (small, plain, grey, cells):
            scratch.fill(0)


def _edges(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how many grey levels each pixel but those of the last row and column differs from its right or lower one."""
    here = grey[:-1, :-1]
    found: NDArray[np.float32] = np.maximum(np.abs(grey[:-1, 1:] - here), np.abs(grey[1:, :-1] - here))
    return found


def _focus(grey: NDArray[np.float32]) -> float:
    """Edges between neighbouring pixels over those between blocks of :data:`BLOCK`, where the latter are strongest.

    Scale for scale, a scene in focus has about as much of both; a lens out of focus takes the fine ones. -1 where the
    picture is too small or too even to tell.
    """
    height, width = grey.shape
    columns, rows = width // BLOCK, height // BLOCK
    if columns < 3 or rows < 3:
        return -1.0
    blocks = np.asarray(cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
    coarse, between = _squares(blocks), _squares(grey)
    fine = np.asarray(cv2.resize(between, (columns - 1, rows - 1), interpolation=cv2.INTER_AREA))
    strongest = coarse >= max(1.0, float(np.percentile(coarse, 90)))
    blocks.fill(0)
    between.fill(0)
    if not strongest.any():
        return -1.0
    return float(np.sqrt(fine[strongest].mean() / coarse[strongest].mean()))


def _squares(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each pixel's differences to its right and its lower one, the sum of squares; no other copy stays behind."""
    across, down = grey[:-1, 1:] - grey[:-1, :-1], grey[1:, :-1] - grey[:-1, :-1]
    across *= across
    down *= down
    across += down
    down.fill(0)
    return across
