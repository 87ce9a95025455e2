"""What is destroyed is noise before it is gone. Real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import edge.custody.shred
from edge.custody.shred import scrub, shred
from edge.errors import StoreUnavailable


def beside(path: Path) -> Path:
    """A second name of the same file, by which a test sees what became of its content."""
    name = path.with_name("what-became-of-it")
    os.link(path, name)
    return name


@pytest.mark.parametrize("size", [1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_every_byte_is_overwritten_with_noise_and_the_name_is_gone(size: int, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xa5" * size)
    left = beside(path)
    assert shred(path)
    assert not path.exists()
    content = left.read_bytes()
    assert len(content) == size
    if size > 1:
        # In noise, one byte of 256 is as it was; a block that was passed over would hold thousands.
        for at in range(0, size, 4096):
            block = content[at : at + 4096]
            assert block.count(0xA5) <= max(1, len(block) // 8)
        assert len(set(content)) > 1


@pytest.mark.parametrize("size", [0, 1, 2, 4096, (1 << 20) + 1])
def test_what_lies_there_afterwards_is_noise_from_the_first_byte_to_the_last(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xa5" * size)
    left = beside(path)
    monkeypatch.setattr(os, "urandom", lambda length: b"\x5a" * length)
    shred(path)
    assert left.read_bytes() == b"\x5a" * size


def test_the_noise_differs_from_one_time_to_the_next(tmp_path: Path) -> None:
    found = []
    for number in range(2):
        path = tmp_path / f"key-{number}"
        path.write_bytes(bytes(64))
        os.link(path, tmp_path / f"left-{number}")
        shred(path)
        found.append((tmp_path / f"left-{number}").read_bytes())
    assert found[0] != found[1]


def test_the_noise_is_on_the_device_before_the_name_goes_and_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"a secret key")
    done: list[tuple[str, bool, bool]] = []
    fsync, fsync_folder = os.fsync, edge.custody.shred.fsync_folder

    def noted(handle: int) -> None:
        done.append(("file", path.exists(), path.exists() and path.read_bytes() != b"a secret key"))
        fsync(handle)

    def noted_folder(folder: Path) -> None:
        done.append(("folder", path.exists(), folder == tmp_path))
        fsync_folder(folder)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(edge.custody.shred, "fsync_folder", noted_folder)
    shred(path)
    assert done[:2] == [("file", True, True), ("folder", False, True)]


def test_destroying_twice_is_no_error_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert shred(tmp_path / "empty")
    assert not shred(tmp_path / "empty")
    assert not shred(tmp_path / "never-there")


def test_two_that_destroy_the_same_file_at_once_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"a secret key")
    fsync = os.fsync

    def the_other_was_faster(handle: int) -> None:
        path.unlink(missing_ok=True)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", the_other_was_faster)
    assert shred(path)


def test_a_link_is_refused_and_what_it_points_to_is_whole(tmp_path: Path) -> None:
    """Or whoever can place a link could have any file of this machine destroyed."""
    (tmp_path / "victim").write_text("somebody else's")
    (tmp_path / "key").symlink_to(tmp_path / "victim")
    with pytest.raises(StoreUnavailable, match="key"):
        shred(tmp_path / "key")
    assert (tmp_path / "victim").read_text() == "somebody else's"


def test_a_disk_that_refuses_to_be_overwritten_is_named_and_the_file_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"a secret key")
    handles: list[int] = []

    def refuses(handle: int, _: bytes) -> int:
        handles.append(handle)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", refuses)
    with pytest.raises(StoreUnavailable, match=r"key.*Input/output error"):
        shred(path)
    monkeypatch.undo()
    assert path.exists(), "what was not overwritten is not claimed to be gone"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handles[0])


def test_a_disk_that_takes_little_at_a_time_is_still_overwritten_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xa5" * 4096)
    left = beside(path)
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:100]))
    shred(path)
    assert left.stat().st_size == 4096
    assert left.read_bytes().count(0xA5) < 512


def test_scrubbing_overwrites_every_character_and_nothing_beside_it() -> None:
    for length in (2, 3, 31, 32, 1000):
        value = os.urandom(length - 1) + b"\xff"
        same_length = len(value)
        neighbour = bytes(value[:-1] + b"\xfe")
        kept = bytearray(neighbour)
        scrub(value)
        assert value == bytes(same_length)
        assert len(value) == same_length
        assert neighbour == kept


def test_what_the_interpreter_shares_is_left_alone() -> None:
    shared = bytes([200])
    scrub(shared)
    scrub(b"")
    assert bytes([200]) == b"\xc8"
