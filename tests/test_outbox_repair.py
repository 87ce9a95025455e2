"""A damaged outbox: what can be read goes on, what cannot is counted, and the file that was kept goes in time."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import edge.alert.repair
from edge.alert.outbox import Damage, Outbox, Pending
from edge.alert.repair import open_outbox
from edge.alert.retention import Sweeper, shred_set_aside
from edge.errors import KeyUnusable, StoreDamaged, StoreUnavailable
from edge.trust.audit import verify
from edge.trust.events import Event
from edge.trust.sealed import damaged_files, set_aside
from tests.broker import make_alert
from tests.lists import HandClock, Site
from tests.sealedpages import PAGE, RESERVE, SALT, decrypted_pages

KEY = bytes(range(32))
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOOK = 3
"""The page of the book, counting from 0: made after the table of alerts and its index."""
KEPT = "outbox.db.damaged-20260301T120000Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def fill(path: Path, alerts: int, size: int) -> list[Pending]:
    """An outbox of ``alerts`` waiting alerts, after two delivered ones."""
    with Outbox(path, KEY, "van-1") as box:
        box.delivered(*(box.append(make_alert, lambda _: b"delivered").alert_id for _ in range(2)))
        for _ in range(alerts):
            box.append(make_alert, lambda _: os.urandom(size))
        return waiting(box)


def waiting(box: Outbox) -> list[Pending]:
    found = []
    while (pending := box.next(found[-1].sequence if found else 0)) is not None:
        found.append(pending)
    return found


def zero(path: Path, *pages: int) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE + 100)
            file.write(bytes(200))


def repaired(path: Path, **changes: Any) -> Outbox:
    return open_outbox(path, KEY, "van-1", **{"now": NOW, **changes})


def test_an_outbox_that_is_whole_is_opened_and_nothing_is_kept_aside(path: Path) -> None:
    before = fill(path, 3, 9000)
    with repaired(path) as box:
        assert waiting(box) == before
        assert box.damage() is None
    assert damaged_files(path) == ()


def test_what_can_be_read_goes_on_in_its_order_and_what_cannot_is_counted_and_said(path: Path) -> None:
    before = fill(path, 6, 20_000)
    zero(path, 9)  # in the middle of a message
    with pytest.raises(StoreDamaged, match="Start the van again"):
        Outbox(path, KEY, "van-1")
    damaged = path.read_bytes()
    with repaired(path) as box:
        after = waiting(box)
        assert len(after) == 5
        assert after == [pending for pending in before if pending in after]
        assert box.damage() == Damage(KEPT, carried=5, lost=1)
        counters = box.counters()
        assert (counters.reserved, counters.delivered, counters.expired) == (8, 2, 0)
        assert (counters.lost, counters.waiting) == (1, 5)
        assert box.append(make_alert, lambda _: b"next").sequence == 9
    assert [file.name for file in damaged_files(path)] == [KEPT]
    assert path.with_name(KEPT).read_bytes() == damaged
    assert path.stat().st_mode & 0o777 == 0o600


def test_damage_is_said_until_somebody_was_told(path: Path) -> None:
    fill(path, 2, 20_000)
    zero(path, 9)
    repaired(path).close()
    with repaired(path) as box:  # a power cut before it was in the log
        damage = box.damage()
        assert damage is not None
        box.told(damage)
        assert box.damage() is None
    with repaired(path) as box:
        assert box.damage() is None
        assert box.counters().lost == 1


@pytest.mark.parametrize(("alerts", "size"), [(5, 15_000), (150, 300)], ids=["large messages", "small messages"])
def test_whichever_page_is_damaged_no_number_comes_twice_and_nothing_is_lost_uncounted(
    alerts: int, size: int, path: Path
) -> None:
    before = fill(path, alerts, size)
    whole = path.read_bytes()
    saved = []
    for page in range(1, len(whole) // PAGE):
        path.write_bytes(whole)
        zero(path, page)
        with repaired(path) as box:
            after, counters, damage = waiting(box), box.counters(), box.damage()
            assert damage is not None
            assert all(pending in before for pending in after), page
            assert (damage.carried, damage.lost) == (len(after), alerts - len(after)), page
            assert counters.reserved == alerts + 2, page
            assert counters.reserved == counters.delivered + counters.expired + counters.lost + counters.waiting, page
            assert box.append(make_alert, lambda _: b"next").sequence == alerts + 3, page
            saved.append(len(after))
        for file in damaged_files(path):
            file.unlink()
    assert saved.count(alerts) >= 2, "damage to the book or to an index costs no alert"
    if size > PAGE:
        assert saved.count(0) <= 1, "only where the one page is that says where all of them lie"
        assert saved.count(alerts - 1) > len(saved) / 2
    else:
        assert sorted(saved)[1] > alerts * 0.8


def pages_of(path: Path, kind: int) -> list[int]:
    """Pages that begin as SQLite's b-tree pages of one kind do: 0x0d a leaf of a table, 0x0a a leaf of an index."""
    plain = decrypted_pages(path, KEY)
    size = PAGE - RESERVE
    return [page for page in range(1, path.stat().st_size // PAGE) if plain[page * size - SALT] == kind]


def test_where_the_book_is_lost_as_well_numbers_go_on_above_the_highest_that_any_page_tells(path: Path) -> None:
    before = fill(path, 150, 300)
    whole = path.read_bytes()
    for page in range(1, len(whole) // PAGE):
        path.write_bytes(whole)
        zero(path, BOOK, page)
        with repaired(path) as box:
            after, counters, damage = waiting(box), box.counters(), box.damage()
            assert damage is not None
            assert all(pending in before for pending in after)
            assert damage.lost == 150 - len(after), page
            assert counters.reserved == counters.delivered + counters.expired + counters.lost + counters.waiting
            assert box.append(make_alert, lambda _: b"next").sequence == 153, page
        for file in damaged_files(path):
            file.unlink()


def test_numbers_go_on_where_the_book_stood_when_the_highest_are_delivered(path: Path) -> None:
    with Outbox(path, KEY, "van-1") as box:
        alerts = [box.append(make_alert, lambda _: os.urandom(20_000)) for _ in range(6)]
        box.delivered(*(alert.alert_id for alert in alerts[3:]))
    zero(path, 9)
    with repaired(path) as box:
        assert box.counters().lost == 1
        assert box.append(make_alert, lambda _: b"next").sequence == 7


def test_what_lies_between_two_damaged_parts_is_found_without_an_index(path: Path) -> None:
    before = fill(path, 150, 300)
    leaves = [page for page in pages_of(path, 0x0D) if page != BOOK]
    assert len(leaves) > 10
    zero(path, leaves[2], leaves[-3], *pages_of(path, 0x0A))
    with repaired(path) as box:
        after = waiting(box)
        assert all(pending in before for pending in after)
        assert len(after) > 150 * (1 - 4 / len(leaves))


def test_of_an_outbox_whose_pages_are_all_damaged_but_the_first_a_new_one_begins(path: Path) -> None:
    fill(path, 3, 9000)
    zero(path, *range(1, path.stat().st_size // PAGE))
    with repaired(path) as box:
        assert waiting(box) == []
        assert box.damage() == Damage(KEPT, carried=0, lost=0)
        assert box.append(make_alert, lambda _: b"sealed").sequence == 1


def test_a_damaged_first_page_looks_like_a_wrong_key_and_stays_refused(path: Path) -> None:
    fill(path, 3, 9000)
    zero(path, 0)
    before = path.read_bytes()
    with pytest.raises(KeyUnusable, match=r"or its first page is damaged\. Check that it is this van's key; if it is,"):
        repaired(path)
    assert path.read_bytes() == before
    assert damaged_files(path) == ()


def test_another_van_s_damaged_outbox_stays_where_it_is(path: Path) -> None:
    fill(path, 3, 9000)
    zero(path, 8)
    with pytest.raises(StoreUnavailable, match="is the outbox of van-1, not of van-2"):
        open_outbox(path, KEY, "van-2", now=NOW)
    assert damaged_files(path) == ()
    with repaired(path) as box:
        assert box.counters().lost == 1


def test_an_outbox_that_is_damaged_twice_keeps_both_files_and_adds_up(path: Path) -> None:
    fill(path, 4, 20_000)
    for lost in (1, 2):
        zero(path, path.stat().st_size // PAGE - 2)
        with repaired(path) as box:
            assert box.counters().lost == lost
            assert box.counters().waiting == 4 - lost
    assert [file.name for file in damaged_files(path)] == [KEPT, f"{KEPT}-2"]


def dies_before(step: Callable[..., Any]) -> Callable[..., Any]:
    def dies(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return dies


def dies_after(step: Callable[..., Any]) -> Callable[..., Any]:
    def runs_and_dies(*arguments: Any, **named: Any) -> None:
        step(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return runs_and_dies


@pytest.mark.parametrize("moment", [dies_before, dies_after])
@pytest.mark.parametrize("step", ["_numbers", "name_aside", "set_aside", "_take_up", "fsync_folder"])
def test_a_power_cut_during_the_repair_loses_nothing_more(
    step: str, moment: Callable[..., Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fill(path, 6, 20_000)
    zero(path, 9)
    child = os.fork()
    if child == 0:
        try:
            monkeypatch.setattr(edge.alert.repair, step, moment(getattr(edge.alert.repair, step)))
            repaired(path)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    with repaired(path) as box:
        after = waiting(box)
        assert len(after) == 5
        assert all(pending in before for pending in after)
        assert box.damage() == Damage(KEPT, carried=5, lost=1)
    assert [file.name for file in damaged_files(path)] == [KEPT]
    assert sorted(file.name for file in path.parent.iterdir()) == ["outbox.db", KEPT]


def test_a_log_that_the_damaged_outbox_left_is_not_taken_for_the_new_one_s(path: Path, tmp_path: Path) -> None:
    fill(path, 2, 9000)
    with Outbox(path, KEY, "van-1") as box:  # a log from elsewhere, of the same key
        box.append(make_alert, lambda _: b"another")
        shutil.copy(f"{path}-wal", tmp_path / "left-wal")
    with Outbox(tmp_path / "outbox.db.repair", KEY, "van-1") as new:
        new.append(make_alert, lambda _: b"carried over")
    path.unlink()
    shutil.copy(tmp_path / "left-wal", f"{path}-wal")
    with repaired(path) as box:
        assert [pending.message for pending in waiting(box)] == [b"carried over"]


def test_a_file_that_was_kept_aside_is_shredded_when_the_retention_of_its_alerts_is_over(path: Path) -> None:
    fill(path, 3, 9000)
    set_aside(path, NOW)
    Path(f"{path}.damaged-20260301T120000Z-wal").write_bytes(b"its log")
    set_aside_later = path.with_name(f"{path.name}.damaged-20260302T060000Z")
    set_aside_later.write_bytes(b"another")
    (path.parent / "held").hardlink_to(path.with_name(KEPT))  # the same blocks under a second name
    content = (path.parent / "held").read_bytes()
    clock = HandClock(NOW + timedelta(hours=19, minutes=59))
    site = Site(path.parent)
    with site.audit() as audit:
        purge = shred_set_aside(path, held_before=timedelta(hours=4))
        sweeper = Sweeper({"damaged outbox": purge}, clock=clock, audit=audit)
        assert sweeper.sweep() == 0
        clock.at = NOW + timedelta(hours=20)
        assert sweeper.sweep() == 2
        assert sweeper.sweep() == 0
    assert damaged_files(path) == (set_aside_later,)
    assert (path.parent / "held").read_bytes()[:64] != content[:64]
    (deleted,) = [e.data for e in verify(site.log, site.signers).entries if e.event == Event.ALERTS_DELETED]
    assert (deleted["store"], deleted["count"]) == ("damaged outbox", 2)


def test_a_file_that_was_kept_aside_by_a_clock_that_was_ahead_goes_once_the_time_is_known(path: Path) -> None:
    fill(path, 1, 3000)
    set_aside(path, NOW + timedelta(days=700))
    assert shred_set_aside(path)(NOW, timedelta(hours=24)) == 1
    assert damaged_files(path) == ()
    fill(path, 1, 3000)
    set_aside(path, NOW + timedelta(seconds=20))  # a clock that was corrected by a little
    assert shred_set_aside(path)(NOW, timedelta(hours=24)) == 0


def test_a_file_that_was_kept_aside_under_a_name_without_a_moment_goes_at_once(path: Path) -> None:
    odd = path.with_name("outbox.db.damaged-by-hand")
    odd.write_bytes(b"what is in here")
    assert shred_set_aside(path)(NOW, timedelta(hours=24)) == 1
    assert not odd.exists()
