"""What the control room holds of alerts: each once, sealed on disk, and no longer than its retention.

An alert is accepted in one transaction and only then acknowledged to the broker; what comes again (the broker
or a van repeats after an outage) is known by its identifier. Identifiers and numbers outlive the pictures by
as long as a late repeat could still be in date, so that nothing old can come back as new.

Sequence numbers tell what is missing: a number that was skipped is remembered until it arrives. A van whose
outbox was made anew starts again from 1; that is reported and its numbering begins afresh.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from sqlcipher3 import dbapi2

from edge.errors import StoreUnavailable
from edge.records import Alert
from edge.trust.sealed import Connection, open_sealed, store_error, truncate_log

__all__ = ["Acceptance", "Inbox", "Stored", "Verdict"]

APPLICATION_ID = 0x4C465249  # "LFRI"
MEMORY = timedelta(days=15)
"""How long an identifier is remembered after its alert expired: longer than any broker keeps a message."""
MOST_MISSING = 100_000
"""Missing numbers remembered per jump; a larger jump is reported but not listed."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS known (
    alert_id   TEXT PRIMARY KEY,
    van        TEXT NOT NULL,
    sequence   INTEGER NOT NULL,
    expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS alerts (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id    TEXT NOT NULL UNIQUE,
    received_at REAL NOT NULL,
    shown       INTEGER NOT NULL DEFAULT 0,
    body        BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS vans (van TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS missing (van TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (van, sequence));
"""


class Verdict(StrEnum):
    """What an authentic alert turned out to be."""

    NEW = "new"
    LATE = "late"
    """Its number had been missing."""
    DUPLICATE = "duplicate"
    RESTARTED = "restarted"
    """The van's numbering began again."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How an alert was taken in.

    Attributes:
        verdict: see :class:`Verdict`.
        missing: first and last number that were skipped right before this one, or None.
    """

    verdict: Verdict
    missing: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An alert as the inbox holds it.

    Attributes:
        number: order of arrival, counting from 1 and never used twice.
        received_at: when it was accepted, UTC.
        alert: the alert.
    """

    number: int
    received_at: datetime
    alert: Alert


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Alert)


class Inbox:
    """See the module. Its methods may be called from any thread.

    Raises:
        KeyUnusable: the key does not open it.
        StoreUnavailable: the file cannot be made or read.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise store_error(path, error) from None
        self._connection: Connection = open_sealed(path, key, application_id=APPLICATION_ID, create=True)
        try:
            self._connection.executescript(_SCHEMA)
        except dbapi2.DatabaseError as error:
            self._connection.close()
            raise store_error(path, error) from None

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Take in what is accepted inside as one transaction: one write to the disk instead of many.

        Raises:
            StoreUnavailable: the disk refuses; nothing of the batch was stored, and none of it may be acknowledged.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except dbapi2.DatabaseError as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise store_error(self._path, error) from None

    def accept(self, alert: Alert, now: datetime) -> Acceptance:
        """Take an authentic alert in, unless it is known already.

        Raises:
            StoreUnavailable: the disk refuses; the alert must not be acknowledged.
        """
        with self._lock:
            if self._connection.in_transaction:
                try:
                    return self._accept(alert, now)
                except dbapi2.DatabaseError as error:
                    raise store_error(self._path, error) from None
            with self.batch():
                return self._accept(alert, now)

    def _accept(self, alert: Alert, now: datetime) -> Acceptance:
        run = self._connection.execute
        if run("SELECT 1 FROM known WHERE alert_id = ?", (str(alert.alert_id),)).fetchone():
            return Acceptance(Verdict.DUPLICATE)
        run(
            "INSERT INTO known VALUES (?, ?, ?, ?)",
            (str(alert.alert_id), alert.van, alert.sequence, alert.expires_at.timestamp()),
        )
        run(
            "INSERT INTO alerts (alert_id, received_at, body) VALUES (?, ?, ?)",
            (str(alert.alert_id), now.timestamp(), _ENCODER.encode(asdict(alert))),
        )
        row = run("SELECT last FROM vans WHERE van = ?", (alert.van,)).fetchone()
        if row is None or alert.sequence > row[0]:
            # A van that this inbox has never heard may have spoken before: its first number is no gap.
            run("INSERT OR REPLACE INTO vans VALUES (?, ?)", (alert.van, alert.sequence))
            if row is None or alert.sequence == row[0] + 1:
                return Acceptance(Verdict.NEW)
            first, last = row[0] + 1, alert.sequence - 1
            listed = range(first, min(last, first + MOST_MISSING) + 1)
            self._connection.executemany("INSERT INTO missing VALUES (?, ?)", ((alert.van, n) for n in listed))
            return Acceptance(Verdict.NEW, (first, last))
        found = run("DELETE FROM missing WHERE van = ? AND sequence = ?", (alert.van, alert.sequence)).rowcount
        if found:
            return Acceptance(Verdict.LATE)
        run("UPDATE vans SET last = ? WHERE van = ?", (alert.sequence, alert.van))
        run("DELETE FROM missing WHERE van = ?", (alert.van,))
        return Acceptance(Verdict.RESTARTED)

    def missing(self, van: str) -> list[int]:
        """Numbers of this van that were skipped and have not arrived since."""
        with self._lock:
            rows = self._connection.execute("SELECT sequence FROM missing WHERE van = ? ORDER BY sequence", (van,))
            return [row[0] for row in rows]

    def unshown(self) -> list[Stored]:
        """Alerts that were accepted but not shown: left over from an end at a bad moment."""
        return self._select("WHERE shown = 0 ORDER BY number", ())

    def shown(self, *alert_ids: UUID) -> None:
        """Remember that a person or a program has been shown these alerts.

        Raises:
            StoreUnavailable: the disk refuses.
        """
        with self.batch():
            self._connection.executemany(
                "UPDATE alerts SET shown = 1 WHERE alert_id = ?", [(str(alert_id),) for alert_id in alert_ids]
            )

    def get(self, alert_id: UUID) -> Stored | None:
        """The alert of this identifier, unless it was erased."""
        found = self._select("WHERE alert_id = ?", (str(alert_id),))
        return found[0] if found else None

    def all(self) -> list[Stored]:
        """Every alert that is held, in order of arrival."""
        return self._select("ORDER BY number", ())

    def erase_due(self, now: datetime, retention: timedelta) -> list[UUID]:
        """Erase the alerts that were received longer than ``retention`` ago; returns their identifiers.

        Raises:
            StoreUnavailable: the disk refuses.
        """
        with self._lock:
            try:
                due = (now - retention).timestamp()
                rows = self._connection.execute("SELECT alert_id FROM alerts WHERE received_at <= ?", (due,)).fetchall()
                self._connection.execute("DELETE FROM alerts WHERE received_at <= ?", (due,))
                self._connection.execute("DELETE FROM known WHERE expires_at <= ?", ((now - MEMORY).timestamp(),))
                if rows:
                    truncate_log(self._connection)
            except dbapi2.DatabaseError as error:
                raise store_error(self._path, error) from None
        return [UUID(row[0]) for row in rows]

    def _select(self, where: str, values: tuple[Any, ...]) -> list[Stored]:
        with self._lock:
            rows = self._connection.execute(f"SELECT number, received_at, body FROM alerts {where}", values).fetchall()  # noqa: S608
        try:
            return [Stored(row[0], _moment(row[1]), _DECODER.decode(row[2])) for row in rows]
        except msgspec.DecodeError:
            raise StoreUnavailable(str(self._path), "holds an alert of another version", "Use a new folder") from None


def _moment(posix: float) -> datetime:
    return datetime.fromtimestamp(posix, UTC)
