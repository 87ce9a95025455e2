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

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from uuid import UUID

import msgspec

from edge.clock import Clock, SystemClock
from edge.controlroom.cases import Case, open_case
from edge.controlroom.numbering import Acceptance, Verdict, follow
from edge.controlroom.officers import Officers
from edge.controlroom.schema import KIND, name_rows
from edge.controlroom.seats import Seats
from edge.controlroom.summaries import Summaries
from edge.controlroom.to_vans import ToVans
from edge.errors import BadInput, StoreUnavailable
from edge.records import Alert, AlertRef
from edge.trust.sealed import Connection, SealedStore
from edge.trust.sealing import Plain, Values

if TYPE_CHECKING:
    from edge.controlroom.shared import SharedStore

__all__ = ["AlertStore", "Damage", "Stored"]

Kind = TypeVar("Kind")
MEMORY = timedelta(days=15)
"""How long an identifier is remembered after its alert expired: longer than any broker keeps a message."""

_BARE = " UNION ALL ".join(
    f"SELECT * FROM (SELECT 1 FROM {table} WHERE instr(alert_id, '/') = 0 LIMIT 1)"  # noqa: S608 - ours
    for table in ("known", "alerts", "cases")
)
"""Whether a row has no name yet."""
_CASE_ROW = "SELECT body FROM cases WHERE alert_id = ?"
_CASE_HELD = "SELECT body FROM cases WHERE alert_id = ? FOR UPDATE"
"""The same, and no other room changes it until the transaction ends. A file has one writer anyway."""
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
        path: the file; made when it is not there. Of a shared store, where it would be: beside it lie the audit log
            and the checkpoints of this room.
        key: 32 bytes.
        opens_cases: whether an alert opens a case. Without, somebody else shows it and says so with
            :meth:`forget_shown`.
        retention: how long an alert is kept at most, from its arrival.
        clock: for what is queued for the vans, and for what may still be read.
        shared: the store of several rooms, open; in place of a file.

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
        shared: SharedStore | None = None,
    ) -> None:
        self.path = path
        self._opens_cases = opens_cases
        self._retention = retention
        self._clock: Clock = clock or SystemClock()
        self.shared = shared
        self.sealed: SealedStore | SharedStore = shared or SealedStore(path, key, KIND, create=True)
        self._values: Values = shared.values if shared is not None else Plain()
        self.room = shared.room if shared is not None else ""
        """This room's name among several; empty where it is the only one."""
        self.officers = Officers(self.sealed, self._values)
        self.to_vans = ToVans(self.sealed, self._clock, self._values, shared)
        self.seats = Seats(self.sealed, self.room)
        self.summaries = Summaries(
            self.sealed, lambda came, last: self._over(came, last, self._clock.now()), self._values
        )
        if shared is None and self.sealed.read(_BARE):
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
            fresh = self._values.seal(os.urandom(32), "secrets", name)
            db.execute("INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, fresh))
            row = db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
            return self._values.unseal(row[0], "secrets", name)

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
            if self.shared is not None:
                self.shared.alone(db, "intake")
            known = db.execute("SELECT digest, room FROM known WHERE alert_id = ?", (ref,)).fetchone()
            if known is not None:
                verdict = Verdict.DUPLICATE if known[0] in (None, digest) else Verdict.CONTRADICTION
                return Acceptance(verdict, elsewhere="" if known[1] in (None, self.room) else known[1])
            db.execute(
                "INSERT INTO known (alert_id, van, sequence, expires_at, digest, room) VALUES (?, ?, ?, ?, ?, ?)",
                (ref, alert.van, alert.sequence, alert.expires_at.timestamp(), digest, self.room),
            )
            db.execute(
                "INSERT INTO alerts (alert_id, received_at, shown, body, erase_at) VALUES (?, ?, ?, ?, ?)",
                (
                    ref,
                    now.timestamp(),
                    int(self._opens_cases),
                    self._values.seal(_ENCODER.encode(asdict(alert)), "alerts", ref),
                    alert.erase_at.timestamp(),
                ),
            )
            if self._opens_cases:
                self.add_case(open_case(alert, now))
                self.summaries.add(db, alert, now.timestamp(), alert.erase_at.timestamp())
            return follow(db, alert)

    def alive(self, room: str) -> bool:
        """Whether another room that shares this store is there."""
        return self.shared is not None and self.shared.alive(room)

    def summarise(self) -> None:
        """Give every alert its summary that has none: it came before there were any, or out of a damaged store."""
        without = "SELECT number, alert_id FROM alerts WHERE alert_id NOT IN (SELECT alert_id FROM summaries)"
        for number, ref in self.sealed.read(without) if self._opens_cases else ():
            with self.writing() as db:
                row = db.execute(
                    "SELECT received_at, erase_at, body FROM alerts WHERE number = ?", (number,)
                ).fetchone()
                self.summaries.add(db, self._alert(row[2], ref), row[0], row[1])

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
            over = [row[0] for row in rows if self._over(row[1], row[2], now)]
            gone = "DELETE FROM alerts WHERE alert_id = ?"
            due = [ref for ref in over if db.execute(gone, (ref,)).rowcount]  # another room may do the same
            db.execute("DELETE FROM known WHERE expires_at <= ?", ((now - MEMORY).timestamp(),))
        if due:
            self.sealed.fold()
        return [_ref(text) for text in due]

    def _over(self, received_at: float, erase_at: float | None, now: datetime) -> bool:
        last = received_at + self._retention.total_seconds()
        return now.timestamp() >= (last if erase_at is None else min(last, erase_at))

    def _alerts(self, where: str, values: tuple[Any, ...], *, over: bool = False) -> list[Stored]:
        """Alerts of the table; with ``over`` those too that have to be erased."""
        rows = self.sealed.read(
            f"SELECT received_at, erase_at, body, alert_id FROM alerts {where}",  # noqa: S608 - ours
            values,
        )
        now = self._clock.now()
        held = [row for row in rows if over or not self._over(row[0], row[1], now)]
        return [Stored(_moment(row[0]), self._alert(row[2], row[3])) for row in held]

    # -- cases -----------------------------------------------------------------------------------

    def add_case(self, case: Case) -> bool:
        """Begin a case; False when it is there already."""
        row = (str(case.ref), int(case.closed_at is None), self._case_bytes(case))
        begin = "INSERT INTO cases (alert_id, open, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        with self.writing() as db:
            return bool(db.execute(begin, row).rowcount)

    def case(self, ref: AlertRef) -> Case | None:
        """The case of this alert."""
        rows = self.sealed.read(_CASE_ROW, (str(ref),))
        return self._case(rows[0][0], str(ref)) if rows else None

    def cases(self, *, open_only: bool = False) -> list[Case]:
        """Cases in order of arrival."""
        where = "WHERE open = 1" if open_only else ""
        rows = self.sealed.read(f"SELECT body, alert_id FROM cases {where} ORDER BY number")  # noqa: S608 - ours
        return [self._case(row[0], row[1]) for row in rows]

    def change(
        self, ref: AlertRef, rule: Callable[[Case], Case], outgoing: Callable[[Case], tuple[str, bytes] | None]
    ) -> Case:
        """Apply a rule of :mod:`edge.controlroom.cases` and queue what the van must be told: both or neither.

        Raises:
            BadInput: there is no such case.
            PolicyRefusal: the rule refuses.
        """
        with self.writing() as db:
            row = db.execute(_CASE_HELD if self.shared is not None else _CASE_ROW, (str(ref),)).fetchone()
            if row is None:
                raise BadInput(f"alert {ref}", "is not known here", "Open it from the list")
            before = self._case(row[0], str(ref))
            after = rule(before)
            if after != before:
                values = (int(after.closed_at is None), self._case_bytes(after), str(ref))
                db.execute("UPDATE cases SET open = ?, body = ? WHERE alert_id = ?", values)
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

    # -- values ----------------------------------------------------------------------------------

    def _case(self, body: bytes, ref: str) -> Case:
        return self._decoded(_CASE, self._values.unseal(body, "cases", ref))

    def _case_bytes(self, case: Case) -> bytes:
        return self._values.seal(_ENCODER.encode(asdict(case)), "cases", str(case.ref))

    def _alert(self, body: bytes, ref: str) -> Alert:
        content = self._decoded(_FIELDS, self._values.unseal(body, "alerts", ref))
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


def _ref(text: str) -> AlertRef:
    van, _, alert_id = text.rpartition("/")
    return AlertRef(van, UUID(alert_id))


def _moment(posix: float) -> datetime:
    return datetime.fromtimestamp(posix, UTC)
