"""What the intelligence unit hands in, and a folder per reference; :mod:`provisioning.rows` reads spreadsheets.

Nothing is decoded here. A row or a file that cannot be used is refused with its reason and the rest
goes on: a list of hundreds is not lost to one typing error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from edge.errors import NothingToEnrol
from provisioning.photograph import PHOTOGRAPHS

__all__ = [
    "COLUMNS",
    "CONVICTIONS",
    "Record",
    "Refusal",
    "Source",
    "Subject",
    "custody_source",
    "flaw_of_reference",
    "read_folder",
]

REFERENCE = re.compile(r"^[\w][\w .:/+-]{0,63}$")
"""A reference is the force's own number: short, on one line, no path tricks."""
_SMALL, _LARGE = "a-z\u00df-\u00ff", "A-Z\u00c0-\u00de"
_NAME = re.compile(f"[{_SMALL}]{{2,}}[ _.-]+[^\\W\\d]?[{_SMALL}]{{2,}}|[{_LARGE}][{_SMALL}]{{2,}}")
"""Two words, or one with a capital and small letters: a name, whatever number follows it."""
CUSTODY = re.compile(r"custod|mug ?shot|booking|arrest|detain|detention", re.IGNORECASE)
"""What the police call the source of a custody image."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a subject apart from the pictures. Dates are ISO 8601; None means not stated.

    Attributes:
        category: for example ``wanted on warrant``.
        lawful_basis: why the force may look for this person with these pictures.
        image_source: for example ``custody``, ``missing person report``.
        image_taken: when the picture was taken.
        custody_image: whether it is a custody image.
        review_by: last day on which the entry may be used without a review.
        delete_by: last day on which it may be used at all.
        age_band: one of :data:`edge.records.AGE_BANDS`.
        age_rationale: why somebody under 18 is on the list.
        conviction: ``convicted``, ``not convicted`` or ``unknown``.
        deletion_requested: when the subject asked for the custody image to be deleted.
        lookalikes: references of known siblings or look-alikes.
    """

    category: str = ""
    lawful_basis: str = ""
    image_source: str = ""
    image_taken: str | None = None
    custody_image: bool = False
    review_by: str | None = None
    delete_by: str | None = None
    age_band: str = "unknown"
    age_rationale: str = ""
    conviction: str = "unknown"
    deletion_requested: str | None = None
    lookalikes: tuple[str, ...] = ()


COLUMNS = ("reference", "path", *(f.name for f in fields(Record)))
CONVICTIONS = ("convicted", "not convicted", "unknown")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that was left out, and why, in words for the person who handed it in.

    Attributes:
        reference: the subject, or empty when it is not known.
        file: the picture or the row, as the reader finds it again.
        reason: why, in a clause.
        next_step: what to do about it.
        pictures: how many pictures are left out with it; 0 for what was no picture, or sums up others.
    """

    reference: str
    file: str
    reason: str
    next_step: str
    pictures: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """One reference with its pictures, not decoded yet."""

    reference: str
    pictures: tuple[Path, ...]
    record: Record


@dataclass(slots=True)
class Source:
    """Everything a source holds, good and refused; ``notes`` say how it was read, for the reader to check."""

    subjects: list[Subject] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        """How many pictures were handed in, used or not."""
        return sum(len(each.pictures) for each in self.subjects) + sum(each.pictures for each in self.refused)

    @property
    def references(self) -> set[str]:
        """Everybody who was handed in and has a reference that can be used."""
        return {each.reference for each in self.subjects} | {each.reference for each in self.refused if each.reference}


def flaw_of_reference(text: str) -> tuple[str, str] | None:
    """Why a text is not a reference, and what to do; None when it is one. A person's name is none: it needs a digit."""
    number = "Use the force's own number for the person, for example WW-1041"
    if not text:
        return "has no reference", number
    if not REFERENCE.match(text):
        return "is not a reference", "Use 1 to 64 letters, digits and . : / + - _ or spaces"
    if not any(letter.isdigit() for letter in text) or _NAME.search(text):
        return "looks like a name, not like a number", number
    return None


def custody_source(image_source: str) -> bool:
    """Whether pictures from there are custody images."""
    return CUSTODY.search(image_source) is not None


def read_folder(folder: Path, defaults: Record | None = None, *, names: bool = True) -> Source:
    """Read ``folder/<reference>/<picture>``; every subject gets the record ``defaults``.

    Args:
        folder: one folder per reference.
        defaults: what is known of everybody.
        names: whether a folder may be called by a name; never for a list of people who are looked for.

    Raises:
        NothingToEnrol: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise NothingToEnrol(str(folder), "is not a folder", "Give a folder with one folder of pictures per reference")
    source = Source()
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_file():
            if child.suffix.lower() in PHOTOGRAPHS:
                source.refused.append(
                    Refusal("", str(child), "lies outside a reference's folder", "Move it into a folder of its own", 1)
                )
            continue
        flaw = flaw_of_reference(child.name)
        if flaw is not None and not (names and REFERENCE.match(child.name)):
            held = sum(file.suffix.lower() in PHOTOGRAPHS for file in child.iterdir())
            source.refused.append(Refusal("", str(child), *flaw, pictures=held))
            continue
        pictures: list[Path] = []
        for file in sorted(child.iterdir()):
            if file.name.startswith("."):
                continue
            if file.is_file() and file.suffix.lower() in PHOTOGRAPHS:
                pictures.append(file)
            else:
                source.refused.append(
                    Refusal(child.name, str(file), "is not a picture file", "Give a JPEG, PNG, WebP, BMP or TIFF file")
                )
        if pictures:
            source.subjects.append(Subject(child.name, tuple(pictures), defaults or Record()))
        else:
            source.refused.append(Refusal(child.name, str(child), "holds no picture", "Put a picture of the person in"))
    if not source.subjects and not source.refused:
        raise NothingToEnrol(str(folder), "is empty", "Put one folder of pictures per reference into it")
    return source
