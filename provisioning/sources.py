"""What the intelligence unit hands in: a folder per reference, or a CSV with one row per picture.

Nothing is decoded here. A row or a file that cannot be used is refused with its reason and the rest
goes on: a list of hundreds is not lost to one typing error.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path

from edge.errors import NothingToEnrol
from edge.records import AGE_BANDS
from provisioning.photograph import PHOTOGRAPHS

__all__ = ["COLUMNS", "Record", "Refusal", "Source", "Subject", "read_csv", "read_folder"]

REFERENCE = re.compile(r"^[\w][\w .:/+-]{0,63}$")
"""A reference is the force's own number: short, on one line, no path tricks."""
YES, NO = {"yes", "true", "1", "y"}, {"no", "false", "0", "n", ""}


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
    """

    reference: str
    file: str
    reason: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One reference with its pictures, not decoded yet."""

    reference: str
    pictures: tuple[Path, ...]
    record: Record


@dataclass(slots=True)
class Source:
    """Everything a source holds, good and refused."""

    subjects: list[Subject] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


def read_folder(folder: Path, defaults: Record | None = None) -> Source:
    """Read ``folder/<reference>/<picture>``; every subject gets the record ``defaults``.

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
                    Refusal("", str(child), "lies outside a reference's folder", "Move it into a folder of its own")
                )
            continue
        if not REFERENCE.match(child.name):
            source.refused.append(_bad_reference(child.name, str(child)))
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


def read_csv(file: Path) -> Source:
    """Read a CSV with the columns :data:`COLUMNS`, of which ``reference`` and ``path`` must be there.

    Paths are relative to the file. Several rows with one reference are several pictures of one person,
    and must agree in everything else that they state.

    Raises:
        NothingToEnrol: the file is missing, not a CSV, without rows, or with unknown or missing columns.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise NothingToEnrol(str(file), f"cannot be read ({error.strerror})", "Give the path of a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise NothingToEnrol(str(file), f"is not a CSV in UTF-8 ({error})", "Export it again as CSV, UTF-8") from None
    for wanted in ("reference", "path"):
        if wanted not in header:
            raise NothingToEnrol(f"{file}: column {wanted}", "is missing", f"The columns are {', '.join(COLUMNS)}")
    for name in header:
        if name not in COLUMNS:
            raise NothingToEnrol(f"{file}: column {name}", "is unknown", f"The columns are {', '.join(COLUMNS)}")
    if not rows:
        raise NothingToEnrol(str(file), "has no rows", "Add one row per picture")
    return _gather(file, rows)


def _gather(file: Path, rows: list[tuple[int, dict[str, str | None]]]) -> Source:
    source = Source()
    pictures: dict[str, list[Path]] = {}
    records: dict[str, Record] = {}
    for line, row in rows:
        cells = {name: (value or "").strip() for name, value in row.items() if name is not None}
        where = f"{file.name} line {line}"
        reference = cells["reference"]
        if not REFERENCE.match(reference):
            source.refused.append(_bad_reference(reference, where))
            continue
        if None in row:
            source.refused.append(Refusal(reference, where, "has more cells than the header", "Quote commas in a cell"))
            continue
        try:
            record = _record(cells)
        except ValueError as error:
            source.refused.append(Refusal(reference, where, str(error), "Mend the cell and build again"))
            continue
        if not cells["path"]:
            source.refused.append(Refusal(reference, where, "names no picture", "Fill in the column path"))
            continue
        known = records.setdefault(reference, record)
        if known != record:
            source.refused.append(
                Refusal(reference, where, "contradicts an earlier row of the same reference", "Make the rows agree")
            )
            continue
        pictures.setdefault(reference, []).append(file.parent / cells["path"])
    source.subjects.extend(Subject(name, tuple(paths), records[name]) for name, paths in sorted(pictures.items()))
    return source


def _bad_reference(reference: str, where: str) -> Refusal:
    cause = "is not a reference" if reference else "has no reference"
    return Refusal(reference, where, cause, "Use 1 to 64 letters, digits and . : / + - _ or spaces")


def _record(cells: dict[str, str]) -> Record:
    values: dict[str, object] = {}
    for name in ("category", "lawful_basis", "image_source", "age_rationale"):
        values[name] = cells.get(name, "")
    for name in ("image_taken", "review_by", "delete_by", "deletion_requested"):
        values[name] = _day(name, cells.get(name, ""))
    values["custody_image"] = _truth("custody_image", cells.get("custody_image", ""))
    values["age_band"] = _one_of("age_band", cells.get("age_band", "") or "unknown", AGE_BANDS)
    values["conviction"] = _one_of("conviction", cells.get("conviction", "") or "unknown", CONVICTIONS)
    values["lookalikes"] = tuple(filter(None, (part.strip() for part in cells.get("lookalikes", "").split(";"))))
    return Record(**values)  # type: ignore[arg-type]


def _day(name: str, text: str) -> str | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{name} is {text!r}, not a date such as 2026-03-31") from None


def _truth(name: str, text: str) -> bool:
    if text.lower() in YES:
        return True
    if text.lower() in NO:
        return False
    raise ValueError(f"{name} is {text!r}, neither yes nor no")


def _one_of(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(f"{name} is {text!r}, not one of: {', '.join(choices)}")
    return text
