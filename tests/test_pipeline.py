"""The rules of the path itself: what is erased when, whatever the stages do. The real stages are tested elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

import edge.pipeline
import edge.stages
from edge.config import Config
from edge.custody.erase import Kind
from edge.custody.retention import Custodian
from edge.deployment.permit import Permit
from edge.errors import AuthorityMissing, CustodyBreached, OutboxFull
from edge.match.decide import Decider
from edge.match.index import Index
from edge.pipeline import Pipeline
from edge.records import Detections, Frame, Limits, SearchResult, WatchlistEntry
from edge.watchlist.identity import ListMeta
from edge.watchlist.store import WatchlistStore
from tests.sim.clock import HandClock
from tests.sim.van import Desk, Subjects, a_config

FACE = np.array([[200, 100, 300, 220]], np.float32)
POINTS = np.array([[[230, 150], [270, 150], [250, 175], [235, 195], [265, 195]]], np.float32)
VECTOR = np.array([1, 0, 0, 0], np.float32)


class Detector:
    """Sees one face in every picture; may be told to take long or to fail."""

    def __init__(self) -> None:
        self.before = lambda: None

    def detect(self, image: np.ndarray) -> Detections:
        self.before()
        return Detections(FACE, np.array([0.9], np.float32), POINTS)

    def look_again(self, image: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        return POINTS[0] + np.float32(1)

    def flush(self) -> None:
        pass


class Embedder:
    digest = "of-a-test"
    template = "arcface-112"

    def __init__(self) -> None:
        self.chips: list[float] = []
        self.closely: list[list[np.ndarray]] = []

    def embed(self, chip: np.ndarray) -> np.ndarray:
        self.chips.append(float(chip.mean()))
        return VECTOR.copy()

    def embed_mean(self, chips: Iterable[np.ndarray]) -> np.ndarray:
        """Of no other template than any of them, in this test's street."""
        self.closely.append([chip.copy() for chip in chips])
        return self.embed(self.closely[-1][0])

    def flush(self) -> None:
        pass


class Street:
    """As many frames of noise as asked for, twenty a second."""

    def __init__(self, clock: HandClock, custodian: Custodian, frames: int) -> None:
        self._clock, self._custodian = clock, custodian
        self.permit = Permit(clock)
        self._random = np.random.default_rng(1)
        self._left = frames
        self.pixels: list[np.ndarray] = []

    @property
    def ended(self) -> bool:
        return self._left == 0

    def next(self, timeout: float) -> Frame | None:
        self._left -= 1
        self._clock.advance(0.05)
        self.permit.grant()
        self.pixels.append(self._random.integers(60, 200, (384, 640, 3), np.uint8))
        handle = self._custodian.hold(Kind.FRAME, self.pixels[-1])
        return Frame(len(self.pixels), self._clock.monotonic_ns(), self._clock.now(), handle)


ENTRY = WatchlistEntry(
    "S-1", "wanted", "test", "test", None, False, None, None, "unknown", VECTOR[None].copy(), b"\xff\xd8\xff"
)


class Van:
    def __init__(
        self,
        frames: int = 10,
        config: Config | None = None,
        subjects: edge.stages.Subjects | None = None,
        **settings: Any,
    ) -> None:
        self.clock = HandClock()
        self.custodian = Custodian(self.clock)
        self.street = Street(self.clock, self.custodian, frames)
        self.detector, self.embedder, self.desk = Detector(), Embedder(), Desk()
        self.pipeline = Pipeline(
            config=config or a_config(),
            clock=self.clock,
            source=self.street,
            detector=self.detector,
            embedder=self.embedder,
            index=Index(["S-1"], VECTOR[None].copy()),
            subjects=subjects or Subjects({"S-1": ENTRY}),
            decider=Decider(a_config().decision, limits=Limits(0.6, 0.45)),
            limits=settings.pop("limits", lambda *_: Limits(0.6, 0.45)),
            custodian=self.custodian,
            sink=self.desk,
            permit=self.street.permit,
            **settings,
        )

    @property
    def nothing_is_held(self) -> bool:
        return self.custodian.totals().live == 0 and not any(pixels.any() for pixels in self.street.pixels)


def test_a_listed_face_raises_one_alert_and_nothing_of_the_passage_is_left() -> None:
    van = Van()
    van.pipeline.run()
    assert [alert.reference for alert in van.desk.alerts] == ["S-1"]
    assert van.nothing_is_held
    assert van.custodian.totals().passages == 1


def test_a_van_without_a_permit_embeds_nobody_and_forgets_who_was_there() -> None:
    van = Van()
    van.street.permit.close()
    van.pipeline.run()
    assert van.embedder.chips == []
    assert van.nothing_is_held


def test_a_subject_who_was_removed_raises_no_alert() -> None:
    van = Van()
    van.pipeline.remove("S-1")
    van.pipeline.run()
    assert van.desk.alerts == []
    assert van.pipeline.listed == 0


def test_a_subject_who_leaves_the_list_between_search_and_look_up_raises_no_alert_and_the_van_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = ListMeta("D-1", "a" * 64, len(VECTOR), datetime(2026, 3, 1, tzinfo=UTC))
    with WatchlistStore.create(tmp_path / "list.db", bytes(range(32)), meta) as store:
        store.add([ENTRY])
        search = Index.search

        def revoked_after_it(index: Index, probe: np.ndarray, k: int = 3) -> SearchResult:
            result = search(index, probe, k)
            assert [candidate.reference for candidate in result.candidates] == ["S-1"]
            store.remove("S-1")
            return result

        monkeypatch.setattr(Index, "search", revoked_after_it)
        van = Van(subjects=store)
        van.pipeline.run()
    assert van.desk.alerts == []
    assert van.pipeline.counts.frames == 10
    assert van.nothing_is_held


def test_a_machine_that_is_too_slow_gives_frames_up_and_never_embeds_what_was_erased() -> None:
    van = Van()

    def slow() -> None:
        van.clock.advance(1.95)  # the sweeper erases a little before the two seconds are over
        van.custodian.sweep()

    van.detector.before = slow
    van.pipeline.run()
    assert van.embedder.chips == []
    assert van.pipeline.counts.given_up > 0
    assert van.nothing_is_held
    assert van.custodian.breach is None


def test_a_breach_that_was_found_in_the_middle_of_a_frame_is_raised_although_it_stops_the_pipeline_at_once() -> None:
    """As when the machine slept with a picture in hand: whoever is told of the breach asks the pipeline to stop."""
    van = Van()
    van.custodian._on_breach = lambda _: van.pipeline.stop()
    van.detector.before = lambda: van.clock.advance(3)
    with pytest.raises(CustodyBreached):
        van.pipeline.run()
    assert van.nothing_is_held


def test_a_face_that_was_cut_out_of_a_picture_while_it_was_erased_is_not_embedded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    van = Van()
    cut = edge.pipeline.align

    def erased_meanwhile(*arguments: Any) -> Any:
        van.clock.advance(1.95)
        van.custodian.sweep()
        return cut(*arguments)

    monkeypatch.setattr(edge.pipeline, "align", erased_meanwhile)
    van.pipeline.run()
    assert van.embedder.chips == []
    assert van.pipeline.counts.given_up > 0
    assert van.nothing_is_held


def test_an_alert_whose_picture_was_being_erased_is_raised_with_the_next_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    van = Van()
    cut = edge.pipeline.probe_picture
    erased: list[int] = []

    def erased_the_first_time(*arguments: Any) -> Any:
        if not erased:
            erased.append(1)
            van.clock.advance(1.95)
            van.custodian.sweep()
        return cut(*arguments)

    monkeypatch.setattr(edge.pipeline, "probe_picture", erased_the_first_time)
    van.pipeline.run()
    assert van.pipeline.counts.given_up == 1
    assert [alert.reference for alert in van.desk.alerts] == ["S-1"]
    picture = cv2.imdecode(np.frombuffer(van.desk.alerts[0].probe_jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.mean() > 50
    assert van.nothing_is_held


def test_an_outbox_that_is_full_stops_matching_and_forgets_everybody() -> None:
    van = Van()

    def full(_: object) -> None:
        raise OutboxFull("the outbox", "is full", "Reach the broker")

    van.desk.submit = full  # type: ignore[method-assign]
    with pytest.raises(OutboxFull):
        van.pipeline.run()
    assert van.nothing_is_held


def test_a_stage_that_fails_leaves_nothing_behind() -> None:
    van = Van()

    def broken() -> None:
        raise RuntimeError("a bug")

    van.detector.before = broken
    with pytest.raises(RuntimeError):
        van.pipeline.run()
    assert van.nothing_is_held


class Pause:
    """A street whose frames end while the van goes on looking: for two seconds nobody comes by."""

    def __init__(self, street: Street, clock: HandClock, embedder: HoldingEmbedder) -> None:
        self._street, self._clock, self._embedder = street, clock, embedder
        self._pauses = 2
        self.held: list[bool] = []
        """Whether the embedder held a chip, each time that nobody came by."""

    @property
    def ended(self) -> bool:
        return self._pauses == 0

    def next(self, timeout: float) -> Frame | None:
        if not self._street.ended:
            return self._street.next(timeout)
        self._pauses -= 1
        self._clock.advance(1)
        self.held.append(self._embedder.chip is not None)
        return None


class HoldingEmbedder(Embedder):
    """Keeps the last chip until it is flushed, as a model's arena does."""

    def __init__(self) -> None:
        super().__init__()
        self.chip: np.ndarray | None = None

    def embed(self, chip: np.ndarray) -> np.ndarray:
        self.chip = chip.copy()
        return super().embed(chip)

    def flush(self) -> None:
        self.chip = None


def test_no_chip_stays_in_the_model_when_a_passage_has_ended_although_the_van_goes_on() -> None:
    van = Van(frames=5)
    embedder = HoldingEmbedder()
    pause = Pause(van.street, van.clock, embedder)
    van.pipeline._embedder, van.pipeline._source = embedder, pause
    van.pipeline.run()
    assert pause.held == [True, False], "a chip was held, and the end of the passage took it away"


class Embeddings(Embedder):
    """Gives the vectors that it was told, one a frame."""

    def __init__(self, *vectors: np.ndarray) -> None:
        super().__init__()
        self._vectors = list(vectors)

    def embed(self, chip: np.ndarray) -> np.ndarray:
        self._last = self._vectors.pop(0)
        return self._last.copy()

    def embed_mean(self, chips: Iterable[np.ndarray]) -> np.ndarray:
        return self._last.copy()


SOMEBODY_ELSE = np.array([0, 1, 0, 0], np.float32)


@pytest.mark.parametrize(("searches", "alerts"), [(3, 0), (4, 1)])
def test_votes_of_before_a_template_began_anew_do_not_count(searches: int, alerts: int) -> None:
    """Two of five searches must agree; one before somebody else came into the passage and one after are not two."""
    van = Van(1 + searches)  # the first frame only says that somebody is there
    van.pipeline._embedder = Embeddings(VECTOR, SOMEBODY_ELSE, VECTOR, VECTOR)
    van.pipeline.run()
    assert van.pipeline.counts.restarts == 2
    assert len(van.desk.alerts) == alerts


@pytest.mark.parametrize(
    ("configured", "retention", "lives"),
    [
        (4 * 3600, timedelta(hours=1), timedelta(hours=1)),
        (600, timedelta(hours=1), timedelta(minutes=10)),
        (86_400, None, timedelta(hours=24)),
    ],
    ids=["retention is shorter", "the configuration is shorter", "no retention is given"],
)
def test_an_alert_expires_no_later_than_its_retention_allows(
    configured: int, retention: timedelta | None, lives: timedelta
) -> None:
    config = a_config()
    config = replace(config, alert=replace(config.alert, expiry_s=configured))
    van = Van(config=config, **({} if retention is None else {"retention": retention}))
    van.pipeline.run()
    (alert,) = van.desk.alerts
    assert alert.expires_at - alert.raised_at == lives


def test_a_list_that_gets_shorter_is_judged_by_what_the_shorter_list_needs() -> None:
    asked: list[tuple[int, int]] = []

    def limits(entries: int, pictures: int) -> Limits:
        asked.append((entries, pictures))
        return Limits(0.7, 0.5)

    van = Van(limits=limits)
    assert van.pipeline.threshold == 0.6
    van.pipeline.remove("S-1")
    assert asked == [(0, 0)]
    assert van.pipeline.threshold == 0.7


def test_nobody_is_matched_when_nothing_says_what_the_shorter_list_needs() -> None:
    def limits(entries: int, pictures: int) -> Limits:
        raise AuthorityMissing("the threshold", "cannot be known without an authority", "Ask")

    van = Van(limits=limits)
    van.pipeline.remove("nobody")
    van.pipeline.run()
    assert van.pipeline.counts.embedded > 0
    assert van.desk.alerts == []
