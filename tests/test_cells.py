"""No CSV that leaves this house runs as a formula in whatever opens it."""

from __future__ import annotations

import csv
import io
import re
import subprocess
from pathlib import Path

import pytest

from edge.cells import csv_text
from edge.controlroom.record import Facts, make_record

ROOT = Path(__file__).resolve().parents[1]
FORMULAS = ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-", "＝1", '=HYPERLINK("x")')


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_cell_that_begins_like_a_formula_leaves_as_text_and_says_the_same(formula: str) -> None:
    (row,) = csv.reader(io.StringIO(csv_text([["before", formula, 'quoted, "twice"']]), newline=""))
    assert row == ["before", f"'{formula}", 'quoted, "twice"']


@pytest.mark.parametrize("value", [-1, -0.25, "-0.020000", "1e-05", "Market Square", "a=b", None, ""])
def test_what_is_no_formula_leaves_as_it_is(value: object) -> None:
    (row,) = csv.reader(io.StringIO(csv_text([["before", value]]), newline=""))
    assert row == ["before", "" if value is None else str(value)]


def test_the_public_record_of_a_place_that_is_a_formula_is_text() -> None:
    facts = Facts(id="d-1", date="2026-05-01", type="overt", hours=5, cameras=1, watchlist=10, faces_seen=0)
    facts = Facts(**{name: getattr(facts, name) for name in facts.__struct_fields__} | {"place": "=cmd|' /C calc'!A0"})
    (row,) = csv.DictReader(io.StringIO(make_record(facts, []).as_csv()))
    assert row["place"] == "'=cmd|' /C calc'!A0"


def test_nothing_but_the_one_writer_writes_csv() -> None:
    """A second writer would forget it."""
    tracked = subprocess.run(["git", "ls-files", "edge", "provisioning", "scripts", "models"], cwd=ROOT, check=True,
                             capture_output=True, text=True).stdout.split("\n")  # fmt: skip
    texts = {
        name: (ROOT / name).read_text("utf-8", "replace")
        for name in tracked
        if name and (name.endswith(".py") or "." not in Path(name).name) and (ROOT / name).is_file()
    }
    assert len(texts) > 100
    found = {name for name, text in texts.items() if re.search(r"csv\.(writer|DictWriter)", text)}
    assert found == {"edge/cells.py"}
