"""The control room behind its page: alerts become cases, people act on them, everything is written down.

Every view and decision goes into the audit log before its answer goes to the page. Decisions are signed and
queued for the van in the transaction that stores them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, Self
from uuid import UUID

import msgspec

from edge.alert import topics
from edge.alert.adjudication import ADJUDICATION, AdjudicationBody
from edge.alert.publish import LinkState
from edge.clock import NS_PER_S, Clock, SystemClock
from edge.controlroom import cases
from edge.controlroom.casebook import Casebook
from edge.controlroom.cases import Case, Demographics, NotYours, Officer, Result, State
from edge.controlroom.config import ControlConfig
from edge.controlroom.inbox import Inbox, Stored, Verdict
from edge.controlroom.receive import Arrived, LinkChanged, Receiver, ReceiverEvent, Refused, VanState, connect
from edge.errors import BadInput, ConfigInvalid, EdgeError
from edge.trust.audit import AuditLog
from edge.trust.events import Event
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret

__all__ = ["Auditor", "ControlRoom", "VanLine"]

NAME = "control-room-console"
ARCHIVE_AFTER = timedelta(minutes=10)
"""How long a closed case stays in the list."""


class Auditor(Protocol):
    """What is asked of an audit log; :class:`edge.trust.audit.AuditLog` is one."""

    def record(self, event: Event, data: Mapping[str, object]) -> object: ...


@dataclass(frozen=True, slots=True)
class VanLine:
    """How a van is, for the page.

    Attributes:
        van: its name.
        state: ``online``, ``offline`` or ``lost``.
        since: when that was said.
        missing: numbers that have not arrived.
    """

    van: str
    state: str
    since: datetime
    missing: int = 0


class ControlRoom:
    """See the module. Its methods may be called from any thread.

    Args:
        config: the control room's file.
        inbox: alerts with their pictures.
        book: cases and officers.
        audit: where views and decisions are written.
        signing_key: signs decisions.
        on_change: called after every change; must not block.
        clock: for looks, escalation and retention.
    """

    def __init__(
        self,
        config: ControlConfig,
        *,
        inbox: Inbox,
        book: Casebook,
        audit: Auditor,
        signing_key: SigningKey,
        on_change: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.inbox = inbox
        self.book = book
        self.on_change = on_change
        self._audit = audit
        self._signing_key = signing_key
        self._clock: Clock = clock or SystemClock()
        self._looks: dict[tuple[str, UUID], int] = {}
        self._lock = threading.Lock()
        self.vans: dict[str, VanLine] = {}
        self.link = LinkState.STOPPED
        self.trouble: EdgeError | None = None
        self.refused = 0
        self.siblings = _siblings(config)
        self.receiver: Receiver | None = None
        self._parts = ExitStack()

    @classmethod
    def open(cls, config: ControlConfig, clock: Clock | None = None) -> Self:
        """Open stores, keys and log as the configuration says; :meth:`start` begins to receive.

        Raises:
            EdgeError: a key, a store or the log cannot be used.
        """
        base = Path(config.base)
        key, signing_key = read_secret(config.store.key, base), SigningKey.load(config.keys.signing, base)
        folder = config.path(config.store.directory)
        real_clock: Clock = clock or SystemClock()
        with ExitStack() as parts:
            inbox = Inbox(folder / "console.db", key)
            parts.callback(inbox.close)
            book = Casebook(folder / "casebook.db", key, real_clock)
            parts.callback(book.close)
            audit = AuditLog(folder / "audit.log", van="control-room", clock=real_clock, signer=signing_key)
            parts.callback(audit.close)
            room = cls(config, inbox=inbox, book=book, audit=audit, signing_key=signing_key, clock=real_clock)
            room.receiver = connect(config, NAME, inbox, room.hear, outgoing=book, clock=real_clock)
            room._parts = parts.pop_all()
        return room

    def start(self) -> None:
        """Begin to receive."""
        assert self.receiver is not None
        self.receiver.start()

    def stop(self) -> None:
        """End receiving and close everything."""
        if self.receiver is not None:
            self.receiver.stop()
        self._parts.close()

    def now(self) -> datetime:
        return self._clock.now()

    # -- what arrives ----------------------------------------------------------------------------

    def hear(self, event: ReceiverEvent) -> None:
        """Take in what the receiver tells."""
        match event:
            case Arrived(alert, acceptance, received_at):
                self.book.add(cases.open_case(alert, received_at))
                self.inbox.shown(alert.alert_id)
                line = self.vans.get(alert.van) or VanLine(alert.van, "online", received_at)
                if acceptance.missing or acceptance.verdict is not Verdict.NEW or line.missing:
                    line = replace(line, missing=len(self.inbox.missing(alert.van)))
                self.vans[alert.van] = line
            case Refused(topic, error):
                self.refused += 1
                self._audit.record(
                    Event.REFUSED, {"error": type(error).__name__, "thing": topic, "cause": error.cause[:1000]}
                )
            case VanState(body):
                missing = len(self.inbox.missing(body.van))
                self.vans[body.van] = VanLine(body.van, body.state, body.since, missing)
            case LinkChanged(state, trouble):
                self.link, self.trouble = state, trouble
            case _:
                return
        self.on_change()

    def tick(self) -> None:
        """Escalate what was left unseen, forget what is due; called about once a second."""
        now, after = self.now(), timedelta(seconds=self.config.console.escalate_s)
        for case in self.book.all(open_only=True):
            if cases.due_for_escalation(case, now, after):
                self.book.change(case.alert_id, lambda c: replace(c, escalated_at=now), lambda _: None)
                self._audit.record(
                    Event.ALERT_ADJUDICATED, {"alert": str(case.alert_id), "verdict": "escalated", "by": "system"}
                )
                self.on_change()

    # -- what people see and do ------------------------------------------------------------------

    def listed(self) -> list[Case]:
        """Cases for the list: open ones, unseen first, and those closed a moment ago; newest first."""
        now = self.now()
        shown = [c for c in self.book.all() if c.closed_at is None or now - c.closed_at < ARCHIVE_AFTER]
        return sorted(shown, key=lambda c: (c.state is not State.NEW, -c.received_at.timestamp()))

    def open_alert(self, alert_id: UUID, officer: Officer) -> tuple[Case, Stored | None]:
        """An officer opens an alert: it counts as seen, the look begins, and the log says so.

        Raises:
            BadInput: there is no such alert.
        """
        case = self.book.change(alert_id, lambda c: cases.see(c, officer, self.now()), self._told(officer))
        stored = self.inbox.get(alert_id)
        if stored is not None:
            self._audit.record(
                Event.ENTRY_CONSULTED,
                {
                    "list": stored.alert.watchlist,
                    "reference": stored.alert.reference,
                    "by": officer.number,
                    "purpose": f"alert {alert_id}",
                },
            )
        self.on_change()
        return case, stored

    def picture(self, alert_id: UUID, which: str, officer: Officer) -> bytes:
        """One of an alert's two pictures. The list's picture is handed out only after the probe.

        Raises:
            BadInput: the alert is not known or its pictures were erased.
            NotYours: the list's picture was asked for first.
        """
        stored = self.inbox.get(alert_id)
        if stored is None:
            raise BadInput(f"alert {alert_id}", "has no pictures here any more", "See the record")
        if which == "probe":
            with self._lock:
                self._looks.setdefault((officer.number, alert_id), self._clock.monotonic_ns())
            return stored.alert.probe_jpeg
        if (officer.number, alert_id) not in self._looks:
            raise NotYours(f"alert {alert_id}", "shows the probe before the list's picture", "Open the alert first")
        return stored.alert.reference_jpeg

    def looked(self, alert_id: UUID, officer: Officer) -> timedelta:
        """For how long this officer has had the probe in front of them."""
        since = self._looks.get((officer.number, alert_id))
        return timedelta(0) if since is None else timedelta(seconds=(self._clock.monotonic_ns() - since) / NS_PER_S)

    def decide(self, alert_id: UUID, officer: Officer, *, engage: bool, reason: str) -> Case:
        """See :func:`edge.controlroom.cases.decide`."""
        minimum = timedelta(seconds=self.config.console.look_s)
        looked = self.looked(alert_id, officer)
        case = self.book.change(
            alert_id,
            lambda c: cases.decide(
                c, officer, engage=engage, reason=reason, looked=looked, minimum=minimum, now=self.now()
            ),
            self._told(officer),
        )
        self._decided(case, officer)
        return case

    def close(
        self,
        alert_id: UUID,
        officer: Officer,
        *,
        correct: bool | None,
        result: Result,
        demographics: Demographics | None = None,
    ) -> Case:
        """See :func:`edge.controlroom.cases.close`."""
        case = self.book.change(
            alert_id,
            lambda c: cases.close(
                c, officer, correct=correct, result=result, demographics=demographics, now=self.now()
            ),
            self._told(officer),
        )
        self._decided(case, officer)
        return case

    def sign_in(self, number: str, password: str) -> Officer:
        """Who this is, if they may work here today.

        Raises:
            SignInRefused: wrong number or password.
            TrainingLapsed: the training is out of date.
        """
        try:
            officer = self.book.authenticate(number, password)
            cases.require_trained(officer, self.now().date())
        except EdgeError as error:
            self._audit.record(
                Event.REFUSED, {"error": type(error).__name__, "thing": "sign-in", "cause": error.cause[:1000]}
            )
            raise
        return officer

    def _decided(self, case: Case, officer: Officer) -> None:
        verdict = str(case.state)
        if case.state is State.CLOSED:
            known = {True: "correct", False: "incorrect", None: "not known"}[case.correct]
            verdict = f"closed: {known}, {case.result}"
        self._audit.record(
            Event.ALERT_ADJUDICATED, {"alert": str(case.alert_id), "verdict": verdict, "by": officer.number}
        )
        if self.receiver is not None:
            self.receiver.wake()
        self.on_change()

    def _told(self, officer: Officer) -> Callable[[Case], tuple[str, bytes]]:
        def message(case: Case) -> tuple[str, bytes]:
            body = AdjudicationBody(
                alert_id=case.alert_id,
                van=case.van,
                state=str(case.state),  # type: ignore[arg-type]  # never new: somebody acted
                correct=case.correct,
                result=None if case.result is None else str(case.result),  # type: ignore[arg-type]
                by=officer.number,
                role=str(officer.role),  # type: ignore[arg-type]
                reason=case.reason,
                at=self.now(),
            )
            return topics.topic(case.van, topics.ADJUDICATION), ADJUDICATION.sign(body, self._signing_key)

        return message


def _siblings(config: ControlConfig) -> Mapping[str, list[str]]:
    if not config.console.siblings:
        return {}
    path = config.path(config.console.siblings)
    try:
        return msgspec.toml.decode(path.read_bytes(), type=dict[str, list[str]])
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigInvalid(
            str(path), f"is no list of siblings ({error})", 'Write lines such as "S-0042" = ["brother of S-0077"]'
        ) from None
