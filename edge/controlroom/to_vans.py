"""What the control room has to say to the vans, kept until a broker has it: decisions, and revocations that stand.

A decision is said once, in order; after a day it is of no use on the street. A revocation stands: the broker keeps the
newest message of its topic, so each message holds every revocation that still counts for the van, and it is said again
with every new connection, in case the broker has lost it. The control room cannot sign one and judges none: the van
believes the signature of whoever may revoke.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from edge.alert import topics
from edge.clock import Clock
from edge.errors import BadInput
from edge.parsing import json_as
from edge.trust.revocation import MAX_BYTES, MAX_MESSAGE, REVOCATION, Revocation
from edge.trust.sealed import Connection, SealedStore
from edge.trust.sealing import Plain, Values

if TYPE_CHECKING:
    from edge.controlroom.shared import SharedStore

__all__ = ["TABLES", "ToVans", "read_lines"]

UNSENT = timedelta(days=1)
"""How long a decision waits for its van; later it is of no use on the street."""
COUNTS = timedelta(days=31)
"""How long a revocation is said: whatever list it was meant for is destroyed long before."""
TABLES = """
CREATE TABLE standing (
    van     TEXT PRIMARY KEY,
    lines   BLOB NOT NULL,
    sent    INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE handed_over (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    van     TEXT NOT NULL,
    count   INTEGER NOT NULL,
    by_whom TEXT NOT NULL
);
"""


def read_lines(content: bytes) -> dict[bytes, Revocation]:
    """What a file of signed revocations says, by its lines. The signatures are for the vans to judge.

    Raises:
        BadInput: a line is no signed revocation; says which.
    """
    found: dict[bytes, Revocation] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        token = line.strip()
        if not token:
            continue
        said = _said(token)
        if said is None:
            raise BadInput(
                f"line {number}",
                "is not a signed revocation",
                "Give the lines that lfr-provision watchlist revoke or withdraw has printed",
            )
        found[token] = said
    if not found:
        raise BadInput("the file", "holds no revocation", "Give the lines that lfr-provision watchlist revoke printed")
    return found


class ToVans:
    """See the module. Its methods may be called from any thread.

    Args:
        sealed: the control room's store.
        clock: for what is too old to be said.
        values: how values lie in the store.
        shared: the same store, where several rooms share it.
    """

    def __init__(
        self,
        sealed: SealedStore | SharedStore,
        clock: Clock,
        values: Values | None = None,
        shared: SharedStore | None = None,
    ) -> None:
        self._sealed = sealed
        self._shared = shared
        self._clock = clock
        self._values: Values = values or Plain()

    @contextlib.contextmanager
    def sending(self) -> Iterator[bool]:
        """Whether it is for this room to send what waits: of several rooms one does, so that it stays in order."""
        if self._shared is None:
            yield True
            return
        with self._shared.first("sending") as mine:
            yield mine

    # -- decisions -------------------------------------------------------------------------------

    def queue(self, db: Connection, topic: str, payload: bytes) -> None:
        """Say this to a van; a part of the transaction ``db``."""
        values = (self._clock.now().timestamp(), topic, self._values.seal(payload, "outgoing", topic))
        db.execute("INSERT INTO outgoing (at, topic, payload) VALUES (?, ?, ?)", values)

    def outgoing(self) -> list[tuple[int, str, bytes]]:
        """What no broker has acknowledged, oldest first: number, topic and payload. A day old, it is dropped."""
        with self._sealed.writing() as db:
            db.execute("DELETE FROM outgoing WHERE at < ?", ((self._clock.now() - UNSENT).timestamp(),))
            rows = db.execute("SELECT number, topic, payload FROM outgoing ORDER BY number LIMIT 1000").fetchall()
        return [(row[0], row[1], self._values.unseal(row[2], "outgoing", row[1])) for row in rows]

    def sent(self, number: int) -> None:
        """A broker has acknowledged it."""
        with self._sealed.writing() as db:
            db.execute("DELETE FROM outgoing WHERE number = ?", (number,))

    # -- revocations -----------------------------------------------------------------------------

    def stand(self, van: str, tokens: Iterable[bytes], *, by: str) -> int:
        """From now on say these to a van, with those that stand already; how many are new.

        Args:
            van: which.
            tokens: signed revocations.
            by: who hands them over, for the audit log.

        Raises:
            BadInput: more than one message can hold.
        """
        with self._sealed.writing() as db:
            if self._shared is not None:
                self._shared.alone(db, "standing")
            row = db.execute("SELECT lines FROM standing WHERE van = ?", (van,)).fetchone()
            before = bytes(row[0]).splitlines() if row else []
            fresh = [token for token in dict.fromkeys(tokens) if token not in before]
            lines = b"\n".join([*(token for token in before if self._counts(token)), *fresh])
            if len(lines) > MAX_MESSAGE:
                raise BadInput(
                    f"revocations for {van}",
                    f"would be {len(lines)} bytes, {MAX_MESSAGE} are allowed",
                    "Publish them with lfr-provision publish and bring a stick, or give the van a new list",
                )
            if fresh:
                db.execute(
                    "INSERT INTO standing (van, lines, sent) VALUES (?, ?, 0)"
                    " ON CONFLICT (van) DO UPDATE SET lines = excluded.lines, sent = 0",
                    (van, lines),
                )
                db.execute("INSERT INTO handed_over (van, count, by_whom) VALUES (?, ?, ?)", (van, len(fresh), by[:64]))
        return len(fresh)

    def standing(self, *, every: bool = False) -> list[tuple[str, str, bytes]]:
        """Revocations that no broker has acknowledged, or ``every`` that stands: van, topic and payload."""
        where = "" if every else "WHERE sent = 0"
        rows = self._sealed.read(f"SELECT van, lines FROM standing {where} ORDER BY van")  # noqa: S608 - ours
        return [(row[0], topics.topic(row[0], topics.REVOCATION), bytes(row[1])) for row in rows]

    def stood(self, van: str, payload: bytes) -> None:
        """A broker keeps this for the van now."""
        with self._sealed.writing() as db:
            db.execute("UPDATE standing SET sent = 1 WHERE van = ? AND lines = ?", (van, payload))

    def audit_handed_over(self, write: Callable[[str, int, str], object]) -> bool:
        """Hand what is not in the audit log yet to ``write``: van, how many, by whom; whether there was anything.

        Each is forgotten once ``write`` has returned.
        """
        rows = self._sealed.read("SELECT number, van, count, by_whom FROM handed_over ORDER BY number")
        for number, van, count, by in rows:
            with self._sealed.writing() as db:
                if db.execute("DELETE FROM handed_over WHERE number = ?", (number,)).rowcount:
                    write(van, count, by)
        return bool(rows)

    def _counts(self, token: bytes) -> bool:
        said = _said(token)
        return said is not None and self._clock.now() - said.issued_at < COUNTS


def _said(token: bytes) -> Revocation | None:
    """What a token says, whoever signed it; None when it is no revocation."""
    parts = token.split(b".")
    if len(parts) != 3 or len(token) > MAX_BYTES:
        return None
    with contextlib.suppress(ValueError, msgspec.DecodeError):
        header, body = (base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)) for part in parts[:2])
        if json_as(header, dict).get("typ") == REVOCATION:
            return json_as(body, Revocation)
    return None
