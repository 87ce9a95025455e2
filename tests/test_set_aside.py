"""What is kept of a damaged store: everything that SQLite left, under one name that says when, for its time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from edge.errors import StoreUnavailable
from edge.trust import set_aside as module
from edge.trust.set_aside import damaged_files, is_due, name_aside, set_aside, set_aside_at

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
NAME = "store.db.damaged-20260301T120030Z"
DAY = timedelta(hours=24)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").write_bytes(f"store.db{suffix}".encode())
    return path


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_store_moves_with_its_logs_and_leaves_its_shared_memory_behind(store: Path) -> None:
    kept = set_aside(store, NOW)
    assert kept == store.with_name(NAME)
    assert names(store.parent) == [NAME, f"{NAME}-journal", f"{NAME}-wal"]
    assert store.with_name(f"{NAME}-wal").read_bytes() == b"store.db-wal"
    assert kept.read_bytes() == b"store.db"


def test_a_log_without_a_byte_in_it_is_not_kept_and_a_store_without_one_is(store: Path) -> None:
    Path(f"{store}-wal").write_bytes(b"")
    store.write_bytes(b"")
    Path(f"{store}-journal").unlink()
    set_aside(store, NOW)
    assert names(store.parent) == [NAME]


def test_a_moment_is_written_in_universal_time_and_a_name_that_is_taken_is_not_taken_again(store: Path) -> None:
    tokyo = NOW.astimezone(ZoneInfo("Asia/Tokyo"))
    assert name_aside(store, tokyo).name == NAME
    store.with_name(NAME).touch()
    assert name_aside(store, NOW).name == f"{NAME}-2"
    store.with_name(f"{NAME}-2").touch()
    assert name_aside(store, NOW).name == f"{NAME}-3"


def test_what_was_kept_is_found_oldest_first_and_says_when(store: Path) -> None:
    later = set_aside(store, NOW + DAY)
    store.touch()
    earlier = set_aside(store, NOW)
    assert damaged_files(store)[0] == earlier
    assert set_aside_at(earlier) == NOW
    assert set_aside_at(later) == NOW + DAY
    assert set_aside_at(store.with_name(f"{NAME}-2")) == NOW
    assert set_aside_at(store.with_name("store.db.damaged-by-hand")) == datetime.min.replace(tzinfo=UTC)


def test_the_move_is_on_the_disk_before_anything_follows_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[Path, list[str]]] = []
    monkeypatch.setattr(module, "fsync_folder", lambda folder: flushed.append((folder, names(folder))))
    set_aside(store, NOW)
    assert flushed == [(store.parent, [NAME, f"{NAME}-journal", f"{NAME}-wal"])]


def test_a_disk_that_refuses_is_a_plain_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuses)
    with pytest.raises(StoreUnavailable, match=r"store\.db: cannot be moved away \(Read-only file system\)"):
        set_aside(store, NOW)
    assert store.exists()


@pytest.mark.parametrize(
    ("at", "due"),
    [
        (NOW - DAY, True),
        (NOW - DAY + timedelta(seconds=1), False),
        (NOW, False),
        (NOW + timedelta(minutes=5), False),
        (NOW + timedelta(minutes=5, seconds=1), True),
        (NOW + timedelta(days=400), True),
    ],
)
def test_a_file_is_due_when_it_is_old_and_when_nobody_can_know_its_age(at: datetime, due: bool) -> None:
    assert is_due(at, DAY, NOW) is due
