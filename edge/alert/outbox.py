"""Alerts that the control room has not got yet: one row each, committed before anything is published.

The outbox is a sealed store (SQLCipher, ``synchronous=FULL``). Reserving the sequence number and writing the
sealed message are one transaction, so numbers have no gaps even over a SIGKILL between the two, and a row goes
only once the alert is known to be safe elsewhere (:mod:`edge.alert.publish` says when that is). A row past its
expiry goes too, is counted, and its number is reported: the control room sees a gap and the van says why.

When the disk or the outbox is full the alert is refused with an error before it is believed to be on its way:
the pipeline stops loudly rather than lose it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from sqlcipher3 import dbapi2

from edge.errors import OutboxFull, StoreUnavailable
from edge.records import Alert
from edge.trust.sealed import Connection, open_sealed, store_error, truncate_log

__all__ = ["Counters", "Outbox", "Pending"]

APPLICATION_ID = 0x4C46524F  # "LFRO"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    sequence   INTEGER PRIMARY KEY,
    alert_id   TEXT NOT NULL UNIQUE,
    expires_at REAL NOT NULL,
    message    BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS book (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    van       TEXT NOT NULL,
    reserved  INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    expired   INTEGER NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Pending:
    """One undelivered alert.

    Attributes:
        sequence: its number.
        alert_id: its identifier.
        expires_at: POSIX time after which it is stale.
        message: what is to be published, sealed.
    """

    sequence: int
    alert_id: UUID
    expires_at: float
    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Counters:
    """The outbox in numbers since it was made: ``reserved == delivered + expired + waiting``."""

    reserved: int
    delivered: int
    expired: int
    waiting: int


class Outbox:
    """See the module. One process opens it at a time; its methods may be called from any thread.

    Args:
        path: the store's file; made when it is not there.
        key: 32 bytes.
        van: the van whose sequence it keeps.
        limit: undelivered alerts at most.

    Raises:
        KeyUnusable: the key does not open it.
        StoreUnavailable: the file cannot be made or read, or belongs to another van.
    """

    def __init__(self, path: Path, key: bytes, van: str, *, limit: int = 10_000) -> None:
        self._path = path
        self._limit = limit
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise store_error(path, error) from None
        self._connection: Connection = open_sealed(path, key, application_id=APPLICATION_ID, create=True)
        try:
            self._connection.executescript(_SCHEMA)
            self._connection.execute("INSERT OR IGNORE INTO book VALUES (1, ?, 0, 0, 0)", (van,))
            owner = self._connection.execute("SELECT van FROM book").fetchone()[0]
        except dbapi2.DatabaseError as error:
            self._connection.close()
            raise store_error(path, error) from None
        if owner != van:
            self._connection.close()
            raise StoreUnavailable(
                str(path),
                f"is the outbox of {owner}, not of {van}",
                "Mend van.id or store.directory in the configuration",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def append(self, make: Callable[[int], Alert], seal: Callable[[Alert], bytes]) -> Alert:
        """Reserve the next number, make and seal the alert with it, and commit: all of it or nothing.

        Args:
            make: given the number, makes the alert.
            seal: turns it into the message.

        Raises:
            OutboxFull: as many undelivered alerts as allowed are waiting.
            StoreUnavailable: the disk refuses; nothing was reserved.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except dbapi2.DatabaseError as error:
                raise store_error(self._path, error) from None
            try:
                waiting = self._connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
                if waiting >= self._limit:
                    raise OutboxFull(
                        str(self._path),
                        f"holds {waiting} undelivered alerts, as many as allowed",
                        "Restore the way to the control room; matching stops until then",
                    )
                sequence = self._connection.execute("SELECT reserved FROM book").fetchone()[0] + 1
                alert = make(sequence)
                self._connection.execute(
                    "INSERT INTO outbox VALUES (?, ?, ?, ?)",
                    (sequence, str(alert.alert_id), alert.expires_at.timestamp(), seal(alert)),
                )
                self._connection.execute("UPDATE book SET reserved = ?", (sequence,))
                self._connection.execute("COMMIT")
            except dbapi2.DatabaseError as error:
                self._undo()
                raise store_error(self._path, error) from None
            except BaseException:
                self._undo()
                raise
            return alert

    def _undo(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def next(self, after: int = 0) -> Pending | None:
        """The oldest undelivered alert whose number is above ``after``, or None."""
        with self._lock:
            row = self._connection.execute(
                "SELECT sequence, alert_id, expires_at, message FROM outbox WHERE sequence > ? "
                "ORDER BY sequence LIMIT 1",
                (after,),
            ).fetchone()
        return None if row is None else Pending(row[0], UUID(row[1]), row[2], bytes(row[3]))

    def oldest(self) -> int | None:
        """The lowest number of an undelivered alert, or None."""
        with self._lock:
            row = self._connection.execute("SELECT min(sequence) FROM outbox").fetchone()
        return None if row[0] is None else int(row[0])

    def waiting(self, through: int) -> int:
        """How many undelivered alerts have numbers up to ``through``."""
        with self._lock:
            row = self._connection.execute("SELECT count(*) FROM outbox WHERE sequence <= ?", (through,)).fetchone()
        return int(row[0])

    def delivered(self, *alerts: UUID) -> int:
        """Remove alerts that are safe elsewhere; returns how many were still here.

        Raises:
            StoreUnavailable: the disk refuses; they stay and will be sent again.
        """
        if not alerts:
            return 0
        marks = ", ".join("?" * len(alerts))
        with self._lock:
            return self._remove("delivered", f"alert_id IN ({marks})", *(str(alert) for alert in alerts))

    def drop_expired(self, now: datetime) -> int:
        """Remove alerts past their expiry and count them; returns how many.

        Raises:
            StoreUnavailable: the disk refuses.
        """
        with self._lock:
            stale = self._connection.execute(
                "SELECT count(*) FROM outbox WHERE expires_at <= ?", (now.timestamp(),)
            ).fetchone()[0]
            return self._remove("expired", "expires_at <= ?", now.timestamp()) if stale else 0

    def _remove(self, column: str, where: str, *values: float | str) -> int:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            gone = int(self._connection.execute(f"DELETE FROM outbox WHERE {where}", values).rowcount)  # noqa: S608
            self._connection.execute(f"UPDATE book SET {column} = {column} + ?", (gone,))  # noqa: S608
            self._connection.execute("COMMIT")
            if not self._connection.execute("SELECT 1 FROM outbox LIMIT 1").fetchone():
                truncate_log(self._connection)
        except dbapi2.DatabaseError as error:
            self._undo()
            raise store_error(self._path, error) from None
        return gone

    def counters(self) -> Counters:
        with self._lock:
            row = self._connection.execute(
                "SELECT reserved, delivered, expired, (SELECT count(*) FROM outbox) FROM book"
            ).fetchone()
        return Counters(*row)
