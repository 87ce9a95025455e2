"""Which faces are one passage."""

from __future__ import annotations

import numpy as np

from edge.config import TrackSection
from edge.records import Detections
from edge.sight.track import Tracker

STEP_NS = 40_000_000


def faces(*centres: tuple[float, float], size: float = 40, score: float = 0.9) -> Detections:
    boxes = np.array([[x - size / 2, y - size / 2, x + size / 2, y + size / 2] for x, y in centres], np.float32)
    n = len(centres)
    return Detections(boxes.reshape(n, 4), np.full(n, score, np.float32), np.zeros((n, 5, 2), np.float32))


def test_a_walking_face_keeps_its_track() -> None:
    tracker = Tracker(TrackSection(confirm_frames=2))
    seen = {
        face.track_id
        for step in range(40)
        for face in tracker.update(faces((100 + 15 * step, 200 + step)), step * STEP_NS).faces
    }
    assert len(seen) == 1


def test_a_face_is_not_believed_before_it_was_seen_often_enough() -> None:
    tracker = Tracker(TrackSection(confirm_frames=3))
    believed = [len(tracker.update(faces((100, 100)), step * STEP_NS).faces) for step in range(4)]
    assert believed == [0, 0, 1, 1]


def test_a_face_hidden_for_less_than_the_patience_keeps_its_track() -> None:
    tracker = Tracker(TrackSection(confirm_frames=1, patience_ms=600))
    before = tracker.update(faces((100, 100)), 0).faces[0].track_id
    for step in range(1, 12):
        assert tracker.update(Detections.empty(), step * STEP_NS).ended == ()
    assert tracker.update(faces((110, 100)), 12 * STEP_NS).faces[0].track_id == before


def test_a_track_ends_when_the_patience_is_over_even_without_frames() -> None:
    tracker = Tracker(TrackSection(confirm_frames=1, patience_ms=600))
    track = tracker.update(faces((100, 100)), 0).faces[0].track_id
    assert tracker.expire(590_000_000) == ()
    assert tracker.expire(610_000_000) == (track,)
    assert tracker.expire(620_000_000) == ()


def test_a_doubtful_detection_continues_a_track_but_begins_none() -> None:
    tracker = Tracker(TrackSection(confirm_frames=1, high_score=0.5))
    track = tracker.update(faces((100, 100)), 0).faces[0].track_id
    update = tracker.update(faces((102, 100), (400, 300), score=0.3), STEP_NS)
    assert [face.track_id for face in update.faces] == [track]


def test_two_people_who_pass_each_other_keep_their_tracks() -> None:
    tracker = Tracker(TrackSection(confirm_frames=1))
    left = right = None
    for step in range(30):
        update = tracker.update(faces((100 + 12 * step, 100), (460 - 12 * step, 170)), step * STEP_NS)
        by_row = {round(float(face.box[1])): face.track_id for face in update.faces}
        left, right = left or by_row[80], right or by_row[150]
        assert (by_row[80], by_row[150]) == (left, right)
    assert left != right


def test_a_box_of_another_size_is_another_face() -> None:
    tracker = Tracker(TrackSection(confirm_frames=1))
    small = tracker.update(faces((100, 100), size=30), 0).faces[0].track_id
    update = tracker.update(faces((100, 100), size=120), STEP_NS)
    assert small not in {face.track_id for face in update.faces}


def test_ending_all_leaves_nothing() -> None:
    tracker = Tracker(TrackSection(confirm_frames=1))
    tracks = {face.track_id for face in tracker.update(faces((100, 100), (300, 100)), 0).faces}
    assert set(tracker.end_all()) == tracks
    assert tracker.end_all() == ()
