"""How many people a minute does this machine manage? The pipeline on a labelled street of real faces.

Real models, tracker, list, decisions and custody; frames are put together in memory, and the time that takes is
taken out. An alert is counted where the pipeline hands it over: its way through outbox and broker is not measured here.

    python -m edge.bench_scene SETTINGS      one JSON object of settings in, one report out (scripts/bench-against)
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.assembly.mandate import load_models
from edge.clock import SystemClock
from edge.config import CameraSection, Config, DeploymentSection, ModelsSection, VanSection
from edge.custody.erase import Kind
from edge.custody.retention import Custodian
from edge.deployment.permit import Permit
from edge.errors import BadInput, EntryNotFound
from edge.evaluate.networks import Networks
from edge.evaluate.scene_report import SceneReport, SceneSettings
from edge.evaluate.street import Passage, Street, render
from edge.match.calibration import ImpostorTail
from edge.match.decide import Decider
from edge.match.index import Index
from edge.parsing import json_as
from edge.pipeline import Pipeline
from edge.records import Alert, Detections, ErasureReceipt, Frame, Limits, WatchlistEntry
from edge.sight.card import default_directory
from edge.sight.closer import cuts
from edge.sight.detect import Detector
from edge.sight.embed import Embedder
from edge.sight.picture import read_image
from edge.system.journal import configure
from edge.worker import Supervisor

__all__ = ["bench_scene"]

MIN_SIMILARITY = 0.45
"""Floor of the cosine in this measurement; an authority sets its own."""


class _Film:
    """Frames of the street, as :class:`edge.sight.capture.Capture` gives them."""

    def __init__(self, street: Street, settings: SceneSettings, custodian: Custodian, clock: SystemClock) -> None:
        self._street, self._settings = street, settings
        self._custodian, self._clock = custodian, clock
        self._next = 0
        self._begun = clock.monotonic_ns()
        self.now = 0
        self.arrived: dict[int, int] = {}
        self.dropped = 0
        self.making_s = 0.0

    @property
    def round(self) -> int:
        """How often the street was walked to its end."""
        return self.now // self._street.frames

    @property
    def ended(self) -> bool:
        if self._settings.minutes:
            return self._clock.monotonic_ns() - self._begun >= self._settings.minutes * 60e9
        return self._next >= self._street.frames

    def next(self, timeout: float) -> Frame | None:
        """The frame that is due, or the next one where every frame is taken."""
        if self._settings.live:
            interval = 1e9 / self._settings.plan.fps
            due = int((self._clock.monotonic_ns() - self._begun) / interval)
            if due < self._next:
                wait = (self._begun + self._next * interval - self._clock.monotonic_ns()) / 1e9
                time.sleep(max(0.0, min(wait, timeout)))
                if wait > timeout:
                    return None
                due = self._next
            if not self._settings.minutes:
                due = min(due, self._street.frames - 1)
            self.dropped += due - self._next
            self._next = due
        begun = time.perf_counter()
        pixels = self._street.frame(self._next % self._street.frames)
        self.making_s += time.perf_counter() - begun
        arrived = self._clock.monotonic_ns()
        self.now = self._next
        self.arrived[self.now] = arrived
        self._next += 1
        held = self._custodian.hold(Kind.FRAME, pixels)
        return Frame(index=self.now, captured_ns=arrived, captured_at=self._clock.now(), pixels=held)


class _WatchedDetector:
    """The detector; notes which of the labelled people it finds in whole frames."""

    def __init__(self, detector: Detector, street: Street, film: _Film) -> None:
        self._detector, self._film = detector, film
        self._whole = (street.plan.height, street.plan.width)
        self._street = street
        self.found: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        found = self._detector.detect(image)
        if image.shape[:2] == self._whole:
            middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
            for number, passage in enumerate(self._street.passages):
                box = passage.boxes.get(self._film.now % self._street.frames)
                if box is not None and bool(np.any(((middles > box[:2]) & (middles < box[2:])).all(axis=1))):
                    self.found.add(number)
        return found


class _Desk:
    """Takes alerts and judges them by the labels."""

    def __init__(self, street: Street, film: _Film, clock: SystemClock) -> None:
        self._street, self._film, self._clock = street, film, clock
        self.found: set[int] = set()
        self.wrong = 0
        self.after_frame: list[float] = []
        self.after_entry: list[float] = []
        self._taken = 0

    def submit(self, make: Callable[[int], Alert]) -> Alert:
        self._taken += 1
        alert, now = make(self._taken), self._clock.monotonic_ns()
        if self._film.round:
            return alert
        for number, passage in enumerate(self._street.passages):
            if passage.listed and passage.person == alert.reference and self._film.now in passage.boxes:
                self.found.add(number)
                self.after_frame.append((now - self._film.arrived[self._film.now]) / 1e6)
                entered = min(at for at in self._film.arrived if at in passage.boxes)
                self.after_entry.append((now - self._film.arrived[entered]) / 1e6)
                return alert
        self.wrong += 1
        return alert


class _Subjects:
    """The list besides the index."""

    digest = "sha256:of-a-measurement"

    def __init__(self, entries: dict[str, WatchlistEntry]) -> None:
        self._entries = entries

    def entry(self, reference: str) -> WatchlistEntry:
        if reference not in self._entries:
            raise EntryNotFound(reference, "is not on this list", "Check the reference")
        return self._entries[reference]


class _Enroller:
    """Finds the one face of a picture and makes the template that an office would enrol."""

    def __init__(self, detector: Detector, embedder: Embedder) -> None:
        self._detector, self._embedder = detector, embedder

    def locate(self, picture: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Box of the best face of a picture, x1 y1 x2 y2 in pixels."""
        found = self._detector.detect(picture)
        return found.boxes[0] if len(found) else None

    def entry(self, passage: Passage) -> WatchlistEntry:
        """The list's entry of somebody who walks there."""
        assert passage.enrolled is not None
        picture = read_image(passage.enrolled)
        found = self._detector.detect(picture)
        again = self._detector.look_again(picture, found.boxes[0])
        template = self._embedder.embed_mean(self._chips(picture, found.landmarks[0], again))
        picture.fill(0)
        return WatchlistEntry(
            reference=passage.person,
            category="measurement",
            lawful_basis="measurement",
            image_source="measurement",
            image_taken=None,
            custody_image=False,
            review_by=None,
            delete_by=None,
            age_band="unknown",
            templates=template[None],
            reference_jpeg=passage.enrolled.read_bytes(),
        )

    def _chips(
        self, picture: NDArray[np.uint8], landmarks: NDArray[np.float32], again: NDArray[np.float32] | None
    ) -> Iterable[NDArray[np.uint8]]:
        for chip in cuts(picture, landmarks, again, self._embedder.template):
            yield chip
            chip.fill(0)


def bench_scene(settings: SceneSettings, models: ModelsSection | None = None) -> SceneReport:
    """Let the pipeline watch a labelled street, and count.

    Args:
        settings: the street and the list.
        models: models and threads of a van; the defaults with the settings' threads otherwise.

    Raises:
        BadInput: too few faces in the folder, or a list that is shorter than the people on it.
    """
    models = models or ModelsSection(threads=settings.threads)
    config = Config(
        van=VanSection(id="bench"),
        deployment=DeploymentSection(id="bench"),
        camera=CameraSection(source="bench"),
        models=models,
    )
    detector, embedder = load_models(config)
    enroller, clock = _Enroller(detector, embedder), SystemClock()
    street = render(Path(settings.faces), settings.plan, enroller.locate)
    entries = {passage.person: enroller.entry(passage) for passage in street.passages if passage.listed}
    if settings.entries < max(1, len(entries)):
        raise BadInput(
            f"a list of {settings.entries}",
            f"is shorter than the {len(entries)} people on it who walk past",
            "Ask for a longer list, or for fewer people of it",
        )
    directory = config.path(models.directory) if models.directory else default_directory()
    tail = ImpostorTail.load(directory / models.embedder.split(":", maxsplit=1)[0], embedder.digest)
    index = _index(entries, settings, tail, embedder.dimension)
    limits = Limits(tail.threshold(settings.fpir, settings.entries).threshold, MIN_SIMILARITY)
    receipts: list[ErasureReceipt] = []
    custodian = Custodian(clock, on_receipt=receipts.append)
    workers, permit, networks = Supervisor(), Permit(clock), Networks()
    custodian.start(workers)
    film = _Film(street, settings, custodian, clock)
    desk, watched = _Desk(street, film, clock), _WatchedDetector(detector, street, film)
    permit.grant()
    pipeline = Pipeline(
        config=config,
        clock=clock,
        source=film,
        detector=watched,
        embedder=embedder,
        index=index,
        subjects=_Subjects(entries),
        decider=Decider(config.decision, limits=limits),
        limits=lambda *_: limits,
        custodian=custodian,
        sink=desk,
        permit=permit,
        on_turn=permit.grant,
    )
    rss, handles = [_rss_mib()], [_handles()]
    begun, busy = time.perf_counter(), time.process_time()
    try:
        with networks.watched():
            pipeline.run()
            wall, busy = time.perf_counter() - begun, time.process_time() - busy
    finally:
        custodian.stop()
    if workers.failure is not None:
        raise workers.failure
    rss.append(_rss_mib())
    handles.append(_handles())
    counts = pipeline.counts
    frames = max(counts.frames, 1)
    measured = wall - film.making_s
    listed = {number for number, passage in enumerate(street.passages) if passage.listed}
    missed = listed - desk.found
    cost = {name: one / 1e6 for name, one in networks.cost.items()}
    held = [receipt.held_after_last_seen_ms for receipt in receipts if not receipt.matched]
    return SceneReport(
        machine=f"{platform.machine()} {platform.system()} {platform.release()}, {os.cpu_count()} cores",
        frames=counts.frames,
        dropped=film.dropped,
        given_up=counts.given_up,
        frames_per_second=counts.frames / measured,
        people_per_minute=len(street.passages) * (film.now + 1) / street.frames / measured * 60,
        faces_per_frame=street.faces_per_frame,
        people=len(street.passages),
        detected=len(watched.found),
        listed=len(listed),
        found=len(desk.found),
        missed={
            "never found by the detector": len(missed - watched.found),
            "found, and no alert": len(missed & watched.found),
        },
        false_alerts=desk.wrong,
        alert_after_frame_ms=_spread(desk.after_frame),
        alert_after_entry_ms=_spread(desk.after_entry),
        stage_ms_per_frame={stage: spent / frames for stage, spent in counts.stage_ms.items()},
        stage_share={stage: spent / 1e3 / measured for stage, spent in counts.stage_ms.items()},
        network_share=networks.seconds / measured,
        python_share=1 - networks.seconds / measured,
        network_runs=dict(networks.runs),
        million_multiply_adds=cost,
        million_multiply_adds_per_frame=sum(cost[name] * runs for name, runs in networks.runs.items()) / frames,
        processor_share=busy / wall / (os.cpu_count() or 1),
        erasure_ms=_spread(held),
        overdue=custodian.totals().overdue,
        rss_mib=[*rss, rss[1] - rss[0]],
        handles=handles,
    )


def _index(entries: dict[str, WatchlistEntry], settings: SceneSettings, tail: ImpostorTail, dimension: int) -> Index:
    """The list: those who walk past, and made-up templates up to the length that was asked for."""
    random = np.random.default_rng(settings.plan.seed)
    made_up = random.standard_normal((settings.entries - len(entries), dimension)).astype(np.float32)
    made_up /= np.linalg.norm(made_up, axis=1, keepdims=True)
    names = [*entries, *(f"made up {number}" for number in range(len(made_up)))]
    rows = np.concatenate([*(entry.templates for entry in entries.values()), made_up]).astype(np.float32)
    return Index(names, rows, relative=tail.relative)


def _spread(values: list[float]) -> list[float]:
    """Median, 99th percentile and largest; empty of nothing."""
    return [float(np.percentile(values, share)) for share in (50, 99, 100)] if values else []


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _handles() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def main() -> int:
    """Settings as JSON on the command line in, report as JSON on standard output."""
    configure("json")
    settings = json_as(sys.argv[1], SceneSettings)
    sys.stdout.write(msgspec.json.encode(bench_scene(settings)).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
