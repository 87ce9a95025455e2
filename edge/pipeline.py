"""The path of one face, and the only file that orders its stages.

    frame → detect → track → quality → align → embed → template → search → decide → alert
                                           ↑                                   │ └────→ forget
                                           └──── a closer look where it is near ┘

One worker runs it. Capture reads in its own and keeps the newest frame only; the publisher sends in its own from the
outbox. Between them nothing queues. Whatever is held of a face lives behind a custody handle that is erased in the
same turn, except the track's template, which lives until the passage has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from edge.alert.probe import encode, probe_picture
from edge.clock import Clock, uuid7
from edge.config import Config
from edge.custody.erase import Biometric, Kind
from edge.custody.retention import Custodian
from edge.deployment.permit import Permit
from edge.errors import BiometricErased, EdgeError, EntryNotFound, PermitLapsed
from edge.match.decide import Decider
from edge.match.index import Index
from edge.match.second import SecondOpinion
from edge.match.template import TrackTemplate
from edge.records import (
    NOBODY,
    Alert,
    Decision,
    Detections,
    ErasureCause,
    Frame,
    Limits,
    Outcome,
    QualityReport,
    TrackedFace,
)
from edge.sight.align import align
from edge.sight.closer import cuts
from edge.sight.quality import assess
from edge.sight.track import Tracker
from edge.stages import AlertSink, FaceDetector, FaceEmbedder, FrameSource, PipelineCounts, Subjects
from edge.system.journal import get_logger

__all__ = ["Pipeline"]

log = get_logger("pipeline")


@dataclass(frozen=True, slots=True)
class _View:
    """One frame as the stages see it while it lives: never kept beyond the turn."""

    frame: Frame
    image: NDArray[np.uint8] = field(repr=False)
    boxes: NDArray[np.float32] = field(repr=False)


class Pipeline:
    """Runs the path of one face until the source ends or it is told to stop.

    Args:
        config: limits and settings.
        clock: for tracks and alerts.
        source: gives frames.
        detector, embedder: the models.
        second: an embedder that is asked before an alert, and the list as it sees it; adopted likewise.
        model: names the embedder, or the pair, in alerts; the embedder's digest if left out.
        index: the list in memory; adopted: :meth:`remove` and :meth:`forget_list` change it.
        subjects: what the list knows of a subject.
        decider: the rules.
        limits: what a candidate must reach with so many people on the list, and so many pictures of them.
        custodian: gives out handles and closes passages.
        sink: takes alerts; must not return before an alert can no longer be lost.
        permit: asked for every frame and again where an alert is committed.
        on_turn: called after every frame and at least every quarter of a second: there is progress.
        on_alert: called with every alert that was accepted.
        on_seen: called with every frame and all that the detector found in it, in the same turn; must keep neither.
        retention: nobody may hold an alert for longer; it expires no later, whatever the configuration says.
    """

    def __init__(
        self,
        *,
        config: Config,
        clock: Clock,
        source: FrameSource,
        detector: FaceDetector,
        embedder: FaceEmbedder,
        index: Index,
        subjects: Subjects,
        decider: Decider,
        limits: Callable[[int, int], Limits],
        custodian: Custodian,
        sink: AlertSink,
        permit: Permit,
        second: tuple[FaceEmbedder, SecondOpinion] | None = None,
        model: str = "",
        on_turn: Callable[[], None] | None = None,
        on_alert: Callable[[Alert], None] | None = None,
        on_seen: Callable[[NDArray[np.uint8], Detections], None] | None = None,
        retention: timedelta = timedelta(hours=24),
    ) -> None:
        self._config = config
        self._clock = clock
        self._source = source
        self._detector = detector
        self._embedder = embedder
        self._index = index
        self._subjects = subjects
        self._decider = decider
        self._limits = limits
        self._custodian = custodian
        self._sink = sink
        self._permit = permit
        self._second = second
        self._model = model or embedder.digest
        self._on_turn = on_turn
        self._on_alert = on_alert
        self._on_seen = on_seen
        self._retention = retention
        self._expiry = min(timedelta(seconds=config.alert.expiry_s), retention)
        self._tracker = Tracker(config.track)
        self._templates: dict[UUID, TrackTemplate] = {}
        self._seconds: dict[UUID, TrackTemplate] = {}
        self._asked = False  # whether the second embedder's memory holds a chip
        self._matching = threading.Lock()
        self._sees = False  # whether the detector's memory holds a frame
        self._stop = threading.Event()
        self.counts = PipelineCounts()

    # -- life ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Process frames until the source has ended or :meth:`stop` is called; then forget everyone.

        Raises:
            CustodyBreached: something biometric outlived its deadline.
            EdgeError: an alert could not be accepted (disk full, outbox full): matching stops loudly.
        """
        try:
            while not self._stop.is_set() and not self._source.ended:
                frame = self._source.next(timeout=0.25)
                if self._custodian.breach is not None:
                    raise self._custodian.breach
                if frame is None:
                    self._close_eyes()
                    self._end(
                        self._tracker.expire(self._clock.monotonic_ns())
                        if self._permit.valid
                        else self._tracker.end_all()
                    )
                else:
                    self.process(frame)
                if self._on_turn is not None:
                    self._on_turn()
            if self._custodian.breach is not None:  # whoever was told of it has asked this to stop
                raise self._custodian.breach
        finally:
            self._end(self._tracker.end_all())
            self._close_eyes()
            self._flush()

    def stop(self) -> None:
        """Ask :meth:`run` to return after the frame in hand."""
        self._stop.set()

    def remove(self, reference: str) -> None:
        """Never find ``reference`` again. Returns when no search can, and its templates are overwritten.

        A shorter list may need a higher score.
        """
        with self._matching:
            self._index.remove(reference)
            if self._second is not None:
                self._second[1].remove(reference)
            self._decider.limits = NOBODY
            try:
                self._decider.limits = self._limits(len(self._index), self._index.pictures)
            except EdgeError as error:
                log.warning("threshold_unknown", error=type(error).__name__)

    def forget_list(self) -> None:
        """Match nobody ever again: the index is overwritten. Returns when that is done."""
        with self._matching:
            self._index.erase()
            if self._second is not None:
                self._second[1].erase()

    @property
    def listed(self) -> int:
        """How many people are searched for."""
        return len(self._index)

    @property
    def threshold(self) -> float:
        """The score that an alert needs."""
        return self._decider.limits.score

    # -- one frame -------------------------------------------------------------------------------

    def process(self, frame: Frame) -> None:
        """Take one frame through all stages; the frame is erased when this returns, whatever happens.

        Without a permit it is erased unseen, and every passage is forgotten.
        """
        try:
            if not self._permit.valid:
                self._close_eyes()
                self._end(self._tracker.end_all())
                return
            self._sees = True
            with self._timed("detect"):
                detections = self._detector.detect(frame.pixels.array)
            # Asked anew, here and for every face: on a machine that is too slow the sweeper has erased it meanwhile,
            # and what was found in a picture that was being erased counts for nothing.
            _ = frame.pixels.array
            if self._on_seen is not None:
                with self._timed("live view"):
                    self._on_seen(frame.pixels.array, detections)
            with self._timed("track"):
                update = self._tracker.update(detections, frame.captured_ns)
            self._end(update.ended)
            for face in update.faces:
                self._face(_View(frame, frame.pixels.array, detections.boxes), face)
            self.counts.frames += 1
        except BiometricErased as error:
            # The sweeper was faster than this machine: nothing was lost but this frame.
            self.counts.given_up += 1
            log.warning("frame_given_up", frame=frame.index, why=error.cause)
            self._end(self._tracker.expire(self._clock.monotonic_ns()))
        finally:
            frame.pixels.erase()

    def _face(self, view: _View, face: TrackedFace) -> None:
        self._custodian.seen(face.track_id, view.frame.captured_ns)
        if face.track_id not in self._templates:
            self._templates[face.track_id] = TrackTemplate(self._custodian, face.track_id)
            self.counts.faces_seen += 1
        with self._timed("quality"):
            report = assess(view.image, face, self._config.quality)
        if report.reason is not None:
            self.counts.refused[report.reason.name.lower()] += 1
            return
        decision = self._identify(view, face, report)
        if decision.outcome is Outcome.COOLING_DOWN:
            self.counts.cooled += 1
        if decision.outcome is Outcome.ALERT:
            self._alert(view, face, report, decision)

    def _identify(self, view: _View, face: TrackedFace, report: QualityReport) -> Decision:
        template = self._templates[face.track_id]
        with self._timed("align"):
            cut = align(view.image, face.landmarks, self._embedder.template)
            chip = self._custodian.hold(Kind.CHIP, cut, track_id=face.track_id)
            del cut  # the handle's alone
        with chip, self._timed("embed"):
            _ = view.frame.pixels.array  # what was cut out while the sweeper erased the picture is nobody's face
            vector = self._custodian.hold(Kind.EMBEDDING, self._embedder.embed(chip.array), track_id=face.track_id)
        with vector:
            restarts = template.restarts
            if template.fold(vector.array, report.weight):
                self._decider.forget_votes(face.track_id, contradicted=template.restarts > restarts)
                self._forget_second(face.track_id)
            self.counts.restarts += template.restarts - restarts
            self.counts.embedded += 1
            decision = self._search(view, face, template, near=True)
            if decision is not None:
                return decision
            self.counts.closer += 1
            again = self._look_again(view, face)
            with self._closely(view, face, again, self._embedder) as better:
                template.exchange(vector.array, better.array, report.weight)
        if self._second is not None:
            self._asked = True
            with self._closely(view, face, again, self._second[0]) as other:
                second = self._seconds.setdefault(face.track_id, TrackTemplate(self._custodian, face.track_id))
                second.fold(other.array, report.weight)
        decision = self._search(view, face, template, near=False)
        assert decision is not None
        return decision

    def _search(self, view: _View, face: TrackedFace, template: TrackTemplate, *, near: bool) -> Decision | None:
        """What follows from a search; None where a closer look is still to be had and could change it.

        Search and decision are one: in between, nobody may leave the list.
        """
        with self._timed("search"), template.probe() as probe, self._matching:
            result = self._index.search(probe.array)
            if near and self._decider.near(face.track_id, result, view.frame.captured_ns):
                return None
            if not near and self._second is not None:
                with self._seconds[face.track_id].probe() as other:
                    result = self._second[1].weigh(result, other.array)
            return self._decider.decide(face.track_id, result, view.frame.captured_ns)

    def _look_again(self, view: _View, face: TrackedFace) -> NDArray[np.float32] | None:
        with self._timed("closer"):
            return self._detector.look_again(view.image, face.box)

    def _closely(
        self, view: _View, face: TrackedFace, again: NDArray[np.float32] | None, embedder: FaceEmbedder
    ) -> Biometric:
        """The embedding of a closer look at the same picture, behind its handle."""
        with self._timed("closer"):
            made = embedder.embed_mean(self._chips(view, face, again, embedder))
            better = self._custodian.hold(Kind.EMBEDDING, made, track_id=face.track_id)
            try:
                _ = view.frame.pixels.array  # as above: what was cut out while somebody erased it is nobody's face
            except BiometricErased:
                better.erase()
                raise
            return better

    def _chips(
        self, view: _View, face: TrackedFace, again: NDArray[np.float32] | None, embedder: FaceEmbedder
    ) -> Iterator[NDArray[np.uint8]]:
        for cut in cuts(view.image, face.landmarks, again, embedder.template):
            with self._custodian.hold(Kind.CHIP, cut, track_id=face.track_id) as chip:
                yield chip.array

    def _alert(self, view: _View, face: TrackedFace, report: QualityReport, decision: Decision) -> None:
        reference = decision.reference
        if reference is None or decision.similarity is None or decision.score is None:
            return
        with self._timed("alert"):
            try:
                entry = self._subjects.entry(reference)
            except EntryNotFound:
                log.info("left_the_list", reference=reference)
                return
            probe_jpeg = self._probe(view, face, decision)
            now = self._clock.now()
            similarity, score = decision.similarity, decision.score

            def make(sequence: int) -> Alert:
                return Alert(
                    alert_id=uuid7(self._clock),
                    van=self._config.van.id,
                    deployment=self._config.deployment.id,
                    sequence=sequence,
                    raised_at=now,
                    seen_at=view.frame.captured_at,
                    expires_at=now + self._expiry,
                    erase_at=now + self._retention,
                    reference=reference,
                    category=entry.category,
                    similarity=similarity,
                    score=score,
                    threshold=decision.threshold,
                    votes=decision.votes,
                    frames=face.frames,
                    eye_distance=report.eye_distance,
                    place=self._config.deployment.place,
                    watchlist=self._subjects.digest,
                    model=self._model,
                    image_taken=entry.image_taken,
                    probe_jpeg=probe_jpeg,
                    reference_jpeg=entry.reference_jpeg,
                    lookalikes=entry.lookalikes,
                )

            try:
                with self._permit.in_use():
                    alert = self._sink.submit(make)
            except PermitLapsed as error:
                self._decider.withdraw(decision)
                log.info("alert_withheld", why=error.cause)
                return
        self._custodian.matched(face.track_id)
        self.counts.alerts += 1
        log.info("alert_raised", alert=alert.alert_id, sequence=alert.sequence, reference=alert.reference)
        if self._on_alert is not None:
            self._on_alert(alert)

    def _probe(self, view: _View, face: TrackedFace, decision: Decision) -> bytes:
        picture = probe_picture(view.image, view.boxes, face.box, self._config.alert.probe_margin)
        with self._custodian.hold(Kind.PROBE, picture, track_id=face.track_id) as probe:
            del picture  # the handle's alone
            try:
                _ = view.frame.pixels.array  # nobody can judge by a picture that was cut out while it was erased
                return encode(probe.array)
            except BiometricErased:
                self._decider.withdraw(decision)
                raise

    # -- forgetting ------------------------------------------------------------------------------

    def _end(self, ended: tuple[UUID, ...]) -> None:
        """Forget passages that have ended, to the last copy that a model may hold."""
        for track_id in ended:
            template = self._templates.pop(track_id, None)
            if template is not None:
                template.erase()
            self._forget_second(track_id)
            self._decider.forget(track_id)
            self._custodian.close(track_id, ErasureCause.TRACK_ENDED)
        if ended:
            self._flush()

    def _forget_second(self, track_id: UUID) -> None:
        template = self._seconds.pop(track_id, None)
        if template is not None:
            template.erase()

    def _flush(self) -> None:
        """Leave nothing of the last chip in an embedder."""
        self._embedder.flush()
        if self._second is not None and self._asked:
            self._second[0].flush()
            self._asked = False

    def _close_eyes(self) -> None:
        """Leave nothing of the last frame in the detector: the next one, which would overwrite it, may never come."""
        if self._sees:
            self._detector.flush()
            self._sees = False

    def _timed(self, stage: str) -> _Timed:
        return _Timed(self.counts.stage_ms, stage)


class _Timed:
    """Adds the milliseconds of a block to a stage's total."""

    __slots__ = ("_begun", "_stage", "_totals")

    def __init__(self, totals: dict[str, float], stage: str) -> None:
        self._totals = totals
        self._stage = stage

    def __enter__(self) -> None:
        self._begun = time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        spent = (time.perf_counter_ns() - self._begun) / 1e6
        self._totals[self._stage] = self._totals.get(self._stage, 0.0) + spent
