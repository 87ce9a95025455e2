"""From pictures to entries of a watchlist, with a reason for everything that is left out.

A wrong reference picture is worse than none: a face that is blurred or turned resembles many people,
and a picture with two faces may enrol the bystander. So enrolment is stricter than the street, and it
never guesses which of two faces is meant. Nor does it guess which of two people a reference is, when its pictures
show two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import FaceNotEnrollable, ImageUnreadable
from edge.records import WatchlistEntry
from provisioning.reading import PictureReader
from provisioning.sources import Refusal, Source, Subject

__all__ = ["EncodedFace", "Enrolment", "FaceEncoder", "enrol"]

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
    """

    template: NDArray[np.float32] = field(repr=False, compare=False)
    picture: bytes = field(repr=False)
    eye_distance: float
    sharpness: float
    yaw: float
    pitch: float
    turned: int = 0


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

    def encode(self, image: NDArray[np.uint8], name: str) -> EncodedFace:
        """Encode the one face of ``image``, ``(H, W, 3)`` uint8 BGR; ``name`` is for the error.

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
    """

    entries: list[WatchlistEntry] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    pictures: int = 0
    used: int = 0
    faces: dict[str, list[EncodedFace]] = field(default_factory=dict)
    turned: list[tuple[str, str, int]] = field(default_factory=list)


def enrol(source: Source, encoder: FaceEncoder, *, progress: Callable[[Subject], None] | None = None) -> Enrolment:
    """Enrol every subject of ``source`` that can be, and say why the others cannot.

    A subject is enrolled when at least one picture is good; its other pictures' refusals are listed all
    the same. The reference picture is the one with the most pixels between the eyes.
    """
    result = Enrolment(refused=list(source.refused))
    with PictureReader() as reader:
        for subject in source.subjects:
            if progress is not None:
                progress(subject)
            _enrol_one(subject, encoder, reader, result)
    return result


def _enrol_one(subject: Subject, encoder: FaceEncoder, reader: PictureReader, result: Enrolment) -> None:
    seen = list(_faces(subject, encoder, reader, result))
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
    templates = np.stack([face.template for _, face in seen])
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


def _faces(
    subject: Subject, encoder: FaceEncoder, reader: PictureReader, result: Enrolment
) -> Iterator[tuple[str, EncodedFace]]:
    for number, path in enumerate(subject.pictures):
        result.pictures += 1
        if number >= MAX_PICTURES:
            reason = f"is one too many: {MAX_PICTURES} pictures of a person are used"
            result.refused.append(Refusal(subject.reference, str(path), reason, "Keep the best ones"))
            continue
        face = _face(subject.reference, path, encoder, reader, result)
        if face is not None:
            result.used += 1
            yield str(path), face


def _face(
    reference: str, path: Path, encoder: FaceEncoder, reader: PictureReader, result: Enrolment
) -> EncodedFace | None:
    try:
        image = reader.read(path)
    except ImageUnreadable as error:
        result.refused.append(Refusal(reference, str(path), error.cause, error.next_step))
        return None
    try:
        face = encoder.encode(image, str(path))
    except FaceNotEnrollable as error:
        result.refused.append(Refusal(reference, str(path), error.cause, error.next_step))
        return None
    finally:
        image.fill(0)
    if face.turned:
        result.turned.append((reference, str(path), face.turned))
    return face


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
