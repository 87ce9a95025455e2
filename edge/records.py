"""What the stages hand to each other: shape, dtype, unit and frame of reference, checked when made.

The path of one face is ``Frame → Detections → TrackedFace → QualityReport → SearchResult → Decision``
and ends as an ``Alert`` or an ``ErasureReceipt``. Pixels, chips and vectors are never held by a record directly: a
record holds the handle that :mod:`edge.custody` gave out for them, so that erasing the handle leaves the record empty.

Coordinates are pixels in the frame, x to the right and y down, origin at the top left corner of the
top left pixel. Left and right are the picture's, not the person's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from edge.errors import SOFTWARE_FAULT, RecordInvalid

__all__ = [
    "AGE_BANDS", "CHIP_SIZE", "CHIP_SIZES", "LANDMARKS", "NOBODY", "Alert", "AlertRef", "BiometricHandle",
    "Candidate", "ChipTemplate", "Decision", "Detections", "ErasureCause", "ErasureReceipt", "Frame", "Limits",
    "Outcome", "QualityReason", "QualityReport", "SearchResult", "TrackedFace", "WatchlistEntry",
]  # fmt: skip

CHIP_SIZE = 112
"""Side of an aligned face in pixels in the ArcFace template, which most embedders were trained on."""

ChipTemplate = Literal["arcface-112", "dlib-150"]
"""Where the landmarks of an aligned face lie; its embedder's card says which: see :mod:`edge.sight.align`."""

CHIP_SIZES: dict[ChipTemplate, int] = {"arcface-112": CHIP_SIZE, "dlib-150": 150}
"""Side of an aligned face in pixels, for each template."""

LANDMARKS = ("eye left", "eye right", "nose tip", "mouth corner left", "mouth corner right")
"""The order of the five landmarks, as seen in the picture."""

AGE_BANDS = ("under 18", "18-24", "25-34", "35-44", "45-54", "55-64", "65 and over", "unknown")


class BiometricHandle(Protocol):
    """What a record may know of a handle from :mod:`edge.custody.erase`."""

    @property
    def array(self) -> NDArray[Any]:
        """The live array. Raises :class:`edge.errors.BiometricErased` once it is gone."""
        ...

    @property
    def erased(self) -> bool: ...

    def erase(self, cause: ErasureCause = ...) -> None:
        """Overwrite in place and let go; safe to call twice."""
        ...


def _require(condition: bool, record: str, field_name: str, must: str, got: object) -> None:  # noqa: FBT001
    if not condition:
        raise RecordInvalid(f"{record}.{field_name}", f"must be {must}, got {got}", SOFTWARE_FAULT)


def _shape(array: NDArray[Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of the camera.

    Attributes:
        index: counts from 0 over all frames that the source delivered, dropped ones included.
        captured_ns: :meth:`edge.clock.Clock.monotonic_ns` at arrival.
        captured_at: wall clock at arrival, UTC.
        pixels: handle of ``(H, W, 3)`` uint8, BGR.
    """

    index: int
    captured_ns: int
    captured_at: datetime
    pixels: BiometricHandle


@dataclass(frozen=True, slots=True)
class Detections:
    """All faces that the detector found in one frame, best score first.

    Attributes:
        boxes: ``(n, 4)`` float32, x1 y1 x2 y2 in pixels; may reach past the frame's edge.
        scores: ``(n,)`` float32 in 0..1.
        landmarks: ``(n, 5, 2)`` float32, x y in pixels, in the order of :data:`LANDMARKS`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.scores)
        _require(self.scores.shape == (n,), "Detections", "scores", "(n,)", _shape(self.scores))
        _require(self.boxes.shape == (n, 4), "Detections", "boxes", f"({n}, 4)", _shape(self.boxes))
        _require(self.landmarks.shape == (n, 5, 2), "Detections", "landmarks", f"({n}, 5, 2)", _shape(self.landmarks))
        for name in ("boxes", "scores", "landmarks"):
            array = getattr(self, name)
            _require(array.dtype == np.float32, "Detections", name, "float32", array.dtype)

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """No face at all."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """One face in one frame, tied to a passage through the zone of recognition.

    Attributes:
        track_id: random (UUID version 4): says nothing of the person and never recurs.
        box: ``(4,)`` float32, as detected (not the tracker's prediction).
        score: the detector's, 0..1.
        landmarks: ``(5, 2)`` float32.
        frames: how many frames this track has been matched in, this one included.
    """

    track_id: UUID
    box: NDArray[np.float32]
    score: float
    landmarks: NDArray[np.float32]
    frames: int

    def __post_init__(self) -> None:
        _require(self.box.shape == (4,), "TrackedFace", "box", "(4,)", _shape(self.box))
        _require(self.landmarks.shape == (5, 2), "TrackedFace", "landmarks", "(5, 2)", _shape(self.landmarks))
        _require(0.0 <= self.score <= 1.0, "TrackedFace", "score", "in 0..1", self.score)

    @property
    def height(self) -> float:
        """Height of the face box in pixels."""
        return float(self.box[3] - self.box[1])


class QualityReason(StrEnum):
    """Why a face in a frame is not searched. Each is a sentence that a crew can act on."""

    TOO_SMALL = "the eyes are too few pixels apart"
    TURNED_AWAY = "the face is turned too far to the side"
    TILTED = "the face looks too far up or down"
    TOO_BLURRED = "the face is blurred"
    TOO_DARK = "the face is too dark"
    TOO_BRIGHT = "the face is overexposed"
    CUT_OFF = "the face is cut off by the edge of the picture"
    UNCERTAIN = "the detector is not sure that it is a face"
    IMPLAUSIBLE = "the landmarks do not form a face"


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Whether a face is good enough to be searched, and how much its embedding should count.

    Attributes:
        reason: why it is refused; None when it is good enough.
        weight: 0..1, the share with which its embedding enters the track's template.
        eye_distance: pixels between the eyes.
        yaw: degrees, estimated from the landmarks; positive looks to the right of the picture.
        pitch: degrees, estimated from the landmarks; positive looks down.
        roll: degrees; positive is clockwise.
        sharpness: variance of the Laplacian of the face at chip size, grey levels squared.
        brightness: mean grey level of the face, 0..255.
    """

    reason: QualityReason | None
    weight: float
    eye_distance: float
    yaw: float
    pitch: float
    roll: float
    sharpness: float
    brightness: float

    def __post_init__(self) -> None:
        _require(0.0 <= self.weight <= 1.0, "QualityReport", "weight", "in 0..1", self.weight)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One subject of the list, as a search ranks it.

    Attributes:
        reference: the list's opaque reference of the subject.
        similarity: cosine, -1..1; the best of the subject's templates.
        score: how far the similarity stands out from this list (:mod:`edge.match.relative`), -2..1; never above it.
    """

    reference: str
    similarity: float
    score: float

    def __post_init__(self) -> None:
        _require(-1.001 <= self.similarity <= 1.001, "Candidate", "similarity", "in -1..1", self.similarity)
        _require(-2.001 <= self.score <= 1.001, "Candidate", "score", "in -2..1", self.score)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The list's best candidates for one probe, the highest score first, one per subject.

    Attributes:
        candidates: possibly empty (an empty list, or an index that found nothing).
        exact: whether every similarity was computed against the stored templates themselves.
    """

    candidates: tuple[Candidate, ...]
    exact: bool

    @property
    def best(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate must reach to raise an alert: both.

    Attributes:
        score: as :attr:`Candidate.score`; from the false-alert budget at the list's length.
        similarity: the cosine; the higher of the authority's floor and of what strangers in one scene reach.
    """

    score: float
    similarity: float

    def reached_by(self, candidate: Candidate) -> bool:
        """Whether this candidate raises an alert if its votes suffice."""
        return candidate.score >= self.score and candidate.similarity >= self.similarity


NOBODY = Limits(score=2.0, similarity=2.0)
"""What no face reaches."""


class Outcome(StrEnum):
    """What the rules make of a track so far."""

    NO_MATCH = "no match"
    GATHERING = "gathering"
    """Above the threshold, but not yet in enough frames."""
    ALERT = "alert"
    COOLING_DOWN = "cooling down"
    """Would alert, but this subject has just been alerted."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a track's searches so far.

    Attributes:
        track_id: the passage.
        outcome: see :class:`Outcome`.
        reference: the subject, unless there is no match.
        similarity: of the best candidate, -1..1; None when the search found none.
        score: of the best candidate; None likewise.
        threshold: the score that had to be reached.
        votes: in how many of the last ``window`` searches this subject was first and above the threshold.
        window: how many searches were counted.
    """

    track_id: UUID
    outcome: Outcome
    reference: str | None
    similarity: float | None
    score: float | None
    threshold: float
    votes: int
    window: int


@dataclass(frozen=True, slots=True)
class WatchlistEntry:
    """One subject of the list.

    Attributes:
        reference: opaque; the force's own number for the subject, never a name.
        category: as the authorising officer approved it, for example ``wanted on warrant``.
        lawful_basis: why the force may look for this person with these pictures.
        image_source: where the reference picture comes from, for example ``custody``.
        image_taken: when the reference picture was taken (ISO 8601 date), or None when unknown.
        custody_image: whether it is a custody image, which the deletion rules concern.
        review_by: ISO 8601 date by which the entry must be reviewed, or None.
        delete_by: ISO 8601 date by which it must be deleted, or None.
        age_band: one of :data:`AGE_BANDS`.
        templates: ``(m, d)`` float32, each row of length 1; behind the store's custody, never printed.
        reference_jpeg: the one picture that the control room sees beside the probe.
        lookalikes: references of known siblings and doubles, and of others on this list who look alike, these first.
    """

    reference: str
    category: str
    lawful_basis: str
    image_source: str
    image_taken: str | None
    custody_image: bool
    review_by: str | None
    delete_by: str | None
    age_band: str
    templates: NDArray[np.float32] = field(repr=False, compare=False)
    reference_jpeg: bytes = field(repr=False, compare=False)
    lookalikes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(bool(self.reference), "WatchlistEntry", "reference", "not empty", "an empty string")
        _require(self.age_band in AGE_BANDS, "WatchlistEntry", "age_band", f"one of {AGE_BANDS}", self.age_band)
        _require(
            self.templates.ndim == 2 and len(self.templates) > 0 and self.templates.dtype == np.float32,
            "WatchlistEntry",
            "templates",
            "float32[m, d] with m ≥ 1",
            _shape(self.templates),
        )


class AlertRef(NamedTuple):
    """Which alert: an identifier alone tells nothing, for any van may use the one of another's alert."""

    van: str
    alert_id: UUID

    def __str__(self) -> str:
        return f"{self.van}/{self.alert_id}"


@dataclass(frozen=True, slots=True)
class Alert:
    """What the control room is told about one passage of one subject. Nothing else leaves the van.

    Attributes:
        alert_id: UUID version 7; the same through every retry, so that duplicates can be told.
        van: the van's identity, as in its certificate.
        deployment: the deployment's identifier.
        sequence: counts from 1 per van without gaps.
        raised_at: when the decision fell, UTC.
        seen_at: when the deciding frame was captured, UTC.
        expires_at: after this moment the alert is stale and must be dropped.
        erase_at: after this moment nobody may hold it any more, wherever it is; UTC.
        reference: the subject's opaque reference.
        category: the subject's category.
        similarity: cosine of the track's template and the subject, -1..1.
        score: how far that stands out from this list, -2..1; None from a van of before contract 1.2.
        threshold: what the score had to reach; without a score, the similarity.
        votes: searches in which the subject was first and above the threshold.
        frames: frames in which the person was seen.
        eye_distance: pixels between the eyes in the probe picture.
        place: where the van stands, in words.
        watchlist: digest of the list.
        model: digest of the embedder.
        image_taken: ISO 8601 date of the reference picture, or None.
        probe_jpeg: the face as seen, bystanders excluded.
        reference_jpeg: the list's picture of the subject.
        lookalikes: references of siblings, doubles and others on the list who look like the subject.
    """

    alert_id: UUID
    van: str
    deployment: str
    sequence: int
    raised_at: datetime
    seen_at: datetime
    expires_at: datetime
    erase_at: datetime
    reference: str
    category: str
    similarity: float
    threshold: float
    votes: int
    frames: int
    eye_distance: float
    place: str
    watchlist: str
    model: str
    image_taken: str | None
    probe_jpeg: bytes = field(repr=False, compare=False)
    reference_jpeg: bytes = field(repr=False, compare=False)
    lookalikes: tuple[str, ...] = ()
    score: float | None = None

    def __post_init__(self) -> None:
        _require(self.sequence >= 1, "Alert", "sequence", "1 or more", self.sequence)
        for name in ("raised_at", "seen_at", "expires_at", "erase_at"):
            moment: datetime = getattr(self, name)
            _require(moment.tzinfo is not None, "Alert", name, "timezone-aware", "a naive time")

    @property
    def ref(self) -> AlertRef:
        return AlertRef(self.van, self.alert_id)


class ErasureCause(StrEnum):
    """Why something biometric was erased."""

    USED = "used"
    """It had served the next stage."""
    TRACK_ENDED = "track ended"
    DEADLINE = "deadline"
    OVERDUE = "overdue"
    """The sweeper found it past its deadline: a breach of custody."""
    PURGE = "purge"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """Proof in numbers that what was held of one passage is gone. Holds nothing biometric itself.

    Attributes:
        track_id: the passage.
        cause: why it was erased.
        matched: whether the passage raised an alert.
        first_seen_ns: monotonic time of the first frame.
        last_seen_ns: monotonic time of the last frame in which the person was seen.
        erased_ns: monotonic time at which the last of it was overwritten.
        handles: how many handles were overwritten for it over its life.
    """

    track_id: UUID
    cause: ErasureCause
    matched: bool
    first_seen_ns: int
    last_seen_ns: int
    erased_ns: int
    handles: int

    @property
    def held_after_last_seen_ms(self) -> float:
        """Milliseconds from the last frame with the person in it to the erasure of everything."""
        return (self.erased_ns - self.last_seen_ns) / 1e6
