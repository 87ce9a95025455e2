"""The control room behind its page: alerts have cases, people act on them, everything is written down.

Every view and decision goes into the audit log before its answer goes to the page. Decisions are signed and queued for
the van in the transaction that stores them, and it fails where the audit log cannot be written.

Three workers run beside the page: the receiver, the escalation of what nobody opens, and the erasure of what is old.
A disk that refuses is said on the page, and tried again. Anything else that goes wrong in one of them turns the page
red, is written to the audit log and to the journal, and ends the process: see :meth:`ControlRoom.fail`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from edge.alert import topics
from edge.alert.adjudication import ADJUDICATION, AdjudicationBody
from edge.alert.publish import LinkState
from edge.clock import NS_PER_S, Clock, SystemClock
from edge.controlroom import cases
from edge.controlroom.cases import Case, Demographics, NotYours, Officer, Result, State
from edge.controlroom.config import ControlConfig
from edge.controlroom.numbering import Verdict
from edge.controlroom.receive import Arrived, LinkChanged, Receiver, ReceiverEvent, Refused, VanState, connect
from edge.controlroom.recovery import erase_kept, erase_unused, open_room_store
from edge.controlroom.signin import Auditor, SignIns
from edge.controlroom.store import AlertStore, Damage, Stored
from edge.errors import BadInput, EdgeError, EnvironmentFault, StoreDamaged, WorkerFailed
from edge.records import AlertRef
from edge.system.journal import get_logger
from edge.trust.audit import AuditLog
from edge.trust.events import Event
from edge.trust.keys import SigningKey
from edge.trust.refusals import Refusals
from edge.worker import JOIN_S, Supervisor, Worker

__all__ = ["ControlRoom", "VanLine"]

NAME = "control-room-console"
ARCHIVE_AFTER = timedelta(minutes=10)
"""How long a closed case stays in the list."""
ESCALATION_S, RETENTION_S = 1.0, 60.0
"""How often it is looked for what is to be escalated, and for what is to be erased."""
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
        self._signing_key = signing_key
        self._clock: Clock = clock or SystemClock()
        self._looks: dict[tuple[str, AlertRef], dict[str, int]] = {}
        """When each of an alert's pictures was first handed to an officer, by the monotonic clock."""
        self._lock = threading.Lock()
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
            audit = AuditLog(folder / "audit.log", van="control-room", clock=clock, signer=signing_key)
            parts.callback(audit.close)
            store = open_room_store(config, clock, repair=True)
            parts.callback(store.close)
            room = cls(config, store=store, audit=audit, signing_key=signing_key, clock=clock)
            receiver = room.receiver = connect(config, NAME, store, room.hear, outgoing=store.to_vans, clock=clock)
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
                worker.wait(seconds)

        return body

    def _report_damage(self) -> None:
        for damage in self.store.unaudited_damages():
            words = {"store": damage.store, "kept": damage.kept, "carried": damage.carried, "lost": damage.lost}
            get_logger("control-room").error("store damaged", **words)
            self._audit.record(Event.STORE_DAMAGED, words)
            self.store.mark_audited(damage)
        self.damages = self.store.damages()

    def now(self) -> datetime:
        return self._clock.now()

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

    def signed_out(self, number: str, cause: str) -> None:
        """A session has ended.

        Raises:
            StoreUnavailable: the audit log cannot be written.
        """
        self._audit.record(Event.SIGNED_OUT, {"by": number, "cause": cause})

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
            with self._lock:
                self._looks = {key: looks for key, looks in self._looks.items() if key[1] not in set(erased)}
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

    # -- what people see and do ------------------------------------------------------------------

    def listed(self) -> list[Case]:
        """Cases for the list: open ones, unseen first, and those closed a moment ago; newest first."""
        now = self.now()
        shown = [c for c in self.store.cases() if c.closed_at is None or now - c.closed_at < ARCHIVE_AFTER]
        return sorted(shown, key=lambda c: (c.state is not State.NEW, -c.received_at.timestamp()))

    def open_alert(self, ref: AlertRef, officer: Officer) -> tuple[Case, Stored | None]:
        """An officer opens an alert: it counts as seen, the look begins, and the log says so.

        Raises:
            BadInput: there is no such alert.
        """
        with self.store.writing():
            case = self.store.change(ref, lambda c: cases.see(c, officer, self.now()), self._told(officer))
            stored = self.store.alert(ref)
            if stored is not None:
                self._audit.record(
                    Event.ENTRY_CONSULTED,
                    {
                        "list": stored.alert.watchlist,
                        "reference": stored.alert.reference,
                        "by": officer.number,
                        "purpose": f"alert {ref}",
                    },
                )
            else:
                self._audit.record(Event.ALERT_VIEWED, {"alert": str(ref), "what": "case", "by": officer.number})
        self.on_change()
        return case, stored

    def picture(self, ref: AlertRef, which: str, officer: Officer) -> bytes:
        """One of an alert's two pictures, ``probe`` or ``reference``; the log says so before it is handed out.

        Raises:
            BadInput: the alert is not known or its pictures were erased.
            NotYours: the list's picture was asked for first.
        """
        stored = self.store.alert(ref)
        if which not in {"probe", "reference"}:
            raise BadInput(f"picture {which}", "is not one that an alert has", "Open the alert from the list")
        if stored is None:
            raise BadInput(
                f"alert {ref}",
                "has no pictures any more: they were erased when their retention was over",
                "Ask the van's crew",
            )
        key = (officer.number, ref)
        if which == "reference" and "probe" not in self._looks.get(key, {}):
            raise NotYours(
                f"alert {ref}", "shows the camera's picture before the list's", "Open the alert from the list"
            )
        self._audit.record(Event.ALERT_VIEWED, {"alert": str(ref), "what": which, "by": officer.number})
        with self._lock:
            self._looks.setdefault(key, {}).setdefault(which, self._clock.monotonic_ns())
        return stored.alert.probe_jpeg if which == "probe" else stored.alert.reference_jpeg

    def looked(self, ref: AlertRef, officer: Officer) -> timedelta:
        """For how long this officer has had both pictures in front of them."""
        since = self._looks.get((officer.number, ref), {}).get("reference")
        return timedelta(0) if since is None else timedelta(seconds=(self._clock.monotonic_ns() - since) / NS_PER_S)

    def decide(self, ref: AlertRef, officer: Officer, *, engage: bool, reason: str) -> Case:
        """See :func:`edge.controlroom.cases.decide`."""
        minimum = timedelta(seconds=self.config.console.look_s)
        looked = self.looked(ref, officer)
        return self._decided(
            ref,
            officer,
            lambda c: cases.decide(
                c, officer, engage=engage, reason=reason, looked=looked, minimum=minimum, now=self.now()
            ),
        )

    def close(
        self,
        ref: AlertRef,
        officer: Officer,
        *,
        correct: bool | None,
        result: Result,
        demographics: Demographics | None = None,
    ) -> Case:
        """See :func:`edge.controlroom.cases.close`."""
        return self._decided(
            ref,
            officer,
            lambda c: cases.close(
                c, officer, correct=correct, result=result, demographics=demographics, now=self.now()
            ),
        )

    def _decided(self, ref: AlertRef, officer: Officer, rule: Callable[[Case], Case]) -> Case:
        with self.store.writing():  # what is not in the log was not decided
            case = self.store.change(ref, rule, self._told(officer))
            verdict = str(case.state)
            if case.state is State.CLOSED:
                known = {True: "correct", False: "incorrect", None: "not known"}[case.correct]
                verdict = f"closed: {known}, {case.result}"
            self._audit.record(Event.ALERT_ADJUDICATED, {"alert": str(ref), "verdict": verdict, "by": officer.number})
        self._wake()
        self.on_change()
        return case

    def _wake(self) -> None:
        if self.receiver is not None:
            self.receiver.wake()

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
