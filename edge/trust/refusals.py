"""What was not believed, in the audit log: each by its cause, and a flood of them by its number.

Whoever may publish may publish nonsense, as much and as fast as the network carries. Were all of it written down, the
log would fill the disk, and what is genuine would wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from edge.clock import NS_PER_S, Clock
from edge.errors import EdgeError
from edge.trust.events import MAX_TEXT, Event

__all__ = ["MOST", "SPAN_S", "Refusals"]

MOST, SPAN_S = 60, 60
"""So many are written down one by one in so many seconds; the next that is written down says how many were not."""


class Auditor(Protocol):
    """What is asked of an audit log; :class:`edge.trust.audit.AuditLog` is one."""

    def record(self, event: Event, data: Mapping[str, object]) -> object: ...


class Refusals:
    """See the module. May be called from any thread.

    Args:
        audit: takes them.
        clock: only its monotonic half is asked.
    """

    def __init__(self, audit: Auditor, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()
        self._since_ns: int | None = None
        self._written = self._unwritten = 0

    def note(self, error: EdgeError, thing: str = "") -> None:
        """Write a refusal down, or count it.

        Args:
            error: why.
            thing: what was refused, where the error does not say it best.

        Raises:
            StoreUnavailable: the log cannot be written.
        """
        with self._lock:
            now = self._clock.monotonic_ns()
            if self._since_ns is None or now - self._since_ns >= SPAN_S * NS_PER_S:
                self._since_ns, self._written = now, 0
            if self._written >= MOST:
                self._unwritten += 1
                return
            more = f"; {self._unwritten} before it were too many to be written down" if self._unwritten else ""
            self._audit.record(
                Event.REFUSED,
                {
                    "error": type(error).__name__,
                    "thing": (thing or error.thing)[:MAX_TEXT],
                    "cause": error.cause[: MAX_TEXT - len(more)] + more,
                },
            )
            self._written, self._unwritten = self._written + 1, 0
