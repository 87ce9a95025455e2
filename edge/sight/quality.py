"""Is this face good enough to be searched? Pure: landmarks and pixels in, a reason or a weight out.

A face that is too small, turned or blurred does not only fail to match its own person: it drifts
towards other people, and a false match stops an innocent person in the street. So the reason is given
and the face is left out; the next frame is a better chance.

The pose is estimated from five landmarks with the proportions of an average face. That is good to
about ten degrees near frontal, and it saturates beyond sixty: enough to tell a profile from a face.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import QualitySection
from edge.records import CHIP_SIZE, QualityReason, QualityReport, TrackedFace

__all__ = ["assess"]

NOSE_DEPTH = 0.55
"""How far the nose tip stands out before the plane of the eyes, in eye distances. Average of adult
faces is near 0.5 to 0.6 (Farkas, Anthropometry of the Head and Face, 1994: nasal protrusion and
interpupillary distance)."""

NOSE_HEIGHT = 0.55
"""Where a frontal nose tip stands between the eye line (0) and the mouth line (1). The ArcFace template
puts it at 0.49, a level camera on real faces at 0.5 to 0.6."""

GOOD_EYE_DISTANCE = 40.0
"""Pixels between the eyes above which size no longer limits the embedding: the chip itself has 35."""


MAX_ROLL = 60.0
"""Degrees; people who walk do not tilt their heads further, wrong landmarks do."""


def assess(image: NDArray[np.uint8], face: TrackedFace, limits: QualitySection) -> QualityReport:
    """Judge one face of one frame.

    Args:
        image: the frame, ``(H, W, 3)`` uint8 BGR.
        face: where the face is in it.
        limits: what is good enough.

    Returns:
        The report; its ``reason`` is the first limit that was missed, or None.
    """
    eye_left, eye_right, nose, mouth_left, mouth_right = face.landmarks.astype(np.float64)
    across = eye_right - eye_left
    eye_distance = float(np.hypot(*across))
    roll = math.degrees(math.atan2(across[1], across[0]))
    yaw, pitch = _pose(eye_left, eye_right, nose, mouth_left, mouth_right)
    grey = _face_at_chip_size(image, face)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var()) if grey.size else 0.0
    brightness = float(grey.mean()) if grey.size else 0.0
    if grey.size:
        grey.fill(0)

    report = QualityReport(
        reason=None,
        weight=0.0,
        eye_distance=eye_distance,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        sharpness=sharpness,
        brightness=brightness,
    )
    reason = _first_reason(image, face, limits, report)
    if reason is not None:
        return replace(report, reason=reason)
    size = min(1.0, eye_distance / GOOD_EYE_DISTANCE)
    frontal = max(0.05, math.cos(math.radians(min(85.0, math.hypot(yaw, pitch)))))
    return replace(report, weight=float(np.clip(face.score * size * frontal, 0.0, 1.0)))


def _first_reason(
    image: NDArray[np.uint8], face: TrackedFace, limits: QualitySection, measured: QualityReport
) -> QualityReason | None:
    height, width = image.shape[:2]
    points = face.landmarks
    inside = (points[:, 0] >= 0) & (points[:, 0] < width) & (points[:, 1] >= 0) & (points[:, 1] < height)
    misses = (
        (face.score < limits.min_score, QualityReason.UNCERTAIN),
        (not bool(inside.all()), QualityReason.CUT_OFF),
        (measured.eye_distance < limits.min_eye_distance, QualityReason.TOO_SMALL),
        (abs(measured.roll) > MAX_ROLL or not _is_a_face(points), QualityReason.IMPLAUSIBLE),
        (abs(measured.yaw) > limits.max_yaw, QualityReason.TURNED_AWAY),
        (abs(measured.pitch) > limits.max_pitch, QualityReason.TILTED),
        (measured.brightness < limits.min_brightness, QualityReason.TOO_DARK),
        (measured.brightness > limits.max_brightness, QualityReason.TOO_BRIGHT),
        (measured.sharpness < limits.min_sharpness, QualityReason.TOO_BLURRED),
    )
    return next((reason for missed, reason in misses if missed), None)


def _is_a_face(points: NDArray[np.float32]) -> bool:
    """Eyes above mouth, left of right: whatever the turn, as seen along the eyes' own line."""
    eyes, mouth = points[:2], points[3:]
    across = eyes[1] - eyes[0]
    down = np.array([-across[1], across[0]])
    return bool(np.dot(mouth.mean(0) - eyes.mean(0), down) > 0 and np.dot(mouth[1] - mouth[0], across) > 0)


def _pose(
    eye_left: NDArray[Any],
    eye_right: NDArray[Any],
    nose: NDArray[Any],
    mouth_left: NDArray[Any],
    mouth_right: NDArray[Any],
) -> tuple[float, float]:
    """Yaw and pitch in degrees, from where the nose stands between the eyes and the mouth."""
    eyes = (eye_left + eye_right) / 2
    mouth = (mouth_left + mouth_right) / 2
    across = eye_right - eye_left
    width = float(np.hypot(*across))
    along = across / max(width, 1e-6)
    down = np.array([-along[1], along[0]])
    length = float(np.dot(mouth - eyes, down))
    if width < 1e-6 or length < 1e-6:
        return 90.0, 90.0
    # A turned head shortens the eyes' distance but not the face's length: take the longer as the unit.
    unit = max(width, length / 1.15)
    centre = eyes + (mouth - eyes) * NOSE_HEIGHT
    aside = float(np.dot(nose - centre, along)) / unit
    yaw = math.degrees(math.asin(float(np.clip(aside / NOSE_DEPTH, -1.0, 1.0))))
    place = float(np.dot(nose - eyes, down)) / length
    pitch = math.degrees(math.asin(float(np.clip((place - NOSE_HEIGHT) / NOSE_DEPTH, -1.0, 1.0))))
    return yaw, pitch


def _face_at_chip_size(image: NDArray[np.uint8], face: TrackedFace) -> NDArray[np.uint8]:
    """The face in grey, scaled so that its height is that of a chip: sharpness then compares across sizes."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (round(float(v)) for v in face.box)
    x1, x2 = max(0, x1), min(width, x2)
    y1, y2 = max(0, y1), min(height, y2)
    if x2 - x1 < 4 or y2 - y1 < 4:
        return np.zeros((0, 0), np.uint8)
    grey = cv2.cvtColor(image[y1:y2, x1:x2], cv2.COLOR_BGR2GRAY)
    scale = CHIP_SIZE / (y2 - y1)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(grey, (max(4, round((x2 - x1) * scale)), CHIP_SIZE), interpolation=method)
    grey.fill(0)
    return np.asarray(resized, np.uint8)
