"""Who was listed, from when to when: read from a real log in which lists come, go and come again."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from edge.trust.audit import AuditEntry, AuditLog, read_log
from edge.trust.events import Event
from edge.trust.history import CopyState, Listing, copies, was_listed
from edge.trust.keys import SigningKey
from tests.sim.clock import HandClock


class Van:
    """Writes the log of a van."""

    def __init__(self, folder: Path, name: str = "van-1") -> None:
        self.clock = HandClock()
        self.log = AuditLog(folder / f"{name}.jsonl", van=name, clock=self.clock, signer=SigningKey.generate())
        self.name = name

    def _record(self, event: Event, **data: object) -> str:
        self.clock.advance(60)
        return self.log.record(event, data).at

    def imports(self, copy: str, *references: str, deployment: str = "D-1") -> str:
        self.log.deployment = deployment
        return self._record(
            Event.LIST_IMPORTED, list=f"sha256:{copy}", copy=copy, entries=len(references), references=list(references)
        )

    def removes(self, copy: str, reference: str, cause: str = "revoked") -> str:
        return self._record(Event.ENTRY_REMOVED, list=f"sha256:{copy}", copy=copy, reference=reference, cause=cause)

    def destroys(self, copy: str, cause: str = "the deployment is over") -> str:
        return self._record(
            Event.LIST_DESTROYED, list=f"sha256:{copy}", copy=copy, cause=cause, entries=0, files=[], destroyed_at="x"
        )

    def entries(self) -> tuple[AuditEntry, ...]:
        return read_log(self.log.path)


@pytest.fixture
def van(tmp_path: Path):
    made = Van(tmp_path)
    yield made
    made.log.close()


def test_somebody_was_listed_from_the_import_to_the_destruction(van: Van) -> None:
    since = van.imports("c1", "R-1", "R-2")
    until = van.destroys("c1")
    assert was_listed(van.entries(), "R-1") == (
        Listing("D-1", "van-1", "sha256:c1", since, until, "the deployment is over"),
    )
    assert datetime.fromisoformat(until) > datetime.fromisoformat(since)
    assert was_listed(van.entries(), "R-3") == ()


def test_somebody_who_left_was_listed_until_then_and_the_others_longer(van: Van) -> None:
    van.imports("c1", "R-1", "R-2")
    left = van.removes("c1", "R-1", "deleted")
    end = van.destroys("c1")
    (one,), (other,) = was_listed(van.entries(), "R-1"), was_listed(van.entries(), "R-2")
    assert (one.until, one.cause) == (left, "deleted")
    assert (other.until, other.cause) == (end, "the deployment is over")


def test_a_list_whose_end_is_not_in_the_log_is_still_there(van: Van) -> None:
    van.imports("c1", "R-1")
    (listing,) = was_listed(van.entries(), "R-1")
    assert (listing.until, listing.cause) == (None, "")


def test_each_time_is_told_by_itself_and_in_the_order_of_the_log(van: Van) -> None:
    first = van.imports("c1", "R-1")
    van.destroys("c1")
    second = van.imports("c2", "R-1", deployment="D-2")
    van.imports("c3", "R-9", deployment="D-2")
    found = was_listed(van.entries(), "R-1")
    assert [(each.deployment, each.watchlist, each.since) for each in found] == [
        ("D-1", "sha256:c1", first),
        ("D-2", "sha256:c2", second),
    ]
    assert [each.until is None for each in found] == [False, True]


def test_the_end_of_one_copy_is_not_the_end_of_another(van: Van) -> None:
    van.imports("c1", "R-1")
    van.imports("c2", "R-1")
    end = van.destroys("c1")
    assert [each.until for each in was_listed(van.entries(), "R-1")] == [end, None]


def test_the_end_on_one_van_is_not_the_end_on_another_though_the_copies_are_named_alike(tmp_path: Path) -> None:
    one, other = Van(tmp_path, "van-1"), Van(tmp_path, "van-2")
    one.imports("c1", "R-1")
    other.imports("c1", "R-1")
    one.destroys("c1")
    found = was_listed([*one.entries(), *other.entries()], "R-1")
    assert [(each.van, each.until is None) for each in found] == [("van-1", False), ("van-2", True)]
    later = was_listed([*other.entries(), *one.entries()], "R-1")
    assert [(each.van, each.until is None) for each in later] == [("van-2", True), ("van-1", False)]
    for each in (one, other):
        each.log.close()


def test_an_end_that_is_told_twice_counts_once(van: Van) -> None:
    van.imports("c1", "R-1")
    left = van.removes("c1", "R-1")
    van.removes("c1", "R-1", "again")
    van.destroys("c1")
    (listing,) = was_listed(van.entries(), "R-1")
    assert (listing.until, listing.cause) == (left, "revoked")


# -- copies ----------------------------------------------------------------------------------------------------------


def test_every_import_of_a_list_is_told_with_who_is_still_on_it(van: Van) -> None:
    van.removes("c0", "R-0")
    van.destroys("c0")
    van.imports("c1", "R-1", "R-2", "R-3")
    van.removes("c1", "R-2")
    van.destroys("c1")
    van.imports("c2", "R-1", "R-2", deployment="D-2")
    van.removes("c2", "R-1")
    assert copies(van.entries()) == {
        "c1": CopyState("c1", 3, "sha256:c1", "D-1", ("R-1", "R-3"), destroyed=True),
        "c2": CopyState("c2", 6, "sha256:c2", "D-2", ("R-2",), destroyed=False),
    }


def test_events_about_something_else_change_no_copy(van: Van) -> None:
    van.imports("c1", "R-1")
    van.log.record(Event.STOPPED, {"cause": "x"})
    van.log.record(Event.ENTRY_CONSULTED, {"list": "sha256:c1", "reference": "R-1", "by": "PC 7", "purpose": "x"})
    assert copies(van.entries())["c1"].references == ("R-1",)
    (listing,) = was_listed(van.entries(), "R-1")
    assert listing.until is None
