"""What the control room holds, in one sealed store: alerts with their pictures, their cases, what goes to the vans.

An alert and its case are stored in one transaction, and only what is stored is confirmed to the van: an alert that
has its receipt is on the page, whatever happens in between. What comes again (the broker or a van repeats after an
outage) is known by its van, its identifier and the digest of its message. They outlive the pictures by as long as a
late repeat could still be in date, so that nothing old can come back as new. Cases hold no picture and stay for the
record.

An alert is kept until the moment that the van signed into it, and no longer than this control room keeps any. From
then on it is not read any more, even where nothing has erased it yet.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

import msgspec

from edge.clock import Clock, SystemClock
from edge.controlroom.cases import Case, open_case
from edge.controlroom.numbering import Acceptance, Verdict, follow
from edge.controlroom.officers import Officers
from edge.controlroom.seats import TABLES as SEATS
from edge.controlroom.seats import Seats
from edge.controlroom.summaries import TABLES as SUMMARIES
from edge.controlroom.summaries import Summaries
from edge.controlroom.to_vans import TABLES, ToVans
from edge.errors import BadInput, StoreUnavailable
from edge.records import Alert, AlertRef
from edge.trust.sealed import Connection, SealedStore, StoreKind

__all__ = ["KIND", "AlertStore", "Damage", "Stored", "name_rows"]

Kind = TypeVar("Kind")
MEMORY = timedelta(days=15)
"""How long an identifier is remembered after its alert expired: longer than any broker keeps a message."""

_SCHEMA = """
CREATE TABLE known (
    alert_id   TEXT PRIMARY KEY,
    van        TEXT NOT NULL,
    sequence   INTEGER NOT NULL,
    expires_at REAL NOT NULL
);
CREATE TABLE alerts (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id    TEXT NOT NULL UNIQUE,
    received_at REAL NOT NULL,
    shown       INTEGER NOT NULL,
    body        BLOB NOT NULL
);
CREATE TABLE vans (van TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE missing (van TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (van, sequence));
CREATE TABLE cases (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id TEXT NOT NULL UNIQUE,
    open     INTEGER NOT NULL,
    body     BLOB NOT NULL
);
CREATE TABLE officers (
    number        TEXT PRIMARY KEY,
    role          TEXT NOT NULL,
    trained_until TEXT NOT NULL,
    password      TEXT NOT NULL
);
CREATE TABLE outgoing (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    topic   TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE damage (
    kept    TEXT PRIMARY KEY,
    at      REAL NOT NULL,
    store   TEXT NOT NULL,
    carried INTEGER NOT NULL,
    lost    TEXT NOT NULL,
    audited INTEGER NOT NULL DEFAULT 0
);
"""
_STAFF = """
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE staff_changes (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    at      TEXT NOT NULL,
    officer TEXT NOT NULL,
    change  TEXT NOT NULL,
    by_whom TEXT NOT NULL
);
"""
"""Version 2: what marks browsers, and changes of the staff that are not in the audit log yet."""
_REFS = f"""
{TABLES}
ALTER TABLE known ADD COLUMN digest TEXT;
ALTER TABLE alerts ADD COLUMN erase_at REAL;
"""
"""Version 3: ``alert_id`` holds an :class:`AlertRef` in all three tables (:func:`name_rows`). What came before has no
digest and no last moment: it goes when this control room's retention is over."""
_ROOM = f"""
{SUMMARIES}
{SEATS}
ALTER TABLE officers ADD COLUMN locked_at TEXT;
"""
"""Version 4: what lists show of an alert, who is signed in, and who may not sign in for now."""
KIND = StoreKind(
    "the control room's store",
    0x4C465252,  # "LFRR"
    (_SCHEMA, _STAFF, _REFS, _ROOM),
    "Restart the control room: it keeps the damaged file and carries over what can still be read",
)

_BARE = " UNION ALL ".join(
    f"SELECT * FROM (SELECT 1 FROM {table} WHERE instr(alert_id, '/') = 0 LIMIT 1)"  # noqa: S608 - ours
    for table in ("known", "alerts", "cases")
)
"""Whether a row has no name yet."""
_ENCODER = msgspec.msgpack.Encoder()
_CASE = msgspec.msgpack.Decoder(Case)
_FIELDS = msgspec.msgpack.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class Stored:
    """An alert as the store holds it.

    Attributes:
        received_at: when it was accepted, UTC.
        alert: the alert.
    """

    received_at: datetime
    alert: Alert


@dataclass(frozen=True, slots=True)
class Damage:
    """A store that was found damaged when it was opened.

    Attributes:
        at: when, UTC.
        store: its file's name.
        kept: name of the file that it was kept aside as; it goes when its retention is over.
        carried: how many rows of it could be read and were carried over.
        lost: what could not be, in words; ``nothing`` where every row was saved.
    """

    at: datetime
    store: str
    kept: str
    carried: int
    lost: str


class AlertStore:
    """See the module. Its methods may be called from any thread.

    Args:
        path: the file; made when it is not there.
        key: 32 bytes.
        opens_cases: whether an alert opens a case. Without, somebody else shows it and says so with
            :meth:`forget_shown`.
        retention: how long an alert is kept at most, from its arrival.
        clock: for what is queued for the vans, and for what may still be read.

    Raises:
        KeyUnusable: the key does not open it.
        StoreDamaged: a page is not what was written. Every other method may raise it too.
        StoreUnavailable: the disk refuses. Every other method may raise it too.
    """

    def __init__(
        self,
        path: Path,
        key: bytes,
        *,
        opens_cases: bool = True,
        retention: timedelta = timedelta(hours=24),
        clock: Clock | None = None,
    ) -> None:
        self.path = path
        self._opens_cases = opens_cases
        self._retention = retention
        self._clock: Clock = clock or SystemClock()
        self.sealed = SealedStore(path, key, KIND, create=True)
        self.officers = Officers(self.sealed)
        self.to_vans = ToVans(self.sealed, self._clock)
        self.seats = Seats(self.sealed)
        self.summaries = Summaries(self.sealed, lambda came, last: self._over(came, last, self._clock.now()))
        if self.sealed.read(_BARE):
            with self.writing() as db:
                name_rows(db)
        self.summarise()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self.sealed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """All of what happens inside is stored, or nothing of it; see :meth:`SealedStore.writing`."""
        with self.sealed.writing() as db:
            yield db

    def secret(self, name: str) -> bytes:
        """32 random bytes that are made when they are first asked for and stay the same from then on."""
        with self.writing() as db:
            db.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", (name, os.urandom(32)))
            return bytes(db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()[0])

    # -- alerts ----------------------------------------------------------------------------------

    def accept(self, alert: Alert, digest: str, now: datetime) -> Acceptance:
        """Take an authentic alert in and open its case, unless it is known already.

        Args:
            alert: what the van signed.
            digest: of the message that it came in.
            now: when.

        Raises:
            StoreDamaged, StoreUnavailable: nothing was stored, and the alert must not be confirmed.
        """
        ref = str(alert.ref)
        with self.writing() as db:
            known = db.execute("SELECT digest FROM known WHERE alert_id = ?", (ref,)).fetchone()
            if known is not None:
                return Acceptance(Verdict.DUPLICATE if known[0] in (None, digest) else Verdict.CONTRADICTION)
            db.execute(
                "INSERT INTO known (alert_id, van, sequence, expires_at, digest) VALUES (?, ?, ?, ?, ?)",
                (ref, alert.van, alert.sequence, alert.expires_at.timestamp(), digest),
            )
            db.execute(
                "INSERT INTO alerts (alert_id, received_at, shown, body, erase_at) VALUES (?, ?, ?, ?, ?)",
                (
                    ref,
                    now.timestamp(),
                    int(self._opens_cases),
                    _ENCODER.encode(asdict(alert)),
                    alert.erase_at.timestamp(),
                ),
            )
            if self._opens_cases:
                self.add_case(open_case(alert, now))
                self.summaries.add(db, alert, now.timestamp(), alert.erase_at.timestamp())
            return follow(db, alert)

    def summarise(self) -> None:
        """Give every alert its summary that has none: it came before there were any, or out of a damaged store."""
        without = "SELECT number FROM alerts WHERE alert_id NOT IN (SELECT alert_id FROM summaries)"
        for (number,) in self.sealed.read(without) if self._opens_cases else ():
            with self.writing() as db:
                row = db.execute(
                    "SELECT received_at, erase_at, body FROM alerts WHERE number = ?", (number,)
                ).fetchone()
                self.summaries.add(db, self._alert(row[2]), row[0], row[1])

    def came(self) -> list[tuple[AlertRef, int]]:
        """Every alert that is remembered, and its number, in order of arrival."""
        rows = self.sealed.read("SELECT alert_id, sequence FROM known ORDER BY rowid")
        return [(_ref(row[0]), row[1]) for row in rows]

    def missing(self, van: str) -> list[int]:
        """Numbers of this van that were skipped and have not arrived since."""
        rows = self.sealed.read("SELECT sequence FROM missing WHERE van = ? ORDER BY sequence", (van,))
        return [row[0] for row in rows]

    def unshown(self) -> list[Stored]:
        """Alerts that were accepted but not shown: left over from an end at a bad moment."""
        return self._alerts("WHERE shown = 0 ORDER BY received_at, number", ())

    def forget_shown(self, *refs: AlertRef) -> None:
        """A person or a program has been shown these alerts: who only shows them keeps none, but that they came."""
        with self.writing() as db:
            db.executemany("DELETE FROM alerts WHERE alert_id = ?", [(str(ref),) for ref in refs])
        if refs:
            self.sealed.fold()

    def alert(self, ref: AlertRef) -> Stored | None:
        """The alert, unless it was erased or has to be."""
        found = self._alerts("WHERE alert_id = ?", (str(ref),))
        return found[0] if found else None

    def alerts(self) -> list[Stored]:
        """Every alert that may still be held, in order of arrival."""
        return self._alerts("ORDER BY received_at, number", ())

    def alerts_without(self, table: Literal["known", "cases"]) -> list[Stored]:
        """Alerts that lack what was stored with them: only after something was carried over from another store."""
        where = f"WHERE alert_id NOT IN (SELECT alert_id FROM {table}) ORDER BY received_at, number"  # noqa: S608 - ours
        return self._alerts(where, (), over=True)

    def erase_due(self, now: datetime) -> list[AlertRef]:
        """Erase, for good, the alerts that nobody may hold any more at ``now``; returns which."""
        with self.writing() as db:
            rows = db.execute("SELECT alert_id, received_at, erase_at FROM alerts").fetchall()
            due = [row[0] for row in rows if self._over(row[1], row[2], now)]
            db.executemany("DELETE FROM alerts WHERE alert_id = ?", [(ref,) for ref in due])
            db.execute("DELETE FROM known WHERE expires_at <= ?", ((now - MEMORY).timestamp(),))
        if due:
            self.sealed.fold()
        return [_ref(text) for text in due]

    def _over(self, received_at: float, erase_at: float | None, now: datetime) -> bool:
        last = received_at + self._retention.total_seconds()
        return now.timestamp() >= (last if erase_at is None else min(last, erase_at))

    def _alerts(self, where: str, values: tuple[Any, ...], *, over: bool = False) -> list[Stored]:
        """Alerts of the table; with ``over`` those too that have to be erased."""
        rows = self.sealed.read(f"SELECT received_at, erase_at, body FROM alerts {where}", values)  # noqa: S608 - ours
        now = self._clock.now()
        held = [row for row in rows if over or not self._over(row[0], row[1], now)]
        return [Stored(_moment(row[0]), self._alert(row[2])) for row in held]

    # -- cases -----------------------------------------------------------------------------------

    def add_case(self, case: Case) -> bool:
        """Begin a case; False when it is there already."""
        row = (str(case.ref), int(case.closed_at is None), _ENCODER.encode(asdict(case)))
        with self.writing() as db:
            return bool(db.execute("INSERT OR IGNORE INTO cases (alert_id, open, body) VALUES (?, ?, ?)", row).rowcount)

    def case(self, ref: AlertRef) -> Case | None:
        """The case of this alert."""
        rows = self.sealed.read("SELECT body FROM cases WHERE alert_id = ?", (str(ref),))
        return self._decoded(_CASE, rows[0][0]) if rows else None

    def cases(self, *, open_only: bool = False) -> list[Case]:
        """Cases in order of arrival."""
        where = "WHERE open = 1" if open_only else ""
        rows = self.sealed.read(f"SELECT body FROM cases {where} ORDER BY number")  # noqa: S608 - ours
        return [self._decoded(_CASE, row[0]) for row in rows]

    def change(
        self, ref: AlertRef, rule: Callable[[Case], Case], outgoing: Callable[[Case], tuple[str, bytes] | None]
    ) -> Case:
        """Apply a rule of :mod:`edge.controlroom.cases` and queue what the van must be told: both or neither.

        Raises:
            BadInput: there is no such case.
            PolicyRefusal: the rule refuses.
        """
        with self.writing() as db:
            before = self.case(ref)
            if before is None:
                raise BadInput(f"alert {ref}", "is not known here", "Open it from the list")
            after = rule(before)
            if after != before:
                row = (int(after.closed_at is None), _ENCODER.encode(asdict(after)), str(ref))
                db.execute("UPDATE cases SET open = ?, body = ? WHERE alert_id = ?", row)
                if told := outgoing(after):
                    self.to_vans.queue(db, *told)
            return after

    # -- damage ----------------------------------------------------------------------------------

    def damages(self) -> list[Damage]:
        """What was found damaged and is still kept aside, oldest first."""
        rows = self.sealed.read("SELECT at, store, kept, carried, lost FROM damage ORDER BY at")
        return [Damage(_moment(row[0]), *row[1:]) for row in rows]

    def unaudited_damages(self) -> list[Damage]:
        """Those that are not in the audit log yet."""
        rows = self.sealed.read("SELECT at, store, kept, carried, lost FROM damage WHERE audited = 0 ORDER BY at")
        return [Damage(_moment(row[0]), *row[1:]) for row in rows]

    def mark_audited(self, damage: Damage) -> None:
        """It is in the audit log now."""
        with self.writing() as db:
            db.execute("UPDATE damage SET audited = 1 WHERE kept = ?", (damage.kept,))

    def forget_damage(self, damage: Damage) -> None:
        """The file that was kept aside is gone."""
        with self.writing() as db:
            db.execute("DELETE FROM damage WHERE kept = ?", (damage.kept,))

    def _alert(self, body: bytes) -> Alert:
        content = self._decoded(_FIELDS, body)
        content.setdefault("erase_at", content.get("expires_at"))  # before version 3 the row alone said when
        try:
            return msgspec.convert(content, Alert)
        except msgspec.ValidationError:
            raise self._other_version() from None

    def _decoded(self, decoder: msgspec.msgpack.Decoder[Kind], body: bytes) -> Kind:
        try:
            return decoder.decode(body)
        except msgspec.DecodeError:
            raise self._other_version() from None

    def _other_version(self) -> StoreUnavailable:
        return StoreUnavailable(
            str(self.path), "holds an alert or case of another version", "Run the version that wrote it"
        )


def name_rows(db: Connection) -> None:
    """Give every row the name of its alert; before version 3 and in what is carried over it may be the bare identifier.

    A row whose alert is there under its name already is the same one, and goes.
    """
    bare = "WHERE instr(alert_id, '/') = 0"
    db.execute(f"UPDATE OR IGNORE known SET alert_id = van || '/' || alert_id {bare}")  # noqa: S608
    db.execute(f"DELETE FROM known {bare}")  # noqa: S608
    for table in ("alerts", "cases"):
        for number, body in db.execute(f"SELECT number, body FROM {table} {bare}").fetchall():  # noqa: S608
            with contextlib.suppress(msgspec.DecodeError, KeyError):
                content = _FIELDS.decode(body)
                name = str(AlertRef(content["van"], content["alert_id"]))
                statement = f"UPDATE OR IGNORE {table} SET alert_id = ? WHERE number = ?"  # noqa: S608
                if db.execute(statement, (name, number)).rowcount == 0:
                    db.execute(f"DELETE FROM {table} WHERE number = ?", (number,))  # noqa: S608


def _ref(text: str) -> AlertRef:
    van, _, alert_id = text.rpartition("/")
    return AlertRef(van, UUID(alert_id))


def _moment(posix: float) -> datetime:
    return datetime.fromtimestamp(posix, UTC)
