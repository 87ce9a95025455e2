"""Reading what the intelligence unit hands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import NothingToEnrol
from provisioning.rows import read_list
from provisioning.sources import Record, read_folder


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


HEADER = "reference,path,category,image_source,review_by,age_band,lookalikes\n"


def test_a_csv_gathers_the_pictures_of_one_reference(tmp_path: Path) -> None:
    file = write(
        tmp_path / "list.csv",
        HEADER
        + "R-1,a/1.jpg,wanted,custody,2026-05-01,25-34,R-2; R-3\n"
        + "R-2,b.jpg,missing,,,,\n"
        + "R-1,a/2.jpg,wanted,custody,2026-05-01,25-34,R-2; R-3\n",
    )
    source = read_list(file)
    assert source.refused == []
    first, second = source.subjects
    assert first.pictures == (tmp_path / "a/1.jpg", tmp_path / "a/2.jpg")
    assert first.record == Record(
        category="wanted",
        image_source="custody",
        custody_image=True,
        review_by="2026-05-01",
        age_band="25-34",
        lookalikes=("R-2", "R-3"),
    )
    assert second.record.age_band == "unknown"
    assert second.record.review_by is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",a.jpg,,,,,", "cell A3 has no reference"),
        ("a|b,a.jpg,,,,,", "cell A3 is not a reference"),
        ("R-9,a.jpg,,,,,,,more", "cell I3 is filled and its column has no heading"),
    ],
)
def test_a_bad_row_is_listed_and_the_rest_goes_on(tmp_path: Path, row: str, reason: str) -> None:
    source = read_list(write(tmp_path / "list.csv", f"{HEADER}R-1,a.jpg,wanted,,,,\n{row}\nR-2,b.jpg,,,,,\n"))
    assert [s.reference for s in source.subjects] == ["R-1", "R-2"]
    (refusal,) = source.refused
    assert refusal.reason.startswith(reason)
    assert refusal.file == "list.csv row 3"


def test_whose_rows_contradict_each_other_is_left_out_whichever_row_comes_first(tmp_path: Path) -> None:
    rows = ["R-1,a.jpg,wanted,,,,", "R-1,b.jpg,other category,,,,", "R-2,c.jpg,,,,,"]
    for order in (rows, rows[::-1]):
        source = read_list(write(tmp_path / "list.csv", HEADER + "\n".join(order) + "\n"))
        assert [subject.reference for subject in source.subjects] == ["R-2"]
        assert [refusal.reason for refusal in source.refused] == [
            "contradicts an earlier row of the same reference",
            "has rows that contradict each other, and nobody can say which is right",
        ]
        assert source.pictures == 3


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("colour\n", "column reference: is missing"),
        ("reference\nR-1\n", "column path: is missing"),
        ("reference,path,colour\nR-1,a,b\n", "column colour: is unknown"),
        (HEADER, "has no rows"),
        ('reference,path\n"R-1,a\n', "is not a CSV file that can be read"),
    ],
)
def test_a_file_that_is_no_list_is_one_clear_error(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(NothingToEnrol, match=cause):
        read_list(write(tmp_path / "list.csv", text))


def test_a_folder_may_be_called_by_a_name_only_where_nobody_is_looked_for(tmp_path: Path) -> None:
    for name in ("John Smith/a.jpg", "John Smith/b.jpg", "WW-1/c.jpg"):
        write(tmp_path / name)
    assert [s.reference for s in read_folder(tmp_path).subjects] == ["John Smith", "WW-1"]
    source = read_folder(tmp_path, names=False)
    assert [s.reference for s in source.subjects] == ["WW-1"]
    (refusal,) = source.refused
    assert (refusal.reference, refusal.reason, refusal.pictures) == ("", "looks like a name, not like a number", 2)
    assert (source.pictures, source.references) == (3, {"WW-1"})
