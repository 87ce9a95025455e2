"""Alerts that the control room has not got yet: one row each, committed before anything is published.

The outbox is a sealed store (:mod:`edge.trust.sealed`). Reserving the sequence number and writing the sealed message
are one transaction, so numbers have no gaps even over a SIGKILL between the two, and a row goes only once the alert
is known to be safe elsewhere (:mod:`edge.alert.publish` says when that is). A row past its expiry goes too, is
counted, and its number is reported: the control room sees a gap and the van says why.

When the disk or the outbox is full the alert is refused with an error before it is believed to be on its way:
the pipeline stops loudly rather than lose it. When the file is damaged, every method says so; :mod:`edge.alert.repair`
carries over what can still be read when the van starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from edge.alert.receipt import Held, message_digest
from edge.errors import SOFTWARE_FAULT, AlertRejected, OutboxFull, RecordInvalid, StoreUnavailable
from edge.records import Alert
from edge.trust.sealed import SealedStore, StoreConflict, StoreKind

__all__ = ["OUTBOX", "Counters", "Damage", "Outbox", "Pending"]

OUTBOX = StoreKind(
    name="the outbox",
    application_id=0x4C46524F,  # "LFRO"
    migrations=(
        # IF NOT EXISTS: outboxes of before versions were counted hold these tables already.
        """
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
        """,
        # A table of its own: the software in the van's other slot knows how many columns the book has.
        """
        CREATE TABLE damage (
            file    TEXT PRIMARY KEY,
            carried INTEGER NOT NULL,
            lost    INTEGER NOT NULL,
            told    INTEGER NOT NULL DEFAULT 0
        );
        """,
    ),
    damaged="Start the van again: what can still be read is carried over into a new one",
    refused="Check that it is this van's key; if it is, move the file away: what is in it cannot be sent any more",
)


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
    """The outbox in numbers since it was made: ``reserved == delivered + expired + lost + waiting``."""

    reserved: int
    delivered: int
    expired: int
    lost: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Damage:
    """What came of a damaged outbox.

    Attributes:
        file: name of the file that was kept aside, in the same folder.
        carried: undelivered alerts that could be read and are in the outbox again.
        lost: undelivered alerts that could not, as far as what was left of the file tells.
    """

    file: str
    carried: int
    lost: int


class Outbox:
    """See the module. One process opens it at a time; its methods may be called from any thread.

    Each method raises StoreDamaged where the file is not what was written, and StoreUnavailable where the disk refuses
    or the outbox is closed.

    Args:
        path: the store's file; made when it is not there.
        key: 32 bytes.
        van: the van whose sequence it keeps.
        limit: undelivered alerts at most.

    Raises:
        KeyUnusable: the key does not open it, or its first page is damaged.
        StoreDamaged: a page is not what was written; :func:`edge.alert.repair.open_outbox` mends that.
        WatchlistUnreadable: the file is a store of another kind, or of a later version.
        StoreUnavailable: the file cannot be made or read, or belongs to another van.
    """

    def __init__(self, path: Path, key: bytes, van: str, *, limit: int = 10_000) -> None:
        self._path = path
        self._limit = limit
        self._store = SealedStore(path, key, OUTBOX, create=True)
        try:
            owner = self._owner(van)
        except BaseException:
            self._store.close()
            raise
        if owner != van:
            self._store.close()
            raise anothers(path, owner, van)

    def _owner(self, van: str) -> str:
        with self._store.writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO book (one, van, reserved, delivered, expired) VALUES (1, ?, 0, 0, 0)", (van,)
            )
            return str(db.execute("SELECT van FROM book").fetchone()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._store.close()

    # -- alerts ----------------------------------------------------------------------------------

    def append(
        self,
        make: Callable[[int], Alert],
        seal: Callable[[Alert], bytes],
        allowed: Callable[[], None] = lambda: None,
    ) -> Alert:
        """Reserve the next number, make and seal the alert with it, and commit: all of it or nothing.

        Args:
            make: given the number, makes the alert.
            seal: turns it into the message.
            allowed: called last before the commit; what it raises undoes all of it.

        Raises:
            OutboxFull: as many undelivered alerts as allowed are waiting.
            RecordInvalid: the alert is in the outbox already.
            StoreDamaged, StoreUnavailable: nothing was reserved.
        """
        try:
            with self._store.writing() as db:
                waiting = db.execute("SELECT count(*) FROM outbox").fetchone()[0]
                if waiting >= self._limit:
                    raise OutboxFull(
                        str(self._path),
                        f"holds {waiting} undelivered alerts, as many as allowed",
                        "Restore the network connection to the control room; matching stops until then",
                    )
                sequence = db.execute("SELECT reserved FROM book").fetchone()[0] + 1
                alert = make(sequence)
                db.execute(
                    "INSERT INTO outbox VALUES (?, ?, ?, ?)",
                    (sequence, str(alert.alert_id), alert.expires_at.timestamp(), seal(alert)),
                )
                db.execute("UPDATE book SET reserved = ?", (sequence,))
                allowed()
        except StoreConflict:
            raise RecordInvalid("an alert", "was in the outbox already", SOFTWARE_FAULT) from None
        return alert

    def next(self, after: int = 0) -> Pending | None:
        """The oldest undelivered alert whose number is above ``after``, or None."""
        rows = self._store.read(
            "SELECT sequence, alert_id, expires_at, message FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT 1",
            (after,),
        )
        return next((Pending(row[0], UUID(row[1]), row[2], bytes(row[3])) for row in rows), None)

    def oldest(self) -> int | None:
        """The lowest number of an undelivered alert, or None."""
        found = self._store.read("SELECT min(sequence) FROM outbox")[0][0]
        return None if found is None else int(found)

    def waiting(self, through: int) -> int:
        """How many undelivered alerts have numbers up to ``through``."""
        return int(self._store.read("SELECT count(*) FROM outbox WHERE sequence <= ?", (through,))[0][0])

    def message(self, alert: UUID) -> bytes | None:
        """What is published for an alert; None when it is not here any more."""
        rows = self._store.read("SELECT message FROM outbox WHERE alert_id = ?", (str(alert),))
        return bytes(rows[0][0]) if rows else None

    def recognised(self, receipt: Iterable[Held]) -> tuple[list[UUID], list[AlertRejected]]:
        """Which alerts of a receipt are those that are waiting here, word for word, and what is wrong with the others.

        One that is not here any more is neither.
        """
        ours: list[UUID] = []
        strangers: list[AlertRejected] = []
        for held in receipt:
            message = self.message(held.alert_id)
            if message is None:
                continue
            if message_digest(message) == held.digest:
                ours.append(held.alert_id)
            else:
                strangers.append(
                    AlertRejected(
                        f"receipt of alert {held.alert_id}",
                        "is for another alert with the same identifier",
                        "Look for a second machine with this van's identity; the alert is sent again",
                    )
                )
        return ours, strangers

    def delivered(self, *alerts: UUID) -> int:
        """Remove alerts that are safe elsewhere; returns how many were still here.

        On an error they are sent again at worst: they stay, or they are gone but for the write-ahead log.
        """
        if not alerts:
            return 0
        marks = ", ".join("?" * len(alerts))
        return self._remove("delivered", f"alert_id IN ({marks})", *(str(alert) for alert in alerts))

    def drop_expired(self, now: datetime) -> int:
        """Remove alerts past their expiry and count them; returns how many."""
        stale = self._store.read("SELECT 1 FROM outbox WHERE expires_at <= ? LIMIT 1", (now.timestamp(),))
        return self._remove("expired", "expires_at <= ?", now.timestamp()) if stale else 0

    def _remove(self, column: str, where: str, *values: float | str) -> int:
        with self._store.writing() as db:
            gone = int(db.execute(f"DELETE FROM outbox WHERE {where}", values).rowcount)  # noqa: S608
            db.execute(f"UPDATE book SET {column} = {column} + ?", (gone,))  # noqa: S608
            empty = db.execute("SELECT 1 FROM outbox LIMIT 1").fetchone() is None
        if empty:
            self._store.fold()
        return gone

    def prove(self) -> None:
        """Return when an alert could be kept at this moment.

        Raises:
            StoreDamaged, StoreUnavailable: it could not.
        """
        self._store.prove()

    # -- what it says of itself --------------------------------------------------------------------

    def counters(self) -> Counters:
        """What has come of every number."""
        (row,) = self._store.read(
            "SELECT reserved, delivered, expired, (SELECT coalesce(sum(lost), 0) FROM damage), "
            "(SELECT count(*) FROM outbox) FROM book"
        )
        return Counters(*row)

    def damage(self) -> Damage | None:
        """The repair that nobody has been told of yet, or None. It is told once :meth:`told` was called."""
        rows = self._store.read("SELECT file, carried, lost FROM damage WHERE NOT told ORDER BY file LIMIT 1")
        return Damage(*rows[0]) if rows else None

    def told(self, damage: Damage) -> None:
        """Remember that ``damage`` is in the audit log."""
        with self._store.writing() as db:
            db.execute("UPDATE damage SET told = 1 WHERE file = ?", (damage.file,))


def anothers(path: Path, owner: str, van: str) -> StoreUnavailable:
    """The refusal of another van's outbox."""
    return StoreUnavailable(
        str(path), f"is the outbox of {owner}, not of {van}", "Correct van.id or store.directory in the configuration"
    )
