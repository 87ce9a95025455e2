"""Which faces are good enough to be searched, and why not."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import cv2
import numpy as np
import pytest

from edge.config import QualitySection
from edge.records import QualityReason, TrackedFace
from edge.sight.quality import assess

FRONTAL = np.array([[0.32, 0.40], [0.68, 0.40], [0.50, 0.60], [0.36, 0.78], [0.64, 0.78]])


def a_face(size: float = 100, at: tuple[float, float] = (60, 50), shape: np.ndarray = FRONTAL) -> TrackedFace:
    box = np.array([at[0], at[1], at[0] + size, at[1] + size], np.float32)
    points = (np.array(at) + shape * size).astype(np.float32)
    return TrackedFace(uuid4(), box, 0.9, points, 3)


def a_picture(level: int = 120, contrast: int = 60) -> np.ndarray:
    random = np.random.default_rng(3)
    picture = level + random.integers(-contrast, contrast + 1, (300, 300, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def turned(share: float) -> np.ndarray:
    shape = FRONTAL.copy()
    shape[2, 0] += share
    return shape


def test_a_large_frontal_sharp_face_is_good_and_its_angles_are_near_zero() -> None:
    report = assess(a_picture(), a_face(), QualitySection())
    assert report.reason is None
    assert report.eye_distance == pytest.approx(36, abs=0.1)
    assert abs(report.yaw) < 5
    assert abs(report.pitch) < 10
    assert abs(report.roll) < 0.1
    assert 0.5 < report.weight <= 0.9


@pytest.mark.parametrize(
    ("picture", "face", "reason"),
    [
        (a_picture(), a_face(size=30), QualityReason.TOO_SMALL),
        (a_picture(), a_face(shape=turned(0.22)), QualityReason.TURNED_AWAY),
        (a_picture(), a_face(at=(250, 50)), QualityReason.CUT_OFF),
        (a_picture(), replace(a_face(), score=0.2), QualityReason.UNCERTAIN),
        (a_picture(level=10, contrast=5), a_face(), QualityReason.TOO_DARK),
        (a_picture(level=250, contrast=5), a_face(), QualityReason.TOO_BRIGHT),
        (cv2.GaussianBlur(a_picture(), (0, 0), 6), a_face(), QualityReason.TOO_BLURRED),
        (a_picture(), a_face(shape=FRONTAL[[1, 0, 2, 4, 3]]), QualityReason.IMPLAUSIBLE),
        (a_picture(), a_face(shape=FRONTAL[[3, 4, 2, 0, 1]]), QualityReason.IMPLAUSIBLE),
    ],
    ids=["small", "turned", "cut off", "uncertain", "dark", "bright", "blurred", "mirrored", "upside down"],
)
def test_each_fault_has_its_reason_and_no_weight(picture: np.ndarray, face: TrackedFace, reason: QualityReason) -> None:
    report = assess(picture, face, QualitySection())
    assert report.reason is reason
    assert report.weight == 0


def test_a_turn_grows_the_yaw_in_the_direction_of_the_nose() -> None:
    yaws = [assess(a_picture(), a_face(shape=turned(share)), QualitySection()).yaw for share in (-0.1, 0.0, 0.1)]
    assert yaws == sorted(yaws)
    assert yaws[0] == pytest.approx(-yaws[2], abs=1)


def test_a_smaller_or_turned_face_counts_less() -> None:
    limits = QualitySection()
    best = assess(a_picture(), a_face(), limits).weight
    assert assess(a_picture(), a_face(size=60), limits).weight < best
    assert assess(a_picture(), a_face(shape=turned(0.12)), limits).weight < best


def test_a_tilted_head_is_measured_and_not_refused() -> None:
    angle = np.radians(20)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    report = assess(a_picture(), a_face(shape=(FRONTAL - 0.5) @ matrix.T + 0.5), QualitySection())
    assert report.reason is None
    assert report.roll == pytest.approx(20, abs=0.5)
