"""A list as an office hands it in: people of a set of faces, and every mistake that offices make, one for each person.

Each mistake says what must come of it, so that a build can be judged line by line.
"""

from __future__ import annotations

import csv
import random
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from provisioning.sources import COLUMNS

__all__ = ["Case", "Office", "judge"]

APPROVED = ("wanted on warrant", "missing person")
Picture = NDArray[np.uint8]
Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """One person with one mistake, or with none.

    Attributes:
        reference: as it is in the spreadsheet.
        mistake: its name; empty without one.
        listed: whether the person must be on the list all the same.
        reason: regular expression that the reason of what is left out must match; empty when nothing is left out.
        found: what the report must say besides, as ``key`` of :func:`judge`.
    """

    reference: str
    mistake: str = ""
    listed: bool = True
    reason: str = ""
    found: str = ""


@dataclass(slots=True)
class Person:
    """Somebody of the set with the pictures that are there."""

    name: str
    pictures: list[Path] = field(default_factory=list)


class Office:
    """Writes ``folder/list.csv`` and ``folder/pictures`` for ``count`` people.

    Args:
        manifest: CSV with identity and path.
        folder: empty.
        count: people.
        day: of the deployment.
        seed: of who is taken and who gets which mistake.
        where: column and value that a row must have.
        good: whether a picture can be enrolled as it is; others of the set are not taken, so that nothing is left out
            but for the mistake.
    """

    def __init__(
        self,
        manifest: Path,
        folder: Path,
        count: int,
        day: date,
        *,
        seed: int,
        where: tuple[str, str] | None = None,
        good: Callable[[Path], bool] = lambda _: True,
    ) -> None:
        self.folder, self.day = folder, day
        self.random = random.Random(seed)
        self.rows: list[Row] = []
        self.cases: list[Case] = []
        people: dict[str, Person] = {}
        with manifest.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if where is None or row[where[0]] == where[1]:
                    person = people.setdefault(row["identity"], Person(row["identity"]))
                    person.pictures.append(manifest.parent / row["path"])
        several = [each for each in people.values() if len(each.pictures) >= 4]
        single = [each for each in people.values() if len(each.pictures) < 4]
        self.random.shuffle(several)
        self.random.shuffle(single)
        self.several, self.strangers, self.good = several, single, good
        (folder / "pictures").mkdir(parents=True)
        for mistake in MISTAKES:
            mistake(self)
        while len({case.reference for case in self.cases}) < count:
            self._plain()
        self.random.shuffle(self.rows)
        with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)

    def person(self) -> Person:
        """Somebody with three good pictures or more who is not taken yet."""
        while True:
            person = self.several.pop()
            person.pictures = [picture for picture in person.pictures[:5] if self.good(picture)]
            if len(person.pictures) >= 3:
                return person

    def stranger(self) -> Person:
        """Somebody with one good picture who is not taken yet."""
        while True:
            person = self.strangers.pop()
            if self.good(person.pictures[0]):
                return person

    def reference(self) -> str:
        """The next free reference."""
        return f"WW-{1000 + len(self.cases):04d}"

    def put(self, reference: str, picture: Picture | Path | bytes, ending: str = ".jpg", **record: str) -> Row:
        """Write a picture and its row."""
        name = f"pictures/{len(self.rows):04d}{ending}"
        if isinstance(picture, Path):
            data = picture.read_bytes()
        elif isinstance(picture, bytes):
            data = picture
        else:
            data = cv2.imencode(ending, picture)[1].tobytes()
        (self.folder / name).write_bytes(data)
        row = {
            "reference": reference,
            "path": name,
            "category": "wanted on warrant",
            "lawful_basis": "Warrant",
            "image_source": "custody",
            "image_taken": (self.day - timedelta(days=400)).isoformat(),
            "custody_image": "yes",
            "conviction": "convicted",
            "deletion_requested": "",
            "review_by": (self.day + timedelta(days=60)).isoformat(),
            "age_band": "35-44",
            "age_rationale": "",
            "lookalikes": "",
            **record,
        }
        self.rows.append(row)
        return row

    def _plain(self) -> None:
        reference = self.reference()
        self.put(reference, self.stranger().pictures[0])
        self.cases.append(Case(reference))


MISTAKES: list[Callable[[Office], None]] = []


def _mistake(make: Callable[[Office], None]) -> Callable[[Office], None]:
    MISTAKES.append(make)
    return make


def read(path: Path) -> Picture:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image, np.uint8)


def _of_the_picture(
    name: str, change: Callable[[Picture], Picture | bytes], *, reason: str = "", found: str = "", ending: str = ".jpg"
) -> None:
    """A mistake of one picture; the person has another good one when it is refused."""

    @_mistake
    def make(office: Office) -> None:
        reference, person = office.reference(), office.person()
        office.put(reference, change(read(person.pictures[0])), ending)
        if reason:
            office.put(reference, person.pictures[1])
        office.cases.append(Case(reference, name, reason=reason, found=found))


def _of_the_record(name: str, reason: str, *, listed: bool = False, found: str = "", **record: str) -> None:
    """A mistake of the record: the person is left out, or the report says it."""

    @_mistake
    def make(office: Office) -> None:
        reference = office.reference()
        written = {
            key: value.format(past=office.day - timedelta(days=1), gone=office.day - timedelta(days=100))
            for key, value in record.items()
        }
        office.put(reference, office.stranger().pictures[0], **written)
        office.cases.append(Case(reference, name, listed=listed, reason=reason, found=found))


def _jpeg(image: Picture) -> bytearray:
    return bytearray(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())


def cut_off(image: Picture) -> bytes:
    data = _jpeg(image)
    return bytes(data[: len(data) * 6 // 10])


def zeroed(image: Picture) -> bytes:
    data = _jpeg(image)
    data[len(data) // 2 : len(data) // 2 + 600] = bytes(600)
    return bytes(data)


def beside_another(image: Picture) -> Picture:
    return np.ascontiguousarray(np.hstack([image, image[:, ::-1]]))


_of_the_picture("on its side", lambda image: np.ascontiguousarray(np.rot90(image)), found="turned")
_of_the_picture("upside down", lambda image: np.ascontiguousarray(np.rot90(image, 2)), found="turned")
_of_the_picture("cut off", cut_off, reason="cut off")
_of_the_picture("damaged in the middle", zeroed, reason="damaged")
_of_the_picture("no picture", lambda _: b"See the attached file.\n", reason="not a picture")
_of_the_picture("a PDF", lambda _: b"%PDF-1.7\n1 0 obj\n", reason="PDF")
_of_the_picture(
    "blurred", lambda image: np.asarray(cv2.GaussianBlur(image, None, 6), np.uint8), reason="blurred|no face"
)
_of_the_picture(
    "too small", lambda image: np.asarray(cv2.resize(image, None, fx=0.4, fy=0.4), np.uint8), reason="too few pixels"
)
_of_the_picture("too dark", lambda image: np.asarray(image * 0.08, np.uint8), reason="dark|no face")
_of_the_picture("two faces", beside_another, reason="holds 2 faces")
_of_the_picture("nobody in it", lambda image: np.full_like(image, 120), reason="no face")
_of_the_picture("a PNG that is called .jpg", lambda image: cv2.imencode(".png", image)[1].tobytes())
_of_the_record("another category", "not one that was approved|approved", category="nuisance")
_of_the_record("no category", "category", category="")
_of_the_record("no lawful basis", "lawful basis|lawful_basis", lawful_basis="")
_of_the_record("custody said to be no", "custody", custody_image="no")
_of_the_record("month first", "month|day|date", review_by="04/25/2027")
_of_the_record("day first, beside a month first", "not certain which day", review_by="03/04/2027")
_of_the_record("a date that is none", "date", review_by="2027-02-30")
_of_the_record("review over", "review", review_by="{past}")
_of_the_record("not convicted, asked for deletion", "asked on", conviction="not convicted", deletion_requested="{gone}")
_of_the_record("under 18 without a reason", "under 18", age_band="under 18")
_of_the_record(
    "under 18 with a reason", "", listed=True, found="under 18", age_band="under 18", age_rationale="At risk"
)
_of_the_record("an age band that is none", "age_band|age band", age_band="teen")
_of_the_record("a formula", "formula", lawful_basis='=HYPERLINK("x")')
_of_the_record("taken in the future", "future|after", image_taken="2090-01-01")


@_mistake
def _a_name(office: Office) -> None:
    office.put("John Smith", office.stranger().pictures[0])
    office.cases.append(Case("John Smith", "a name as reference", listed=False, reason="name"))


@_mistake
def _missing(office: Office) -> None:
    reference, person = office.reference(), office.person()
    office.put(reference, person.pictures[0])
    office.put(reference, person.pictures[1])["path"] = "pictures/nowhere.jpg"
    office.cases.append(Case(reference, "a picture that is not there", reason="cannot be read"))


@_mistake
def _rows_disagree(office: Office) -> None:
    reference, person = office.reference(), office.person()
    office.put(reference, person.pictures[0])
    office.put(reference, person.pictures[1], lawful_basis="Another warrant")
    office.cases.append(Case(reference, "rows that disagree", listed=False, reason="contradicts"))


@_mistake
def _somebody_else(office: Office) -> None:
    reference, person = office.reference(), office.person()
    for picture in (*person.pictures[:3], office.stranger().pictures[0]):
        office.put(reference, picture)
    office.cases.append(Case(reference, "somebody else among three", reason="shows somebody else"))


@_mistake
def _two_people(office: Office) -> None:
    reference = office.reference()
    office.put(reference, office.stranger().pictures[0])
    office.put(reference, office.stranger().pictures[0])
    office.cases.append(Case(reference, "two people", listed=False, reason="may be two people"))


@_mistake
def _twice(office: Office) -> None:
    person, first = office.person(), office.reference()
    office.put(first, person.pictures[0])
    office.cases.append(Case(first, "one person twice", found="one person"))
    second = office.reference()
    office.put(second, person.pictures[1])
    office.cases.append(Case(second, "one person twice", found="one person"))


def judge(office: Office, report: dict[str, Any]) -> list[tuple[Case, str, bool]]:
    """What came of each case, in words, and whether it is right."""
    refused: dict[str, list[str]] = defaultdict(list)
    by_file = {row["path"]: row["reference"] for row in office.rows}
    lines = {str(number): row["reference"] for number, row in enumerate(office.rows, start=2)}
    for each in report["refused"]:
        name = next((reference for path, reference in by_file.items() if each["file"].endswith(path)), "")
        row = re.search(r"row (\d+)|\b[A-Z]+(\d+)\b", each["file"])
        name = each["reference"] or name or (lines.get(row[1] or row[2] or "", "") if row else "")
        refused[name].append(f"{each['reason']} ({each['file']})")
    said = {
        "turned": {reference for reference, *_ in report["turned_upright"]},
        "under 18": set(report["under_18"]),
        "one person": {name for one, other, _ in report["probably_one_person"] for name in (one, other)},
        "": set(report["records"]),
    }
    judged = []
    for case in office.cases:
        listed = case.reference in report["records"]
        reasons = refused.get(case.reference, [])
        right = listed == case.listed and bool(reasons) == bool(case.reason)
        if case.reason:
            right = right and any(re.search(case.reason, reason) for reason in reasons)
        if case.found:
            right = right and case.reference in said[case.found]
        what = "on the list" if listed else "left out"
        judged.append((case, "; ".join((what, *reasons[:1])), right))
    return judged
