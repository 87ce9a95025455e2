"""What lists show of an alert lives as long as the alert: through versions, damage, taking over and erasure."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from edge.controlroom.cases import State
from edge.controlroom.officers import OfficerLocked
from edge.controlroom.recovery import former_casebook, former_inbox, open_store
from edge.controlroom.store import AlertStore
from edge.controlroom.summaries import Summary
from edge.officers import Officer, Role
from tests.broker import make_alert
from tests.sealedpages import decrypted_pages
from tests.sim.clock import HandClock
from tests.test_control_store import DIGEST, FORMER, JPEG, KEY, NOW, damage, page_of

BACK_TO_3 = """
DROP TRIGGER summary_goes_with_its_alert;
DROP TABLE summaries;
DROP INDEX open_cases;
DROP TABLE seats;
ALTER TABLE officers DROP COLUMN locked_at;
ALTER TABLE known DROP COLUMN room;
PRAGMA user_version = 3;
"""
"""Makes a store what version 3 wrote."""
OPERATOR = Officer("op-1", Role.OPERATOR, NOW.date() + timedelta(days=30))
SUMMARY = Summary("S-0042", "wanted on warrant", "Market Square")


def references(store: AlertStore) -> list[str]:
    return [line.summary.reference if line.summary else "" for line in store.summaries.lines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control-room.db"


@pytest.fixture
def clock() -> HandClock:
    return HandClock(NOW)


def test_an_alert_is_listed_with_its_case_and_what_may_be_said_of_it(path: Path, clock: HandClock) -> None:
    with AlertStore(path, KEY, clock=clock) as store:
        alert = make_alert()
        store.accept(alert, DIGEST, NOW)
        (line,) = store.summaries.lines()
        assert (line.case.ref, line.case.state, line.summary) == (alert.ref, State.NEW, SUMMARY)


def test_a_store_of_the_version_before_gets_them_when_it_is_opened_and_keeps_its_officers(
    path: Path, clock: HandClock
) -> None:
    with AlertStore(path, KEY, clock=clock) as store:
        for number in (1, 2):
            store.accept(make_alert(number, reference=f"S-{number}"), DIGEST, NOW)
        store.officers.enrol(OPERATOR, "correct horse battery")
        with store.writing() as db:
            for statement in BACK_TO_3.strip().split(";\n"):
                db.execute(statement.strip(";"))
    with AlertStore(path, KEY, clock=clock) as store:
        assert references(store) == ["S-1", "S-2"]
        assert store.officers.authenticate("op-1", "correct horse battery")[0] == OPERATOR


def test_what_is_taken_over_from_the_first_version_is_listed(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FORMER, tmp_path / "state", ignore=shutil.ignore_patterns("*watch*", "*.md")))
    former = (former_inbox(folder / "console.db"), former_casebook(folder / "casebook.db"))
    with open_store(folder / "control-room.db", KEY, former=former, clock=HandClock(NOW)) as store:
        held = {str(stored.alert.ref): stored.alert for stored in store.alerts()}
        lines = {str(line.case.ref): line.summary for line in store.summaries.lines()}
        assert len(held) == 4
        assert {ref: lines[ref].reference for ref in held} == {ref: alert.reference for ref, alert in held.items()}  # type: ignore[union-attr]


def test_after_damage_what_is_carried_over_is_listed_and_who_was_locked_stays_locked(
    path: Path, clock: HandClock
) -> None:
    with AlertStore(path, KEY, clock=clock) as store:
        for number in range(1, 13):
            pictures = {"alert_id": UUID(int=number), "reference_jpeg": JPEG + b"%04d" % number * 3000}
            store.accept(make_alert(number, reference=f"S-{number}", **pictures), DIGEST, NOW)
        store.officers.enrol(OPERATOR, "correct horse battery")
        store.officers.lock("op-1")
    damage(path, page_of(path, b"0007" * 100))
    with open_store(path, KEY, clock=clock) as store:
        assert references(store) == [f"S-{number}" if number != 7 else "" for number in range(1, 13)]
        with pytest.raises(OfficerLocked):
            store.officers.authenticate("op-1", "correct horse battery")


def test_nothing_of_it_is_shown_from_the_moment_at_which_the_alert_has_to_go(path: Path, clock: HandClock) -> None:
    with AlertStore(path, KEY, clock=clock) as store:
        still_open, closed = (
            make_alert(erase_at=NOW + timedelta(hours=1)),
            make_alert(2, erase_at=NOW + timedelta(hours=1)),
        )
        for alert in (still_open, closed):
            store.accept(alert, DIGEST, NOW)
        store.change(closed.ref, lambda case: replace(case, state=State.CLOSED, closed_at=NOW), lambda _: None)
        assert len(store.summaries.lines()) == 2
        clock.advance(59 * 60)
        assert references(store) == ["S-0042", "S-0042"]
        clock.advance(60)
        (line,) = store.summaries.lines()
        assert (line.case.ref, line.summary) == (still_open.ref, None), "the open case still needs its outcome"


def test_erasure_leaves_nothing_of_it_in_the_file_or_its_log(path: Path, clock: HandClock) -> None:
    place = "a place that nothing else names"
    with AlertStore(path, KEY, clock=clock) as store:
        store.accept(make_alert(place=place, erase_at=NOW + timedelta(hours=1)), DIGEST, NOW)
        store.sealed.fold()
        assert place.encode() in decrypted_pages(path, KEY)
        clock.advance(2 * 3600)
        assert len(store.erase_due(clock.now())) == 1
        assert store.sealed.read("SELECT count(*) FROM summaries") == [(0,)]
    assert place.encode() not in decrypted_pages(path, KEY)
    assert not path.with_name(f"{path.name}-wal").exists()


def test_seats_say_who_is_signed_in_and_are_never_numbered_twice(path: Path, clock: HandClock) -> None:
    now = datetime.now(UTC)
    with AlertStore(path, KEY, clock=clock) as store:
        store.officers.enrol(OPERATOR, "correct horse battery")
        first = store.seats.take("op-1", "10.0.0.1", now)
        store.seats.leave(first)
        second = store.seats.take("op-1", "10.0.0.2", now)
        assert second > first
        assert [(seat.number, seat.officer, seat.place, seat.begun) for seat in store.seats.all("op-1")] == [
            (second, "op-1", "10.0.0.2", now)
        ]
        assert store.seats.all("op-2") == []
        store.seats.clear()
        assert store.seats.take("op-1", "10.0.0.3", now) > second
