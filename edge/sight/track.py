"""Which faces in this frame are the passages of the last frames? Pure: no clock, no pixels, no logger.

ByteTrack's idea (Zhang et al., ECCV 2022): confident detections are matched first; what is left of the
tracks is then matched with the doubtful detections, so that a face half hidden for a moment keeps its
track. Faces are small and walk fast against their own size, so boxes are widened before their overlap is
taken. The motion model is constant velocity with exponential smoothing, which for 0.6 s of patience
does what a Kalman filter does and has two numbers to explain instead of eight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import lap
import numpy as np
from numpy.typing import NDArray

from edge.clock import NS_PER_MS, NS_PER_S
from edge.config import TrackSection
from edge.records import Detections, TrackedFace

__all__ = ["Tracker", "TrackerUpdate"]

WIDEN = 0.6
"""How much a box grows on each side before overlaps are taken, in parts of its size."""
MIN_OVERLAP = 0.15
"""Overlap of widened boxes under which two are never the same face."""
SMOOTHING = 0.5
"""Weight of the newest measurement in a track's velocity."""
MAX_GROWTH = 2.0
"""A face does not double its height between two frames of one passage."""


@dataclass(slots=True)
class _Track:
    track_id: UUID
    box: NDArray[np.float32]
    seen_ns: int
    frames: int = 1
    velocity: NDArray[np.float32] = field(default_factory=lambda: np.zeros(4, np.float32))
    """Of the box's four sides, in pixels per second."""

    def predict(self, now_ns: int) -> NDArray[np.float32]:
        return np.asarray(self.box + self.velocity * ((now_ns - self.seen_ns) / NS_PER_S), np.float32)

    def update(self, box: NDArray[np.float32], now_ns: int) -> None:
        elapsed = max(1e-3, (now_ns - self.seen_ns) / NS_PER_S)
        measured = (box - self.box) / elapsed
        share = SMOOTHING if self.frames > 1 else 1.0
        self.velocity = np.asarray(share * measured + (1 - share) * self.velocity, np.float32)
        self.box = box
        self.seen_ns = now_ns
        self.frames += 1


@dataclass(frozen=True, slots=True)
class TrackerUpdate:
    """What one frame changed.

    Attributes:
        faces: the faces of this frame that belong to confirmed tracks.
        ended: tracks that have been unseen for longer than the patience; confirmed ones only.
    """

    faces: tuple[TrackedFace, ...]
    ended: tuple[UUID, ...]


class Tracker:
    """Ties detections to passages.

    Args:
        settings: patience, confirmation and the score that may begin a track.
        new_id: makes track identifiers; random, so that they say nothing of the person.
    """

    def __init__(self, settings: TrackSection, *, new_id: Callable[[], UUID] = uuid4) -> None:
        self._settings = settings
        self._new_id = new_id
        self._tracks: list[_Track] = []

    def update(self, detections: Detections, captured_ns: int) -> TrackerUpdate:
        """Take one frame's detections, in the order of time.

        Args:
            detections: of the frame.
            captured_ns: when the frame was captured, monotonic.
        """
        ended = self.expire(captured_ns)
        high = np.flatnonzero(detections.scores >= self._settings.high_score)
        low = np.flatnonzero(detections.scores < self._settings.high_score)
        free = list(range(len(self._tracks)))
        seen: dict[int, int] = {}
        for group in (high, low):
            pairs = self._assign(free, detections.boxes[group], captured_ns)
            for track_index, row in pairs:
                seen[track_index] = int(group[row])
            free = [index for index in free if index not in seen]

        faces: list[TrackedFace] = []
        for track_index, detection in seen.items():
            track = self._tracks[track_index]
            track.update(detections.boxes[detection], captured_ns)
            if track.frames >= self._settings.confirm_frames:
                faces.append(self._face(track, detections, detection))
        taken = set(seen.values())
        for detection in (int(index) for index in high if int(index) not in taken):
            track = _Track(self._new_id(), detections.boxes[detection], captured_ns)
            self._tracks.append(track)
            if track.frames >= self._settings.confirm_frames:
                faces.append(self._face(track, detections, detection))
        return TrackerUpdate(tuple(faces), ended)

    def expire(self, now_ns: int) -> tuple[UUID, ...]:
        """End the tracks that have been unseen too long at ``now_ns``; call it also while no frame comes."""
        patience = self._settings.patience_ms * NS_PER_MS
        # A track that was never confirmed is forgotten at its first miss: it held nothing.
        over = [t for t in self._tracks if now_ns - t.seen_ns > (patience if self._confirmed(t) else patience // 3)]
        if over:
            gone = {t.track_id for t in over}
            self._tracks = [t for t in self._tracks if t.track_id not in gone]
        return tuple(t.track_id for t in over if self._confirmed(t))

    def end_all(self) -> tuple[UUID, ...]:
        """End every track, for example when the source is lost."""
        ended = tuple(t.track_id for t in self._tracks if self._confirmed(t))
        self._tracks = []
        return ended

    def _confirmed(self, track: _Track) -> bool:
        return track.frames >= self._settings.confirm_frames

    @staticmethod
    def _face(track: _Track, detections: Detections, index: int) -> TrackedFace:
        return TrackedFace(
            track_id=track.track_id,
            box=detections.boxes[index],
            score=float(min(1.0, detections.scores[index])),
            landmarks=detections.landmarks[index],
            frames=track.frames,
        )

    def _assign(self, tracks: list[int], boxes: NDArray[np.float32], now_ns: int) -> list[tuple[int, int]]:
        """Pairs of (track index, row of ``boxes``) with the largest total overlap."""
        if not tracks or len(boxes) == 0:
            return []
        predicted = np.stack([self._tracks[index].predict(now_ns) for index in tracks])
        cost = 1.0 - _overlap(_widen(predicted), _widen(boxes))
        growth = (boxes[None, :, 3] - boxes[None, :, 1]) / np.maximum(1.0, predicted[:, 3] - predicted[:, 1])[:, None]
        cost[(growth > MAX_GROWTH) | (growth < 1 / MAX_GROWTH)] = 1.0
        _, rows, _ = lap.lapjv(cost.astype(np.float64), extend_cost=True, cost_limit=1.0 - MIN_OVERLAP)
        return [(tracks[t], int(row)) for t, row in enumerate(rows) if row >= 0]


def _widen(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    size = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] - WIDEN * size, boxes[:, 2:] + WIDEN * size], axis=1)


def _overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of every box of ``a`` with every box of ``b``: ``(len(a), len(b))``."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)
    area_a = np.prod(a[:, 2:] - a[:, :2], axis=1)
    area_b = np.prod(b[:, 2:] - b[:, :2], axis=1)
    return np.asarray(inside / np.maximum(area_a[:, None] + area_b[None, :] - inside, 1e-6), np.float32)
