"""Lists as people have them: whatever wrote the spreadsheet, the same people are on the list, or it is said why."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from edge.errors import BadInput, NothingToEnrol
from provisioning.rows import read_list
from provisioning.sources import COLUMNS, Record
from provisioning.template import HELP, write_template

HEADER = ("reference", "path", "category", "lawful_basis", "image_source", "custody_image", "review_by", "age_band")
ROWS = (
    ("WW-1", "pictures/one.jpg", "wanted on warrant", "Warrant 4711", "custody", "yes", "2026-05-31", "25-34"),
    ("WW-2", "pictures/Zoë.jpg", "wanted on warrant", "Warrant 4712, part 2", "custody", "", "2026-12-01", "under 18"),
    ("MP-3", "pictures/three.jpg", "missing person", "Family's request; urgent", "family", "no", "", ""),
)
RIGHT = [
    ("MP-3", "three.jpg", Record("missing person", "Family's request; urgent", "family")),
    ("WW-1", "one.jpg", Record("wanted on warrant", "Warrant 4711", "custody", custody_image=True,
                               review_by="2026-05-31", age_band="25-34")),
    ("WW-2", "Zoë.jpg", Record("wanted on warrant", "Warrant 4712, part 2", "custody", custody_image=True,
                               review_by="2026-12-01", age_band="under 18")),
]  # fmt: skip


def as_csv(rows: Any, separator: str = ",", end: str = "\r\n") -> str:
    def cell(text: str) -> str:
        quoted = any(sign in text for sign in (separator, '"', "\n"))
        return '"' + text.replace('"', '""') + '"' if quoted else text

    return "".join(separator.join(map(cell, row)) + end for row in rows)


def read(path: Path) -> list[tuple[str, str, Record]]:
    source = read_list(path)
    assert [(each.file, each.reason) for each in source.refused] == []
    return [(each.reference, each.pictures[0].name, each.record) for each in source.subjects]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"], ids=["commas", "semicolons", "tabs", "bars"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_a_csv_is_read_whatever_wrote_it(tmp_path: Path, separator: str, codec: str) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(as_csv((HEADER, *ROWS), separator).encode(codec))
    assert read(file) == RIGHT


def mangled(seed: int) -> bytes:
    """The same list, as one of the many ways in which people hand it in."""
    chance = random.Random(seed)
    separator = chance.choice([",", ";", "\t"])
    order = list(range(len(HEADER)))
    chance.shuffle(order)
    heading = chance.choice([str, str.upper, str.title, lambda text: text.replace("_", " "), lambda text: f" {text} "])
    empty = [""] * chance.randrange(4)
    dates = chance.choice(["%Y-%m-%d", "%d/%m/%Y", "%d.%m.%Y", "%d %b %Y", "%d-%b-%Y"])
    rows = [[heading(HEADER[at]) for at in order] + empty]
    for row in ROWS:
        cells = list(row)
        if cells[6]:
            cells[6] = date.fromisoformat(cells[6]).strftime(dates)
        cells[5] = chance.choice([str, str.upper, str.title])(cells[5])
        cells[7] = chance.choice([str, str.upper])(cells[7])
        if chance.random() < 0.3:
            cells[1] = cells[1].replace("/", "\\")
        rows.append([chance.choice(["", " ", "\u00a0"]) + cells[at] for at in order] + empty)
        if chance.random() < 0.3:
            rows.append([""] * len(rows[0]))
    text = as_csv(rows, separator, chance.choice(["\n", "\r\n", "\r"]))
    if chance.random() < 0.3:
        text = f"sep={separator}\r\n{text}"
    return text.encode(chance.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))


@pytest.mark.parametrize("seed", range(100))
def test_however_a_list_was_mangled_it_is_read_right(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(mangled(seed))
    assert read(file) == RIGHT


@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_list_is_read_or_refused_and_never_a_traceback(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(mangled(seed) if seed % 2 else workbook_of((HEADER, *ROWS)))
    for _ in range(chance.randrange(1, 8)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    file = tmp_path / "list.csv"
    file.write_bytes(content[: chance.randrange(len(content) // 2, len(content) + 1)])
    try:
        source = read_list(file)
    except BadInput:
        return
    good = {row[0] for row in ROWS}
    assert all(each.reference in good or each.record.category for each in source.subjects) or source.refused


def workbook_of(rows: Any, change: Callable[[Any, Any], None] | None = None) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    if change is not None:
        change(book, book.active)
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


def test_a_workbook_is_read_with_its_dates_numbers_and_truth_values(tmp_path: Path) -> None:
    rows = [list(row) for row in ROWS]
    rows[0][6], rows[0][5] = datetime(2026, 5, 31), True  # noqa: DTZ001 - as openpyxl gives and takes it
    rows[1][6] = date(2026, 12, 1)
    file = tmp_path / "list.xlsx"
    file.write_bytes(workbook_of((HEADER, *rows)))
    assert read(file) == RIGHT
    file.write_bytes(workbook_of((("reference", "path"), (1041, "a.jpg"), (1042.0, "b.jpg"))))
    assert [each.reference for each in read_list(file).subjects] == ["1041", "1042"]


def hidden_row(_: Any, sheet: Any) -> None:
    sheet.row_dimensions[3].hidden = True


def second_list(book: Any, _: Any) -> None:
    book.create_sheet("old").append(["reference", "path"])


def other_sheet_first(book: Any, _: Any) -> None:
    book.create_sheet("notes", 0).append(["please read"])


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (hidden_row, "hides 1 rows, the first is row 3"),
        (second_list, "has several lists: the sheets 'Sheet' and 'old'"),
    ],
)
def test_a_workbook_of_which_it_is_not_certain_what_is_meant_is_refused(
    tmp_path: Path, change: Callable[[Any, Any], None], cause: str
) -> None:
    (tmp_path / "list.xlsx").write_bytes(workbook_of((HEADER, *ROWS), change))
    with pytest.raises(NothingToEnrol, match=cause):
        read_list(tmp_path / "list.xlsx")


def test_the_sheet_with_the_list_is_found_among_others(tmp_path: Path) -> None:
    (tmp_path / "list.xlsx").write_bytes(workbook_of((HEADER, *ROWS), other_sheet_first))
    assert read(tmp_path / "list.xlsx") == RIGHT


def zipped(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 old", r"old Excel file \(.xls\), or a workbook that is protected"),
        (zipped("mimetype", "content.xml"), "is not an Excel workbook"),
        (zipped("xl/workbook.xml"), "is a damaged Excel workbook"),
        (b"\x00\x01\x02\x03" * 50, "is not a text file that can be read"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "is not a text file that can be read"),
        (b"", "is empty"),
        (b",,,\r\n", "is empty"),
        (b"reference,path,Path\r\nR-1,a,b\r\n", "column path: is there twice, as B and as C"),
        (b"reference,path,image_takn\r\nR-1,a,b\r\n", "Did you mean image_taken"),
    ],
)  # fmt: skip
def test_what_is_not_a_list_is_named_with_what_to_do(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(NothingToEnrol, match=cause):
        read_list(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("lawful_basis", "=1+1", "cell D3 begins like a formula"),
        ("lawful_basis", "@SUM(A1)", "cell D3 begins like a formula"),
        ("category", "+cmd|' /C calc'!A0", "cell C3 begins like a formula"),
        ("review_by", "31/13/2026", "cell G3 (review_by) is '31/13/2026', not a date"),
        ("review_by", "2026-02-30", "cell G3 (review_by) is '2026-02-30', not a date"),
        ("review_by", "soon", "cell G3 (review_by) is 'soon', not a date"),
        ("custody_image", "perhaps", "cell F3 (custody_image) is 'perhaps', neither yes nor no"),
        ("custody_image", "no", "cell F3 says custody_image no, and the picture's source is 'custody'"),
        ("image_source", "family", "cell F3 says custody_image yes, and the picture's source is 'family'"),
        ("age_band", "young", "cell H3 (age_band) is 'young', not one of"),
        ("reference", "John Smith", "cell A3 looks like a name"),
        ("reference", "Smith-1984", "cell A3 looks like a name"),
        ("reference", "john smith 1984", "cell A3 looks like a name"),
        ("reference", "SMITH", "cell A3 looks like a name"),
        ("reference", "2.02601E+11", "cell A3 is 2.02601E+11: Excel has shortened the number"),
        ("path", "", "cell B3 names no picture"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named_as_it_is_seen_on_the_screen(
    tmp_path: Path, column: str, text: str, reason: str
) -> None:
    row = list(ROWS[0])
    row[HEADER.index(column)] = text
    file = tmp_path / "list.csv"
    file.write_text(as_csv((HEADER, ROWS[2], row), ","), encoding="utf-8")
    source = read_list(file)
    assert [each.reference for each in source.subjects] == ["MP-3"]
    (refusal,) = source.refused
    assert refusal.reason.startswith(reason)
    assert refusal.file == "list.csv row 3"
    assert refusal.next_step
    if column == "reference" and "name" in reason:
        assert text not in str(refusal), "a person's name goes no further"


def test_a_formula_never_leaves_a_workbook(tmp_path: Path) -> None:
    rows = [list(row) for row in ROWS]
    rows[0][3], rows[1][6] = '=HYPERLINK("http://evil.example")', "=TODAY()+90"
    (tmp_path / "list.xlsx").write_bytes(workbook_of((HEADER, *rows)))
    source = read_list(tmp_path / "list.xlsx")
    assert [each.reference for each in source.subjects] == ["MP-3"]
    assert [each.reason for each in source.refused] == ["cell D2 holds a formula", "cell G3 holds a formula"]


def test_zeros_that_excel_would_drop_are_kept(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('reference,path\n="0041",a.jpg\n')
    assert [each.reference for each in read_list(tmp_path / "list.csv").subjects] == ["0041"]


def test_a_date_that_could_be_read_either_way_is_told_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("reference,path,review_by\nR-1,a.jpg,03/04/2026\n")
    source = read_list(tmp_path / "list.csv")
    assert source.subjects[0].record.review_by == "2026-04-03"
    assert source.notes[1] == "Dates with the day first: 03/04/2026 in cell C2 is 2026-04-03."


def test_where_one_date_has_the_month_first_none_is_guessed(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(
        "reference,path,review_by\nR-1,a.jpg,03/04/2026\nR-2,b.jpg,05/31/2026\nR-3,c.jpg,2026-05-31\n"
    )
    source = read_list(tmp_path / "list.csv")
    assert [each.reference for each in source.subjects] == ["R-3"]
    assert "cell C3 has the month first" in source.refused[0].reason
    assert "not a date" in source.refused[1].reason


def test_rows_are_counted_as_the_screen_counts_them(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('reference,path,age_rationale\nR-1,a.jpg,"two\nlines"\n,,\nR-2,,\n')
    (refusal,) = read_list(tmp_path / "list.csv").refused
    assert refusal.file == "list.csv row 4"


@pytest.mark.parametrize("name", ["list.csv", "list.xlsx"])
def test_the_template_is_filled_in_and_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    write_template(file)
    with pytest.raises(NothingToEnrol, match="has no rows"):
        read_list(file)
    values = dict(zip(HEADER, ROWS[0], strict=True))
    if name.endswith(".csv"):
        with file.open("a", encoding="utf-8") as stream:
            stream.write(as_csv([[values.get(column, "") for column in COLUMNS]]))
    else:
        book = openpyxl.load_workbook(file)
        for at, column in enumerate(COLUMNS, start=1):
            book["list"].cell(row=2, column=at, value=values.get(column))
        book.save(file)
    assert read(file) == [RIGHT[1]]


def test_the_template_explains_every_column() -> None:
    assert list(HELP) == list(COLUMNS)
