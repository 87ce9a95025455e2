"""The guard acts on every answer: suspend, resume, or end."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.audit_trail import AuditTrail
from edge.deployment.guard import Guard
from edge.errors import (
    AuthorityEnded,
    AuthorityNotYet,
    ClockUntrusted,
    OutsidePlace,
    PlaceUnknown,
    PolicyRefusal,
    StoreUnavailable,
    WatchlistNotNamed,
)
from edge.records import ErasureCause, ErasureReceipt
from edge.trust.audit import AuditLog, read_log
from edge.trust.keys import SigningKey
from tests.sim.clock import HandClock


class Answers:
    """A deployment that answers as it is told."""

    def __init__(self) -> None:
        self.answer: Exception | None = None
        self.keeper = self

    def check(self) -> None:
        if self.answer is not None:
            raise self.answer

    def expire(self) -> tuple[str, ...]:
        return ()


class Matching:
    def __init__(self) -> None:
        self.allowed = True
        self.suspended = threading.Event()

    def suspend(self) -> None:
        self.allowed = False
        self.suspended.set()

    def resume(self) -> None:
        self.allowed = True


class Told(list):
    def __call__(self, error: PolicyRefusal | None) -> None:
        self.append(None if error is None else type(error))


@pytest.fixture
def parts():
    answers, matching, changes, over = Answers(), Matching(), Told(), Told()
    return answers, matching, changes, over, Guard(answers, matching, on_change=changes, on_over=over)


@pytest.mark.parametrize("refusal", [AuthorityNotYet, ClockUntrusted, OutsidePlace, PlaceUnknown])
def test_a_refusal_that_may_pass_suspends_and_its_end_resumes(parts, refusal) -> None:
    answers, matching, changes, over, guard = parts
    answers.answer = refusal("x", "y", "z")
    guard.ask()
    guard.ask()
    assert not matching.allowed
    assert changes == [refusal], "told once, not every time"
    answers.answer = None
    guard.ask()
    assert matching.allowed
    assert changes == [refusal, None]
    assert over == []


@pytest.mark.parametrize("refusal", [AuthorityEnded, WatchlistNotNamed])
def test_a_refusal_that_cannot_pass_ends_matching_for_good(parts, refusal) -> None:
    answers, matching, _, over, guard = parts
    answers.answer = refusal("x", "y", "z")
    guard.ask()
    assert not matching.allowed
    assert over == [refusal]
    assert isinstance(guard.over, refusal)


def test_another_reason_is_told_although_matching_was_suspended_already(parts) -> None:
    answers, _, changes, _, guard = parts
    for refusal in (PlaceUnknown, OutsidePlace):
        answers.answer = refusal("x", "y", "z")
        guard.ask()
    assert changes == [PlaceUnknown, OutsidePlace]


def test_a_question_that_cannot_be_answered_is_a_no(parts) -> None:
    answers, matching, _, _, guard = parts
    answers.answer = StoreUnavailable("the store", "is gone", "Look")
    guard.start()
    assert matching.suspended.wait(5)
    guard.stop()
    assert not matching.allowed


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
