"""The map from requirements to files and tests is no promise: whatever it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE, THREATS = ((ROOT / "docs" / name).read_text("utf-8") for name in ("conformity.md", "threat-model.md"))
ROW = re.compile(r"^\| (.+?) \| .+? \| `([^`]+)` \| `(test_\w+)` \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE)
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^\s*(?:async )?def (test_\w+)\(", path.read_text("utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize(
    ("asked", "file", "test"), [*ROWS, *ROW.findall(THREATS)], ids=lambda value: value if " " in value else ""
)
def test_each_requirement_names_a_file_and_a_test_that_exist(asked: str, file: str, test: str) -> None:
    assert (ROOT / file).is_file()
    assert test in TESTS


def test_no_line_of_a_requirement_is_without_them() -> None:
    before_people = PAGE.split("## Left to people")[0]
    lines = [line for line in before_people.splitlines() if line.startswith("| ") and not line.startswith("| Asked")]
    lines = [line for line in lines if not line.startswith(("| Principle", "| Topic", "| Article"))]
    assert len(lines) == len(ROWS) > 25


def test_every_threat_and_every_provision_has_its_answer() -> None:
    tables = [part for part in re.split(r"^## ", THREATS, flags=re.MULTILINE) if "| File | Test |" in part]
    assert len(tables) == 3
    for table in tables:
        lines = [line for line in table.splitlines() if line.startswith("| ") and "| File | Test |" not in line]
        assert len(ROW.findall(table)) == len(lines) > 5, table[:40]


def test_there_is_a_way_to_report_a_weakness_in_private() -> None:
    """Where GitHub looks for it; the link opens the private form of whichever fork it is read in."""
    said = (ROOT / "SECURITY.md").read_text("utf-8").split("## Reporting", 1)[1].split("\n## ", 1)[0]
    assert "(../../security/advisories/new)" in said
    assert "Report a weakness in private before you publish it" in said
