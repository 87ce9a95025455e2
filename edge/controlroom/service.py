"""The control room behind its page: what arrives, what escalates, what is erased, and what is wrong with it.

What people see of alerts and do with them is :mod:`edge.controlroom.desk`.

Three workers run beside the page: the receiver, the escalation of what nobody opens, and the erasure of what is old.
A disk that refuses is said on the page, and tried again. Anything else that goes wrong in one of them turns the page
red, is written to the audit log and to the journal, and ends the process: see :meth:`ControlRoom.fail`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from edge.alert.publish import LinkState
from edge.clock import Clock, SystemClock
from edge.controlroom import cases
from edge.controlroom.config import ControlConfig
from edge.controlroom.desk import Desk
from edge.controlroom.numbering import Verdict
from edge.controlroom.receive import Arrived, LinkChanged, Receiver, ReceiverEvent, Refused, VanState, connect
from edge.controlroom.recovery import erase_kept, erase_unused, open_room_store
from edge.controlroom.seats import Seat
from edge.controlroom.signin import Auditor, SignIns
from edge.controlroom.store import AlertStore, Damage
from edge.errors import EdgeError, EnvironmentFault, StoreDamaged, WorkerFailed
from edge.officers import Officer
from edge.system.journal import get_logger
from edge.trust.audit import AuditLog
from edge.trust.events import Event
from edge.trust.keys import SigningKey
from edge.trust.refusals import Refusals
from edge.web.sessions import Session
from edge.worker import JOIN_S, Supervisor, Worker

__all__ = ["ControlRoom", "VanLine"]

NAME = "control-room-console"
LISTEN_S = 1.0
"""How long it is waited for word of another room before this one's end is looked for."""
ESCALATION_S, RETENTION_S = 1.0, 60.0
"""How often it is looked for what is to be escalated, and for what is to be erased."""
AGAIN_S = 5.0
"""How soon what could not be done is tried again, where it is not done more often anyway."""
SILENT_S = 60.0
"""Longer than either of them takes with a full store."""


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
        store: alerts with their pictures, cases and officers.
        audit: where views and decisions are written.
        signing_key: signs decisions.
        on_change: called after every change; must not block.
        clock: for looks, escalation and retention.
    """

    def __init__(
        self,
        config: ControlConfig,
        *,
        store: AlertStore,
        audit: Auditor,
        signing_key: SigningKey,
        on_change: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self.on_change = on_change
        self._audit = audit
        self._refusals = Refusals(audit, clock or SystemClock())
        self._clock: Clock = clock or SystemClock()
        self.desk = Desk(
            config.console, store, audit, signing_key, clock=self._clock, changed=self._changed, told=self._wake
        )
        self.sweep: Callable[[], None] = lambda: None
        """Ends the sessions that are no longer good; the page puts it here."""
        self.vans: dict[str, VanLine] = {}
        self.link = LinkState.STOPPED
        self.trouble: EdgeError | None = None
        self.refused = 0
        self.failure: WorkerFailed | None = None
        """Why the control room ends; the page shows it and nothing else matters any more."""
        self.delayed: dict[str, EnvironmentFault] = {}
        """What cannot be done at the moment and is tried again, by the name of the worker."""
        self.damages: list[Damage] = []
        self.sign_ins = SignIns(store.officers, audit, self._clock)
        self.receiver: Receiver | None = None
        self._supervisor: Supervisor | None = None
        self._workers: list[Worker] = []
        self._parts = ExitStack()

    @classmethod
    def open(cls, config: ControlConfig, clock: Clock | None = None) -> Self:
        """Open stores, keys and log as the configuration says; :meth:`start` begins to receive.

        Raises:
            EdgeError: a key, a store or the log cannot be used.
        """
        base = Path(config.base)
        signing_key = SigningKey.load(config.keys.signing, base)
        folder = config.path(config.store.directory)
        clock = clock or SystemClock()
        with ExitStack() as parts:
            # First the log: it lets nobody else in, and no other process may repair a store that this one works with.
            audit = AuditLog(
                folder / "audit.log", van="control-room", clock=clock, signer=signing_key, room=config.store.room
            )
            parts.callback(audit.close)
            store = open_room_store(config, clock, repair=True)
            parts.callback(store.close)
            store.seats.clear()
            room = cls(config, store=store, audit=audit, signing_key=signing_key, clock=clock)
            name = f"{NAME}-{store.room}" if store.room else NAME
            receiver = room.receiver = connect(config, name, store, room.hear, outgoing=store.to_vans, clock=clock)
            audit.publish_to(receiver.announce)
            room._report_damage()
            room._parts = parts.pop_all()
        return room

    def start(self, supervisor: Supervisor) -> None:
        """Begin to receive, to escalate and to erase."""
        assert self.receiver is not None
        self._supervisor = supervisor
        self.receiver.start(supervisor)
        self._workers = [
            supervisor.start(name, self._every(seconds, name, work), silent_s=SILENT_S)
            for name, seconds, work in (
                ("escalation", ESCALATION_S, self.escalate),
                ("retention", RETENTION_S, self.erase_due),
            )
        ]
        self._workers.append(self.sign_ins.start(supervisor))
        if self.store.shared is not None:
            self._workers.append(supervisor.start("other rooms", self._listen, silent_s=SILENT_S))

    def stop(self, timeout: float = JOIN_S) -> None:
        """End the workers and close everything; what a hanging worker may hold is left to the end of the process.

        Args:
            timeout: seconds that each worker may take.
        """
        for worker in self._workers:
            worker.ask_to_stop()
        ended = [worker.stop(timeout) for worker in self._workers]
        ended.append(self.receiver is None or self.receiver.stop(timeout))
        if all(ended):
            self._parts.close()

    def fail(self, failure: WorkerFailed) -> None:
        """Say that the control room ends: on the page, in the audit log and in the journal.

        For :class:`~edge.worker.Supervisor`; may be called from any thread.
        """
        self.failure = failure
        self.on_change()
        part = failure.thing.removeprefix("the ").removesuffix(" part")
        get_logger("control-room").error("service failed", failed=part, cause=failure.cause)
        try:
            self._audit.record(Event.SERVICE_FAILED, {"part": part, "cause": failure.cause[:1000]})
        except EdgeError as error:
            get_logger("control-room").error("service failed, and the audit log cannot be written", cause=str(error))

    def damaged(self, error: StoreDamaged) -> None:
        """Somebody who asked for a page met damage in the store: the control room ends, and repairs it at the start."""
        if self._supervisor is not None:
            self._supervisor.fail("store", error)

    def _every(self, seconds: float, name: str, work: Callable[[], object]) -> Callable[[Worker], None]:
        def body(worker: Worker) -> None:
            while not worker.stopping:
                before = self.delayed.get(name)
                try:
                    work()
                    self.delayed.pop(name, None)
                except StoreDamaged:
                    raise
                except EnvironmentFault as error:
                    self.delayed[name] = error
                if str(before) != str(self.delayed.get(name)):
                    self.on_change()
                worker.wait(min(seconds, AGAIN_S) if name in self.delayed else seconds)

        return body

    def _listen(self, worker: Worker) -> None:
        """Show what the other rooms do; where nobody says so any more, look once a second."""
        assert self.store.shared is not None
        with contextlib.closing(self.store.shared.ear()) as ear:
            while not worker.stopping:
                worker.beat()
                try:
                    heard = ear.wait(LISTEN_S)
                    heard = self.delayed.pop("other rooms", None) is not None or heard
                except EnvironmentFault as error:
                    self.delayed["other rooms"], heard = error, True
                    worker.wait(ESCALATION_S)
                if heard:
                    self._wake()
                    self.on_change()

    def _report_damage(self) -> None:
        for damage in self.store.unaudited_damages():
            words = {"store": damage.store, "kept": damage.kept, "carried": damage.carried, "lost": damage.lost}
            get_logger("control-room").error("store damaged", **words)
            self._audit.record(Event.STORE_DAMAGED, words)
            self.store.mark_audited(damage)
        self.damages = self.store.damages()

    def now(self) -> datetime:
        return self._clock.now()

    def _changed(self) -> None:
        self.on_change()

    def _wake(self) -> None:
        if self.receiver is not None:
            self.receiver.wake()

    # -- what arrives ----------------------------------------------------------------------------

    def hear(self, event: ReceiverEvent) -> None:
        """Take in what the receiver tells."""
        match event:
            case Arrived(alert, acceptance, received_at):
                line = self.vans.get(alert.van) or VanLine(alert.van, "online", received_at)
                if acceptance.missing or acceptance.verdict is not Verdict.NEW or line.missing:
                    line = replace(line, missing=len(self.store.missing(alert.van)))
                self.vans[alert.van] = line
            case Refused(topic, error):
                self.refused += 1
                self._refusals.note(error, topic)
            case VanState(body):
                missing = len(self.store.missing(body.van))
                self.vans[body.van] = VanLine(body.van, body.state, body.since, missing)
            case LinkChanged(state, trouble):
                self.link, self.trouble = state, trouble
            case _:
                return
        self.on_change()

    def signed_out(self, session: Session, cause: str) -> None:
        """A session has ended.

        Raises:
            StoreUnavailable: the audit log or the store cannot be written.
        """
        self._audit.record(Event.SIGNED_OUT, {"by": session.number, "cause": cause})
        self.store.seats.leave(session.seat)

    def sessions_of(self, officer: Officer) -> list[Seat]:
        """Where an officer is signed in; the log says that they looked."""
        self._audit.record(Event.SESSIONS_VIEWED, {"by": officer.number})
        return self.store.seats.all(officer.number)

    def end_session(self, officer: Officer, session: str) -> None:
        """An officer ends a session of their own.

        Raises:
            BadInput: they have no such session.
        """
        number = int(session) if session.isascii() and session.isdigit() and len(session) <= 18 else 0
        self.store.officers.sign_out(self.store.seats, officer.number, number, by=officer.number)
        self.sweep()

    def audit_staff(self) -> None:
        """Take over what was done to the list of officers from the command line."""
        self.store.officers.audit_changes(
            lambda at, officer, change, by: self._audit.record(
                Event.STAFF_CHANGED, {"officer": officer, "change": change, "by": by, "at": at}
            )
        )

    def escalate(self) -> None:
        """Escalate what was left unseen for too long, and take up what the command line has left in the store.

        Raises:
            StoreDamaged, StoreUnavailable: the store or the audit log cannot be written; nothing of it was done.
        """
        self.sweep()  # first: it ends sessions even where nothing can be written down
        self.audit_staff()
        if self.store.to_vans.audit_handed_over(
            lambda van, count, by: self._audit.record(
                Event.REVOCATIONS_HANDED_OVER, {"van": van, "count": count, "by": by}
            )
        ):
            self._wake()
        now, after = self.now(), timedelta(seconds=self.config.console.escalate_s)
        for case in self.store.cases(open_only=True):
            if not cases.due_for_escalation(case, now, after):
                continue
            with self.store.writing():
                changed = self.store.change(case.ref, lambda c: cases.escalate(c, now, after), lambda _: None)
                if changed.escalated_at == now:
                    self._audit.record(
                        Event.ALERT_ADJUDICATED, {"alert": str(case.ref), "verdict": "escalated", "by": "system"}
                    )
            self.on_change()

    def erase_due(self) -> None:
        """Erase alerts whose retention is over, damaged stores that were kept aside and those that no watch uses.

        Then the audit log's end is signed, and published: a watch on another machine keeps it.

        Raises:
            StoreDamaged, StoreUnavailable: the store or the audit log cannot be written.
        """
        hours = self.config.store.retention_h
        now, retention = self.now(), timedelta(hours=hours)
        erased = self.store.erase_due(now)
        if erased:
            self.desk.forget(erased)
            self._audit.record(
                Event.ALERTS_DELETED,
                {
                    "store": "control room",
                    "count": len(erased),
                    "cause": f"as their van said, {hours} hours at most",
                },
            )
        gone = erase_kept(self.store, now, retention)
        if gone:
            self.damages = self.store.damages()
        for name in erase_unused(self.store.path.parent, now, retention):
            cause = f"the whole store: no watch has used it for {hours} hours"
            self._audit.record(Event.ALERTS_DELETED, {"store": name, "count": 0, "cause": cause})
        self._audit.checkpoint()
        if erased or gone:
            self.on_change()
