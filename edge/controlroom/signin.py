"""Signing in: one password is looked at at a time, by a worker of its own, and all of it goes into the audit log.

A derivation costs memory and a processor for a moment on purpose. So that nobody without an account can slow down a
decision, no more than one runs, nothing else waits for it, and no more than :data:`MOST_WAITING` wait. Somebody at a
browser that they have signed in at before goes first, and has :data:`RESERVED` places that nobody else can take.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from edge.clock import NS_PER_S, Clock
from edge.controlroom.officers import Officers
from edge.errors import EnvironmentFault, PolicyRefusal
from edge.officers import Officer, require_trained
from edge.trust.events import Event
from edge.worker import Supervisor, Worker

__all__ = ["Auditor", "Claim", "Recognised", "SignIns", "TooManyAtOnce"]

MOST_WAITING, RESERVED = 64, 16
IDLE_S = 0.5
SILENT_S = 60.0
"""One derivation on a machine under load takes seconds; one that takes this long hangs."""
LOGGED, LOGGED_SPAN_S = 60, 60
"""So many refused sign-ins are written down one by one in so many seconds; the others are counted in the next."""
NOT_LISTED = "(not on the list)"
"""Stands for a number of nobody here: what somebody typed there may be their password."""


class Auditor(Protocol):
    """What is asked of an audit log; :class:`edge.trust.audit.AuditLog` is one."""

    def record(self, event: Event, data: Mapping[str, object]) -> object: ...

    def checkpoint(self) -> object: ...


class TooManyAtOnce(EnvironmentFault):
    """More people sign in than can be looked at."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who somebody says they are.

    Attributes:
        number: the officer's.
        password: as it was typed.
        place: the address that it comes from.
        known: whether the officer has signed in at this browser before.
    """

    number: str
    password: str = field(repr=False)
    place: str
    known: bool


@dataclass(frozen=True, slots=True)
class Recognised:
    """Somebody who signed in.

    Attributes:
        officer: who it is.
        stamp: of the password; see :meth:`Officers.known`.
    """

    officer: Officer
    stamp: str


@dataclass(order=True, slots=True)
class _Waiting:
    behind: bool
    number: int
    claim: Claim = field(compare=False)
    answer: Future[Recognised] = field(compare=False)


class SignIns:
    """See the module.

    Args:
        officers: who may sign in.
        audit: told of every sign-in, whatever comes of it.
        clock: for the training's end.
    """

    def __init__(self, officers: Officers, audit: Auditor, clock: Clock) -> None:
        self._officers = officers
        self._audit = audit
        self._clock = clock
        self._waiting: queue.PriorityQueue[_Waiting] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._span_ns = 0
        self._in_span = self._unlogged = 0

    def start(self, supervisor: Supervisor) -> Worker:
        """Begin to look at passwords."""
        return supervisor.start("sign-in", self._run, silent_s=SILENT_S)

    def ask(self, claim: Claim) -> Future[Recognised]:
        """Have a claim looked at; for one thread. A cancelled answer is not looked at any more.

        The answer raises PolicyRefusal: SignInRefused or TrainingLapsed.

        Raises:
            TooManyAtOnce: too many wait already.
        """
        if self._waiting.qsize() >= MOST_WAITING - (0 if claim.known else RESERVED):
            raise TooManyAtOnce("sign-in", "too many people are signing in at this moment", "Try again in a minute")
        answer: Future[Recognised] = Future()
        self._waiting.put(_Waiting(not claim.known, next(self._numbers), claim, answer))
        return answer

    def _run(self, worker: Worker) -> None:
        try:
            while not worker.stopping:
                worker.beat()
                try:
                    waiting = self._waiting.get(timeout=IDLE_S)
                except queue.Empty:
                    continue
                self._answer(waiting)
        finally:
            while not self._waiting.empty():
                self._waiting.get().answer.cancel()

    def _answer(self, waiting: _Waiting) -> None:
        if not waiting.answer.set_running_or_notify_cancel():
            return
        try:
            waiting.answer.set_result(self.look_at(waiting.claim))
        except Exception as error:  # noqa: BLE001 - handed on to the request that waits for it
            waiting.answer.set_exception(error)

    def look_at(self, claim: Claim) -> Recognised:
        """Who this is, if they may work here today; on whichever thread it is called.

        Raises:
            SignInRefused: wrong number or password.
            TrainingLapsed: the training is out of date.
        """
        try:
            officer, stamp = self._officers.authenticate(claim.number, claim.password)
            require_trained(officer, self._clock.now().date())
        except PolicyRefusal as error:
            self._refused(claim, error)
            raise
        self._audit.record(Event.SIGNED_IN, {"by": officer.number, "role": str(officer.role), "from": claim.place})
        return Recognised(officer, stamp)

    def _refused(self, claim: Claim, error: PolicyRefusal) -> None:
        """Write it down, but let nobody fill the disk with it."""
        now = self._clock.monotonic_ns()
        if now - self._span_ns >= LOGGED_SPAN_S * NS_PER_S:
            self._span_ns, self._in_span = now, 0
        if self._in_span >= LOGGED:
            self._unlogged += 1
            return
        self._in_span += 1
        listed = self._officers.get(claim.number) is not None
        self._audit.record(
            Event.SIGN_IN_REFUSED,
            {
                "by": claim.number if listed else NOT_LISTED,
                "error": type(error).__name__,
                "from": claim.place,
                "unlogged": self._unlogged,
            },
        )
        self._unlogged = 0
