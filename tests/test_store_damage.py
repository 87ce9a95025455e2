"""The van's two stores on a disk that is damaged, full, read-only or somebody else's: one clear error each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
from sqlcipher3 import dbapi2

from edge.alert.outbox import OUTBOX, Outbox
from edge.errors import EdgeError, KeyUnusable, StoreDamaged, StoreUnavailable, WatchlistUnreadable
from edge.trust.sealed import SealedStore, StoreKind
from edge.watchlist.identity import ListMeta
from edge.watchlist.store import WATCHLIST, TemplateMatrix, WatchlistStore
from tests.broker import make_alert
from tests.lists import DIMENSION, MODEL, entry
from tests.sealedpages import PAGE

KEY = bytes(range(32))
NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
META = ListMeta("D-1", MODEL, DIMENSION, NOW)
ALERTS = [uuid4() for _ in range(6)]


class Opened(Protocol):
    def close(self) -> None: ...


def open_outbox(path: Path, key: bytes = KEY) -> Outbox:
    return Outbox(path, key, "van-1")


def make_outbox(path: Path) -> None:
    with Outbox(path, KEY, "van-1") as box:
        for alert_id in ALERTS:
            box.append(lambda number, i=alert_id: make_alert(number, alert_id=i), lambda _: os.urandom(9000))


def open_list(path: Path, key: bytes = KEY) -> WatchlistStore:
    return WatchlistStore.open(path, key)


def make_list(path: Path) -> None:
    with WatchlistStore.create(path, KEY, META) as store:
        store.add([entry(f"R-{number}", reference_jpeg=os.urandom(9000)) for number in range(6)])


@dataclass(frozen=True)
class Kind:
    """One of the two stores.

    Attributes:
        make: makes a store of several pages.
        open: opens it with a key.
        kind: as the sealed store knows it.
        other: of another kind.
        uses: every method, called as the van does.
        write: the one that adds.
    """

    make: Callable[[Path], None]
    open: Callable[..., Any]
    kind: StoreKind
    other: StoreKind
    uses: dict[str, Callable[[Any], object]]
    write: Callable[[Any], object]


KINDS = {
    "outbox": Kind(
        make_outbox,
        open_outbox,
        OUTBOX,
        WATCHLIST,
        {
            "append": lambda box: box.append(make_alert, lambda _: b"sealed"),
            "next": lambda box: box.next(),
            "oldest": lambda box: box.oldest(),
            "waiting": lambda box: box.waiting(9),
            "delivered": lambda box: box.delivered(ALERTS[0]),
            "drop_expired": lambda box: box.drop_expired(datetime.max.replace(tzinfo=UTC)),
            "counters": lambda box: box.counters(),
            "damage": lambda box: box.damage(),
        },
        lambda box: box.append(make_alert, lambda _: os.urandom(20_000)),
    ),
    "watchlist": Kind(
        make_list,
        open_list,
        WATCHLIST,
        OUTBOX,
        {
            "add": lambda store: store.add([entry("R-9")]),
            "remove": lambda store: store.remove("R-1"),
            "digest": lambda store: store.digest,
            "content_digest": lambda store: store.content_digest(),
            "verify": lambda store: store.verify(),
            "len": len,
            "references": lambda store: store.references(),
            "due": lambda store: store.due("2026-03-01"),
            "matrix": lambda store: store.matrix(),
            "entry": lambda store: store.entry("R-3"),
            "stream": lambda store: list(store.stream()),
        },
        lambda store: store.add([entry(f"R-{os.urandom(8).hex()}", reference_jpeg=os.urandom(20_000))]),
    ),
}
both = pytest.mark.parametrize("store", KINDS.values(), ids=KINDS)
every_use = pytest.mark.parametrize(
    ("store", "use"),
    [
        pytest.param(kind, use, id=f"{name}-{called}")
        for name, kind in KINDS.items()
        for called, use in kind.uses.items()
    ],
)


def zero(path: Path, at: int, count: int = 200) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(count))


def zeroed(page: int, offset: int = 100) -> Callable[[Path], None]:
    """Zeroes 200 bytes of a page; the first is 0, the last -1."""
    return lambda path: zero(path, (page % (path.stat().st_size // PAGE)) * PAGE + offset)


def cut(change: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, change(path.stat().st_size))


def with_pragma(pragma: str, value: int) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        db = raw(path)
        db.execute(f"PRAGMA {pragma} = {value}")
        db.close()

    return apply


def raw(path: Path) -> Any:
    db = dbapi2.connect(str(path), isolation_level=None)
    db.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")
    return db


FAULTS: dict[str, tuple[Callable[[Path], None], type[EdgeError], str]] = {
    "zeros in the salt": (zeroed(0, 0), KeyUnusable, "does not open with this key, or its first page is damaged"),
    "zeros in the first page": (zeroed(0), KeyUnusable, "does not open with this key, or its first page is damaged"),
    "zeros in the second page": (zeroed(1), StoreDamaged, "is damaged on the disk"),
    "zeros in the fourth page": (zeroed(3), StoreDamaged, "is damaged on the disk"),
    "zeros in a picture": (zeroed(8), StoreDamaged, "is damaged on the disk"),
    "zeros in the last page": (zeroed(-1), StoreDamaged, "is damaged on the disk"),
    "zeros in a page's HMAC": (zeroed(5, PAGE - 30), StoreDamaged, "is damaged on the disk"),
    "zeros over a page's edge": (zeroed(5, PAGE - 100), StoreDamaged, "is damaged on the disk"),
    "cut between two pages": (cut(lambda size: size // 2 // PAGE * PAGE), StoreDamaged, "is damaged on the disk"),
    "cut within a page": (cut(lambda size: size // 2 // PAGE * PAGE + 1000), StoreDamaged, "is damaged on the disk"),
    "a byte too short": (cut(lambda size: size - 1), StoreDamaged, "is damaged on the disk"),
    "cut within the first page": (cut(lambda _: 2000), KeyUnusable, "or its first page is damaged"),
    "another file": (lambda path: path.write_bytes(b"hello" * 2000) and None, KeyUnusable, "does not open"),
    "a later version": (with_pragma("user_version", 99), WatchlistUnreadable, r"a later version \(99;"),
    "another kind": (with_pragma("application_id", 1), WatchlistUnreadable, "but an encrypted file of another kind"),
}


@both
@pytest.mark.parametrize("name", FAULTS)
def test_a_store_that_is_not_what_was_written_is_refused_when_it_is_opened(
    store: Kind, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "store.db"
    store.make(path)
    damage, error, message = FAULTS[name]
    damage(path)
    with pytest.raises(error, match=message):
        store.open(path)
    assert capfd.readouterr() == ("", "")


@both
def test_the_other_store_and_the_wrong_key_are_refused(store: Kind, tmp_path: Path) -> None:
    SealedStore(tmp_path / "other.db", KEY, store.other, create=True).close()
    with pytest.raises(WatchlistUnreadable, match=f"is not {store.kind.name}, but an encrypted file of another kind"):
        store.open(tmp_path / "other.db")
    store.make(tmp_path / "mine.db")
    with pytest.raises(KeyUnusable, match="does not open with this key"):
        store.open(tmp_path / "mine.db", bytes(32))
    store.open(tmp_path / "mine.db").close()


@every_use
def test_damage_that_is_met_while_the_van_runs_is_named_by_every_method(
    store: Kind, use: Callable[[Any], object], tmp_path: Path
) -> None:
    path = tmp_path / "store.db"
    store.make(path)
    opened = store.open(path)
    for page in range(1, path.stat().st_size // PAGE):
        zero(path, page * PAGE + 100)
    forget_what_was_read(opened)
    with pytest.raises(StoreDamaged, match=f"{store.kind.name} is damaged on the disk"):
        use(opened)
    with pytest.raises(StoreDamaged):  # and not that the disk is read-only, which is SQLite's word for it then
        store.write(opened)
    opened.close()


@both
def test_what_lies_on_a_damaged_page_is_never_taken_for_what_was_written(store: Kind, tmp_path: Path) -> None:
    """Page by page, because SQLCipher itself hands the last page of a long value out as noise and fails afterwards."""
    path = tmp_path / "store.db"
    store.make(path)
    whole = path.read_bytes()
    reads = {name: use for name, use in store.uses.items() if name not in WRITING}
    with store.open(path) as opened:
        expected = {name: comparable(use(opened)) for name, use in reads.items()}
    met: dict[str, int] = dict.fromkeys(reads, 0)
    for page in range(1, len(whole) // PAGE):
        for name, use in reads.items():
            with store.open(path) as opened:
                zero(path, page * PAGE + 100)
                forget_what_was_read(opened)
                try:
                    assert comparable(use(opened)) == expected[name], (page, name)
                except StoreDamaged:
                    met[name] += 1
            path.write_bytes(whole)
    assert all(met.values())


@both
def test_nothing_is_written_over_a_damaged_page_that_was_met(store: Kind, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store.make(path)
    whole = path.read_bytes()
    met = 0
    for page in range(1, len(whole) // PAGE):
        for name in WRITING & store.uses.keys():
            with store.open(path) as opened:
                zero(path, page * PAGE + 100)
                forget_what_was_read(opened)
                before = Path(f"{path}-wal").stat().st_size
                try:
                    store.uses[name](opened)
                except StoreDamaged:
                    met += 1
                    assert Path(f"{path}-wal").stat().st_size == before, (page, name)
            path.write_bytes(whole)
    assert met > 10


WRITING = {"append", "delivered", "drop_expired", "add", "remove"}


def comparable(result: Any) -> Any:
    if isinstance(result, TemplateMatrix):
        return result.references, result.vectors.tobytes()
    return result


def forget_what_was_read(opened: Any) -> None:
    """So that the next read goes to the disk, as after hours of other pages."""
    sealed: SealedStore = getattr(opened, "_sealed", None) or opened._store
    with sealed.reading() as db:
        db.execute("PRAGMA shrink_memory")


@every_use
def test_a_closed_store_says_that_it_is_closed(store: Kind, use: Callable[[Any], object], tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store.make(path)
    opened = store.open(path)
    opened.close()
    opened.close()
    with pytest.raises(StoreUnavailable, match="is closed"):
        use(opened)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@both
def test_a_full_disk_is_named_and_what_was_stored_stays(store: Kind, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "500k") as disk:
        path = disk / "store.db"
        store.make(path)
        opened = store.open(path)
        stored = 0

        def fill() -> None:
            nonlocal stored
            for _ in range(100):
                store.write(opened)
                stored += 1

        with pytest.raises(StoreUnavailable, match="the disk is full"):
            fill()
        assert stored > 0
        held = opened.counters().waiting if isinstance(opened, Outbox) else len(opened)
        assert held == 6 + stored
        opened.close()
        again = store.open(path)  # and it opens on the full disk
        assert (again.counters().waiting if isinstance(again, Outbox) else len(again)) == held
        again.close()


@both
def test_a_read_only_disk_is_named(store: Kind, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        store.make(disk / "store.db")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StoreUnavailable, match="read-only"):
            store.open(disk / "store.db")


@both
def test_a_disk_that_becomes_read_only_is_named(store: Kind, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store.make(path)
    opened = store.open(path)
    sealed: SealedStore = getattr(opened, "_sealed", None) or opened._store
    with sealed.reading() as db:
        db.execute("PRAGMA query_only = ON")  # what SQLite answers when the file cannot be written
    with pytest.raises(StoreUnavailable, match="read-only"):
        store.write(opened)
    opened.close()


@both
def test_a_page_that_a_power_cut_left_half_written_is_made_good_from_the_log(store: Kind, tmp_path: Path) -> None:
    path, after = tmp_path / "store.db", tmp_path / "after.db"
    store.make(path)
    opened = store.open(path)
    with_log = tmp_path / "store.db-wal"
    if isinstance(opened, Outbox):
        store.write(opened)
        held: object = opened.counters()
    else:
        with opened._sealed.writing() as db:
            db.execute("UPDATE entry SET category = 'another'")
        held = opened.references()
    for name in ("", "-wal"):
        shutil.copy(f"{path}{name}", f"{after}{name}")
    opened.close()
    log = Path(f"{after}-wal").read_bytes()
    pages = {int.from_bytes(log[at : at + 4], "big") for at in range(32, len(log), 24 + PAGE)}
    in_both = [page for page in pages if 1 < page <= after.stat().st_size // PAGE]
    assert in_both
    for page in in_both:
        zero(after, (page - 1) * PAGE + 2048, 2048)
    again = store.open(after)
    assert (again.counters() if isinstance(again, Outbox) else again.references()) == held
    again.close()
    assert not with_log.exists()


@both
def test_a_store_of_before_versions_were_counted_opens_and_is_counted_from_then_on(store: Kind, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    db = raw(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA application_id = {store.kind.application_id}")
    db.executescript(FORMER[store.kind.name])
    db.close()
    opened = store.open(path)
    if isinstance(opened, Outbox):
        pending = opened.next()
        assert pending is not None
        assert (pending.sequence, pending.message) == (7, b"sealed")
        assert opened.append(make_alert, lambda _: b"new").sequence == 8
        counters = opened.counters()
        assert (counters.reserved, counters.delivered, counters.expired, counters.waiting) == (8, 5, 1, 2)
        assert (counters.lost, opened.damage()) == (0, None)
    else:
        assert opened.meta == META
        assert opened.references() == ("R-1",)
        assert opened.digest == "sha256:former"
        opened.add([entry("R-2")])
        assert len(opened) == 2
    opened.close()
    db = raw(path)
    assert db.execute("PRAGMA user_version").fetchone() == (len(store.kind.migrations),)
    db.close()


FORMER = {
    "the outbox": f"""
        CREATE TABLE IF NOT EXISTS outbox (
            sequence   INTEGER PRIMARY KEY,
            alert_id   TEXT NOT NULL UNIQUE,
            expires_at REAL NOT NULL,
            message    BLOB NOT NULL
        );
        CREATE TABLE IF NOT EXISTS book (
            one       INTEGER PRIMARY KEY CHECK (one = 1),
            van       TEXT NOT NULL,
            reserved  INTEGER NOT NULL,
            delivered INTEGER NOT NULL,
            expired   INTEGER NOT NULL
        );
        INSERT INTO book VALUES (1, 'van-1', 7, 5, 1);
        INSERT INTO outbox VALUES (7, '{ALERTS[0]}', 1e12, x'{b"sealed".hex()}');
    """,
    "the watchlist": f"""
        CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE entry (
            reference TEXT PRIMARY KEY, category TEXT NOT NULL, lawful_basis TEXT NOT NULL, image_source TEXT NOT NULL,
            image_taken TEXT, custody_image INTEGER NOT NULL, review_by TEXT, delete_by TEXT, age_band TEXT NOT NULL,
            digest TEXT NOT NULL, picture BLOB NOT NULL) STRICT;
        CREATE TABLE template (
            id INTEGER PRIMARY KEY, reference TEXT NOT NULL REFERENCES entry ON DELETE CASCADE, vector BLOB NOT NULL)
            STRICT;
        CREATE INDEX template_of ON template (reference);
        INSERT INTO meta VALUES ('schema', '1'), ('deployment', 'D-1'), ('model', '{MODEL}'),
            ('dimension', '{DIMENSION}'), ('created', '{NOW.isoformat()}'), ('digest', 'sha256:former');
        INSERT INTO entry VALUES ('R-1', 'c', 'l', 's', NULL, 0, NULL, NULL, 'unknown', 'd', x'ffd8');
    """,
}
"""The tables as they were made before stores had a version."""
