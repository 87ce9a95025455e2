"""The outbox: numbers without gaps, nothing lost, nothing twice, nothing kept too long."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from edge.alert.outbox import Outbox
from edge.controlroom.store import AlertStore
from edge.errors import KeyUnusable, OutboxFull, PermitLapsed, StoreUnavailable, WatchlistUnreadable
from edge.records import Alert
from tests.broker import make_alert

KEY = bytes(range(32))
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def seal(alert: Alert) -> bytes:
    return b"sealed %d" % alert.sequence


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db", KEY, "van-1", limit=5) as made:
        yield made


class TestOutbox:
    def test_alerts_leave_in_the_order_in_which_they_came_and_only_when_delivered(self, outbox: Outbox) -> None:
        for _ in range(3):
            outbox.append(make_alert, seal)
        first = outbox.next()
        assert first is not None
        assert (first.sequence, first.message) == (1, b"sealed 1")
        assert outbox.next() == first
        outbox.delivered(first.alert_id)
        second = outbox.next()
        assert second is not None
        assert second.sequence == 2

    def test_alerts_may_be_looked_at_and_let_go_in_another_order(self, outbox: Outbox) -> None:
        alerts = [outbox.append(make_alert, seal) for _ in range(3)]
        assert outbox.waiting(2) == 2
        assert outbox.oldest() == 1
        assert outbox.delivered(alerts[1].alert_id, uuid4()) == 1
        assert outbox.delivered(alerts[1].alert_id) == 0
        assert outbox.waiting(2) == 1
        after = outbox.next(after=1)
        assert after is not None
        assert after.sequence == 3
        assert outbox.next(after=3) is None
        outbox.delivered(alerts[0].alert_id)
        assert outbox.oldest() == 3
        assert outbox.counters().delivered == 2

    def test_a_number_is_used_only_when_its_alert_is_committed(self, outbox: Outbox) -> None:
        def fails(_: Alert) -> bytes:
            raise RuntimeError("no seal")

        with pytest.raises(RuntimeError):
            outbox.append(make_alert, fails)
        assert outbox.append(make_alert, seal).sequence == 1

    def test_a_permission_that_ends_before_the_commit_leaves_no_alert_and_no_used_number(self, outbox: Outbox) -> None:
        sealed: list[Alert] = []

        def seals(alert: Alert) -> bytes:
            sealed.append(alert)
            return seal(alert)

        def ended() -> None:
            assert sealed, "it is asked last, after all that takes time"
            raise PermitLapsed("the permission to match", "has run out", "Wait")

        with pytest.raises(PermitLapsed):
            outbox.append(make_alert, seals, ended)
        assert outbox.next() is None
        assert outbox.counters().waiting == 0
        assert outbox.append(make_alert, seal).sequence == 1

    def test_numbers_go_on_after_a_restart_even_when_everything_was_delivered(self, tmp_path: Path) -> None:
        with Outbox(tmp_path / "o.db", KEY, "van-1") as box:
            box.delivered(box.append(make_alert, seal).alert_id)
        with Outbox(tmp_path / "o.db", KEY, "van-1") as box:
            assert box.append(make_alert, seal).sequence == 2

    def test_numbers_have_no_gap_when_several_threads_submit(self, tmp_path: Path) -> None:
        with Outbox(tmp_path / "o.db", KEY, "van-1") as box:
            threads = [
                threading.Thread(target=lambda: [box.append(make_alert, seal) for _ in range(5)]) for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            numbers = []
            while (pending := box.next()) is not None:
                numbers.append(pending.sequence)
                box.delivered(pending.alert_id)
        assert numbers == list(range(1, 21))

    def test_a_full_outbox_refuses_before_it_would_lose_anything(self, outbox: Outbox) -> None:
        first, *_ = [outbox.append(make_alert, seal) for _ in range(5)]
        with pytest.raises(OutboxFull, match="5 undelivered"):
            outbox.append(make_alert, seal)
        outbox.delivered(first.alert_id)
        assert outbox.append(make_alert, seal).sequence == 6

    def test_a_stale_alert_is_dropped_and_counted(self, outbox: Outbox) -> None:
        outbox.append(lambda n: make_alert(n, expires_at=NOW), seal)
        outbox.append(lambda n: make_alert(n, expires_at=NOW + timedelta(seconds=1)), seal)
        assert outbox.drop_expired(NOW) == 1
        counters = outbox.counters()
        assert (counters.reserved, counters.delivered, counters.expired, counters.waiting) == (2, 0, 1, 1)

    def test_nothing_of_an_alert_is_on_the_disk_in_the_clear_nor_after_delivery(self, tmp_path: Path) -> None:
        secret = os.urandom(24).hex().encode()
        with Outbox(tmp_path / "o.db", KEY, "van-1") as box:
            alert = box.append(make_alert, lambda _: secret)
            assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())
            box.delivered(alert.alert_id)
            assert (tmp_path / "o.db-wal").stat().st_size == 0

    def test_a_wrong_key_and_anothers_outbox_are_refused(self, tmp_path: Path) -> None:
        Outbox(tmp_path / "o.db", KEY, "van-1").close()
        with pytest.raises(KeyUnusable):
            Outbox(tmp_path / "o.db", bytes(32), "van-1")
        with pytest.raises(StoreUnavailable, match="outbox of van-1, not of van-2"):
            Outbox(tmp_path / "o.db", KEY, "van-2")
        with pytest.raises(WatchlistUnreadable):
            AlertStore(tmp_path / "o.db", KEY)

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
    def test_a_full_disk_refuses_loudly_and_what_was_committed_stays(self, tmp_path: Path) -> None:
        small = tmp_path / "small"
        small.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", small], check=False, capture_output=True
        )
        if mounted.returncode:
            pytest.skip("this machine may not mount file systems")
        try:
            with Outbox(small / "o.db", KEY, "van-1") as box:
                committed = 0

                def fill() -> None:
                    nonlocal committed
                    for _ in range(100):
                        box.append(make_alert, lambda _: os.urandom(20_000))
                        committed += 1

                with pytest.raises(StoreUnavailable, match="disk"):
                    fill()
                assert committed > 0
                assert box.counters().waiting == committed
                pending = box.next()
                assert pending is not None
                assert pending.sequence == 1
        finally:
            subprocess.run(["umount", "-l", small], check=True)
