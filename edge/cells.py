"""The only place that writes CSV: whatever a cell says, no spreadsheet takes it for a formula.

Spreadsheets run what begins with ``=``, ``+``, ``-`` or ``@``, also behind a tab or a line end, and some also their
full-width forms (OWASP, *CSV injection*). Such a cell gets an apostrophe in front, which spreadsheets read as "text".
Numbers stay as they are, with their minus.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Literal

__all__ = ["csv_text"]

_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?", re.ASCII)


def csv_text(rows: Iterable[Sequence[object]], *, line_end: str = "\n") -> str:
    """Rows as CSV.

    Args:
        rows: cells; numbers as they are, None as an empty cell, everything else as its text.
        line_end: what ends a line.
    """
    out = io.StringIO(newline="")
    for row in rows:
        cells = [_cell(value) for value in row]
        # The library does not quote a carriage return, and a reader would begin a new row at it.
        whole = any("\r" in str(cell) for cell in cells)
        quoting: Literal[0, 1] = csv.QUOTE_ALL if whole else csv.QUOTE_MINIMAL
        csv.writer(out, lineterminator=line_end, quoting=quoting).writerow(cells)
    return out.getvalue()


def _cell(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
