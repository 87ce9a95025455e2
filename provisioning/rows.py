"""From the rows of a spreadsheet to subjects with their pictures and records. Each row that cannot be used is refused.

A reason names the cell as it is seen on the screen. Where two readings are possible and the difference decides whether
somebody may be on the list, the row is refused: a status that contradicts the picture's source, a date that may have
the month first, a number that Excel has shortened, a name where a reference should be. Whoever's rows contradict each
other is left out as a whole.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

from edge.alert.message import LONGEST_WORDS
from edge.errors import NothingToEnrol
from edge.records import AGE_BANDS
from provisioning.sources import (
    COLUMNS,
    CONVICTIONS,
    Record,
    Refusal,
    Source,
    Subject,
    custody_source,
    flaw_of_reference,
)
from provisioning.spreadsheet import Cell, Row, Sheet, read_spreadsheet

__all__ = ["read_list"]

YES, NO = {"yes", "true", "1", "y"}, {"no", "false", "0", "n"}
DATES = ("image_taken", "review_by", "delete_by", "deletion_requested")
_SLASHED = re.compile(r"\A(\d{1,2})[/.](\d{1,2})[/.](\d{4})\Z")
_WORDED = ("%d %b %Y", "%d-%b-%Y", "%d %B %Y")
_SHORTENED = re.compile(r"\A\d+([.,]\d+)?E\+\d+\Z", re.IGNORECASE)
_WRITE_DATE = "Write the date as year-month-day, for example 2026-03-31"


def read_list(file: Path) -> Source:
    """Read a spreadsheet with the columns :data:`COLUMNS`, of which ``reference`` and ``path`` must be there.

    Paths are relative to the file. Several rows with one reference are several pictures of one person,
    and must agree in everything else that they state.

    Raises:
        NothingToEnrol: the file is missing, not a spreadsheet, without rows, or with unknown or missing columns.
    """
    sheet = read_spreadsheet(file, COLUMNS)
    for wanted in ("reference", "path"):
        if wanted not in sheet.columns:
            raise NothingToEnrol(f"{file}: column {wanted}", "is missing", f"The columns are {', '.join(COLUMNS)}")
    for name in sheet.columns:
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"Did you mean {close[0]}? " if close else ""
            raise NothingToEnrol(f"{file}: column {name}", "is unknown", f"{hint}The columns are {', '.join(COLUMNS)}")
    if not sheet.rows:
        raise NothingToEnrol(str(file), "has no rows", "Add one row per picture")
    return _gather(file, sheet)


class _Unusable(Exception):
    """A row cannot be used: why, and what to do."""

    def __init__(self, reason: str, next_step: str) -> None:
        super().__init__(reason)
        self.reason, self.next_step = reason, next_step


def _gather(file: Path, sheet: Sheet) -> Source:
    source = Source(notes=[f"{file.name} was read as {sheet.made}."])
    month_first = next(_month_first(sheet), None)
    if (read := _day_first(sheet)) is not None and month_first is None:
        source.notes.append(f"Dates with the day first: {read.text} in cell {read.place} is {_iso(read)}.")
    pictures: dict[str, list[Path]] = {}
    records: dict[str, Record] = {}
    disputed: set[str] = set()
    for row in sheet.rows:
        reference = row.cells["reference"].text
        try:
            flaw = flaw_of_reference(reference)
            if flaw is not None:
                reference, (reason, step) = "", flaw
                raise _Unusable(f"cell {row.cells['reference'].place} {reason}", step)
            record, path = _read(row, month_first)
            if records.setdefault(reference, record) != record:
                disputed.add(reference)
                raise _Unusable("contradicts an earlier row of the same reference", "Make the rows agree")
        except _Unusable as found:
            where = f"{file.name} row {row.number}"
            source.refused.append(Refusal(reference, where, found.reason, found.next_step, pictures=1))
            continue
        pictures.setdefault(reference, []).append(file.parent / path)
    for reference in sorted(disputed):
        reason = "has rows that contradict each other, and nobody can say which is right"
        left = len(pictures.pop(reference))
        source.refused.append(Refusal(reference, reference, reason, "Make the rows agree", pictures=left))
    source.subjects.extend(Subject(name, tuple(paths), records[name]) for name, paths in sorted(pictures.items()))
    return source


def _read(row: Row, month_first: Cell | None) -> tuple[Record, str]:
    """The record and the picture's path of a row whose reference is good."""
    for cell in row.beyond:
        raise _Unusable(f"cell {cell.place} is filled and its column has no heading", "Empty it, or quote commas")
    for cell in row.cells.values():
        if cell.flaw:
            step = "Copy the cell and paste it as a value" if "holds" in cell.flaw else "Begin it with a letter"
            raise _Unusable(f"cell {cell.place} {cell.flaw}", step)
    if _SHORTENED.match(row.cells["reference"].text):
        cell = row.cells["reference"]
        raise _Unusable(f"cell {cell.place} is {cell.text}: Excel has shortened the number", "Make the column text")
    cells = {name: row.cells.get(name, Cell("", "")) for name in COLUMNS}
    values: dict[str, object] = {
        name: cells[name].text for name in ("category", "lawful_basis", "image_source", "age_rationale")
    }
    values |= {name: _day(name, cells[name], month_first) for name in DATES}
    values["custody_image"] = _custody(cells["custody_image"], cells["image_source"].text)
    values["age_band"] = _one_of("age_band", cells["age_band"], AGE_BANDS)
    values["conviction"] = _one_of("conviction", cells["conviction"], CONVICTIONS)
    lookalikes = tuple(filter(None, (part.strip() for part in cells["lookalikes"].text.split(";"))))
    values["lookalikes"] = lookalikes
    for name, parts in (("category", (cells["category"].text,)), ("lookalikes", lookalikes)):
        if (size := max(map(len, parts), default=0)) > LONGEST_WORDS:
            raise _Unusable(
                f"cell {cells[name].place} ({name}) has {size} characters, {LONGEST_WORDS} are allowed", "Write less"
            )
    path = cells["path"].text.replace("\\", "/")
    if not path:
        raise _Unusable(f"cell {cells['path'].place} names no picture", "Fill in the column path")
    return Record(**values), path  # type: ignore[arg-type]


def _custody(cell: Cell, image_source: str) -> bool:
    """Whether it is a custody image: what the picture's source says. A cell that says otherwise is not believed."""
    is_one = custody_source(image_source)
    said = cell.text.casefold()
    if said and said not in YES | NO:
        raise _Unusable(f"cell {cell.place} (custody_image) is {cell.text!r}, neither yes nor no", "Write yes or no")
    if said and (said in YES) != is_one:
        raise _Unusable(
            f"cell {cell.place} says custody_image {cell.text}, and the picture's source is {image_source!r}",
            "Correct image_source or custody_image: the two must agree",
        )
    return is_one


def _one_of(name: str, cell: Cell, choices: tuple[str, ...]) -> str:
    text = cell.text.casefold().replace("–", "-") or "unknown"
    if text not in choices:
        raise _Unusable(
            f"cell {cell.place} ({name}) is {cell.text!r}, not one of: {', '.join(choices)}", "Write one of these"
        )
    return text


# -- dates ---------------------------------------------------------------------------------------


def _day(name: str, cell: Cell, month_first: Cell | None) -> str | None:
    if not cell.text:
        return None
    found = _iso(cell)
    if found is None:
        raise _Unusable(f"cell {cell.place} ({name}) is {cell.text!r}, not a date", _WRITE_DATE)
    if month_first is not None and _SLASHED.match(cell.text):
        raise _Unusable(
            f"cell {cell.place} ({name}) is {cell.text!r}, and cell {month_first.place} has the month first: "
            "it is not certain which day is meant",
            _WRITE_DATE,
        )
    return found


def _iso(cell: Cell) -> str | None:
    """The date in a cell as ISO 8601; None when there is none. Day before month, as in the United Kingdom."""
    try:
        if slashed := _SLASHED.match(cell.text):
            day, month, year = map(int, slashed.groups())
            return date(year, month, day).isoformat()
        if re.match(r"\A\d{4}-\d{2}-\d{2}\Z", cell.text):
            return date.fromisoformat(cell.text).isoformat()
    except ValueError:
        return None
    for form in _WORDED:
        try:
            return datetime.strptime(cell.text, form).date().isoformat()  # noqa: DTZ007 - a day, not a moment
        except ValueError:
            continue
    return None


def _date_cells(sheet: Sheet) -> Iterator[tuple[Cell, int, int]]:
    for row in sheet.rows:
        for name in DATES:
            cell = row.cells.get(name)
            if cell is not None and (slashed := _SLASHED.match(cell.text)):
                yield cell, int(slashed[1]), int(slashed[2])


def _month_first(sheet: Sheet) -> Iterator[Cell]:
    """Cells whose date makes sense only with the month first: the whole sheet is in doubt then."""
    return (cell for cell, first, second in _date_cells(sheet) if second > 12 >= first)


def _day_first(sheet: Sheet) -> Cell | None:
    """A cell whose date could be read either way, for the reader to check; None when there is none."""
    return next((cell for cell, first, second in _date_cells(sheet) if first <= 12 and second <= 12), None)
