"""The crew's live picture shows nobody: a detector that is run over it finds no face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.custody.retention import Custodian
from edge.records import Detections
from edge.sight import runtime
from edge.sight.detect import Detector
from edge.sight.live import LOOKED_NS, MARGIN, WIDTH, LiveView, cover
from edge.sight.picture import decode_image, read_image
from tests.sim.clock import HandClock
from tests.sim.street import PORTRAITS

SURE = 0.45


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(runtime.load("centerface:640x384-int8", kind="detector", threads=1))


def view(clock: HandClock) -> LiveView:
    return LiveView(Custodian(clock), clock, clear_px=14.0, sure=SURE)


def crowd(shift: int) -> np.ndarray:
    """Portraits side by side, of several sizes, on grey."""
    street = np.full((720, 1280, 3), 90, np.uint8)
    left = 20 + shift
    for height, path in zip((420, 260, 160, 110, 80), sorted(PORTRAITS.glob("*.jpg")), strict=False):
        portrait = read_image(path)
        wide = round(portrait.shape[1] * height / portrait.shape[0])
        room = min(wide, street.shape[1] - left)
        if room <= 0:
            break
        street[100 : 100 + height, left : left + room] = cv2.resize(portrait, (wide, height))[:, :room]
        left += wide + 25
    return street


def test_a_detector_finds_nobody_in_any_picture_that_is_shown(detector: Detector) -> None:
    clock = HandClock()
    live = view(clock)
    live.latest(0)
    found = shown = 0
    for shift in range(0, 80, 8):
        frame = crowd(shift)
        seen = detector.detect(frame)
        found += int((seen.scores >= SURE).sum())
        live.see(frame, seen)
        number, jpeg = live.latest(0)
        picture = decode_image(np.frombuffer(jpeg, np.uint8), "the live picture")
        assert picture.shape[1] == WIDTH
        assert not (detector.detect(picture).scores >= SURE).any(), f"picture {number} shows a face"
        shown += 1
        clock.advance(0.3)
    assert shown == 10
    assert found >= 30, "there are faces to be covered"


def test_a_face_that_is_missed_in_one_frame_stays_covered_where_it_was(detector: Detector) -> None:
    clock = HandClock()
    live = view(clock)
    frame = crowd(0)
    live.see(frame, detector.detect(frame))
    clock.advance(0.3)
    live.latest(0)
    live.see(frame, empty())
    picture = decode_image(np.frombuffer(live.latest(0)[1], np.uint8), "the live picture")
    assert not (detector.detect(picture).scores >= SURE).any()


def empty() -> Detections:
    return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))


def test_a_cover_leaves_nothing_of_what_it_covers() -> None:
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (200, 300, 3)).astype(np.uint8)
    box = np.array([[120.5, 80.2, 160.7, 130.9], [-20, -20, 15, 15], [290, 190, 400, 400]], np.float32)
    cover(picture, box)
    grown = MARGIN * 40
    assert len(np.unique(picture[round(80 - grown) : round(131 + grown), round(121 - grown) : round(160 + grown)])) == 1
    assert len(np.unique(picture[:15, :15])) == 1
    assert len(np.unique(picture[190:, 290:])) == 1


def test_nothing_is_made_while_nobody_looks_and_an_old_picture_is_none() -> None:
    clock = HandClock()
    live = view(clock)
    frame = crowd(0)
    live.see(frame, empty())
    assert live.latest(0) == (0, b""), "nobody had asked"
    live.see(frame, empty())
    number, jpeg = live.latest(0)
    assert number == 1
    assert jpeg
    assert live.latest(1) == (1, b"")
    clock.advance(LOOKED_NS / 1e9 + 0.1)
    assert live.latest(0)[1] == b"", "the van has seen nothing since"
    clock.advance(LOOKED_NS / 1e9 + 0.1)
    live.see(frame, empty())
    assert live.latest(0) == (1, b"")


def test_the_crew_is_told_to_come_closer_when_faces_are_too_small() -> None:
    clock = HandClock()
    live = view(clock)
    assert live.words() == ""
    eyes = np.array([[[10, 10], [18, 10], [14, 14], [11, 18], [17, 18]]], np.float32)
    live.see(crowd(0), Detections(np.array([[0, 0, 30, 30]], np.float32), np.array([0.9], np.float32), eyes))
    assert live.words() == "8 px between the eyes: come closer"
    clock.advance(LOOKED_NS / 1e9 + 0.1)
    assert live.words() == ""
