"""A release: its version in both places, its section of the changelog, its tag; or a reason and nothing at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHANGELOG = """# Changelog

## [Unreleased]

### Added

- A thing.

## [0.0.9] - 2026-01-01

- The first.
"""


class Clone:
    """A repository of its own with what the script looks at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("scripts/release", "edge/__init__.py", "setup.cfg"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        text = (folder / "setup.cfg").read_text()
        self.present = next(line for line in text.splitlines() if line.startswith("version =")).split()[-1]
        (folder / "CHANGELOG.md").write_text(CHANGELOG)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("begin")

    def git(self, *words: str) -> str:
        who = {
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
        done = subprocess.run(
            ["git", *words], cwd=self.folder, env={**os.environ, **who}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def release(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.git("config", "user.name", "A")
        self.git("config", "user.email", "a@b")
        return subprocess.run(
            [sys.executable, self.folder / "scripts" / "release", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def everything(self) -> tuple[str, ...]:
        return self.git("rev-parse", "HEAD"), self.git("tag"), self.git("status", "--porcelain")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_a_release_sets_the_version_dates_the_changes_and_tags(clone: Clone) -> None:
    before = clone.git("rev-parse", "HEAD")
    done = clone.release("7.0.1")
    assert done.returncode == 0, done.stderr
    assert '__version__ = "7.0.1"\n' in (clone.folder / "edge" / "__init__.py").read_text()
    assert "\nversion = 7.0.1\n" in (clone.folder / "setup.cfg").read_text()
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    expected = CHANGELOG.replace("## [Unreleased]\n", f"## [Unreleased]\n\n## [7.0.1] - {today}\n")
    assert (clone.folder / "CHANGELOG.md").read_text() == expected
    assert clone.git("rev-parse", "HEAD~1") == before
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("cat-file", "-t", "v7.0.1") == "tag"
    assert clone.git("rev-parse", "v7.0.1^{commit}") == clone.git("rev-parse", "HEAD")
    message = clone.git("tag", "--list", "--format=%(contents)", "v7.0.1")
    assert message.startswith("LFR Edge 7.0.1\n\n### Added\n\n- A thing.")
    assert "The first" not in message


def test_a_dry_run_says_what_it_would_do_and_does_nothing(clone: Clone) -> None:
    before = clone.everything()
    done = clone.release("7.0.1", "--dry-run")
    assert done.returncode == 0
    assert "- A thing." in done.stdout
    assert "would set 7.0.1" in done.stdout
    assert clone.everything() == before


def dirty(clone: Clone) -> None:
    (clone.folder / "note").write_text("x")


def taken(clone: Clone) -> None:
    clone.git("tag", "v7.0.1")


def detached(clone: Clone) -> None:
    clone.git("checkout", "--quiet", "--detach")


def nothing_new(clone: Clone) -> None:
    (clone.folder / "CHANGELOG.md").write_text(CHANGELOG.replace("- A thing.\n", ""))
    clone.commit("nothing")


def no_section(clone: Clone) -> None:
    (clone.folder / "CHANGELOG.md").write_text("# Changelog\n")
    clone.commit("gone")


def twice(clone: Clone) -> None:
    with (clone.folder / "edge" / "__init__.py").open("a") as file:
        file.write('__version__ = "0.2.0"\n')
    clone.commit("twice")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (dirty, "changes that are not committed"),
        (taken, "the tag v7.0.1 exists"),
        (detached, "no branch is checked out"),
        (nothing_new, "nothing stands under ## [Unreleased]"),
        (no_section, "has no section ## [Unreleased]"),
        (twice, "edge/__init__.py has 2 lines that give the version"),
    ],
)
def test_what_is_not_ready_is_not_released(clone: Clone, spoil, said: str) -> None:
    spoil(clone)
    before = clone.everything()
    done = clone.release("7.0.1")
    assert done.returncode == 4
    assert said in done.stderr
    assert clone.everything() == before


def test_a_version_is_above_the_present_one(clone: Clone) -> None:
    done = clone.release(clone.present)
    assert done.returncode == 4
    assert "a release must be above that" in done.stderr


@pytest.mark.parametrize("version", ["7", "v7.0.1", "7.0.1-rc1", "07.0.1", "7.0.1\n"])
def test_a_version_is_three_numbers(clone: Clone, version: str) -> None:
    assert clone.release(version).returncode == 2


def test_the_version_is_the_same_in_both_places() -> None:
    sys_path = {"PYTHONPATH": str(ROOT), **os.environ}
    said = subprocess.run(
        [sys.executable, "-c", "import edge; print(edge.__version__)"],
        env=sys_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert f"\nversion = {said}\n" in (ROOT / "setup.cfg").read_text()
