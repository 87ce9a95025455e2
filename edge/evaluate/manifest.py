"""Who is in an evaluation: reading manifests, and who is enrolled, who is searched.

A manifest is CSV with ``identity,path`` and optionally ``role`` (gallery, mated, nonmated). Every other column is a
group to report by. Paths are absolute or relative to the manifest.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from edge.errors import BadInput

__all__ = ["Picture", "Role", "Roles", "assign", "band_ages", "read"]

MOST_BANDS = 12
"""A column of numbers with more values than this is an age or the like, and is reported by decade."""


class Role(StrEnum):
    """What a picture is used for."""

    GALLERY = "gallery"
    MATED = "mated"
    NONMATED = "nonmated"


@dataclass(frozen=True, slots=True)
class Picture:
    """One row of a manifest.

    Attributes:
        identity: who it shows.
        path: where it is.
        role: as the manifest says, or None.
        groups: every other column.
    """

    identity: str
    path: Path
    role: Role | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Roles:
    """The parts of an open-set evaluation.

    Attributes:
        gallery: pictures that are enrolled.
        mated: probes of people who are enrolled.
        nonmated: probes of people who are not.
        left_out: True when nobody is unenrolled: then every mated probe is also searched in the list without its own
            person, which makes it a non-mated search of a list that is one entry shorter.
    """

    gallery: tuple[Picture, ...]
    mated: tuple[Picture, ...]
    nonmated: tuple[Picture, ...]
    left_out: bool


def read(path: Path, where: Mapping[str, str] | None = None, without: Path | None = None) -> tuple[Picture, ...]:
    """Reads a manifest.

    Args:
        path: the CSV file.
        where: keep only rows whose column has this value, for example ``{"split": "evaluation"}``. Such a column is not
            reported by.
        without: CSV with ``identity,why``: people who are left out, for example one person under two names. It may name
            people of other manifests, too.

    Raises:
        BadInput: a file is missing or no CSV, lacks a column, has an unknown role, names somebody to leave out without
            saying why, or no row is left.
    """
    where = where or {}
    columns, rows = _table(path, ("identity", "path", *where))
    left_out = set()
    if without is not None:
        for number, row in enumerate(_table(without, ("identity", "why"))[1], start=2):
            if not row["identity"] or not row["why"]:
                raise BadInput(f"{without}, line {number}", "it does not say whom or why", "Say both")
            left_out.add(row["identity"])
    groups = [c for c in columns if c and c not in {"identity", "path", "role", *where}]
    pictures = []
    for number, row in enumerate(rows, start=2):
        if any(row[column] != value for column, value in where.items()) or row["identity"] in left_out:
            continue
        if not row["identity"] or not row["path"]:
            raise BadInput(f"{path}, line {number}", "it lacks an identity or a path", "Complete or delete the line")
        pictures.append(
            Picture(
                identity=row["identity"],
                path=path.parent / row["path"],  # an absolute path stays absolute
                role=_role(row.get("role"), f"{path}, line {number}"),
                groups={c: (row[c] or "").strip() for c in groups},
            )
        )
    if not pictures:
        raise BadInput(str(path), "no row of the manifest is left", "Check the file and the --where condition")
    return tuple(pictures)


def _table(path: Path, needed: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of a CSV file that has all that are needed."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            columns = list(reader.fieldnames or [])
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(str(path), f"the manifest cannot be read ({error})", "Give a CSV file in UTF-8") from error
    for column in needed:
        if column not in columns:
            raise BadInput(
                str(path), f"the manifest has no column '{column}', only {', '.join(columns) or 'none'}", "Add it"
            )
    return columns, rows


def _role(text: str | None, place: str) -> Role | None:
    text = (text or "").strip().lower().replace("-", "")
    if not text:
        return None
    try:
        return Role(text)
    except ValueError:
        raise BadInput(
            place, f"'{text}' is not a role", "Write gallery, mated or nonmated, or leave it empty"
        ) from None


def assign(pictures: Sequence[Picture], seed: int) -> Roles:
    """Says who is enrolled and who is searched.

    With roles in the manifest they hold, and pictures without one are left aside. Without any, each person with two or
    more pictures gives one to the gallery and the rest as mated probes, and everybody else is non-mated; which one is
    drawn with the seed, the same on every machine.

    Raises:
        BadInput: nobody would be enrolled, or a mated probe's person is not, or a non-mated one's is.
    """
    if any(p.role for p in pictures):
        parts = {role: tuple(p for p in pictures if p.role is role) for role in Role}
    else:
        parts = _draw(pictures, seed)
    gallery, mated, nonmated = parts[Role.GALLERY], parts[Role.MATED], parts[Role.NONMATED]
    enrolled = {p.identity for p in gallery}
    if not gallery:
        raise BadInput("manifest", "nobody would be enrolled", "Give two pictures of some people, or roles")
    for picture in mated:
        if picture.identity not in enrolled:
            raise BadInput(
                str(picture.path), f"is mated, but {picture.identity} has no gallery picture", "Correct the role"
            )
    for picture in nonmated:
        if picture.identity in enrolled:
            raise BadInput(
                str(picture.path), f"is nonmated, but {picture.identity} is in the gallery", "Correct the role"
            )
    return Roles(gallery, mated, nonmated, left_out=not nonmated)


def _draw(pictures: Sequence[Picture], seed: int) -> dict[Role, tuple[Picture, ...]]:
    random = np.random.default_rng(seed)
    people: dict[str, list[Picture]] = defaultdict(list)
    for picture in sorted(pictures, key=lambda p: (p.identity, str(p.path))):
        people[picture.identity].append(picture)
    parts: dict[Role, list[Picture]] = {role: [] for role in Role}
    for mine in people.values():
        if len(mine) == 1:
            parts[Role.NONMATED] += mine
            continue
        chosen = int(random.integers(len(mine)))
        parts[Role.GALLERY].append(mine[chosen])
        parts[Role.MATED] += mine[:chosen] + mine[chosen + 1 :]
    return {role: tuple(mine) for role, mine in parts.items()}


def band_ages(values: Iterable[str]) -> dict[str, str]:
    """How each value of a column is reported: as it is, or by decade when there are many different numbers."""
    distinct = set(values)
    numbers = {v for v in distinct if v.isdigit()}
    if len(numbers) <= MOST_BANDS:
        return {v: v or "unknown" for v in distinct}
    return {v: f"{int(v) // 10 * 10}-{int(v) // 10 * 10 + 9}" if v in numbers else v or "unknown" for v in distinct}
