"""Faces are found where they are, in frames of any size, and two boxes never stand for one face."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import RecordInvalid
from edge.sight import runtime
from edge.sight.detect import Detector
from tests.other_runtime import outputs

FACES = Path(os.environ.get("LFR_EVAL_DIR", Path(__file__).resolve().parents[2] / "shared/eval"))
needs_faces = pytest.mark.skipif(
    not (FACES / "portraits/obama.jpg").exists(), reason="needs the evaluation faces (LFR_EVAL_DIR)"
)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(runtime.load("centerface:640x384-int8", kind="detector"), score=0.4, iou=0.3)


def _portrait(name: str = "obama.jpg") -> NDArray[Any]:
    return np.asarray(cv2.imread(str(FACES / "portraits" / name)), np.uint8)


def _street(width: int, height: int, places: list[tuple[int, int, int]]) -> NDArray[Any]:
    """A grey frame with one portrait at each (x, y, height in pixels)."""
    frame = np.full((height, width, 3), 127, np.uint8)
    portrait = _portrait()
    for x, y, tall in places:
        small = cv2.resize(portrait, (round(tall * portrait.shape[1] / portrait.shape[0]), tall))
        frame[y : y + small.shape[0], x : x + small.shape[1]] = small
    return frame


def _iou(boxes: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """(n, m) overlap of each box with each other box, as a share of their union."""
    low, high = np.maximum(boxes[:, None, :2], others[None, :, :2]), np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    area, other_area = (boxes[:, 2:] - boxes[:, :2]).prod(-1), (others[:, 2:] - others[:, :2]).prod(-1)
    return np.asarray(shared / (area[:, None] + other_area[None] - shared))


@pytest.mark.parametrize("shape", [(384, 640, 3), (1, 1, 3), (720, 1280, 3), (90, 2000, 3)])
def test_an_empty_frame_of_any_size_holds_no_face(detector: Detector, shape: tuple[int, int, int]) -> None:
    assert len(detector.detect(np.zeros(shape, np.uint8))) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 9, 3), np.uint8),
    ],
)
def test_what_is_no_frame_is_refused(detector: Detector, wrong: NDArray[Any]) -> None:
    with pytest.raises(RecordInvalid, match="frame"):
        detector.detect(wrong)


class _Cells:
    """In place of a model: what its four outputs hold, cell by cell, for a picture of 64 by 64 pixels."""

    size = (64, 64)
    digest = "0" * 64

    def __init__(self, row: int, column: int) -> None:
        self.outputs = tuple(SimpleNamespace(real=lambda stored: stored) for _ in range(4))
        self.heat, self.scale = np.zeros((16, 16, 1), np.float32), np.full((16, 16, 2), np.log(10), np.float32)
        self.offset, self.points = np.zeros((16, 16, 2), np.float32), np.full((16, 16, 10), 0.5, np.float32)
        for y in range(max(0, row - 1), row + 2):
            for x in range(max(0, column - 1), column + 2):
                self.heat[y, x] = 0.5
                self.offset[y, x] = (row - y, column - x)  # each cell points at the same middle
        self.heat[row, column] = 0.8

    def run(self, _picture: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return self.heat, self.scale, self.offset, self.points


@pytest.mark.parametrize(("row", "column"), [(8, 8), (0, 0)], ids=["in the middle", "in a corner"])
def test_landmarks_are_what_the_cells_round_the_peak_say_on_average(row: int, column: int) -> None:
    cells = _Cells(row, column)
    neighbour = (row, column + 1)
    cells.points[neighbour] += np.float32(0.1)  # 4 of 40 pixels, in both directions
    (found,) = Detector(cast("runtime.Model", cells)).detect(np.zeros((64, 64, 3), np.uint8)).landmarks
    share = cells.heat[neighbour] / cells.heat.sum()
    middle = np.array([column + 0.5, row + 0.5]) * 4
    assert found == pytest.approx(np.tile(middle + 4 * share, (5, 1)), abs=1e-3)


@needs_faces
@pytest.mark.faces
@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 2.5])
def test_the_same_face_is_found_in_the_frames_own_pixels_whatever_its_size(detector: Detector, factor: float) -> None:
    portrait = _portrait()
    reference = detector.detect(portrait)
    frame: NDArray[Any] = cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    found = detector.detect(frame)
    assert len(reference) == len(found) == 1
    face = reference.boxes[0, 3] - reference.boxes[0, 1]
    assert np.abs(found.boxes[0] / factor - reference.boxes[0]).max() < 0.08 * face
    assert np.abs(found.landmarks[0] / factor - reference.landmarks[0]).max() < 0.04 * face


@needs_faces
@pytest.mark.faces
def test_landmarks_come_in_the_order_of_the_records_and_inside_the_box(detector: Detector) -> None:
    found = detector.detect(_portrait())
    left_eye, right_eye, nose, left_mouth, right_mouth = found.landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert (found.landmarks[0] > found.boxes[0, :2]).all()
    assert (found.landmarks[0] < found.boxes[0, 2:]).all()


@needs_faces
@pytest.mark.faces
def test_each_face_of_a_crowd_is_found_once_best_score_first(detector: Detector) -> None:
    places = [(10, 10, 200), (300, 30, 120), (500, 200, 100), (40, 250, 90), (300, 200, 160)]
    found = detector.detect(_street(640, 384, places))
    assert len(found) == len(places)
    assert (np.diff(found.scores) <= 0).all()
    middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    for x, y, tall in places:
        inside = (middles > [x, y]).all(1) & (middles < [x + tall, y + tall]).all(1)
        assert inside.sum() == 1


@needs_faces
@pytest.mark.faces
def test_a_higher_score_finds_a_subset(detector: Detector) -> None:
    picture = np.asarray(cv2.imread(str(FACES / "wider/images/0_Parade_Parade_0_102.jpg")), np.uint8)
    loose, strict = (Detector(detector.model, score=s).detect(picture) for s in (0.2, 0.5))
    assert len(strict) < len(loose)
    assert strict.scores.min() >= 0.5
    assert {tuple(b) for b in strict.boxes} <= {tuple(b) for b in loose.boxes}


@needs_faces
@pytest.mark.faces
def test_no_two_boxes_overlap_by_more_than_the_limit() -> None:
    model = runtime.load("centerface:640x384-int8")
    picture = np.asarray(cv2.imread(str(FACES / "wider/images/0_Parade_Parade_0_102.jpg")), np.uint8)
    boxes = Detector(model, score=0.1, iou=0.3).detect(picture).boxes
    assert len(boxes) > 10
    iou = _iou(boxes, boxes)
    assert iou[~np.eye(len(boxes), dtype=bool)].max() <= 0.3 + 1e-4


@needs_faces
@pytest.mark.faces
def test_both_runtimes_find_the_same_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = "centerface:640x384-int8"
    picture = _street(640, 384, [(10, 10, 200), (300, 30, 120), (300, 200, 160)])
    model = runtime.load(reference)
    one = Detector(model, score=0.4).detect(picture)
    monkeypatch.setattr(model, "run", lambda canvas: tuple(outputs(reference, canvas)))
    other = Detector(model, score=0.4).detect(picture)
    assert len(one) == len(other) == 3
    overlap = _iou(one.boxes, other.boxes)
    assert (overlap.max(1) > 0.85).all()
    assert np.abs(one.scores - other.scores[overlap.argmax(1)]).max() < 0.05


@needs_faces
@pytest.mark.faces
def test_nothing_of_a_frame_is_left_after_a_flush(detector: Detector) -> None:
    detector.detect(_portrait())
    assert detector._canvas.any()
    detector.flush()
    assert not detector._canvas.any()


@needs_faces
@pytest.mark.faces
def test_a_smaller_frame_does_not_see_the_rest_of_the_one_before(detector: Detector) -> None:
    detector.detect(_street(640, 384, [(10, 10, 200), (420, 150, 200)]))
    assert len(detector.detect(np.zeros((384, 200, 3), np.uint8))) == 0


@pytest.fixture(scope="module")
def close() -> runtime.Model:
    return runtime.load("centerface:96x96-int8", kind="detector")


def _landmark_error(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """The mean distance of five landmarks, in distances of the eyes."""
    return float(np.linalg.norm(found - truth, axis=1).mean() / np.linalg.norm(truth[1] - truth[0]))


def _small_face(height: int, *, at: tuple[int, int] = (500, 300)) -> tuple[NDArray[Any], NDArray[Any]]:
    """A portrait whose face is so many pixels high, in a street of 1280 by 768; and where its landmarks are."""
    portrait = _portrait()
    large = Detector(runtime.load("centerface:640x384-int8", kind="detector")).detect(portrait)
    factor = height / float(large.boxes[0, 3] - large.boxes[0, 1])
    small = cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    frame = np.full((768, 1280, 3), 127, np.uint8)
    x, y = min(at[0], 1280 - small.shape[1]), min(at[1], 768 - small.shape[0])
    frame[y : y + small.shape[0], x : x + small.shape[1]] = small
    return frame, large.landmarks[0] * np.float32(factor) + np.array([x, y], np.float32)


@needs_faces
@pytest.mark.faces
@pytest.mark.parametrize(
    "at", [(500, 300), (0, 0), (9999, 9999)], ids=["in the middle", "at the top left", "at the bottom right"]
)
def test_a_second_look_places_a_small_faces_landmarks_better(
    detector: Detector, close: runtime.Model, at: tuple[int, int]
) -> None:
    frame, truth = _small_face(40, at=at)
    twice = Detector(detector.model, score=0.4, close=close, sure=0.4)
    (first,), (second,) = detector.detect(frame).landmarks, twice.detect(frame).landmarks
    assert _landmark_error(second, truth) < 0.75 * _landmark_error(first, truth)


@needs_faces
@pytest.mark.faces
def test_a_second_look_changes_nothing_but_the_landmarks_of_small_faces_that_are_sure(
    detector: Detector, close: runtime.Model
) -> None:
    frame = _street(1280, 768, [(40, 40, 120), (300, 30, 600)])
    first = detector.detect(frame)
    tall = (first.boxes[:, 3] - first.boxes[:, 1]) / 2 > 30
    assert sorted(tall.tolist()) == [False, True]
    second = Detector(detector.model, score=0.4, close=close, sure=0.4).detect(frame)
    assert (second.boxes == first.boxes).all()
    assert (second.scores == first.scores).all()
    assert (second.landmarks == first.landmarks).all((1, 2)).tolist() == tall.tolist()
    unsure = Detector(detector.model, score=0.4, close=close, sure=0.99).detect(frame)
    assert (unsure.landmarks == first.landmarks).all()


@needs_faces
@pytest.mark.faces
def test_a_second_look_that_sees_no_face_there_leaves_the_landmarks(detector: Detector) -> None:
    blind = cast("runtime.Model", _Cells(8, 8))
    blind.heat[:] = 0  # type: ignore[attr-defined]
    frame, _ = _small_face(40)
    assert (
        Detector(detector.model, score=0.4, close=blind, sure=0.4).detect(frame).landmarks
        == detector.detect(frame).landmarks
    ).all()


@needs_faces
@pytest.mark.faces
def test_a_second_look_never_takes_the_landmarks_of_a_neighbour(detector: Detector) -> None:
    """The close-up finds a sure face of ten pixels in its corner, and none where the small face is."""
    elsewhere = cast("runtime.Model", _Cells(1, 1))
    frame, _ = _small_face(40)
    assert (
        Detector(detector.model, score=0.4, close=elsewhere, sure=0.4).detect(frame).landmarks
        == detector.detect(frame).landmarks
    ).all()


@needs_faces
@pytest.mark.faces
def test_a_small_face_does_not_stay_in_the_close_up_when_it_has_left_the_picture(
    detector: Detector, close: runtime.Model
) -> None:
    twice = Detector(detector.model, score=0.4, close=close, sure=0.4)
    assert twice.close is not None
    twice.detect(_small_face(40)[0])
    assert twice.close._canvas.any()
    twice.detect(np.full((768, 1280, 3), 127, np.uint8))
    assert not twice.close._canvas.any()
    twice.detect(_small_face(40)[0])
    twice.flush()
    assert not twice.close._canvas.any()
