"""Bodies of workers that hang, die or wait, and the time that a test turns for them."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

import edge.worker
from edge.errors import WorkerFailed
from edge.worker import Supervisor, Worker

SECRET = "the-text-of-an-exception-may-hold-anything"
SOON = 10.0
"""Seconds within which something must have happened; nothing waits for so long when all is well."""


class Time:
    """Stands in for the ``time`` of edge.worker, and says when a worker has looked at it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = threading.Semaphore(0)

    def monotonic(self) -> float:
        if threading.current_thread() is not threading.main_thread():
            self.looks.release()
        return self.now

    def was_looked_at(self, times: int) -> None:
        while self.looks.acquire(blocking=False):
            pass
        for _ in range(times):
            assert self.looks.acquire(timeout=SOON)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    hand = Time()
    monkeypatch.setattr(edge.worker, "time", SimpleNamespace(monotonic=hand.monotonic))
    return hand


class Told:
    """An owner who is told of the failure."""

    def __init__(self) -> None:
        self.failures: list[WorkerFailed] = []
        self.threads: list[str] = []

    def __call__(self, failure: WorkerFailed) -> None:
        self.failures.append(failure)
        self.threads.append(threading.current_thread().name)


def until_asked(worker: Worker) -> None:
    while not worker.wait(1):
        pass


def fails_with(error: BaseException):
    def body(_: Worker) -> None:
        raise error

    return body


class Paced:
    """A body that makes progress when it is told to."""

    def __init__(self) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, worker: Worker) -> None:
        while not worker.stopping:
            self._go.acquire()
            worker.beat()
            self._done.release()

    def goes_on(self) -> None:
        self._go.release()
        assert self._done.acquire(timeout=SOON)

    def ends(self, worker: Worker) -> None:
        worker.ask_to_stop()
        self._go.release()
        assert worker.stop(SOON)


class Hang:
    """A body that does nothing for ever, until the test lets it go."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def __call__(self, _: Worker) -> None:
        self.entered.set()
        self.release.wait()


@pytest.fixture
def hang():
    body = Hang()
    yield body
    body.release.set()


def a_moment_later(supervisor: Supervisor, clock: Time) -> bool:
    """What the supervisor says when it has looked twice, with two seconds between."""
    supervisor.check()
    clock.now += 2
    return supervisor.check()
