"""The guard turns every answer into a permit of two seconds, or into none; a guard that is gone is a no."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.audit_trail import AuditTrail
from edge.deployment.guard import Guard
from edge.deployment.permit import LEASE_S, Permit
from edge.errors import (
    AuthorityEnded,
    AuthorityNotYet,
    ClockUntrusted,
    EdgeError,
    OutsidePlace,
    PermitLapsed,
    PlaceUnknown,
    StoreUnavailable,
    WatchlistNotNamed,
)
from edge.records import ErasureCause, ErasureReceipt
from edge.trust.audit import AuditLog, read_log
from edge.trust.keys import SigningKey
from edge.worker import Supervisor
from tests.sim.clock import HandClock


class Answers:
    """A mandate that answers as it is told."""

    def __init__(self) -> None:
        self.answer: Exception | None = None

    def check(self) -> None:
        if self.answer is not None:
            raise self.answer


class Told(list):
    def __init__(self) -> None:
        super().__init__()
        self.fresh = threading.Event()

    def __call__(self, error: EdgeError | None) -> None:
        self.append(None if error is None else type(error))
        self.fresh.set()


@pytest.fixture
def parts():
    answers, permit, told, over = Answers(), Permit(HandClock()), Told(), Told()
    return answers, permit, told, over, Guard(answers, permit, on_answer=told, on_over=over)


@pytest.mark.parametrize("refusal", [AuthorityNotYet, ClockUntrusted, OutsidePlace, PlaceUnknown, StoreUnavailable])
def test_a_refusal_that_may_pass_withdraws_the_permit_and_its_end_grants_it_again(parts, refusal) -> None:
    answers, permit, told, over, guard = parts
    guard.ask()
    assert permit.valid
    answers.answer = refusal("x", "y", "z")
    guard.ask()
    assert not permit.valid
    answers.answer = None
    guard.ask()
    assert permit.valid
    assert told == [None, refusal, None]
    assert over == []


@pytest.mark.parametrize("refusal", [AuthorityEnded, WatchlistNotNamed])
def test_a_refusal_that_cannot_pass_ends_matching_for_good(parts, refusal) -> None:
    answers, permit, _, over, guard = parts
    answers.answer = refusal("x", "y", "z")
    guard.ask()
    assert over == [refusal]
    assert isinstance(guard.over, refusal)
    answers.answer = None
    guard.ask()
    assert not permit.valid, "a later yes does not count"


def test_an_exception_that_nobody_expected_closes_the_permit_and_is_not_swallowed(parts) -> None:
    answers, permit, _, _, guard = parts
    guard.ask()
    answers.answer = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        guard.ask()
    permit.grant()
    assert not permit.valid


def test_a_guard_that_dies_is_seen_by_the_supervisor_and_nobody_is_matched(parts) -> None:
    answers, permit, _, _, guard = parts
    died = threading.Event()
    workers = Supervisor(lambda _: died.set())
    guard.ask()
    answers.answer = ZeroDivisionError()
    guard.start(workers)
    assert died.wait(5)
    assert not permit.valid
    assert "guard" in str(workers.failure)


def test_a_guard_that_was_stopped_leaves_no_permit(parts, workers: Supervisor) -> None:
    _, permit, told, _, guard = parts
    guard.start(workers)
    assert told.fresh.wait(5)
    guard.stop()
    assert not permit.valid


# -- the permit ------------------------------------------------------------------------------------------


def test_a_permit_begins_as_a_no_and_lapses_unless_it_is_renewed() -> None:
    clock = HandClock()
    permit = Permit(clock)
    assert not permit.valid
    permit.grant()
    clock.advance(1.999)
    assert permit.valid
    clock.advance(0.001)
    assert not permit.valid
    with pytest.raises(PermitLapsed):
        permit.require()


@contextmanager
def committing(permit: Permit) -> Iterator[None]:
    """An alert is being committed on another thread, for as long as the block takes."""
    inside, leave = threading.Event(), threading.Event()

    def commit() -> None:
        with permit.in_use():
            inside.set()
            leave.wait(30)

    user = threading.Thread(target=commit)
    user.start()
    assert inside.wait(5)
    try:
        yield
    finally:
        leave.set()
        user.join()


def test_a_permit_that_is_in_use_is_withdrawn_only_when_the_use_has_ended() -> None:
    permit = Permit(HandClock())
    permit.grant()
    withdrawn = threading.Event()
    withdrawer = threading.Thread(target=lambda: (permit.withdraw(), withdrawn.set()))
    with committing(permit):
        withdrawer.start()
        assert not withdrawn.wait(0.2), "an alert is still being committed"
        assert not permit.valid, "the next frame is refused already"
    assert withdrawn.wait(5)
    withdrawer.join()
    with pytest.raises(PermitLapsed), permit.in_use():
        pytest.fail("nothing may be committed any more")


def test_a_withdrawal_waits_for_a_commit_that_hangs_no_longer_than_a_second() -> None:
    permit = Permit(HandClock())
    permit.grant()
    with committing(permit):
        began = time.monotonic()
        permit.close()
        assert 0.9 < time.monotonic() - began < 5
    permit.grant()
    assert not permit.valid, "it was closed for good"


# -- the audit trail -------------------------------------------------------------------------------------


def a_receipt(after_ms: float) -> ErasureReceipt:
    from uuid import uuid4

    return ErasureReceipt(uuid4(), ErasureCause.TRACK_ENDED, False, 0, 0, int(after_ms * 1e6), 3)


def test_erasures_are_logged_as_totals_a_minute_and_never_one_by_one(tmp_path: Path) -> None:
    clock = HandClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    audit = AuditLog(tmp_path / "audit.jsonl", van="van-1", clock=clock, signer=SigningKey.generate())
    book = AuditTrail(audit, clock)
    for after in (600, 900, 700):
        book.forgotten(a_receipt(after))
    book.turn(0)
    assert read_log(audit.path) == (), "the minute is not over"
    clock.advance(61)
    book.turn(0)
    clock.advance(61)
    book.turn(0)
    entries = read_log(audit.path)
    assert [entry.event for entry in entries] == ["erasure.totals"], "a minute without passers-by writes nothing"
    assert {k: entries[0].data[k] for k in ("count", "longest_ms", "overdue")} == {
        "count": 3, "longest_ms": 900, "overdue": 0,
    }  # fmt: skip
    audit.close()


def test_an_overdue_handle_is_logged_even_when_nobody_was_forgotten(tmp_path: Path) -> None:
    clock = HandClock()
    audit = AuditLog(tmp_path / "audit.jsonl", van="van-1", clock=clock, signer=SigningKey.generate())
    book = AuditTrail(audit, clock)
    book.turn(2, final=True)
    assert read_log(audit.path)[0].data["overdue"] == 2
    audit.close()


def test_a_yes_counts_from_when_it_was_asked_and_not_from_when_it_came() -> None:
    clock = HandClock()
    permit = Permit(clock)
    asked = permit.moment_ns()
    clock.advance(LEASE_S - 0.5)
    permit.grant(asked)
    assert permit.valid
    clock.advance(0.5)
    assert not permit.valid
