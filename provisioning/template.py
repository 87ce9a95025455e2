"""An empty list to fill in: a CSV file, or an Excel workbook that offers the choices and explains each column."""

from __future__ import annotations

import io
from pathlib import Path

from edge.cells import csv_text
from edge.errors import BadInput, StoreUnavailable
from edge.records import AGE_BANDS
from provisioning.sources import COLUMNS, CONVICTIONS

__all__ = ["HELP", "write_template"]

HELP = {
    "reference": "Your own number for the person, for example WW-1041. Never a name.",
    "path": "The picture's file, from the folder of this list: pictures/1041.jpg. One row for each picture.",
    "category": "One of the categories that the authorising officer approved.",
    "lawful_basis": "Why the force may look for this person with this picture, for example Warrant 4711.",
    "image_source": "Where the picture comes from: custody, family, court, passport.",
    "image_taken": "When it was taken: 2026-03-31.",
    "custody_image": "yes or no. It must agree with image_source; leave it empty and it follows from there.",
    "review_by": "Last day on which the entry may be used without a review. A custody image needs this or delete_by.",
    "delete_by": "Last day on which the entry may be used at all.",
    "age_band": "How old the person is. Empty means unknown.",
    "age_rationale": "Why somebody under 18 is on the list. Needed for everybody under 18.",
    "conviction": "Whether the person was convicted of what the custody image was taken for. Empty means unknown.",
    "deletion_requested": "When the person asked for the custody image to be deleted.",
    "lookalikes": "References of brothers, sisters and known doubles, separated by semicolons.",
}
CHOICES = {"custody_image": ("yes", "no"), "age_band": AGE_BANDS, "conviction": CONVICTIONS}
WIDEST = 24
ROWS = 5000
"""So many rows of the workbook offer the choices."""


def write_template(out: Path) -> None:
    """Write an empty list to ``out``: CSV, or an Excel workbook where the name ends in ``.xlsx``.

    Raises:
        BadInput: the file is there already, ends in something else, or openpyxl is not installed.
        StoreUnavailable: it cannot be written.
    """
    if out.exists():
        raise BadInput(str(out), "exists already", "Give another name, or remove it first")
    kind = out.suffix.lower()
    if kind not in {".csv", ".xlsx"}:
        raise BadInput(str(out), "does not end in .csv or .xlsx", "Give a name that does")
    content = _workbook(out) if kind == ".xlsx" else _csv()
    try:
        out.write_bytes(content)
    except OSError as error:
        raise StoreUnavailable(str(out), f"cannot be written ({error.strerror})", "Give another folder") from None


def _csv() -> bytes:
    return csv_text([COLUMNS], line_end="\r\n").encode("utf-8-sig")  # with the mark by which Excel knows UTF-8


def _workbook(out: Path) -> bytes:
    try:
        from openpyxl import Workbook  # noqa: PLC0415 - only the office needs it
        from openpyxl.styles import Font  # noqa: PLC0415
        from openpyxl.utils import get_column_letter  # noqa: PLC0415
        from openpyxl.worksheet.datavalidation import DataValidation  # noqa: PLC0415
    except ImportError:
        raise BadInput(
            str(out),
            "needs openpyxl, which is not installed here",
            "Give a name that ends in .csv, or call the engineer",
        ) from None
    book = Workbook()
    sheet = book.active
    sheet.title = "list"
    sheet.freeze_panes = "B2"
    for at, name in enumerate(COLUMNS, start=1):
        letter = get_column_letter(at)
        heading = sheet.cell(row=1, column=at, value=name)
        heading.font = Font(bold=True)
        sheet.column_dimensions[letter].width = min(WIDEST, len(name) + 6)
        for row in range(2, ROWS // 10):  # as text: Excel would shorten long numbers and turn dates about
            sheet.cell(row=row, column=at).number_format = "@"
        if name in CHOICES:
            offered = DataValidation(type="list", formula1=f'"{",".join(CHOICES[name])}"', allow_blank=True)
            offered.error = f"One of: {', '.join(CHOICES[name])}"
            sheet.add_data_validation(offered)
            offered.add(f"{letter}2:{letter}{ROWS}")
    told = book.create_sheet("what the columns mean")
    told.column_dimensions["A"].width, told.column_dimensions["B"].width = WIDEST, 100
    for name in COLUMNS:
        told.append([name, HELP[name]])
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()
