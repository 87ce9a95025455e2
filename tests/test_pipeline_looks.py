"""Looks at a face: the closer one that decides, and what none of them leaves in a model's memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from edge.records import Detections, Frame
from tests.sim.clock import HandClock
from tests.test_pipeline import Detector, Embedder, Street, Van


class HoldingDetector(Detector):
    """Keeps the last frame until it is flushed or sees another, as a model's arena does."""

    frame: np.ndarray | None = None
    flushes = 0

    def detect(self, image: np.ndarray) -> Detections:
        self.frame = image.copy()
        return super().detect(image)

    def flush(self) -> None:
        self.frame, self.flushes = None, self.flushes + 1


class DeadCamera:
    """A street whose camera gives nothing any more, for three turns; says what the detector held after each."""

    def __init__(self, street: Street, clock: HandClock, detector: HoldingDetector) -> None:
        self._street, self._clock, self._detector = street, clock, detector
        self.held: list[bool] = []

    @property
    def ended(self) -> bool:
        return len(self.held) == 3

    def next(self, timeout: float) -> Frame | None:
        if not self._street.ended:
            return self._street.next(timeout)
        self.held.append(self._detector.frame is not None)
        self._clock.advance(0.25)
        return None


def test_the_last_frame_before_a_camera_died_does_not_stay_in_the_detector() -> None:
    van = Van(frames=3)
    van.pipeline._detector = detector = HoldingDetector()
    van.pipeline._source = camera = DeadCamera(van.street, van.clock, detector)
    van.pipeline.run()
    assert camera.held == [True, False, False]
    assert detector.flushes == 1, "once: it costs a run of the network"


def test_the_last_frame_before_a_permit_lapsed_does_not_stay_in_the_detector() -> None:
    van = Van(frames=3)
    van.pipeline._detector = detector = HoldingDetector()
    frames = [van.street.next(0.0) for _ in range(3)]
    for frame in frames[:2]:
        assert frame is not None
        van.pipeline.process(frame)
    assert detector.frame is not None
    van.street.permit.withdraw()
    assert frames[2] is not None
    van.pipeline.process(frames[2])
    assert detector.frame is None
    assert detector.flushes == 1


class Doubtful(Embedder):
    """At one look the face resembles S-1 by so much; at a closer one by so much more or less."""

    def __init__(self, once: float, closely: float) -> None:
        super().__init__()
        self._once, self._closely = once, closely

    @staticmethod
    def _like(cosine: float) -> np.ndarray:
        return np.array([cosine, np.sqrt(1 - cosine**2), 0, 0], np.float32)

    def embed(self, chip: np.ndarray) -> np.ndarray:
        return self._like(self._once)

    def embed_mean(self, chips: Iterable[np.ndarray]) -> np.ndarray:
        self.closely.append([chip.copy() for chip in chips])
        return self._like(self._closely)


@pytest.mark.parametrize(
    ("once", "closely", "looks", "alerts"),
    [(0.56, 0.64, 2, 1), (0.63, 0.56, 9, 0), (0.5, 0.9, 0, 0)],
    ids=[
        "nearly enough at one look and enough at a closer one",
        "enough at one look and not at a closer one",
        "too little at one look to be looked at again",
    ],
)
def test_whoever_comes_near_is_decided_by_a_closer_look(once: float, closely: float, looks: int, alerts: int) -> None:
    van = Van()
    van.pipeline._embedder = embedder = Doubtful(once, closely)
    van.pipeline.run()
    assert len(van.desk.alerts) == alerts
    assert van.pipeline.counts.closer == len(embedder.closely) == looks
    assert {len(chips) for chips in embedder.closely} <= {4}
    assert van.nothing_is_held


def test_no_chip_of_a_closer_look_lives_while_the_next_is_made() -> None:
    van = Van()
    live: list[int] = []

    class Counting(Embedder):
        def embed_mean(self, chips: Iterable[np.ndarray]) -> np.ndarray:
            live.extend(van.custodian.totals().live for _ in chips)
            return super().embed_mean(iter([np.zeros((112, 112, 3), np.uint8)]))

    van.pipeline._embedder = Counting()
    van.pipeline.run()
    assert live
    assert len(set(live)) == 1, "one chip more would be one handle more"
    assert van.nothing_is_held


def test_somebody_who_leaves_the_list_during_a_closer_look_raises_nothing() -> None:
    van = Van()

    class Leaving(Embedder):
        def embed_mean(self, chips: Iterable[np.ndarray]) -> np.ndarray:
            van.pipeline.remove("S-1")
            return super().embed_mean(chips)

    van.pipeline._embedder = Leaving()
    van.pipeline.run()
    assert van.desk.alerts == []
    assert van.pipeline.listed == 0


def test_a_closer_look_at_a_picture_that_is_erased_meanwhile_counts_for_nothing_and_leaves_nothing() -> None:
    van = Van(frames=3)
    made: list[np.ndarray] = []

    class Slow(Embedder):
        """So slow that the sweeper erases the frame during its closer look."""

        def embed_mean(self, chips: Iterable[np.ndarray]) -> np.ndarray:
            made.append(super().embed_mean(chips))
            frame.pixels.erase()
            return made[-1]

    van.pipeline._embedder = Slow()
    for _ in range(3):
        taken = van.street.next(0.0)
        assert taken is not None
        frame = taken
        van.pipeline.process(frame)
    assert made
    assert not any(vector.any() for vector in made)
    assert van.pipeline.counts.given_up == len(made)
    assert van.desk.alerts == []
