"""What people see of alerts, and do with them. Everything is written down.

Every view and decision goes into the audit log before its answer goes to the page. Decisions are signed and queued for
the van in the transaction that stores them, and it fails where the audit log cannot be written. The rules of it are in
:mod:`edge.controlroom.cases`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta

from edge.alert import topics
from edge.alert.adjudication import ADJUDICATION, AdjudicationBody
from edge.clock import NS_PER_S, Clock
from edge.controlroom import cases
from edge.controlroom.cases import Case, Demographics, NotYours, Result, State
from edge.controlroom.config import ConsoleSection
from edge.controlroom.history import Asked, Found, search
from edge.controlroom.signin import Auditor
from edge.controlroom.store import AlertStore, Stored
from edge.controlroom.summaries import Line
from edge.errors import BadInput
from edge.officers import Officer
from edge.records import AlertRef
from edge.trust.events import Event
from edge.trust.keys import SigningKey

__all__ = ["Desk"]

ARCHIVE_AFTER = timedelta(minutes=10)
"""How long a closed case stays in the list; after that it is in the history."""
PICTURES = {"probe": "probe", "reference": "reference", "thumb": "thumbnail"}
"""What is handed out, as the page asks for it and as the log names it. A thumbnail is the probe, shown small."""


class Desk:
    """See the module. Its methods may be called from any thread.

    Args:
        console: how long pictures are looked at, and so on.
        store: alerts with their pictures, and cases.
        audit: where views and decisions are written.
        signing_key: signs decisions.
        clock: for looks.
        changed: called after every change; must not block.
        told: called when there is something to be sent to a van.
    """

    def __init__(
        self,
        console: ConsoleSection,
        store: AlertStore,
        audit: Auditor,
        signing_key: SigningKey,
        *,
        clock: Clock,
        changed: Callable[[], None],
        told: Callable[[], None],
    ) -> None:
        self._console = console
        self._store = store
        self._audit = audit
        self._signing_key = signing_key
        self._clock = clock
        self._changed = changed
        self._wake = told
        self._looks: dict[tuple[str, AlertRef], dict[str, int]] = {}
        """When each of an alert's pictures was first handed to an officer, by the monotonic clock."""
        self._lock = threading.Lock()

    def forget(self, erased: Iterable[AlertRef]) -> None:
        """These alerts have no pictures any more: nobody looks at them."""
        gone = set(erased)
        with self._lock:
            self._looks = {key: looks for key, looks in self._looks.items() if key[1] not in gone}

    def listed(self) -> list[Line]:
        """Lines for the list: what is to be done, the oldest first; at the end what was closed a moment ago.

        Unseen alerts come first, then those that nobody has decided on, then those with an outcome to come.
        """
        now = self._clock.now()

        def place(line: Line) -> tuple[int, float]:
            case = line.case
            if case.closed_at is not None:
                return 4, -case.closed_at.timestamp()
            since = case.decided_at if case.state in {State.ENGAGE, State.DO_NOT_ENGAGE} else case.received_at
            assert since is not None  # a decision has its moment
            return list(State).index(case.state), since.timestamp()

        shown = (
            line
            for line in self._store.summaries.lines()
            if line.case.closed_at is None or now - line.case.closed_at < ARCHIVE_AFTER
        )
        return sorted(shown, key=place)

    def history(self, asked: Asked, officer: Officer) -> Found:
        """Closed cases whose retention is not over and that are asked for; the log says which were shown."""
        closed = [line for line in self._store.summaries.lines() if line.case.closed_at is not None]
        found = search(closed, asked)
        seen = {"by": officer.number, "asked": asked.named(), "alerts": [str(line.case.ref) for line in found.lines]}
        self._audit.record(Event.HISTORY_VIEWED, seen)
        return found

    def open_alert(self, ref: AlertRef, officer: Officer) -> tuple[Case, Stored | None]:
        """An officer opens an alert: it counts as seen, the look begins, and the log says so.

        Raises:
            BadInput: there is no such alert, or it is closed and its retention is over.
        """
        with self._store.writing():
            case = self._store.change(ref, lambda c: cases.see(c, officer, self._clock.now()), self._told(officer))
            stored = self._store.alert(ref)
            if stored is None and case.closed_at is not None:
                raise BadInput(
                    f"alert {ref}", "is not shown any more: its retention is over", "Look for another in the list"
                )
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
        self._changed()
        return case, stored

    def picture(self, ref: AlertRef, which: str, officer: Officer) -> bytes:
        """One of an alert's pictures, ``probe``, ``reference`` or ``thumb``; the log says so before it is handed out.

        Raises:
            BadInput: the alert is not known or its pictures were erased.
            NotYours: the list's picture was asked for first.
        """
        stored = self._store.alert(ref)
        if which not in PICTURES:
            raise BadInput(f"picture {which}", "is not one that an alert has", "Open the alert from the list")
        if stored is None:
            raise BadInput(
                f"alert {ref}",
                "has no pictures any more: their retention was over, or the store was damaged",
                "Ask the van's crew",
            )
        key = (officer.number, ref)
        if which == "reference" and "probe" not in self._looks.get(key, {}):
            raise NotYours(
                f"alert {ref}", "shows the camera's picture before the list's", "Open the alert from the list"
            )
        self._audit.record(Event.ALERT_VIEWED, {"alert": str(ref), "what": PICTURES[which], "by": officer.number})
        if which == "thumb":  # too small to count as a look
            return stored.alert.probe_jpeg
        with self._lock:
            self._looks.setdefault(key, {}).setdefault(which, self._clock.monotonic_ns())
        return stored.alert.probe_jpeg if which == "probe" else stored.alert.reference_jpeg

    def looked(self, ref: AlertRef, officer: Officer) -> timedelta:
        """For how long this officer has had both pictures in front of them."""
        since = self._looks.get((officer.number, ref), {}).get("reference")
        return timedelta(0) if since is None else timedelta(seconds=(self._clock.monotonic_ns() - since) / NS_PER_S)

    def decide(self, ref: AlertRef, officer: Officer, *, engage: bool, reason: str, was: str | None = None) -> Case:
        """See :func:`edge.controlroom.cases.decide`, and for ``was`` :func:`edge.controlroom.cases.require_unchanged`.

        None: whoever decides has not been shown a case, and takes it as it stands.
        """

        def rule(case: Case) -> Case:
            if was is not None:
                cases.require_unchanged(case, was)
            return cases.decide(
                case, officer, engage=engage, reason=reason, looked=looked, minimum=minimum, now=self._clock.now()
            )

        minimum = timedelta(seconds=self._console.look_s)
        looked = self.looked(ref, officer)
        return self._decided(ref, officer, rule)

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
                c, officer, correct=correct, result=result, demographics=demographics, now=self._clock.now()
            ),
        )

    def _decided(self, ref: AlertRef, officer: Officer, rule: Callable[[Case], Case]) -> Case:
        with self._store.writing():  # what is not in the log was not decided
            case = self._store.change(ref, rule, self._told(officer))
            verdict = str(case.state)
            if case.state is State.CLOSED:
                known = {True: "correct", False: "incorrect", None: "not known"}[case.correct]
                verdict = f"closed: {known}, {case.result}"
            self._audit.record(Event.ALERT_ADJUDICATED, {"alert": str(ref), "verdict": verdict, "by": officer.number})
        self._wake()
        self._changed()
        return case

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
                at=self._clock.now(),
            )
            return topics.topic(case.van, topics.ADJUDICATION), ADJUDICATION.sign(body, self._signing_key)

        return message
