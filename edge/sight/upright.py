"""Which way is up in a film, by the faces in it: for films whose header says nothing, or the wrong thing.

A camera on a van stands as it was put up and says so in its configuration. A film comes from anywhere: one that lies on
its side, or stands on its head, would be watched to its end without a word, and raise nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from edge.config import QualitySection
from edge.custody.erase import Kind
from edge.custody.retention import Custodian
from edge.records import Detections, QualityReason, TrackedFace
from edge.sight.quality import assess

__all__ = ["SAMPLES", "upright_turn"]

SAMPLES = (0.0, 0.1, 0.3, 0.5, 0.7)
"""Shares of the film at which it is looked at."""
SURE = 0.8
"""Score of a face that stands upright beyond doubt: then nothing more is looked at. A face on its side reaches 0.7."""
LEAD = 1.5
"""How much more another turn must show than the film as it is, to be believed."""
MIN_SCORE = 0.5
NO_TRACK = UUID(int=0)
NO_FACE = {QualityReason.IMPLAUSIBLE, QualityReason.UNCERTAIN, QualityReason.TOO_SMALL}
"""Landmarks that form no upright face, and what is too small to tell."""


class Detector(Protocol):
    """What is needed of :class:`edge.sight.detect.Detector`."""

    def detect(self, image: NDArray[np.uint8]) -> Detections: ...


def upright_turn(
    sampled: Callable[[int], Iterable[NDArray[np.uint8]]], detector: Detector, custodian: Custodian
) -> int:
    """Degrees to the right by which a film must be turned for its faces to stand upright: 0, 90, 180 or 270.

    Args:
        sampled: gives pictures of the film turned to the right by so many degrees, ``(H, W, 3)`` uint8 BGR.
        detector: finds faces.
        custodian: holds each picture while it is looked at.

    Raises:
        VideoUnreadable: the film cannot be opened.
    """
    shown = [0.0] * 4
    for quarters in range(4):
        for picture in sampled(90 * quarters):
            with custodian.hold(Kind.FRAME, picture) as frame:
                scores = _upright(frame.array, detector)
            if quarters == 0 and any(score >= SURE for score in scores):
                return 0
            shown[quarters] += sum(scores)
    best = max(range(4), key=lambda quarters: shown[quarters])
    return 90 * best if shown[best] > LEAD * shown[0] else 0


def _upright(picture: NDArray[np.uint8], detector: Detector) -> list[float]:
    """Scores of the faces that stand upright."""
    limits = QualitySection()
    found = detector.detect(picture)
    scores = []
    for box, score, landmarks in zip(found.boxes, found.scores, found.landmarks, strict=True):
        face = TrackedFace(NO_TRACK, box, float(score), landmarks, 1)
        if score >= MIN_SCORE and assess(picture, face, limits).reason not in NO_FACE:
            scores.append(float(score))
    return scores
