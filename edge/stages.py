"""What the pipeline asks of its stages, and what it counts meanwhile. No stage imports another; this names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.records import Alert, ChipTemplate, Detections, Frame, WatchlistEntry

__all__ = ["AlertSink", "FaceDetector", "FaceEmbedder", "FrameSource", "PipelineCounts", "Subjects"]


class FrameSource(Protocol):
    """What the pipeline asks of :class:`edge.sight.capture.Capture`."""

    def next(self, timeout: float) -> Frame | None: ...
    @property
    def ended(self) -> bool: ...


class FaceDetector(Protocol):
    """What the pipeline asks of :class:`edge.sight.detect.Detector`."""

    def detect(self, image: NDArray[np.uint8]) -> Detections: ...
    def look_again(self, image: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.float32] | None: ...
    def flush(self) -> None: ...


class FaceEmbedder(Protocol):
    """What the pipeline asks of :class:`edge.sight.embed.Embedder`."""

    template: ChipTemplate

    def embed(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]: ...
    def embed_mean(self, chips: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]: ...
    def flush(self) -> None: ...
    @property
    def digest(self) -> str: ...


class Subjects(Protocol):
    """What the pipeline asks of the list besides the index."""

    def entry(self, reference: str) -> WatchlistEntry: ...
    @property
    def digest(self) -> str: ...


class AlertSink(Protocol):
    """What the pipeline asks of :class:`edge.alert.submit.AlertSubmitter`."""

    def submit(self, make: Callable[[int], Alert]) -> Alert: ...


@dataclass(slots=True)
class PipelineCounts:
    """What happened since the start, in numbers: fit for a journal, a metric or a page.

    Attributes:
        frames: frames processed.
        faces_seen: passages that were confirmed.
        embedded: faces that were good enough and were searched.
        closer: of them those that came near somebody on the list and were looked at more closely.
        refused: faces that were not, by reason.
        given_up: frames that reached their deadline before this machine was done with them.
        alerts: alerts raised.
        cooled: alerts that the cool-down held back.
        restarts: templates begun anew because an embedding contradicted them.
        stage_ms: milliseconds spent, by stage.
    """

    frames: int = 0
    faces_seen: int = 0
    embedded: int = 0
    closer: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    given_up: int = 0
    alerts: int = 0
    cooled: int = 0
    restarts: int = 0
    stage_ms: dict[str, float] = field(default_factory=dict)
