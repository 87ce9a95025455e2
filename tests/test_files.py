"""A file that is replaced is the former one or the new one, and never a part of either."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edge.files
import edge.vanroot.files
from edge.files import replacing

Replace = Callable[..., None]
every = pytest.mark.parametrize(
    "replace", [edge.files.replace_file, edge.vanroot.files.replace_file], ids=["the house", "root's helpers"]
)


@every
def test_the_new_content_is_there_with_the_mode_that_was_asked_for(replace: Replace, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"former")
    replace(path, b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [*tmp_path.iterdir()] == [path]


@every
def test_a_file_that_is_left_half_written_leaves_the_former_one(
    replace: Replace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"former")

    def cut(_: Any) -> None:
        raise OSError("the power is gone")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="the power is gone"):
        replace(path, b"new")
    assert path.read_bytes() == b"former"


@every
def test_content_is_on_the_device_before_the_name_and_the_name_before_the_return(
    replace: Replace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def noted_fsync(handle: int) -> None:
        done.append("folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "content")
        fsync(handle)

    def noted_rename(self: Path, target: Path) -> Path:
        done.append("name")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    replace(tmp_path / "file", b"new")
    assert done == ["content", "name", "folder"]


def test_content_that_is_written_piece_by_piece_takes_the_place_when_all_of_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"former")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"former"
    assert path.read_bytes() == b"new"

    def fails() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise RuntimeError("the other half is missing")

    with pytest.raises(RuntimeError):
        fails()
    assert path.read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [path]


def test_nobody_else_replaces_a_file_by_hand() -> None:
    """Renames of folders, of symbolic links and of what another program wrote are named here."""
    root = Path(__file__).parent.parent
    found = subprocess.run(
        [
            "git",
            "grep",
            "-lE",
            r"\b(beside|part|temporary|unfinished)\.replace\(|os\.replace\(",
            "edge",
            "provisioning",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(found) <= {
        "edge/files.py",
        "edge/vanroot/files.py",
        "edge/watchlist/lifecycle.py",  # a symbolic link
        "edge/controlroom/recovery.py",  # a whole data base
        "provisioning/demo/scene.py",  # what OpenCV wrote
        "provisioning/image/debian.py",  # what tar wrote
    }
