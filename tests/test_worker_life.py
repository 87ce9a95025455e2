"""A worker's ordinary life: it makes progress, and it ends when it is asked. Real threads; a test turns the time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from edge.worker import Supervisor, Worker
from tests.sim.workers import SECRET, SOON, Hang, Paced, Time, Told, a_moment_later, clock, hang, until_asked

__all__ = ["clock", "hang"]


# -- progress --------------------------------------------------------------------------------------------------------


def test_a_beat_is_progress(clock: Time) -> None:
    body = Paced()
    supervisor = Supervisor()
    worker = supervisor.start("pipeline", body, silent_s=30)
    for _ in range(5):
        clock.now += 25
        body.goes_on()
        assert a_moment_later(supervisor, clock)
    clock.now += 31
    assert not a_moment_later(supervisor, clock)
    body.ends(worker)


def test_waiting_is_progress_however_long_it_takes(clock: Time) -> None:
    answers: list[bool] = []

    def body(worker: Worker) -> None:
        answers.append(worker.wait(3.0))
        worker.wait(3600)

    supervisor = Supervisor()
    worker = supervisor.start("sweeper", body, silent_s=0.08)  # it looks every 20 ms
    for _ in range(30):
        clock.now += 0.07
        clock.was_looked_at(4)
        assert worker.silent_for() < 0
        assert supervisor.check()
        assert answers == []
    clock.now += 3.0
    clock.was_looked_at(4)
    assert answers == [False], "the time is over and nobody asked it to stop"
    assert worker.stop(SOON)


def test_a_wait_of_no_time_returns_at_once_and_counts(clock: Time) -> None:
    beaten = threading.Event()
    go = threading.Event()

    def body(worker: Worker) -> None:
        go.wait(SOON)
        worker.wait(0)
        beaten.set()
        until_asked(worker)

    worker = Supervisor().start("pipeline", body, silent_s=30)
    clock.now += 100
    go.set()
    assert beaten.wait(SOON)
    assert worker.silent_for() <= -30
    assert worker.stop(SOON)


# -- the regular end -------------------------------------------------------------------------------------------------


def test_a_worker_that_is_stopped_returns_from_its_wait_at_once_and_is_no_failure() -> None:
    told = Told()
    supervisor = Supervisor(told)
    answers: list[bool] = []
    worker = supervisor.start("sweeper", lambda worker: answers.append(worker.wait(3600)), silent_s=60)
    assert worker.alive
    assert worker in supervisor.workers
    assert worker.stop(SOON)
    assert answers == [True]
    assert not worker.alive
    assert supervisor.workers == ()
    assert supervisor.check()
    assert not supervisor.wait(0)
    assert told.failures == []


def test_a_worker_that_has_ended_is_not_late(clock: Time) -> None:
    supervisor = Supervisor()
    worker = supervisor.start("sweeper", until_asked, silent_s=0.01)
    assert worker.stop(SOON)
    clock.now += 1000
    assert worker.silent_for() <= 0
    assert a_moment_later(supervisor, clock)


def test_asking_does_not_wait(hang: Hang) -> None:
    supervisor = Supervisor()
    worker = supervisor.start("camera", hang, silent_s=60)
    assert not worker.stopping
    worker.ask_to_stop()
    assert worker.stopping
    assert worker.alive
    hang.release.set()
    assert worker.stop(SOON)
    assert supervisor.failure is None


def test_an_exception_on_the_way_out_is_a_failure_all_the_same() -> None:
    supervisor = Supervisor()

    def body(worker: Worker) -> None:
        until_asked(worker)
        raise OSError(SECRET)

    assert supervisor.start("publisher", body, silent_s=60).stop(SOON)
    assert "OSError" in str(supervisor.failure)


def test_stopping_one_that_hangs_says_so_and_does_not_wait_for_ever(hang: Hang) -> None:
    supervisor = Supervisor()
    worker = supervisor.start("camera", hang, silent_s=0.001)
    assert hang.entered.wait(SOON)
    begun = time.monotonic()
    assert worker.stop(0.05) is False
    assert time.monotonic() - begun < SOON
    assert worker.alive
    assert worker in supervisor.workers
    assert supervisor.check(), "it was asked to stop: that it is late is known"


def test_one_that_hangs_does_not_keep_the_process() -> None:
    script = """
import threading
from edge.worker import Supervisor
supervisor = Supervisor()
worker = supervisor.start("camera", lambda worker: threading.Event().wait(), silent_s=60)
print(worker.stop(0.05))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False"]


def test_a_worker_may_stop_itself() -> None:
    supervisor = Supervisor()
    answers: list[bool] = []
    ended = threading.Event()

    def body(worker: Worker) -> None:
        answers.append(worker.stop(SOON))
        ended.set()

    worker = supervisor.start("guard", body, silent_s=60)
    assert ended.wait(SOON / 2), "it does not wait for itself"
    assert answers == [False], "it still runs"
    assert worker.stop(SOON)
    assert supervisor.failure is None


def test_a_worker_is_looked_after_from_its_first_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for the workers while one is being started must not drop it as one that has ended."""
    supervisor = Supervisor()
    start = Worker._start
    asked = threading.Event()
    others: list[threading.Thread] = []

    def ask() -> None:
        asked.set()
        _ = supervisor.workers

    def slowly(worker: Worker) -> None:
        others.append(threading.Thread(target=ask))
        others[0].start()
        assert asked.wait(SOON)
        others[0].join(0.2)  # as long as it may not look, it cannot end
        start(worker)

    monkeypatch.setattr(Worker, "_start", slowly)
    worker = supervisor.start("camera", until_asked, silent_s=60)
    others[0].join(SOON)
    assert supervisor.workers == (worker,)
    assert worker.stop(SOON)


def test_a_process_that_hangs_after_a_failure_is_over_in_time_and_says_why() -> None:
    script = """
import threading
from edge.worker import Supervisor
held = threading.Lock()
held.acquire()
def failed(failure):
    supervisor.end_in_time(0.2, 5)
    held.acquire()
supervisor = Supervisor(failed)
supervisor.start("camera", lambda worker: 1 / 0, silent_s=60)
held.acquire()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("ended by force after 0 s; the camera part")


def test_a_process_that_has_put_everything_away_is_not_ended_by_force() -> None:
    script = """
import time
from edge.worker import Supervisor
supervisor = Supervisor()
supervisor.end_in_time(0.2, 5)
supervisor.end_in_time(60, 6)
supervisor.call_off()
supervisor.call_off()
time.sleep(0.5)
print(supervisor.failure, supervisor.workers)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["None", "()"]
