"""A spreadsheet as people have it, as named cells of text: CSV of any make, or an Excel workbook.

What Excel, LibreOffice and text editors write differs in the separator, the letters' encoding, a first line ``sep=;``,
empty columns at the end and capitals in the header. All of that is read. What cannot be read for certain is named with
its cell, as the person sees it on the screen, and refused: a formula, whose value depends on the day, and rows that a
filter hides. Nothing here knows what a column means.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from edge.errors import NothingToEnrol

__all__ = ["Cell", "Row", "Sheet", "column_letter", "column_name", "read_spreadsheet"]

MAX_BYTES = 50_000_000
MAX_UNPACKED = 100_000_000
"""A workbook is a ZIP archive; one that unpacks to more than that was not made by people."""
MAX_ROWS = 100_000
MAX_COLUMNS = 500
ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SEP_LINE = re.compile(r'\A"?sep=(.)"?[ ,;\t]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)
_KEPT_TEXT = re.compile(r'\A="([^"]*)"\Z')
"""How people keep the zeros at the begin of a number in a CSV: text, although it looks like a formula."""
_FORMULA = re.compile(r"\A[=@+-]")
_SAVE = "Save it in Excel as CSV UTF-8, or as an Excel workbook (.xlsx)"
_UNUSABLE = (
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ParseError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What openpyxl, zipfile and expat raise on a damaged workbook; translated here and nowhere else."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: what stands in it, without blanks around it; a date as ISO 8601, a truth value as yes or no.
        place: its name on the screen, such as ``C4``.
        flaw: why it cannot be used, in a clause; empty when it can.
    """

    text: str
    place: str
    flaw: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row below the header that is not empty.

    Attributes:
        number: as the spreadsheet numbers it, from 1.
        cells: by the name of the column, in lower case with underscores; every column of the sheet has one.
        beyond: filled cells for which the header has no name.
    """

    number: int
    cells: dict[str, Cell]
    beyond: tuple[Cell, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """A spreadsheet with a header.

    Attributes:
        columns: names in their order.
        rows: what is below the header.
        made: what kind of file it is, in words.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    made: str


def column_letter(number: int) -> str:
    """The name of the column ``number``, from 1: A, B, …, Z, AA."""
    name = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def column_name(text: str) -> str:
    """A column's heading without what people vary: capitals, blanks, hyphens."""
    return re.sub(r"[\s_-]+", "_", _clean(text).casefold()).strip("_")


def read_spreadsheet(file: Path, known: Sequence[str]) -> Sheet:
    """Read a CSV file or an Excel workbook.

    Args:
        file: where it lies.
        known: column names that may occur; they tell separators and sheets of a workbook apart.

    Raises:
        NothingToEnrol: it is missing, not a spreadsheet, empty, hides rows, or has a column twice; says what to do.
    """
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise NothingToEnrol(str(file), f"is larger than {MAX_BYTES // 1_000_000} MB", "Check that it is the list")
        content = file.read_bytes()
    except OSError as error:
        raise NothingToEnrol(
            str(file), f"cannot be read ({error.strerror})", "Give the path of a CSV file or of an Excel workbook"
        ) from None
    if content.startswith(OLE):
        raise NothingToEnrol(
            str(file),
            "is an old Excel file (.xls), or a workbook that is protected with a password",
            "Save it without a password as an Excel workbook (.xlsx)",
        )
    if content.startswith(ZIP):
        return _workbook(file, content, known)
    text, letters = _decode(file, content)
    return _csv(file, text, letters, known)


# -- CSV -----------------------------------------------------------------------------------------


def _decode(file: Path, content: bytes) -> tuple[str, str]:
    """The text and the name of its encoding. Excel writes UTF-8, Windows-1252 or, as "Unicode text", UTF-16."""
    if content.startswith(b"\xef\xbb\xbf"):
        tried = [("utf-8-sig", "UTF-8")]
    elif content.startswith((b"\xff\xfe", b"\xfe\xff")):
        tried = [("utf-16", "UTF-16")]
    elif content[1:200:2].count(0) > len(content[1:200:2]) // 2:
        tried = [("utf-16-le", "UTF-16")]
    elif content[:200:2].count(0) > len(content[:200:2]) // 2:
        tried = [("utf-16-be", "UTF-16")]
    else:
        tried = [("utf-8", "UTF-8"), ("cp1252", "Windows-1252")]
    for codec, name in tried:
        try:
            text = content.decode(codec)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text, name
    raise NothingToEnrol(str(file), "is not a text file that can be read", _SAVE)


def _csv(file: Path, text: str, letters: str, known: Sequence[str]) -> Sheet:
    told = _SEP_LINE.match(text)
    if told:
        text, separator = text[told.end() :], told[1]
    else:
        separator = max(SEPARATORS, key=lambda each: _known_in(text, each, known))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        lines = [(number, [_csv_cell(value) for value in values]) for number, values in enumerate(reader, start=1)]
    except csv.Error as error:
        raise NothingToEnrol(str(file), f"is not a CSV file that can be read ({error})", _SAVE) from None
    made = f"CSV with {SEPARATORS.get(separator, repr(separator))}, {letters}"
    return _sheet(str(file), lines, made)


def _known_in(text: str, separator: str, known: Sequence[str]) -> int:
    """How many known columns the first line that is not empty has, when it is cut at ``separator``."""
    for line in io.StringIO(text):
        if line.strip(" \t\r\n,;|"):
            cells = line.replace('"', "").split(separator)
            return sum(column_name(cell) in known for cell in cells)
    return 0


def _csv_cell(value: str) -> tuple[str, str]:
    kept = _KEPT_TEXT.match(value.strip())
    text = _clean(kept[1] if kept else value)
    return text, "" if kept else _flaw(text)


def _flaw(text: str) -> str:
    return "begins like a formula" if _FORMULA.match(text) else ""


def _clean(text: str) -> str:
    """Without blanks around it, no-break spaces and byte order marks; a lone dash stands for nothing."""
    text = unicodedata.normalize("NFC", text.replace("\ufeff", "").replace("\u00a0", " ").replace("\u200b", "")).strip()
    return "" if text in {"-", "–", "—"} else text


# -- Excel ---------------------------------------------------------------------------------------


def _workbook(file: Path, content: bytes, known: Sequence[str]) -> Sheet:
    try:
        from openpyxl import load_workbook  # noqa: PLC0415 - only the office needs it
        from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415
    except ImportError:
        raise NothingToEnrol(
            str(file),
            "is an Excel workbook, and this computer cannot read them",
            "Save it as CSV UTF-8, or ask the engineer to install lfr-edge[office]",
        ) from None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
            unpacked = sum(member.file_size for member in archive.infolist())
        if "xl/workbook.xml" not in names or unpacked > MAX_UNPACKED:
            raise NothingToEnrol(str(file), "is not an Excel workbook (.xlsx)", _SAVE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a workbook has besides its cells, and openpyxl leaves out
            book = load_workbook(io.BytesIO(content), keep_links=False)
            sheets = [(sheet, list(_cells(sheet))) for sheet in book.worksheets if sheet.sheet_state == "visible"]
        book.close()
    except (*_UNUSABLE, InvalidFileException):
        raise NothingToEnrol(str(file), "is a damaged Excel workbook", "Open it in Excel and save it again") from None
    fitting = [(sheet, lines) for sheet, lines in sheets if _fits(lines, known)]
    if len(fitting) > 1:
        titles = " and ".join(repr(sheet.title) for sheet, _ in fitting)
        raise NothingToEnrol(str(file), f"has several lists: the sheets {titles}", "Keep the one that is meant")
    if not sheets:
        raise NothingToEnrol(str(file), "has no sheet that is not hidden", "Show the sheet with the list")
    sheet, lines = (fitting or sheets)[0]
    filled = {number for number, cells in lines if any(text for text, _ in cells)}
    hidden = sorted(n for n, row in sheet.row_dimensions.items() if row.hidden and n in filled)
    if hidden:
        raise NothingToEnrol(
            f"{file}, sheet {sheet.title!r}",
            f"hides {len(hidden)} rows, the first is row {hidden[0]}",
            "Clear the filter and show every row, or delete what does not belong to the list",
        )
    return _sheet(str(file), lines, f"an Excel workbook, sheet {sheet.title!r}")


def _cells(sheet: Any) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Rows that hold something. To ask for every row would make the 17 billion cells before a formatted last one."""
    rows: dict[int, dict[int, Any]] = {}
    for (number, column), cell in sheet._cells.items():  # noqa: SLF001 - what is there, without making what is not
        if cell.value is not None:
            rows.setdefault(number, {})[column] = cell
    for number, row in sorted(rows.items()):
        if max(row) > MAX_COLUMNS:
            raise NothingToEnrol(
                f"sheet {sheet.title!r}",
                f"has more than {MAX_COLUMNS} columns in row {number}",
                "Check that it is the list",
            )
        yield number, [_excel_cell(row[at]) if at in row else ("", "") for at in range(1, max(row) + 1)]


def _excel_cell(cell: Any) -> tuple[str, str]:
    value = cell.value
    if cell.data_type == "f":
        return "=", "holds a formula"
    if cell.data_type == "e":
        return str(value), f"holds Excel's error {value}"
    match value:
        case None:
            return "", ""
        case bool():
            return ("yes" if value else "no"), ""
        case datetime():
            return value.date().isoformat(), ""
        case date():
            return value.isoformat(), ""
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value)), ""
        case str():
            text = _clean(value)
            return text, _flaw(text)
        case _:
            return str(value), ""


def _fits(lines: Iterable[tuple[int, list[tuple[str, str]]]], known: Sequence[str]) -> bool:
    header: list[tuple[str, str]] = next((cells for _, cells in lines if any(text for text, _ in cells)), [])
    return sum(column_name(text) in known for text, _ in header) >= 2


# -- both ----------------------------------------------------------------------------------------


def _sheet(thing: str, lines: list[tuple[int, list[tuple[str, str]]]], made: str) -> Sheet:
    filled = [(number, cells) for number, cells in lines if any(text for text, _ in cells)]
    if not filled:
        raise NothingToEnrol(thing, "is empty", "Begin with: lfr-provision watchlist template")
    if len(filled) > MAX_ROWS:
        raise NothingToEnrol(thing, f"has more than {MAX_ROWS:,} rows", "Check that it is the list")
    _, header = filled[0]
    names = [column_name(text) for text, _ in header]
    for at, name in enumerate(names):
        if name and name in names[:at]:
            first, second = column_letter(names.index(name) + 1), column_letter(at + 1)
            raise NothingToEnrol(f"{thing}: column {name}", f"is there twice, as {first} and as {second}", "Keep one")
    rows = []
    for number, cells in filled[1:]:
        padded = [*cells, *[("", "")] * (len(names) - len(cells))]
        made_cells = [Cell(text, f"{column_letter(at)}{number}", flaw) for at, (text, flaw) in enumerate(padded, 1)]
        named = {name: cell for name, cell in zip(names, made_cells, strict=False) if name}
        nameless = tuple(
            cell for at, cell in enumerate(made_cells) if cell.text and (at >= len(names) or not names[at])
        )
        rows.append(Row(number, named, nameless))
    return Sheet(tuple(name for name in names if name), tuple(rows), made)
