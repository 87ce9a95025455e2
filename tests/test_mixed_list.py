"""scripts/mixed-list draws the same list of mixed origin everywhere, and nobody on it is also a stranger."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge.evaluate.manifest import assign, read

SCRIPT = Path(__file__).parent.parent / "scripts" / "mixed-list"


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def manifests(tmp_path: Path) -> list[Path]:
    lfw = [f"many,many-{i}.jpg,F,evaluation" for i in range(9)] + ["few,few-0.jpg,M,evaluation"]
    lfw += [f"other,other-{i}.jpg,M,calibration" for i in range(3)]
    origins = [f"n{i},n{i}.jpg,nigeria" for i in range(6)] + [f"c{i},c{i}.jpg,us-congress" for i in range(3)]
    return [
        write(tmp_path / "lfw" / "manifest.csv", "identity,path,sex,split", lfw),
        write(tmp_path / "origins" / "manifest.csv", "identity,path,origin", origins),
    ]


def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_everybody_has_one_part_and_a_second_run_draws_the_same(manifests: list[Path], tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    for out in (one, two):
        assert run(*manifests, out).returncode == 0
    assert one.read_bytes() == two.read_bytes()
    roles = assign(read(one), seed=0)  # which refuses a stranger who is on the list
    assert sorted(p.identity for p in roles.gallery if p.groups["origin"] == "LFW") == ["few", "many"]
    assert [p.identity for p in roles.mated] == ["many"] * 5
    assert len({p.path for p in (*roles.gallery, *roles.mated, *roles.nonmated)}) == 2 + 5 + 1 + 6 + 3
    origins = [p.groups["origin"] for p in roles.nonmated]
    assert {name: origins.count(name) for name in set(origins)} == {"LFW": 1, "Nigeria": 3, "US Congress": 3}


def test_a_manifest_that_lacks_a_column_is_named_and_nothing_is_written(manifests: list[Path], tmp_path: Path) -> None:
    done = run(manifests[1], manifests[0], tmp_path / "out.csv")
    assert done.returncode == 1
    assert "split" in done.stderr
    assert "Name two manifests" in done.stderr
    assert not (tmp_path / "out.csv").exists()
