"""What was stopped does nothing any more."""

from __future__ import annotations

from edge.clock import SystemClock
from edge.custody.retention import Custodian
from edge.deployment.guard import EVERY_S, Guard
from edge.deployment.permit import LEASE_S, Permit
from edge.worker import Supervisor
from tests.sim.clock import HandClock
from tests.test_guard import Answers, Told


def test_a_guard_that_was_stopped_asks_no_more() -> None:
    workers, told = Supervisor(), Told()
    guard = Guard(Answers(), Permit(HandClock()), on_answer=told, on_over=Told())
    guard.start(workers)
    assert told.fresh.wait(5)
    guard.stop()
    assert workers.workers == ()


def test_a_guard_that_was_never_started_can_be_stopped() -> None:
    permit = Permit(HandClock())
    Guard(Answers(), permit, on_answer=Told(), on_over=Told()).stop()
    permit.grant()
    assert not permit.valid


def test_one_answer_may_be_missed_before_the_permit_lapses() -> None:
    assert 2 * EVERY_S < LEASE_S


def test_a_custodian_that_was_stopped_sweeps_no_more_and_may_be_stopped_again() -> None:
    workers = Supervisor()
    custodian = Custodian(SystemClock())
    custodian.start(workers)
    custodian.stop()
    assert workers.workers == ()
    custodian.stop()
