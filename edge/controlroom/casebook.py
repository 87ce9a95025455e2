"""The control room's sealed book: cases, officers, and decisions on their way to the vans. No pictures.

Passwords are stored as Argon2id with the parameters that RFC 9106 recommends for memory-constrained
environments (64 MiB, 3 passes, 4 lanes).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from sqlcipher3 import dbapi2

from edge.clock import Clock, SystemClock
from edge.controlroom.cases import Case, Officer, Role
from edge.errors import BadInput, PolicyRefusal
from edge.trust.sealed import Connection, open_sealed, store_error

__all__ = ["Casebook", "SignInRefused"]

APPLICATION_ID = 0x4C465243  # "LFRC"
SHORTEST_PASSWORD = 12
_ARGON2: dict[str, Any] = {"length": 32, "iterations": 3, "lanes": 4, "memory_cost": 64 * 1024}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cases (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id TEXT NOT NULL UNIQUE,
    open     INTEGER NOT NULL,
    body     BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS officers (
    number        TEXT PRIMARY KEY,
    role          TEXT NOT NULL,
    trained_until TEXT NOT NULL,
    password      TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS outgoing (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    topic   TEXT NOT NULL,
    payload BLOB NOT NULL
);
"""
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Case)


class SignInRefused(PolicyRefusal):
    """Number and password do not belong together."""


def _refused() -> SignInRefused:
    return SignInRefused("sign-in", "number or password is wrong", "Try again, or ask who keeps the officers' list")


class Casebook:
    """See the module. Its methods may be called from any thread.

    Raises:
        KeyUnusable: the key does not open it.
        StoreUnavailable: the file cannot be made or read. Every other method may raise it too.
    """

    def __init__(self, path: Path, key: bytes, clock: Clock | None = None) -> None:
        self._path = path
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._nobody = Argon2id(salt=os.urandom(16), **_ARGON2).derive_phc_encoded(os.urandom(16))
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise store_error(path, error) from None
        self._connection: Connection = open_sealed(path, key, application_id=APPLICATION_ID, create=True)
        self._run(lambda run: run.executescript(_SCHEMA))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _run(self, work: Callable[[Connection], Any]) -> Any:
        """Do ``work`` in one transaction."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                result = work(self._connection)
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")
            except dbapi2.DatabaseError as error:
                self._undo()
                raise store_error(self._path, error) from None
            except BaseException:
                self._undo()
                raise
        return result

    def _undo(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # -- cases -----------------------------------------------------------------------------------

    def add(self, case: Case) -> bool:
        """Begin a case; False when it is there already."""
        row = (str(case.alert_id), 1, _ENCODER.encode(asdict(case)))
        statement = "INSERT OR IGNORE INTO cases (alert_id, open, body) VALUES (?, ?, ?)"
        return bool(self._run(lambda run: run.execute(statement, row).rowcount))

    def get(self, alert_id: UUID) -> Case | None:
        with self._lock:
            row = self._connection.execute("SELECT body FROM cases WHERE alert_id = ?", (str(alert_id),)).fetchone()
        return None if row is None else _DECODER.decode(row[0])

    def all(self, *, open_only: bool = False) -> list[Case]:
        """Cases in order of arrival."""
        where = "WHERE open = 1" if open_only else ""
        with self._lock:
            rows = self._connection.execute(f"SELECT body FROM cases {where} ORDER BY number").fetchall()  # noqa: S608
        return [_DECODER.decode(row[0]) for row in rows]

    def change(
        self, alert_id: UUID, rule: Callable[[Case], Case], outgoing: Callable[[Case], tuple[str, bytes] | None]
    ) -> Case:
        """Apply a rule of :mod:`edge.controlroom.cases` and queue what the van must be told: both or neither.

        Raises:
            BadInput: there is no such case.
            PolicyRefusal: the rule refuses.
        """

        def work(run: Connection) -> Case:
            row = run.execute("SELECT body FROM cases WHERE alert_id = ?", (str(alert_id),)).fetchone()
            if row is None:
                raise BadInput(f"alert {alert_id}", "is not known here", "Open it from the list")
            before = _DECODER.decode(row[0])
            after = rule(before)
            if after != before:
                row = (int(after.closed_at is None), _ENCODER.encode(asdict(after)), str(alert_id))
                run.execute("UPDATE cases SET open = ?, body = ? WHERE alert_id = ?", row)
                if told := outgoing(after):
                    values = (self._clock.now().timestamp(), *told)
                    run.execute("INSERT INTO outgoing (at, topic, payload) VALUES (?, ?, ?)", values)
            return after

        result: Case = self._run(work)
        return result

    # -- what goes to the vans -------------------------------------------------------------------

    def outgoing(self) -> list[tuple[int, str, bytes]]:
        """What no broker has acknowledged, oldest first: number, topic and payload. A day old, it is dropped."""
        day_ago = self._clock.now().timestamp() - 86_400
        self._run(lambda run: run.execute("DELETE FROM outgoing WHERE at < ?", (day_ago,)))
        with self._lock:
            rows = self._connection.execute(
                "SELECT number, topic, payload FROM outgoing ORDER BY number LIMIT 1000"
            ).fetchall()
        return [(row[0], row[1], bytes(row[2])) for row in rows]

    def sent(self, number: int) -> None:
        self._run(lambda run: run.execute("DELETE FROM outgoing WHERE number = ?", (number,)))

    # -- officers --------------------------------------------------------------------------------

    def enrol_officer(self, officer: Officer, password: str) -> None:
        """Add an officer, or give them a new role, training date and password.

        Raises:
            BadInput: no number, or a password that is too short.
        """
        if not officer.number.isprintable() or not 1 <= len(officer.number) <= 64:
            raise BadInput("number", "must have 1 to 64 characters", "Give the badge or staff number")
        if len(password) < SHORTEST_PASSWORD:
            raise BadInput("password", f"has {len(password)} characters", f"Choose {SHORTEST_PASSWORD} or more")
        phc = Argon2id(salt=os.urandom(16), **_ARGON2).derive_phc_encoded(password.encode())
        row = (officer.number, str(officer.role), officer.trained_until.isoformat(), phc)
        self._run(lambda run: run.execute("INSERT OR REPLACE INTO officers VALUES (?, ?, ?, ?)", row))

    def renew_training(self, number: str, until: date) -> None:
        """Set until when an officer's training is in date.

        Raises:
            BadInput: there is no such officer.
        """
        statement = "UPDATE officers SET trained_until = ? WHERE number = ?"
        if not self._run(lambda run: run.execute(statement, (until.isoformat(), number)).rowcount):
            raise BadInput(f"officer {number}", "is not on the list", "Add them with lfr-control staff add")

    def officer(self, number: str) -> Officer | None:
        row = self._officer_row(number)
        return None if row is None else _officer(row)

    def officers(self) -> list[Officer]:
        with self._lock:
            return [_officer(row) for row in self._connection.execute("SELECT * FROM officers ORDER BY number")]

    def authenticate(self, number: str, password: str) -> Officer:
        """Who this is; takes as long for a number that does not exist.

        Raises:
            SignInRefused: number and password do not belong together.
        """
        row = self._officer_row(number)
        try:
            Argon2id.verify_phc_encoded(password.encode(), row[3] if row else self._nobody)
        except InvalidKey:
            raise _refused() from None
        if row is None:
            raise _refused()
        return _officer(row)

    def _officer_row(self, number: str) -> tuple[str, str, str, str] | None:
        with self._lock:
            row: tuple[str, str, str, str] | None = self._connection.execute(
                "SELECT number, role, trained_until, password FROM officers WHERE number = ?", (number,)
            ).fetchone()
        return row


def _officer(row: tuple[str, str, str, str]) -> Officer:
    return Officer(row[0], Role(row[1]), date.fromisoformat(row[2]))
