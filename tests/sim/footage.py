"""Video → passages as the van makes them: its own pipeline, with a list that is empty and a notebook beside it.

For measuring. It is not part of what a van installs: there, nothing may take down what the pipeline embeds.

Time is the film's own, so that a busy machine finds the same tracks as an idle one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import CameraSection, Config, DeploymentSection, ModelsSection, VanSection
from edge.custody.erase import Kind
from edge.custody.retention import Custodian
from edge.deployment.permit import Permit
from edge.errors import EntryNotFound, VideoUnreadable
from edge.evaluate.extract import Recipe
from edge.evaluate.passages import Passage
from edge.match.decide import Decider
from edge.match.index import Index
from edge.pipeline import Pipeline
from edge.records import NOBODY, Alert, Decision, Frame, SearchResult, WatchlistEntry
from edge.sight import runtime
from edge.sight.detect import Detector
from edge.sight.embed import Embedder
from tests.sim.clock import HandClock

__all__ = ["watch"]


@dataclass(slots=True)
class _Notes:
    """What was seen of one track; kept in memory until the video has been measured."""

    pictures: list[NDArray[np.float32]] = field(default_factory=list)
    probes: list[NDArray[np.float32]] = field(default_factory=list)
    begun: list[bool] = field(default_factory=list)


class _Notebook:
    """Takes down what the pipeline embeds and searches, and lets nothing match."""

    def __init__(self, config: Config, embedder: Embedder) -> None:
        self.tracks: dict[UUID, _Notes] = {}
        self._voided: set[UUID] = set()
        self.picture = self.probe = np.zeros(0, np.float32)
        notebook = self

        class Listening(Embedder):
            """Embeds as ever, and tells."""

            def embed(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]:
                vector = super().embed(chip)
                notebook.picture = vector.copy()
                return vector

            def embed_mean(self, chips: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
                vector = super().embed_mean(chips)
                notebook.picture = vector.copy()
                return vector

        class Nobody(Index):
            """A list of nobody, which tells what it was asked."""

            def search(self, probe: NDArray[np.float32], k: int = 3) -> SearchResult:
                notebook.probe = probe.copy()
                return SearchResult((), exact=True)

        class Counting(Decider):
            """The van's decider, which tells of every search and of votes that became void; everybody is near it.

            What counts is what would be found at a threshold, and there everybody is looked at more closely.
            """

            def near(self, track_id: UUID, result: SearchResult, now_ns: int) -> bool:
                return True

            def decide(self, track_id: UUID, result: SearchResult, now_ns: int) -> Decision:
                notebook.searched(track_id)
                return super().decide(track_id, result, now_ns)

            def forget_votes(self, track_id: UUID, *, contradicted: bool = False) -> None:
                notebook.voided(track_id)
                super().forget_votes(track_id, contradicted=contradicted)

        self.embedder = Listening(embedder.model)
        self.index = Nobody([], np.zeros((0, embedder.dimension), np.float32))
        self.decider = Counting(config.decision, limits=NOBODY)

    def searched(self, track_id: UUID) -> None:
        notes = self.tracks.setdefault(track_id, _Notes())
        notes.pictures.append(self.picture)
        notes.probes.append(self.probe)
        notes.begun.append(track_id in self._voided or len(notes.begun) == 0)
        self._voided.discard(track_id)

    def voided(self, track_id: UUID) -> None:
        self._voided.add(track_id)


class _Film:
    """A video's frames, each at its own time, and the clock that they turn."""

    def __init__(self, video: Path) -> None:
        self._film = cv2.VideoCapture(str(video))
        self._rate = float(self._film.get(cv2.CAP_PROP_FPS))
        self._frames = 0
        self.clock = HandClock(datetime(2000, 1, 1, tzinfo=UTC))
        self.custodian = Custodian(self.clock)
        self.ended = False
        if not self._film.isOpened() or self._rate <= 0:
            raise VideoUnreadable(str(video), "is missing, or no video with a frame rate", "Check the path")

    def next(self, timeout: float) -> Frame | None:
        good, image = self._film.read()
        if not good:
            self.ended = True
            self._film.release()
            return None
        if self._frames:
            self.clock.advance(1 / self._rate)
        pixels = self.custodian.hold(Kind.FRAME, np.array(image, np.uint8))
        self._frames += 1
        return Frame(self._frames - 1, self.clock.monotonic_ns(), self.clock.now(), pixels)


class _Nothing:
    """Stands where the list and the desk would: with an empty list nobody asks."""

    digest = ""

    def entry(self, reference: str) -> WatchlistEntry:
        raise EntryNotFound(reference, "is not on an empty list", "Report this")

    def submit(self, make: object) -> Alert:
        raise AssertionError("an alert without anybody on the list")


def watch(video: Path, recipe: Recipe, *, person: int) -> list[Passage]:
    """Each track of a video in which at least one face was searched, every frame looked at.

    Args:
        video: the file.
        recipe: its detector, its first embedder, its runtime and its folder; the other settings are the van's defaults.
        person: below 0, what :attr:`Passage.person` shall be.

    Raises:
        VideoUnreadable: there is no video, or none that can be read.
        ModelRejected: a model is not what its card says.
    """
    config = Config(
        van=VanSection(id="measuring"),
        deployment=DeploymentSection(id="measuring"),
        camera=CameraSection(source=str(video)),
        models=ModelsSection(threads=1),
    )
    detector = runtime.load(recipe.detector, directory=recipe.directory, kind="detector", runtime=recipe.runtime)
    embedder = runtime.load(recipe.embedders[0], directory=recipe.directory, kind="embedder", runtime=recipe.runtime)
    notebook = _Notebook(config, Embedder(embedder))
    film, nothing = _Film(video), _Nothing()
    permit = Permit(film.clock)
    permit.grant()
    pipeline = Pipeline(
        config=config,
        clock=film.clock,
        source=film,
        detector=Detector(
            detector,
            score=config.detector.score,
            iou=config.detector.iou,
            close=runtime.load(recipe.close_up, directory=recipe.directory, kind="detector", runtime=recipe.runtime),
            sure=config.quality.min_score,
        ),
        embedder=notebook.embedder,
        index=notebook.index,
        subjects=nothing,
        decider=notebook.decider,
        limits=lambda *_: NOBODY,
        custodian=film.custodian,
        sink=nothing,
        permit=permit,
        on_turn=permit.grant,
    )
    pipeline.run()
    return [
        Passage(person, np.stack(notes.pictures), np.stack(notes.probes), np.array(notes.begun))
        for notes in notebook.tracks.values()
    ]
