"""A van in memory: real models, real stages, a list enrolled from real pictures, and a desk that keeps alerts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from edge.assembly.mandate import load_models, load_second
from edge.clock import Clock, SystemClock
from edge.config import CameraSection, Config, DecisionSection, DeploymentSection, ModelsSection, VanSection
from edge.custody.retention import Custodian, CustodyTotals
from edge.deployment.permit import Permit
from edge.errors import EntryNotFound
from edge.match.decide import Decider
from edge.match.index import Index
from edge.pipeline import Pipeline
from edge.records import Alert, ErasureReceipt, Limits, WatchlistEntry
from edge.sight.capture import Capture
from edge.sight.detect import Detector
from edge.sight.embed import Embedder
from edge.stages import PipelineCounts
from edge.worker import Supervisor
from provisioning.encoder import make_encoder
from provisioning.enrol import enrol
from provisioning.sources import Record, read_folder

THRESHOLD = 0.6


class Desk:
    """Takes alerts and keeps them."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def submit(self, make: Callable[[int], Alert]) -> Alert:
        self.alerts.append(make(len(self.alerts) + 1))
        return self.alerts[-1]


@dataclass
class Subjects:
    """The list in memory, which answers as :class:`edge.watchlist.store.WatchlistStore` does."""

    entries: Mapping[str, WatchlistEntry]
    digest: str = "sha256:of-a-test"

    def entry(self, reference: str) -> WatchlistEntry:
        if reference not in self.entries:
            raise EntryNotFound(reference, "is not on this list", "Check the reference")
        return self.entries[reference]


@dataclass
class Watched:
    """What came of a video."""

    alerts: list[Alert]
    receipts: list[ErasureReceipt]
    counts: PipelineCounts
    totals: CustodyTotals
    references: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.references = [alert.reference for alert in self.alerts]


@cache
def models(detector: str = "centerface:640x384-int8") -> tuple[Detector, Embedder]:
    """Loaded once per process: the checks at load are tested elsewhere."""
    return load_models(a_config(detector=detector))


@cache
def second_model() -> Embedder:
    """The second embedder that ships."""
    second = load_second(replace(a_config(), models=ModelsSection(second="dlib-resnet:dynamic-int8", threads=1)))
    assert second is not None
    return second


def a_config(source: Path | str = "none", *, detector: str = "centerface:640x384-int8", **decision: float) -> Config:
    return Config(
        van=VanSection(id="van-1"),
        deployment=DeploymentSection(id="op-1", place="a street"),
        camera=CameraSection(source=str(source), pace="every-frame"),
        models=ModelsSection(detector=detector, threads=1),
        decision=DecisionSection(**decision),  # type: ignore[arg-type]
    )


def enrolled(folder: Path) -> list[WatchlistEntry]:
    """Entries from a folder with one folder of pictures per reference, by the same code as the real list."""
    record = Record(category="test", lawful_basis="test", image_source="test")
    return enrol(read_folder(folder, record), make_encoder("", "")).entries


def index_of(entries: Sequence[WatchlistEntry]) -> Index:
    rows = [(entry.reference, row) for entry in entries for row in entry.templates]
    return Index([name for name, _ in rows], np.stack([row for _, row in rows]).astype(np.float32))


def watch(
    source: Path, entries: Sequence[WatchlistEntry], *, clock: Clock | None = None, config: Config | None = None
) -> Watched:
    """Let a van watch a video or a folder to its end, every frame of it."""
    config = config or a_config(source)
    limits = Limits(config.decision.threshold or THRESHOLD, 0.45)
    clock = clock or SystemClock()
    detector, embedder = models(config.models.detector)
    receipts: list[ErasureReceipt] = []
    custodian = Custodian(clock, on_receipt=receipts.append)
    workers = Supervisor()
    custodian.start(workers)
    capture = Capture(config.camera, custodian, clock, source=str(source))
    desk, permit = Desk(), Permit(clock)
    permit.grant()
    pipeline = Pipeline(
        config=config,
        clock=clock,
        source=capture,
        detector=detector,
        embedder=embedder,
        index=index_of(entries),
        subjects=Subjects({entry.reference: entry for entry in entries}),
        decider=Decider(config.decision, limits=limits),
        limits=lambda *_: limits,
        custodian=custodian,
        sink=desk,
        permit=permit,
        on_turn=permit.grant,
    )
    capture.start(workers)
    try:
        pipeline.run()
    finally:
        capture.stop()
        custodian.stop()
    assert workers.failure is None, workers.failure
    return Watched(desk.alerts, receipts, pipeline.counts, custodian.totals())
