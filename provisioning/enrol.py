"""From pictures to entries of a watchlist, with a reason for everything that is left out.

A wrong reference picture is worse than none: a face that is blurred or turned resembles many people,
and a picture with two faces may enrol the bystander. So enrolment is stricter than the street, and it
never guesses which of two faces is meant. Nor does it guess which of two people a reference is, when its pictures
show two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import FaceNotEnrollable, ImageUnreadable
from edge.match.second import by_first
from edge.records import Detections, WatchlistEntry
from provisioning.album import Album
from provisioning.reading import PictureReader
from provisioning.sources import Refusal, Source, Subject

__all__ = ["EncodedFace", "Enrolment", "FaceEncoder", "Seen", "enrol"]

Seen = Callable[[NDArray[np.uint8], Detections], None]
"""Told of a picture, upright, and of every face in it, before one of them is judged."""

MAX_PICTURES = 10
"""Pictures per reference that are used; more add search time and hardly any accuracy."""


AGREE = 0.40
"""Similarity from which two pictures are taken to show one person. Of 1,770 pairs of different people of LFW's
calibration split, 99.5 % lie below. Of 119 pairs under one name three lie below, of two names whose labels look wrong;
the fourth lies at 0.475."""


@dataclass(frozen=True, slots=True)
class EncodedFace:
    """The one face of a picture.

    Attributes:
        template: ``(d,)`` float32 of length 1.
        picture: JPEG of the face with some margin, for the control room.
        eye_distance: pixels between the eyes in the picture as it was handed in.
        sharpness: variance of the Laplacian at chip size, grey levels squared.
        yaw: degrees to the side.
        pitch: degrees up or down.
        turned: degrees to the right by which the picture was turned, because it lay on its side or upside down.
        components: how good it is, in the terms of :mod:`provisioning.standard_terms`.
        file: the picture, as it was handed in.
        sha256: of that file, in hexadecimal.
    """

    template: NDArray[np.float32] = field(repr=False, compare=False)
    picture: bytes = field(repr=False)
    eye_distance: float
    sharpness: float
    yaw: float
    pitch: float
    turned: int = 0
    components: Mapping[str, float] = field(default_factory=dict)
    file: str = ""
    sha256: str = ""


class FaceEncoder(Protocol):
    """Whatever finds, aligns and embeds the one face of a picture."""

    @property
    def model(self) -> str:
        """Digest of the embedder, as :attr:`edge.sight.embed.Embedder.digest` gives it."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a template."""
        ...

    @property
    def searched(self) -> int:
        """Numbers of a template by which people are found: all, or the first embedder's of two."""
        ...

    def encode(self, image: NDArray[np.uint8], name: str, seen: Seen | None = None) -> EncodedFace:
        """Encode the one face of ``image``, ``(H, W, 3)`` uint8 BGR; ``name`` is for the error.

        ``seen`` is told of every face, also when none of them can be enrolled.

        Raises:
            FaceNotEnrollable: no face, several, or one that is too small, turned or blurred.
        """
        ...


@dataclass(slots=True)
class Enrolment:
    """What came of a source.

    Attributes:
        entries: the enrolled, sorted by reference.
        refused: what was left out and why, source refusals included.
        pictures: pictures that were looked at.
        used: pictures that became a template.
        faces: per reference, how good each used picture is.
        turned: reference, file and degrees of every picture that was turned upright.
        searched: numbers of a template by which people are compared: all, or the first embedder's of two.
    """

    searched: int
    entries: list[WatchlistEntry] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    pictures: int = 0
    used: int = 0
    faces: dict[str, list[EncodedFace]] = field(default_factory=dict)
    turned: list[tuple[str, str, int]] = field(default_factory=list)


def enrol(
    source: Source,
    encoder: FaceEncoder,
    *,
    progress: Callable[[Subject], None] | None = None,
    album: Album | None = None,
) -> Enrolment:
    """Enrol every subject of ``source`` that can be, and say why the others cannot.

    A subject is enrolled when at least one picture is good; its other pictures' refusals are listed all
    the same. The reference picture is the one with the most pixels between the eyes. ``album`` takes a small copy of
    every picture that can be read.
    """
    result = Enrolment(encoder.searched, refused=list(source.refused))
    with PictureReader() as reader:
        desk = _Desk(encoder, reader, result, album)
        for subject in source.subjects:
            if progress is not None:
                progress(subject)
            _enrol_one(subject, desk)
    return result


@dataclass(frozen=True, slots=True)
class _Desk:
    """What is at hand while pictures are enrolled, and where it goes."""

    encoder: FaceEncoder
    reader: PictureReader
    result: Enrolment
    album: Album | None

    def refuse(self, reference: str, file: str, reason: str, next_step: str) -> None:
        self.result.refused.append(Refusal(reference, file, reason, next_step))


def _enrol_one(subject: Subject, desk: _Desk) -> None:
    result = desk.result
    seen = list(_faces(subject, desk))
    faces = _one_person(subject.reference, seen, result) if seen else []
    if seen and not faces:
        return
    if not faces:
        result.refused.append(
            Refusal(
                subject.reference,
                subject.reference,
                "has no picture that could be enrolled",
                "Find another picture of this person",
            )
        )
        return
    result.faces[subject.reference] = faces
    result.entries.append(_entry(subject, faces))


def _one_person(reference: str, seen: list[tuple[str, EncodedFace]], result: Enrolment) -> list[EncodedFace]:
    """The pictures that show one person: all of them, or the clear majority; none where nobody can say who is meant."""
    templates = by_first(np.stack([face.template for _, face in seen]), result.searched)
    alike = templates @ templates.T
    groups: list[list[int]] = []
    for number in range(len(seen)):
        near = [group for group in groups if any(alike[number, other] >= AGREE for other in group)]
        groups = [group for group in groups if group not in near] + [sorted([number, *(n for g in near for n in g)])]
    groups.sort(key=len, reverse=True)
    largest = groups[0]
    if len(groups) > 1 and len(groups[1]) == len(largest):
        one, other = (seen[group[0]][0] for group in groups[:2])
        similarity = float(alike[largest[0], groups[1][0]])
        reason = f"may be two people: {one} and {other} do not agree (similarity {similarity:.2f})"
        result.refused.append(Refusal(reference, reference, reason, "Take out the one that shows somebody else"))
        result.used -= len(seen)
        return []
    for number in (number for group in groups[1:] for number in group):
        highest = float(max(alike[number, other] for other in largest))
        reason = f"shows somebody else than the other pictures of {reference} (similarity {highest:.2f})"
        result.refused.append(Refusal(reference, seen[number][0], reason, "Check whose picture it is"))
        result.used -= 1
    return [seen[number][1] for number in largest]


def _faces(subject: Subject, desk: _Desk) -> Iterator[tuple[str, EncodedFace]]:
    for number, path in enumerate(subject.pictures):
        desk.result.pictures += 1
        if number >= MAX_PICTURES:
            reason = f"is one too many: {MAX_PICTURES} pictures of a person are used"
            desk.refuse(subject.reference, str(path), reason, "Keep the best ones")
            continue
        face = _face(subject.reference, path, desk)
        if face is not None:
            desk.result.used += 1
            yield str(path), face


def _face(reference: str, path: Path, desk: _Desk) -> EncodedFace | None:
    def seen(upright: NDArray[np.uint8], found: Detections | None) -> None:
        if desk.album is not None:
            desk.album.take(reference, str(path), upright, found)

    try:
        image = desk.reader.read(path)
    except ImageUnreadable as error:
        desk.refuse(reference, str(path), error.cause, error.next_step)
        return None
    try:
        seen(image, None)
        face = desk.encoder.encode(image, str(path), seen)
    except FaceNotEnrollable as error:
        desk.refuse(reference, str(path), error.cause, error.next_step)
        return None
    finally:
        image.fill(0)
    if face.turned:
        desk.result.turned.append((reference, str(path), face.turned))
    with path.open("rb") as file:
        return replace(face, file=str(path), sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _entry(subject: Subject, faces: list[EncodedFace]) -> WatchlistEntry:
    record = subject.record
    best = max(faces, key=lambda face: face.eye_distance)
    return WatchlistEntry(
        reference=subject.reference,
        category=record.category,
        lawful_basis=record.lawful_basis,
        image_source=record.image_source,
        image_taken=record.image_taken,
        custody_image=record.custody_image,
        review_by=record.review_by,
        delete_by=record.delete_by,
        age_band=record.age_band,
        templates=np.stack([face.template for face in faces]).astype(np.float32),
        reference_jpeg=best.picture,
    )
