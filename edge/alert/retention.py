"""Alerts are kept no longer than the authority allows: swept at the start and every minute, and said in the log.

Each store knows how to delete what is due, out of its pages and its write-ahead log; the sweeper asks all of
them with the retention that is in force and writes down how many went. Without an authority the default
holds: nothing is kept for longer because nobody said for how long.

A damaged store that was kept aside holds sealed alerts as well, and goes in the same way: :func:`shred_set_aside`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from edge.clock import Clock
from edge.custody.shred import shred
from edge.errors import EdgeError, StoreDamaged
from edge.trust.audit import AuditLog
from edge.trust.events import Event
from edge.trust.sealed import damaged_files, is_due, set_aside_at
from edge.worker import Supervisor, Worker

__all__ = ["DEFAULT_RETENTION", "LONGEST_RETENTION", "Purge", "Sweeper", "shred_set_aside"]

DEFAULT_RETENTION = timedelta(hours=24)
LONGEST_RETENTION = timedelta(days=31)
"""South Wales Police, LFR SOP: alerts are deleted within 31 days, by default within 24 hours."""
PERIOD_S = 60.0
SILENT_S = 30.0

Purge = Callable[[datetime, timedelta], int]
"""Deletes what is older than a span at a moment, for good, and returns how many."""


def shred_set_aside(store: Path, *, held_before: timedelta = timedelta()) -> Purge:
    """Shreds the damaged files that were kept aside of ``store``, and counts the files.

    Args:
        store: the path that the store had and that its successor has.
        held_before: how long the oldest alert in such a file may have been in there when it was set aside. Its age
            counts from then.
    """

    def purge(now: datetime, span: timedelta) -> int:
        age = max(timedelta(), span - held_before)
        due = [file for file in damaged_files(store) if is_due(set_aside_at(file), age, now)]
        return sum(shred(file) for file in due)

    return purge


class Sweeper:
    """Sweeps stores of alerts.

    Args:
        stores: what to sweep, by the name that the log gives it.
        clock: for the moment.
        audit: told of every deletion.
        retention: asked each time; None means the default. Never more than 31 days, whatever it says.
        clock_confirmed: whether the clock may be believed; while it may not, nothing is deleted by it.
        on_error: told when a store could not be swept; the others are swept all the same.
    """

    def __init__(
        self,
        stores: Mapping[str, Purge],
        *,
        clock: Clock,
        audit: AuditLog,
        retention: Callable[[], timedelta | None] = lambda: None,
        clock_confirmed: Callable[[], bool] = lambda: True,
        on_error: Callable[[EdgeError], None] | None = None,
    ) -> None:
        self._stores = dict(stores)
        self._clock = clock
        self._audit = audit
        self._retention = retention
        self._clock_confirmed = clock_confirmed
        self._on_error = on_error
        self._worker: Worker | None = None

    def sweep(self) -> int:
        """Sweep every store now; returns how many alerts went.

        Raises:
            StoreDamaged: a store is not what was written: no later sweep would mend that.
        """
        if not self._clock_confirmed():
            return 0
        retention = min(self._retention() or DEFAULT_RETENTION, LONGEST_RETENTION)
        total = 0
        for name, purge in self._stores.items():
            try:
                count = purge(self._clock.now(), retention)
                if count:
                    hours = round(retention.total_seconds() / 3600)
                    deleted = {"store": name, "count": count, "cause": f"older than {hours} hours"}
                    self._audit.record(Event.ALERTS_DELETED, deleted)
            except StoreDamaged:
                raise
            except EdgeError as error:
                if self._on_error is not None:
                    self._on_error(error)
                continue
            total += count
        return total

    def start(self, workers: Supervisor) -> None:
        """Sweep at once, and then every minute."""
        self.sweep()
        self._worker = workers.start("retention", self._run, silent_s=SILENT_S)

    def _run(self, worker: Worker) -> None:
        while not worker.wait(PERIOD_S):
            self.sweep()

    def stop(self) -> None:
        """Sweep no more."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
