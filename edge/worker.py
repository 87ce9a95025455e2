"""Threads that cannot die or hang in silence: the only module that makes one.

A :class:`Supervisor` starts every :class:`Worker` of a process. A worker's body runs until it is asked to stop and
says again and again that it makes progress. Three things are failures, whatever the reason:

* an exception leaves the body, expected or not;
* the body returns although nobody asked it to stop;
* it makes no progress for longer than it may.

The first failure is handed to ``on_failure`` at once, on the thread on which it was found, and stays in
:attr:`Supervisor.failure`. What follows is the owner's: a van stops matching, a control room turns its page red, and
both end with an exit code that makes the service manager start them anew. A thread that some library made and that
dies of an exception counts, too, while :meth:`Supervisor.strangers` is entered.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge.errors import EdgeError, WorkerFailed

__all__ = ["Supervisor", "Worker"]

JOIN_S = 10.0
"""How long a worker that is asked to stop may take. One that does not is left behind: it ends with the process."""


GRACE_S = 1.0
"""A worker is late only if it still is so long after it was first found late."""


class _Silent(Exception):
    """A worker hangs."""


class Worker:
    """One thread with a name. Its body calls :meth:`wait` or :meth:`beat` at least every ``silent_s`` seconds."""

    def __init__(self, name: str, body: Callable[[Worker], None], silent_s: float, supervisor: Supervisor) -> None:
        self.name = name
        self._body = body
        self.silent_s = silent_s
        self._supervisor = supervisor
        self._stop = threading.Event()
        self._beaten = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def stopping(self) -> bool:
        """Whether the body shall return."""
        return self._stop.is_set()

    @property
    def alive(self) -> bool:
        """Whether the body runs."""
        return self._thread.is_alive()

    def beat(self) -> None:
        """Say that there is progress."""
        self._beaten = time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Do nothing for ``seconds`` and count that as progress. True, at once, when the body shall return."""
        until = time.monotonic() + seconds
        while not self._stop.is_set():
            self.beat()
            left = until - time.monotonic()
            if left <= 0 or self._stop.wait(min(left, self.silent_s / 4)):
                break
        return self._stop.is_set()

    def ask_to_stop(self) -> None:
        """Ask the body to return; does not wait."""
        self._stop.set()

    def stop(self, timeout: float = JOIN_S) -> bool:
        """Ask the body to return and wait for it. False when it has not within ``timeout`` seconds."""
        self._stop.set()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def silent_for(self) -> float:
        """Seconds by which the body is late; nothing or less while it keeps its word, or when it has ended."""
        return time.monotonic() - self._beaten - self.silent_s if self._thread.is_alive() else 0.0

    def _start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        died_of: BaseException | None = None
        try:
            self._body(self)
        except BaseException as error:  # noqa: BLE001 - nothing that a thread can die of may pass unseen
            died_of = error
        # Outside the handler: were on_failure to fail as well, its traceback would carry the text of the first error.
        if died_of is not None or not self._stop.is_set():
            self._supervisor.fail(self.name, died_of)


class Supervisor:
    """Starts the workers of one process and notices the first that fails.

    Args:
        on_failure: told once, on whichever thread the failure was found. It must be quick and do first what must be
            done first: close the permit to match.
    """

    def __init__(self, on_failure: Callable[[WorkerFailed], None] | None = None) -> None:
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._late: dict[Worker, float] = {}
        self._failed = threading.Event()
        self._failure: WorkerFailed | None = None
        self._end: Worker | None = None

    @property
    def failure(self) -> WorkerFailed | None:
        """The first failure; None while all is well."""
        return self._failure

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Every worker that was started and has not ended."""
        with self._lock:
            self._workers = [worker for worker in self._workers if worker.alive]
            return tuple(self._workers)

    def start(self, name: str, body: Callable[[Worker], None], *, silent_s: float) -> Worker:
        """Start a worker.

        Args:
            name: what a person will read when it fails.
            body: is called with the worker on a thread of its own.
            silent_s: for so long it may make no progress.
        """
        worker = Worker(name, body, silent_s, self)
        with self._lock:  # or one that is asked for between the two would be taken for one that has ended
            worker._start()  # noqa: SLF001 - the other half of one mechanism
            self._workers.append(worker)
        return worker

    def fail(self, name: str, error: BaseException | None) -> None:
        """Take a failure in; the first one counts and is handed on."""
        failure = _failure(name, error)
        with self._lock:
            if self._failure is not None:
                return
            self._failure = failure
        try:
            if self._on_failure is not None:
                self._on_failure(failure)
        finally:
            self._failed.set()

    def check(self) -> bool:
        """Whether every worker makes progress; a worker that is silent for too long fails here."""
        for worker in self.workers:
            late = worker.silent_for()
            if late <= 0 or worker.stopping:
                self._late.pop(worker, None)
                continue
            # Where the whole process stood still, everybody is late, and nobody is any more a moment afterwards.
            if time.monotonic() - self._late.setdefault(worker, time.monotonic()) >= GRACE_S:
                self.fail(worker.name, _Silent(f"it has made no progress for {worker.silent_s + late:.0f} s"))
        return self._failure is None

    def wait(self, seconds: float) -> bool:
        """Wait until something fails, ``seconds`` at most; whether it did."""
        return self._failed.wait(seconds)

    def end_in_time(self, longest_s: float, exit_code: int) -> None:
        """End this process by force when it still runs after ``longest_s`` seconds, whatever hangs and holds a lock.

        What it holds in memory ends with it. Only the first call counts, until :meth:`call_off`.
        """

        def end(worker: Worker) -> None:
            if not worker.wait(longest_s):
                sys.stderr.write(f"ended by force after {longest_s:.0f} s; {self._failure or 'something hangs'}\n")
                sys.stderr.flush()
                os._exit(exit_code)

        with self._lock:
            if self._end is None:
                self._end = Worker("end", end, longest_s, self)
                self._end._start()  # noqa: SLF001 - the other half of one mechanism

    def call_off(self) -> None:
        """Everything has ended by itself: see :meth:`end_in_time`."""
        with self._lock:
            worker, self._end = self._end, None
        if worker is not None:
            worker.stop()

    @contextmanager
    def strangers(self) -> Iterator[None]:
        """Count the death of a thread that a library made as a failure while this is entered."""
        before = threading.excepthook

        def hook(args: threading.ExceptHookArgs) -> None:
            self.fail(args.thread.name if args.thread else "nameless", args.exc_value)

        threading.excepthook = hook
        try:
            yield
        finally:
            threading.excepthook = before


def _failure(name: str, error: BaseException | None) -> WorkerFailed:
    """What a person reads. Of an unexpected exception only its type and its place: its text may hold anything.

    An error of ours stays the ``__cause__``. Of no exception are the variables of the frames kept that it went through:
    a picture may be among them.
    """
    if error is None:
        cause = "ended although nothing asked it to"
    elif isinstance(error, EdgeError):
        cause = f"stopped: {error.thing}: {error.cause}"
    elif isinstance(error, _Silent):
        cause = f"hangs: {error}"
    else:
        cause = f"stopped because of an unexpected fault ({type(error).__name__}{_where(error)})"
    failure = WorkerFailed(
        f"the {name} part", cause, "It starts again by itself; if this comes back, call the engineer"
    )
    if isinstance(error, EdgeError):
        failure.__cause__ = error
    _let_go(error)
    return failure


def _let_go(error: BaseException | None) -> None:
    """Drop what the frames of an exception held, and of those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}"
