"""Alerts and their pictures go when their time is over, from the pages and from the write-ahead log."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.alert.outbox import Outbox
from edge.alert.receipt import message_digest
from edge.alert.retention import Sweeper
from edge.controlroom.store import AlertStore
from edge.errors import EdgeError, StoreDamaged, StoreUnavailable
from edge.trust.audit import verify
from edge.trust.events import Event
from edge.worker import Supervisor
from tests.broker import make_alert
from tests.lists import Site
from tests.sealedpages import decrypted_pages
from tests.sim.clock import HandClock

PICTURE = b"\xff\xd8" + secrets.token_bytes(9000) + b"\xff\xd9"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("retention", "age", "gone"),
    [
        (None, timedelta(hours=23), False),
        (None, timedelta(hours=25), True),
        (timedelta(hours=2), timedelta(hours=3), True),
        (timedelta(days=7), timedelta(days=6), False),
        (timedelta(days=90), timedelta(days=32), True),
    ],
    ids=["within the default", "past the default", "a short retention", "a long one", "never beyond 31 days"],
)
def test_an_alert_goes_when_its_retention_is_over(
    retention: timedelta | None, age: timedelta, gone: bool, tmp_path: Path
) -> None:
    key = secrets.token_bytes(32)
    site = Site(tmp_path)
    path = tmp_path / "inbox.db"
    clock = HandClock(NOW)
    late = NOW + timedelta(days=365)
    with AlertStore(path, key, clock=clock) as store:
        store.accept(make_alert(probe_jpeg=PICTURE, erase_at=late), message_digest(b"1"), NOW - age)
        store.accept(make_alert(2, reference="S-kept", erase_at=late), message_digest(b"2"), NOW)

    def purge(now: datetime, span: timedelta) -> int:
        with AlertStore(path, key, retention=span, clock=clock) as store:
            return len(store.erase_due(now))

    with site.audit() as audit:
        sweeper = Sweeper(
            {"control room": purge},
            clock=clock,
            audit=audit,
            retention=lambda: retention,
        )
        assert sweeper.sweep() == int(gone)
        assert sweeper.sweep() == 0
    with AlertStore(path, key, retention=timedelta(days=365), clock=clock) as store:
        assert len(store.alerts()) == 2 - int(gone)
    found = PICTURE[4000:4064] in decrypted_pages(path, key)
    assert found is not gone
    assert b"S-kept" in decrypted_pages(path, key)
    if gone:
        (entry,) = [e for e in verify(site.log, site.signers).entries if e.event == Event.ALERTS_DELETED]
        assert (entry.data["store"], entry.data["count"]) == ("control room", 1)


def test_a_stale_alert_leaves_the_van_at_the_start_already(tmp_path: Path, workers: Supervisor) -> None:
    key = secrets.token_bytes(32)
    path = tmp_path / "outbox.db"
    outbox = Outbox(path, key, "van-1")
    outbox.append(lambda number: make_alert(number, expires_at=NOW - timedelta(minutes=1)), lambda _: PICTURE)
    with Site(tmp_path).audit() as audit:
        sweeper = Sweeper({"van": lambda now, _: outbox.drop_expired(now)}, clock=HandClock(NOW), audit=audit)
        sweeper.start(workers)
        sweeper.stop()
    assert outbox.next() is None
    outbox.close()
    assert PICTURE[4000:4064] not in decrypted_pages(path, key)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("outbox.db-wal") and p.stat().st_size]


def test_nothing_is_deleted_by_a_clock_that_nothing_vouches_for(tmp_path: Path) -> None:
    confirmed: list[bool] = []
    with Site(tmp_path).audit() as audit:
        sweeper = Sweeper(
            {"van": lambda now, _: 3}, clock=HandClock(NOW), audit=audit, clock_confirmed=lambda: bool(confirmed)
        )
        assert sweeper.sweep() == 0
        confirmed.append(True)
        assert sweeper.sweep() == 3


def test_a_damaged_store_ends_the_sweeper_loudly(tmp_path: Path) -> None:
    def damaged(now: datetime, span: timedelta) -> int:
        raise StoreDamaged("the store", "is damaged", "Call the engineer")

    with Site(tmp_path).audit() as audit, pytest.raises(StoreDamaged):
        Sweeper({"van": damaged}, clock=HandClock(NOW), audit=audit).sweep()


def test_one_store_that_fails_does_not_keep_the_others(tmp_path: Path) -> None:
    told: list[EdgeError] = []

    def broken(now: datetime, span: timedelta) -> int:
        raise StoreUnavailable("the store", "is read-only", "Check the disk")

    with Site(tmp_path).audit() as audit:
        stores = {"broken": broken, "good": lambda now, span: 3}
        assert Sweeper(stores, clock=HandClock(NOW), audit=audit, on_error=told.append).sweep() == 3
    assert len(told) == 1
