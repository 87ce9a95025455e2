"""Reading what the intelligence unit hands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import NothingToEnrol
from provisioning.sources import Record, read_csv, read_folder


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_gives_one_subject_per_folder(tmp_path: Path) -> None:
    for name in ("R-2/b.png", "R-2/a.JPG", "R-1/one.jpeg", ".hidden/x.jpg", "R-1/.DS_Store"):
        write(tmp_path / name)
    source = read_folder(tmp_path, Record(category="demo"))
    assert [(s.reference, [p.name for p in s.pictures], s.record.category) for s in source.subjects] == [
        ("R-1", ["one.jpeg"], "demo"),
        ("R-2", ["a.JPG", "b.png"], "demo"),
    ]
    assert source.refused == []


def test_what_a_folder_holds_besides_is_listed_with_its_reason(tmp_path: Path) -> None:
    for name in ("loose.jpg", "R-1/notes.txt", "R-1/a.jpg", "bad|name/a.jpg"):
        write(tmp_path / name)
    (tmp_path / "R-empty").mkdir()
    source = read_folder(tmp_path)
    assert [s.reference for s in source.subjects] == ["R-1"]
    assert {(Path(r.file).name, r.reason) for r in source.refused} == {
        ("loose.jpg", "lies outside a reference's folder"),
        ("notes.txt", "is not a picture file"),
        ("bad|name", "is not a reference"),
        ("R-empty", "holds no picture"),
    }


def test_an_empty_or_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(NothingToEnrol, match="is empty"):
        read_folder(tmp_path)
    with pytest.raises(NothingToEnrol, match="is not a folder"):
        read_folder(tmp_path / "nowhere")


HEADER = "reference,path,category,custody_image,review_by,age_band,lookalikes\n"


def test_a_csv_gathers_the_pictures_of_one_reference(tmp_path: Path) -> None:
    file = write(
        tmp_path / "list.csv",
        HEADER
        + "R-1,a/1.jpg,wanted,yes,2026-05-01,25-34,R-2; R-3\n"
        + "R-2,b.jpg,missing,,,,\n"
        + "R-1,a/2.jpg,wanted,yes,2026-05-01,25-34,R-2; R-3\n",
    )
    source = read_csv(file)
    assert source.refused == []
    first, second = source.subjects
    assert first.pictures == (tmp_path / "a/1.jpg", tmp_path / "a/2.jpg")
    assert first.record == Record(
        category="wanted", custody_image=True, review_by="2026-05-01", age_band="25-34", lookalikes=("R-2", "R-3")
    )
    assert second.record.age_band == "unknown"
    assert second.record.review_by is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",a.jpg,,,,,", "has no reference"),
        ("a|b,a.jpg,,,,,", "is not a reference"),
        ("R-9,,,,,,", "names no picture"),
        ("R-9,a.jpg,,perhaps,,,", "custody_image is 'perhaps', neither yes nor no"),
        ("R-9,a.jpg,,,31/05/2026,,", "review_by is '31/05/2026', not a date such as 2026-03-31"),
        ("R-9,a.jpg,,,,young,", "age_band is 'young', not one of"),
        ("R-9,a.jpg,,,,,,,more", "has more cells than the header"),
        ("R-1,a.jpg,other category,,,,", "contradicts an earlier row of the same reference"),
    ],
)
def test_a_bad_row_is_listed_and_the_rest_goes_on(tmp_path: Path, row: str, reason: str) -> None:
    source = read_csv(write(tmp_path / "list.csv", f"{HEADER}R-1,a.jpg,wanted,,,,\n{row}\nR-2,b.jpg,,,,,\n"))
    assert [s.reference for s in source.subjects] == ["R-1", "R-2"]
    (refusal,) = source.refused
    assert refusal.reason.startswith(reason)
    assert refusal.file == "list.csv line 3"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "column reference: is missing"),
        ("reference\nR-1\n", "column path: is missing"),
        ("reference,path,colour\nR-1,a,b\n", "column colour: is unknown"),
        (HEADER, "has no rows"),
        ('reference,path\n"R-1,a\n', "is not a CSV"),
    ],
)
def test_a_file_that_is_no_list_is_one_clear_error(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(NothingToEnrol, match=cause):
        read_csv(write(tmp_path / "list.csv", text))


def test_a_csv_that_is_not_utf8_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"reference,path\nR-\xff,a.jpg\n")
    with pytest.raises(NothingToEnrol, match="is not a CSV in UTF-8"):
        read_csv(tmp_path / "list.csv")
