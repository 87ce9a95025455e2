"""The chip is where the template says it is, whatever way the head was held."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import RecordInvalid
from edge.records import CHIP_SIZES, ChipTemplate
from edge.sight.align import TEMPLATE, TEMPLATES, align, similarity


def _moved(
    angle: float, scale: float, shift: tuple[float, float], template: ChipTemplate = "arcface-112"
) -> NDArray[Any]:
    """The template as it lies in a frame: turned by `angle` degrees, scaled and shifted."""
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(scale * TEMPLATES[template] @ rotation.T + np.array(shift), np.float32)


@pytest.mark.parametrize("angle", [0, 17, -90, 135, 180])
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_landmarks_that_are_a_turned_template_are_brought_back_onto_it(angle: float, scale: float) -> None:
    landmarks = _moved(angle, scale, (300, 120))
    matrix = similarity(landmarks)
    found = landmarks @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(found - TEMPLATE).max() < 1e-3


def test_no_other_similarity_comes_closer_to_the_template() -> None:
    random = np.random.default_rng(3)
    landmarks = np.asarray(_moved(25, 1.7, (50, 60)) + random.normal(0, 3, (5, 2)), np.float32)
    matrix = similarity(landmarks)

    def error(m: NDArray[Any]) -> float:
        return float(((landmarks @ m[:, :2].T + m[:, 2] - TEMPLATE) ** 2).sum())

    for _ in range(200):
        turn, grow = random.normal(0, 0.02), 1 + random.normal(0, 0.02)
        other = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * grow @ matrix
        other[:, 2] += random.normal(0, 0.5, 2)
        assert error(other) >= error(matrix)


def test_a_mirrored_face_is_never_mirrored_back() -> None:
    mirrored = _moved(0, 1, (0, 0))
    mirrored[:, 0] = 112 - mirrored[:, 0]
    assert np.linalg.det(similarity(mirrored)[:, :2]) > 0


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_landmark_of_the_frame_lands_on_its_place_in_the_chip(template: ChipTemplate) -> None:
    landmarks = _moved(30, 2.0, (200, 100), template)
    frame = np.zeros((480, 640, 3), np.uint8)
    for x, y in landmarks:
        cv2.circle(frame, (round(float(x)), round(float(y))), 5, (255, 255, 255), -1)
    chip = align(frame, landmarks, template)
    assert chip.shape == (CHIP_SIZES[template], CHIP_SIZES[template], 3)
    assert chip.dtype == np.uint8
    for x, y in TEMPLATES[template]:
        assert chip[round(y), round(x)].min() > 200


def test_what_lies_outside_the_frame_is_black() -> None:
    frame = np.full((60, 60, 3), 255, np.uint8)
    chip = align(frame, _moved(0, 1, (-56, -56)))  # only the lower right quarter of the face is in the frame
    assert chip[:50, :50].max() == 0
    assert chip[60:110, 60:110].min() == 255


@pytest.mark.parametrize(
    ("landmarks", "says"),
    [
        (np.zeros((5, 2), np.float32), "in one place"),
        (np.full((5, 2), np.nan, np.float32), "finite"),
        (np.zeros((4, 2), np.float32), "five"),
    ],
)
def test_landmarks_that_are_no_face_are_refused(landmarks: NDArray[Any], says: str) -> None:
    with pytest.raises(RecordInvalid, match=says):
        align(np.zeros((10, 10, 3), np.uint8), landmarks)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("zoom", [0.95, 1.05])
def test_a_zoomed_chip_holds_the_face_larger_about_the_middle_of_its_landmarks(
    template: ChipTemplate, zoom: float
) -> None:
    side = CHIP_SIZES[template]
    goal = TEMPLATES[template]
    rows, columns = np.mgrid[0:side, 0:side]
    frame = np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8)  # each pixel says where it lies
    chip = align(frame, np.asarray(goal, np.float32), template, zoom)
    middle = goal.mean(0)
    for x, y in ((side // 2, side // 2), (side // 3, side // 2), (side // 2, 2 * side // 3)):
        expected = middle + (np.array([x, y]) - middle) / zoom
        assert np.abs(chip[y, x, :2].astype(float) - expected).max() <= 1
