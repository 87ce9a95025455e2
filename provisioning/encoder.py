"""The one face of a picture, found, judged, aligned and embedded with the van's own models.

The stages are those of the van, so that a gallery template and a probe template mean the same. Three
things differ: the limits are stricter; every face is looked at as closely as the van looks at those who come near
somebody on the list (:mod:`edge.sight.closer`); and the picture is looked at in all four turns, because people hand
in pictures that lie on their side, and a face that is enrolled as it lies there finds nobody, or somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import ModelsSection, QualitySection
from edge.errors import FaceNotEnrollable
from edge.match.second import joined, pair_digest
from edge.records import ChipTemplate, Detections, QualityReason, QualityReport, TrackedFace
from edge.sight import detect, embed, runtime
from edge.sight.align import align
from edge.sight.closer import cuts
from edge.sight.quality import assess
from provisioning.enrol import EncodedFace, Seen
from provisioning.standard_terms import measure

__all__ = ["ENROLMENT", "ModelEncoder", "make_encoder"]

ENROLMENT = QualitySection(
    min_eye_distance=24.0,
    max_yaw=35.0,
    max_pitch=30.0,
    min_sharpness=30.0,
    min_brightness=35.0,
    max_brightness=225.0,
    min_score=0.5,
)
"""What a reference picture must be: stricter than the street in every limit."""

LONG_SIDE = 1600
"""Pixels; a larger picture is scaled down to look for the face, and aligned at full size."""
RIVAL = 0.5
"""Share of the largest face's height from which a second face makes a picture ambiguous."""
BORDER = 0.5
"""Share of a picture's size laid round it when no face is found: a passport picture may be all face."""
EYES_BEFORE_ALIGNMENT = 70.0
"""Pixels between the eyes, twice those of a chip: beyond that a picture is shrunk before it is aligned."""
PICTURE_SIDE = 320
"""Longest side of the picture that the control room sees, in pixels."""
PICTURE_MARGIN = 0.45
"""How much of the face box's size is kept round it in that picture."""
NO_TRACK = UUID(int=0)
AGREEMENT = 2.0
"""How much the likeness of a face to its own mirror image counts beside the detector's score when the upright turn is
chosen. An upright face is nearly symmetric, one on its side is not."""
CLEAR_LEAD = 0.05
"""By how much the chosen turn must lead another one that would be enrolled as well; else nobody can say which is up. Of
200 pictures of LFW's calibration split in four turns each, 700 were enrolled upright and none otherwise; 100 were
refused, 4 of them for this (scripts/bench-turns)."""

CUT_OUT = "Cut out the one that is meant with lfr-provision watchlist face"
TURN_IT = "Turn it upright and crop it closer, or find another; if all are upright, say --as-they-lie"
_ADVICE = {
    QualityReason.TOO_SMALL: "Find a larger picture of this person",
    QualityReason.TURNED_AWAY: "Find a picture that looks into the camera",
    QualityReason.TILTED: "Find a picture that looks into the camera",
    QualityReason.TOO_BLURRED: "Find a sharper picture of this person",
    QualityReason.TOO_DARK: "Find a brighter picture of this person",
    QualityReason.TOO_BRIGHT: "Find a picture that is less bright",
    QualityReason.CUT_OFF: "Find a picture with the whole face in it",
    QualityReason.UNCERTAIN: "Check that the picture shows a face, or find another",
    QualityReason.IMPLAUSIBLE: "Turn the picture upright, or find another",
}


class Detector(Protocol):
    """What enrolment needs of :mod:`edge.sight.detect`."""

    def detect(self, image: NDArray[np.uint8]) -> Detections: ...
    def look_again(self, image: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.float32] | None: ...


class Embedder(Protocol):
    """What enrolment needs of :mod:`edge.sight.embed`."""

    template: ChipTemplate

    @property
    def dimension(self) -> int: ...

    def embed(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]: ...

    def embed_mean(self, chips: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class _View:
    """A picture in one of its four turns.

    Attributes:
        image: the picture, turned.
        turns: quarter turns to the left.
        found: every face of it.
        face: its largest face.
        rivals: faces that are nearly as large, that one included.
        second: height of the second largest face as a share of the largest; 0 where there is one.
        report: how good the face is.
        fit: how well it fits an upright face; the highest of the four is taken.
    """

    image: NDArray[np.uint8]
    turns: int
    found: Detections
    face: TrackedFace
    rivals: int
    second: float
    report: QualityReport
    fit: float


class ModelEncoder:
    """A :class:`provisioning.enrol.FaceEncoder` over the van's detector and embedder.

    Args:
        detector: finds faces.
        embedder: makes templates of chips.
        model: the embedder's digest, as :attr:`edge.sight.embed.Embedder.digest` gives it; that of the pair.
        second: makes a second template of each face, for vans that ask it before an alert.
        limits: what a reference picture must be.
        turns: quarter turns to the left in which a picture is looked at; ``(0,)`` where it is known to be upright.
    """

    def __init__(
        self,
        detector: Detector,
        embedder: Embedder,
        *,
        model: str,
        second: Embedder | None = None,
        limits: QualitySection = ENROLMENT,
        turns: Sequence[int] = range(4),
    ) -> None:
        self._detector = detector
        self._embedder = embedder
        self._second = second
        self._model = model
        self._limits = limits
        self._turns = tuple(turns)

    @property
    def model(self) -> str:
        return self._model

    @property
    def dimension(self) -> int:
        return self.searched + (0 if self._second is None else self._second.dimension)

    @property
    def searched(self) -> int:
        return self._embedder.dimension

    def encode(self, image: NDArray[np.uint8], name: str, seen: Seen | None = None) -> EncodedFace:
        """See :meth:`provisioning.enrol.FaceEncoder.encode`."""
        views = self._views(image, name)
        best = views[0]
        report = best.report
        if seen is not None:
            seen(best.image, self._good(best.found))
        if best.rivals > 1:
            raise FaceNotEnrollable(name, f"holds {best.rivals} faces", CUT_OUT)
        if report.reason is not None:
            raise FaceNotEnrollable(name, _cause(report, self._limits), _ADVICE[report.reason])
        others = [view.fit for view in views[1:] if view.report.reason is None]
        if any(best.fit - fit < CLEAR_LEAD for fit in others):
            raise FaceNotEnrollable(name, "may lie on its side: it does not say which way is up", TURN_IT)
        template = self._closely(best)
        return EncodedFace(
            template=np.asarray(template, np.float32),
            picture=_picture(best.image, best.face.box),
            eye_distance=report.eye_distance,
            sharpness=report.sharpness,
            yaw=report.yaw,
            pitch=report.pitch,
            turned=-90 * best.turns % 360,
            components=measure(best.image, best.face, report, best.second),
        )

    def faces(self, image: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], Detections]:
        """See :meth:`provisioning.pick.Finder.faces`."""
        best = self._views(image, name)[0]
        return best.image, self._good(best.found)

    def _good(self, found: Detections) -> Detections:
        """The faces that are faces for sure, from left to right."""
        good = np.flatnonzero(found.scores >= self._limits.min_score)
        order = good[np.argsort(found.boxes[good, 0])]
        return Detections(found.boxes[order], found.scores[order], found.landmarks[order])

    def _views(self, image: NDArray[np.uint8], name: str) -> list[_View]:
        """The turns in which there is a face, the one that fits best first; never empty.

        Landmarks that form no face tell that the detector saw something into a face on its side: it comes last.
        """
        views = [view for turns in self._turns if (view := self._view(image, turns)) is not None]
        if not views:
            raise FaceNotEnrollable(name, "holds no face", "Find a picture in which the face is plain to see")
        return sorted(views, key=lambda view: (view.report.reason is QualityReason.IMPLAUSIBLE, -view.fit))

    def _view(self, image: NDArray[np.uint8], turns: int) -> _View | None:
        """The picture after so many quarter turns to the left, with its largest face; None without one."""
        turned = np.ascontiguousarray(np.rot90(image, turns))
        found = self._find(turned)
        good = np.flatnonzero(found.scores >= self._limits.min_score)
        if not len(good):
            return None
        heights = found.boxes[good, 3] - found.boxes[good, 1]
        largest = int(np.argmax(heights))
        rivals = int(np.count_nonzero(heights >= RIVAL * heights[largest]))
        at = good[largest]
        face = TrackedFace(NO_TRACK, found.boxes[at], float(found.scores[at]), found.landmarks[at], 1)
        report = assess(turned, face, self._limits)
        fit = face.score + AGREEMENT * self._agreement(turned, face, report)
        second = float(np.sort(heights)[-2] / heights[largest]) if len(heights) > 1 else 0.0
        return _View(turned, turns, found, face, rivals, second, report, fit)

    def _agreement(self, image: NDArray[np.uint8], face: TrackedFace, report: QualityReport) -> float:
        """Likeness of the face to its mirror image, cosine."""
        if report.eye_distance < 1.0:
            return 0.0
        chip = self._chip(image, face, report.eye_distance)
        one, other = (self._embedder.embed(np.ascontiguousarray(each)) for each in (chip, chip[:, ::-1]))
        chip.fill(0)
        return float(one @ other)

    def _closely(self, view: _View) -> NDArray[np.float32]:
        """The template of a closer look, as a van has it of whoever comes near somebody on the list."""
        image, scale = _shrunk(view.image, view.report.eye_distance)
        again = self._detector.look_again(image, view.face.box * scale)

        def chips(embedder: Embedder) -> Iterator[NDArray[np.uint8]]:
            for chip in cuts(image, view.face.landmarks * scale, again, embedder.template):
                yield chip
                chip.fill(0)

        first = self._embedder.embed_mean(chips(self._embedder))
        return first if self._second is None else joined(first, self._second.embed_mean(chips(self._second)))

    def _chip(self, image: NDArray[np.uint8], face: TrackedFace, eye_distance: float) -> NDArray[np.uint8]:
        small, scale = _shrunk(image, eye_distance)
        return align(small, face.landmarks * scale, self._embedder.template)

    def _find(self, image: NDArray[np.uint8]) -> Detections:
        """Detect at a moderate size; once more with a border when the face may fill the picture."""
        scale = min(1.0, LONG_SIDE / max(image.shape[:2]))
        small = image
        if scale < 1.0:
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        found = self._detector.detect(small)
        pad = 0
        if not np.any(found.scores >= self._limits.min_score):
            pad = round(BORDER * max(small.shape[:2]))
            small = np.asarray(cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_REPLICATE), np.uint8)
            found = self._detector.detect(small)
        offset = np.float32(pad)
        factor = np.float32(1.0 / scale)
        return Detections(
            ((found.boxes - offset) * factor).astype(np.float32),
            found.scores,
            ((found.landmarks - offset) * factor).astype(np.float32),
        )


def _shrunk(image: NDArray[np.uint8], eye_distance: float) -> tuple[NDArray[np.uint8], np.float32]:
    """A copy that is shrunk by averaging, or a large picture would be sampled with gaps; and by how much."""
    scale = min(1.0, EYES_BEFORE_ALIGNMENT / eye_distance)
    if scale == 1.0:
        return image, np.float32(1)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), np.float32(scale)


def _cause(report: QualityReport, limits: QualitySection) -> str:
    """The reason with its measure, so that the reader knows how far off the picture is."""
    measures = {
        QualityReason.TOO_SMALL: f"{report.eye_distance:.0f} px, {limits.min_eye_distance:.0f} needed",
        QualityReason.TURNED_AWAY: f"{abs(report.yaw):.0f}°, {limits.max_yaw:.0f}° at most",
        QualityReason.TILTED: f"{abs(report.pitch):.0f}°, {limits.max_pitch:.0f}° at most",
        QualityReason.TOO_BLURRED: f"sharpness {report.sharpness:.0f}, {limits.min_sharpness:.0f} needed",
    }
    reason = report.reason
    if reason is None:
        return "is good enough"
    text = f"cannot be enrolled: {reason.value}"
    return f"{text} ({measures[reason]})" if reason in measures else text


def _picture(image: NDArray[np.uint8], box: NDArray[np.float32]) -> bytes:
    x1, y1, x2, y2 = (float(v) for v in box)
    margin_x, margin_y = PICTURE_MARGIN * (x2 - x1), PICTURE_MARGIN * (y2 - y1)
    left, top = max(0, round(x1 - margin_x)), max(0, round(y1 - margin_y))
    right, bottom = min(image.shape[1], round(x2 + margin_x)), min(image.shape[0], round(y2 + margin_y))
    crop = image[top:bottom, left:right]
    scale = min(1.0, PICTURE_SIDE / max(crop.shape[:2]))
    if scale < 1.0:
        size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
        crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done  # a uint8 BGR array of positive size always encodes
    return data.tobytes()


def make_encoder(
    detector: str = "",
    embedder: str = "",
    *,
    second: str = "",
    models: Path | None = None,
    threads: int = 1,
    turns: Sequence[int] = range(4),
) -> ModelEncoder:
    """The encoder over model packs; an empty name is the configuration's default, ``turns`` see :class:`ModelEncoder`.

    ``second`` names the embedder that vans ask before an alert; empty where they ask none.

    Raises:
        ModelRejected, RuntimeUnavailable: see :func:`edge.sight.runtime.load`.
    """
    names = ModelsSection()
    found = runtime.load(detector or names.detector, kind="detector", directory=models, threads=threads)
    vectors, *others = (
        embed.Embedder(runtime.load(name, kind="embedder", directory=models, threads=threads))
        for name in filter(None, (embedder or names.embedder, second or names.second))
    )
    other = others[0] if others else None
    model = pair_digest(vectors.digest, "" if other is None else other.digest)
    close = names.close_up and runtime.load(names.close_up, kind="detector", directory=models, threads=threads)
    detects = detect.Detector(found, close=close or None, sure=ENROLMENT.min_score)
    return ModelEncoder(detects, vectors, model=model, second=other, turns=turns)
