"""A thread that dies, hangs or ends unasked is never a secret. Real threads; a test turns the time, no test sleeps."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

from edge.errors import StoreUnavailable, WorkerFailed
from edge.worker import GRACE_S, Supervisor, Worker
from tests.sim.workers import (
    SECRET,
    SOON,
    Hang,
    Paced,
    Time,
    Told,
    a_moment_later,
    clock,
    fails_with,
    hang,
    until_asked,
)

__all__ = ["clock", "hang"]


# -- the three failures, and a fourth --------------------------------------------------------------------------------


def test_an_exception_in_the_body_is_a_failure_that_names_the_worker_its_type_and_its_place() -> None:
    told = Told()
    supervisor = Supervisor(told)
    supervisor.start("publisher", fails_with(KeyError(SECRET)), silent_s=60)
    assert supervisor.wait(SOON)
    assert supervisor.failure is told.failures[0]
    text = str(supervisor.failure)
    assert "publisher" in text
    assert "KeyError" in text
    assert "in body, line" in text
    assert told.threads == ["publisher"], "it is told at once, where it was found"


@pytest.mark.parametrize("error", [SystemExit(SECRET), KeyboardInterrupt(SECRET), MemoryError(SECRET)], ids=repr)
def test_whatever_a_thread_can_die_of_is_a_failure(error: BaseException) -> None:
    supervisor = Supervisor()
    supervisor.start("sweeper", fails_with(error), silent_s=60)
    assert supervisor.wait(SOON)
    assert type(error).__name__ in str(supervisor.failure)


def test_the_reason_that_one_of_our_own_errors_gives_is_passed_on() -> None:
    error = StoreUnavailable("the outbox", "the disk is full", "Free some space")
    supervisor = Supervisor()
    supervisor.start("publisher", fails_with(error), silent_s=60)
    assert supervisor.wait(SOON)
    assert "the outbox: the disk is full" in str(supervisor.failure)
    assert supervisor.failure is not None
    assert supervisor.failure.__cause__ is error


def test_a_body_that_returns_although_nobody_asked_it_is_a_failure() -> None:
    supervisor = Supervisor()
    supervisor.start("camera", lambda _: None, silent_s=60)
    assert supervisor.wait(SOON)
    assert "camera" in str(supervisor.failure)
    assert "nothing asked it" in str(supervisor.failure)


def test_a_body_that_makes_no_progress_is_a_failure_and_the_time_is_told(clock: Time, hang: Hang) -> None:
    told = Told()
    supervisor = Supervisor(told)
    supervisor.start("camera", hang, silent_s=30)
    assert hang.entered.wait(SOON)
    clock.now += 27
    assert a_moment_later(supervisor, clock), "29 s of silence are allowed"
    clock.now += 10
    assert not a_moment_later(supervisor, clock)
    assert supervisor.wait(0)
    assert "camera" in str(supervisor.failure)
    assert "no progress for 41 s" in str(supervisor.failure)
    assert told.threads == [threading.main_thread().name]


def test_it_may_be_silent_for_exactly_as_long_as_it_may(clock: Time, hang: Hang) -> None:
    supervisor = Supervisor()
    worker = supervisor.start("camera", hang, silent_s=30)
    clock.now += 30
    assert worker.silent_for() == 0
    assert supervisor.check()


def test_where_the_whole_process_stood_still_nobody_is_blamed_who_goes_on_a_moment_later(clock: Time) -> None:
    """A machine that swaps or sleeps makes every worker late at once."""
    body = Paced()
    supervisor = Supervisor()
    worker = supervisor.start("pipeline", body, silent_s=30)
    for _ in range(3):
        clock.now += 100
        assert supervisor.check(), "it is late, and may only have been asleep"
        clock.now += GRACE_S / 2
        assert supervisor.check(), "it has a moment"
        body.goes_on()
        assert supervisor.check(), "it goes on"
        clock.now += GRACE_S / 2
        assert supervisor.check()
    body.ends(worker)


@pytest.mark.parametrize(("later_s", "well"), [(0.0, True), (GRACE_S - 0.25, True), (GRACE_S, False)])
def test_whoever_is_still_late_after_that_moment_has_failed(
    later_s: float, well: bool, clock: Time, hang: Hang
) -> None:
    supervisor = Supervisor()
    supervisor.start("camera", hang, silent_s=30)
    clock.now += 31
    assert supervisor.check()
    clock.now += later_s
    assert supervisor.check() is well
    assert supervisor.wait(0) is not well


def test_a_moment_is_a_second(clock: Time, hang: Hang) -> None:
    supervisor = Supervisor()
    supervisor.start("camera", hang, silent_s=30)
    clock.now += 30.5
    supervisor.check()
    clock.now += 0.75
    assert supervisor.check()
    clock.now += 0.25
    assert not supervisor.check()


def test_the_death_of_a_thread_that_a_library_made_is_a_failure_while_strangers_count() -> None:
    told = Told()
    supervisor = Supervisor(told)
    before = threading.excepthook

    def dies() -> None:
        raise ValueError(SECRET)

    with supervisor.strangers():
        thread = threading.Thread(target=dies, name="paho-mqtt-client")
        thread.start()
        thread.join(SOON)
        assert supervisor.wait(0)
    assert threading.excepthook is before
    assert "paho-mqtt-client" in str(supervisor.failure)
    assert "ValueError" in str(supervisor.failure)
    assert SECRET not in str(supervisor.failure)
    assert len(told.failures) == 1


@pytest.mark.parametrize("named", [True, False])
def test_a_stranger_that_died_without_a_name_or_a_value_counts_too(named: bool) -> None:
    supervisor = Supervisor()
    thread = threading.Thread(name="a library's") if named else None
    with supervisor.strangers():
        threading.excepthook(threading.ExceptHookArgs((ValueError, None, None, thread)))
    assert supervisor.failure is not None
    assert ("a library's" in str(supervisor.failure)) is named


def test_strangers_no_longer_count_even_when_the_block_ends_with_an_exception() -> None:
    before = threading.excepthook
    with pytest.raises(ZeroDivisionError), Supervisor().strangers():
        _ = 1 / 0
    assert threading.excepthook is before


# -- the first one, told once ----------------------------------------------------------------------------------------


def test_the_first_failure_stays_and_is_told_once() -> None:
    told = Told()
    supervisor = Supervisor(told)
    supervisor.start("first", fails_with(ValueError(SECRET)), silent_s=60)
    assert supervisor.wait(SOON)
    second = supervisor.start("second", fails_with(KeyError(SECRET)), silent_s=60)
    second.stop(SOON)
    supervisor.fail("third", None)
    assert [("first" in str(failure)) for failure in told.failures] == [True]
    assert supervisor.failure is told.failures[0]
    assert not supervisor.check()


def test_of_many_that_fail_at_one_moment_one_is_told() -> None:
    told = Told()
    supervisor = Supervisor(told)
    together = threading.Barrier(8)

    def body(_: Worker) -> None:
        together.wait(SOON)
        raise ValueError(SECRET)

    workers = [supervisor.start(f"worker-{number}", body, silent_s=60) for number in range(8)]
    assert all(worker.stop(SOON) for worker in workers)
    assert len(told.failures) == 1


def test_an_owner_who_fails_to_act_still_lets_everybody_see_the_failure() -> None:
    def clumsy(_: WorkerFailed) -> None:
        raise RuntimeError("the page could not be told")

    supervisor = Supervisor(clumsy)
    with supervisor.strangers():
        worker = supervisor.start("publisher", fails_with(ValueError(SECRET)), silent_s=60)
        assert supervisor.wait(SOON)
        assert worker.stop(SOON)
    assert "publisher" in str(supervisor.failure)
    assert not supervisor.check()


def test_when_the_owner_fails_too_the_text_of_the_first_error_does_not_come_out_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: seen.append(arguments.exc_value))

    def clumsy(_: WorkerFailed) -> None:
        raise RuntimeError("the page could not be told")

    worker = Supervisor(clumsy).start("publisher", fails_with(ValueError(SECRET)), silent_s=60)
    assert worker.stop(SOON)
    assert [type(error) for error in seen] == [RuntimeError]
    assert seen[0] is not None
    assert seen[0].__context__ is None


def test_the_owner_is_told_before_whoever_waits_goes_on() -> None:
    told = Told()
    supervisor = Supervisor(told)
    supervisor.start("camera", lambda _: None, silent_s=60)
    assert supervisor.wait(SOON)
    assert len(told.failures) == 1


def test_waiting_ends_without_a_failure_when_nothing_fails() -> None:
    supervisor = Supervisor()
    worker = supervisor.start("camera", until_asked, silent_s=60)
    assert not supervisor.wait(0)
    assert supervisor.failure is None
    assert supervisor.check()
    assert worker.stop(SOON)


# -- nothing of what it worked on ------------------------------------------------------------------------------------


def test_nothing_of_an_unexpected_exception_but_its_type_is_kept() -> None:
    supervisor = Supervisor()

    def body(_: Worker) -> None:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise KeyError(SECRET) from error

    supervisor.start("camera", body, silent_s=60)
    assert supervisor.wait(SOON)
    assert supervisor.failure is not None
    assert SECRET not in f"{supervisor.failure} {supervisor.failure!r}"
    assert supervisor.failure.__cause__ is None
    assert supervisor.failure.__context__ is None


class Picture(np.ndarray):
    """An array that can be watched."""


@pytest.mark.parametrize("unexpected", [True, False], ids=["an unexpected error", "one of ours"])
@pytest.mark.parametrize("said", [True, False], ids=["raised from the first", "raised while handling the first"])
def test_what_a_body_held_when_it_died_is_let_go(unexpected: bool, said: bool) -> None:
    error = ValueError(SECRET) if unexpected else StoreUnavailable("the outbox", "is full", "Wait")
    watched: list[weakref.ref[Picture]] = []

    def inner() -> None:
        picture = np.ones((4, 4, 3), np.uint8).view(Picture)
        watched.append(weakref.ref(picture))
        raise TypeError(SECRET)

    def body(_: Worker) -> None:
        try:
            inner()
        except TypeError as first:
            if said:
                raise error from first
            raise error  # noqa: B904 - on purpose

    supervisor = Supervisor()
    worker = supervisor.start("camera", body, silent_s=60)
    assert worker.stop(SOON)
    gc.collect()
    assert supervisor.failure is not None
    assert watched[0]() is None


def test_errors_that_name_each_other_as_their_cause_hold_nobody_up() -> None:
    one, other = ValueError(SECRET), KeyError(SECRET)
    one.__cause__, other.__cause__ = other, one
    supervisor = Supervisor()
    supervisor.start("camera", fails_with(one), silent_s=60)
    assert supervisor.wait(SOON)
