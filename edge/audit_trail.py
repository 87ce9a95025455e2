"""What the running van writes into its audit log, and when: starts, alerts, erasure totals, refusals, stops.

Erasures are written as totals per minute, not one by one: a line per passer-by with its time would be a
record of when people walked past.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from uuid import UUID

from edge import __version__, state
from edge.alert.adjudication import AdjudicationBody
from edge.alert.outbox import Damage
from edge.clock import Clock
from edge.errors import CustodyBreached, EdgeError, WorkerFailed
from edge.records import Alert, ErasureReceipt
from edge.trust.audit import AuditLog
from edge.trust.events import MAX_TEXT, Event
from edge.trust.refusals import Refusals

__all__ = ["AuditTrail"]

PERIOD = timedelta(minutes=1)


class AuditTrail:
    """Writes the van's events. Its methods may be called from any thread.

    Args:
        audit: the log.
        clock: for the minute's edges.
        recipients: who can read the alerts, by key identifier.
    """

    def __init__(self, audit: AuditLog, clock: Clock, recipients: tuple[str, ...] = ()) -> None:
        self._audit = audit
        self._clock = clock
        self._recipients = recipients
        self._refusals = Refusals(audit, clock)
        self._decided: set[tuple[UUID, datetime]] = set()
        self._lock = threading.Lock()
        self._since = clock.now()
        self._count = 0
        self._longest_ms = 0.0
        self._overdue = 0
        self._cameras: set[str] = set()

    def started(self, model: str, threshold: float) -> None:
        """Matching begins."""
        self._audit.record(
            Event.STARTED, {"version": __version__, "model": model, "threshold_micro": round(threshold * 1_000_000)}
        )

    def alert(self, alert: Alert) -> None:
        """An alert was committed for the control room."""
        self._audit.record(
            Event.ALERT_SENT,
            {"alert": str(alert.alert_id), "reference": alert.reference, "to": list(self._recipients)},
        )

    def forgotten(self, receipt: ErasureReceipt) -> None:
        """A passage was forgotten: it enters the minute's totals."""
        with self._lock:
            self._count += 1
            self._longest_ms = max(self._longest_ms, receipt.held_after_last_seen_ms)

    def turn(self, overdue: int, *, final: bool = False) -> None:
        """Write the totals when a minute is over, or at the end."""
        now = self._clock.now()
        with self._lock:
            if not final and now - self._since < PERIOD:
                return
            begun, count, longest, late = self._since, self._count, self._longest_ms, overdue - self._overdue
            self._since, self._count, self._longest_ms, self._overdue = now, 0, 0.0, overdue
        if count or late:
            self._audit.record(
                Event.ERASURES,
                {
                    "from": _moment(begun),
                    "to": _moment(now),
                    "count": count,
                    "longest_ms": round(longest),
                    "overdue": late,
                },
            )

    def breached(self, breach: CustodyBreached) -> None:
        """Something biometric outlived its deadline."""
        self._audit.record(Event.CUSTODY_BREACHED, {"cause": str(breach)[:MAX_TEXT]})

    def refused(self, error: EdgeError) -> None:
        """Matching was refused, or had to stop."""
        self._audit.record(
            Event.REFUSED,
            {"error": type(error).__name__, "thing": error.thing[:MAX_TEXT], "cause": error.cause[:MAX_TEXT]},
        )

    def camera(self, event: state.Event) -> None:
        """What is wrong with the camera from now on, or is not any more; ``event`` is of its part."""
        if isinstance(event, state.Trouble):
            self._cameras.add(event.key)
            said = {**_which(event.key), "cause": event.why[:MAX_TEXT]}
            self._audit.record(Event.CAMERA_TROUBLE, said)
        elif isinstance(event, state.Fine) and event.key in self._cameras:
            self._cameras.discard(event.key)
            self._audit.record(Event.CAMERA_FINE, _which(event.key))

    def signed_in(self, by: str, role: str, place: str) -> None:
        """An officer signs in on the crew's page."""
        self._audit.record(Event.SIGNED_IN, {"by": by, "role": role, "from": place})

    def signed_out(self, by: str, cause: str) -> None:
        """A session on the crew's page has ended."""
        self._audit.record(Event.SIGNED_OUT, {"by": by, "cause": cause})

    def sign_in_refused(self, by: str, error: str, place: str, unlogged: int) -> None:
        """Somebody was refused on the crew's page."""
        said = {"by": by, "error": error, "from": place, "unlogged": unlogged}
        self._audit.record(Event.SIGN_IN_REFUSED, said)

    def disbelieved(self, error: EdgeError) -> None:
        """A message was refused. Whoever has the broker may send as many as they like: a flood is counted."""
        self._refusals.note(error)

    def damaged(self, store: str, damage: Damage) -> None:
        """A store was found damaged at the start and made anew from what could be read."""
        self._audit.record(
            Event.STORE_DAMAGED,
            {"store": store, "kept": damage.file, "carried": damage.carried, "lost": _alerts(damage.lost)},
        )

    def adjudicated(self, decision: AdjudicationBody) -> None:
        """A person decided on an alert of this van; said again, by the broker or by who has it, it is written once."""
        said = (decision.alert_id, decision.at)
        if said in self._decided:
            return
        verdict = decision.state if decision.result is None else f"{decision.state}: {decision.result}"
        if decision.correct is not None:
            verdict += ", correct" if decision.correct else ", incorrect"
        self._audit.record(
            Event.ALERT_ADJUDICATED, {"alert": str(decision.alert_id), "verdict": verdict, "by": decision.by}
        )
        self._decided.add(said)

    def failed(self, failure: WorkerFailed) -> None:
        """A part of the service died, ended or hangs."""
        self._audit.record(Event.SERVICE_FAILED, {"part": failure.thing[:MAX_TEXT], "cause": failure.cause[:MAX_TEXT]})

    def stopped(self, cause: str) -> None:
        """Matching has ended; what is not signed yet is signed."""
        self._audit.record(Event.STOPPED, {"cause": cause[:MAX_TEXT]})
        self._audit.checkpoint()


def _which(key: str) -> dict[str, str]:
    camera, _, what = key.partition("/")
    return {"camera": camera, "what": what or "connection"}


def _alerts(count: int) -> str:
    return {0: "nothing", 1: "1 alert"}.get(count, f"{count} alerts")


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
