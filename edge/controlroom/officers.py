"""Who may sign in: number, role, until when the training is in date, and a password that nobody can read back.

How passwords are stored is :mod:`edge.web.passwords`'. Whoever signs in with one that was stored in more lanes gets it
stored anew.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from edge.controlroom.seats import Seats
from edge.errors import BadInput, PolicyRefusal
from edge.officers import Officer, Role
from edge.trust.sealed import Connection, SealedStore
from edge.trust.sealing import Plain, Values
from edge.web import passwords

if TYPE_CHECKING:
    from edge.controlroom.shared import SharedStore

__all__ = ["LONGEST_NUMBER", "Known", "OfficerLocked", "Officers", "SignInRefused"]

LONGEST_NUMBER = 64
SHORTEST_PASSWORD = 12
_Row = tuple[str, str, str, str, str | None]
_ROWS = "SELECT number, role, trained_until, password, locked_at FROM officers"


class SignInRefused(PolicyRefusal):
    """Number and password do not belong together."""


class OfficerLocked(PolicyRefusal):
    """Somebody who keeps the list of officers has locked this one."""


@dataclass(frozen=True, slots=True)
class Known:
    """An officer of the list.

    Attributes:
        officer: who.
        stamp: changes with the password and says nothing of it.
        locked: whether they may not sign in for now, and a session of theirs ends.
    """

    officer: Officer
    stamp: str
    locked: bool


def _refused() -> SignInRefused:
    return SignInRefused("sign-in", "number or password is wrong", "Try again, or ask who keeps the list of officers")


class Officers:
    """The list of officers in the control room's store. Its methods may be called from any thread.

    One derivation runs at a time; :meth:`enrol` and :meth:`authenticate` wait for each other.

    In a store that several rooms share, the password is bound to all else that the list says of the officer: whoever
    keeps the data base can add nobody, and give nobody another role, a later date or the freedom from a lock.

    Args:
        sealed: the control room's store.
        values: how values lie in it.

    Raises:
        StoreDamaged, StoreUnavailable: every method may.
    """

    def __init__(self, sealed: SealedStore | SharedStore, values: Values | None = None) -> None:
        self._sealed = sealed
        self._values: Values = values or Plain()
        self._deriving = threading.Lock()
        self._nobody = self._derive(os.urandom(16))

    def enrol(self, officer: Officer, password: str, *, by: str = "system") -> None:
        """Add an officer, or give them a new role, training date and password. Who was locked stays locked.

        Args:
            officer: who.
            password: theirs from now on; every session of the former one ends.
            by: who does it, for the audit log.

        Raises:
            BadInput: no number, or a password that is too short.
        """
        if not officer.number.isprintable() or not 1 <= len(officer.number) <= LONGEST_NUMBER:
            raise BadInput("number", f"must have 1 to {LONGEST_NUMBER} characters", "Give the badge or staff number")
        if len(password) < SHORTEST_PASSWORD:
            raise BadInput("password", f"has {len(password)} characters", f"Choose {SHORTEST_PASSWORD} or more")
        phc = self._derive(password.encode())
        row = (officer.number, str(officer.role), officer.trained_until.isoformat(), phc)
        with self._sealed.writing() as db:
            known = db.execute("SELECT locked_at FROM officers WHERE number = ?", row[:1]).fetchone()
            self._write(db, (*row, known[0] if known else None))
            what = "new password" if known else "added"
            self._note(db, officer.number, f"{what}; {officer.role}, trained until {officer.trained_until}", by)

    def renew_training(self, number: str, until: date, *, by: str = "system") -> None:
        """Set until when an officer's training is in date. ``by``: who does it, for the audit log.

        Raises:
            BadInput: there is no such officer.
        """
        with self._sealed.writing() as db:
            row = self._row(number)
            if row is None:
                raise BadInput(f"officer {number}", "is not on the list", "Add them with lfr-control staff add")
            self._write(db, (number, row[1], until.isoformat(), row[3], row[4]))
            self._note(db, number, f"trained until {until}", by)

    def remove(self, number: str, *, by: str = "system") -> None:
        """Take an officer off the list; every session of theirs ends. ``by``: who does it, for the audit log.

        Raises:
            BadInput: there is no such officer.
        """
        with self._sealed.writing() as db:
            if not db.execute("DELETE FROM officers WHERE number = ?", (number,)).rowcount:
                raise BadInput(f"officer {number}", "is not on the list", "See lfr-control staff list")
            self._note(db, number, "removed", by)

    def lock(self, number: str, *, by: str = "system") -> None:
        """Let an officer sign in no more, and end every session of theirs, until :meth:`unlock`.

        ``by``: who does it, for the audit log.

        Raises:
            BadInput: there is no such officer.
        """
        self._set_lock(number, datetime.now(UTC).isoformat(timespec="seconds"), "locked", by)

    def unlock(self, number: str, *, by: str = "system") -> None:
        """Let an officer sign in again. ``by``: who does it, for the audit log.

        Raises:
            BadInput: there is no such officer.
        """
        self._set_lock(number, None, "unlocked", by)

    def _set_lock(self, number: str, at: str | None, change: str, by: str) -> None:
        with self._sealed.writing() as db:
            row = self._row(number)
            if row is None:
                raise BadInput(f"officer {number}", "is not on the list", "See lfr-control staff list")
            self._write(db, (*row[:4], at))
            self._note(db, number, change, by)

    def sign_out(self, seats: Seats, number: str, session: int | None = None, *, by: str = "system") -> int:
        """End one session of an officer, or all of them; they may sign in again. Returns how many ended.

        Args:
            seats: of the same store.
            number: the officer's.
            session: which; None for all.
            by: who does it, for the audit log.

        Raises:
            BadInput: there is no such session.
        """
        with self._sealed.writing() as db:
            ended = seats.revoke(db, number, session)
            self._note(db, number, "every session ended" if session is None else f"session {session} ended", by)
        return ended

    def _write(self, db: Connection, row: _Row) -> None:
        sealed = self._values.seal_text(row[3], "officers", *row[:3], row[4] or "")
        db.execute(
            "INSERT INTO officers (number, role, trained_until, password, locked_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (number) DO UPDATE SET role = excluded.role, trained_until = excluded.trained_until,"
            " password = excluded.password, locked_at = excluded.locked_at",
            (*row[:3], sealed, row[4]),
        )

    def _read(self, row: _Row) -> _Row:
        return (*row[:3], self._values.unseal_text(row[3], "officers", *row[:3], row[4] or ""), row[4])

    def _note(self, db: Connection, number: str, change: str, by: str) -> None:
        """The audit log belongs to the running control room, which takes it from here."""
        row = (datetime.now(UTC).isoformat(timespec="seconds"), number, change, by[:64])
        db.execute("INSERT INTO staff_changes (at, officer, change, by_whom) VALUES (?, ?, ?, ?)", row)

    def audit_changes(self, write: Callable[[str, str, str, str], object]) -> None:
        """Hand every change that is not in the audit log yet to ``write``: at, officer, change, by whom.

        Each is forgotten once ``write`` has returned.
        """
        for number, *change in self._sealed.read("SELECT number, at, officer, change, by_whom FROM staff_changes"):
            with self._sealed.writing() as db:
                if db.execute("DELETE FROM staff_changes WHERE number = ?", (number,)).rowcount:
                    write(*change)

    def get(self, number: str) -> Officer | None:
        """The officer of this number."""
        row = self._row(number)
        return None if row is None else _officer(row)

    def known(self, number: str) -> Known | None:
        """What the list says of the officer of this number."""
        row = self._row(number)
        return None if row is None else _known(row)

    def everybody(self) -> dict[str, Known]:
        """What the list says of every officer, by number."""
        return {row[0]: _known(self._read(row)) for row in self._sealed.read(f"{_ROWS} ORDER BY number")}

    def authenticate(self, number: str, password: str) -> tuple[Officer, str]:
        """Who this is, with the stamp of :class:`Known`; takes as long for a number that does not exist.

        Raises:
            SignInRefused: number and password do not belong together.
            OfficerLocked: they do, and the officer is locked.
        """
        row = self._row(number)
        with self._deriving:
            right = passwords.fits(password.encode(), row[3] if row else self._nobody)
        if row is None or not right:
            raise _refused()
        if row[4] is not None:
            raise OfficerLocked(f"officer {number}", "is locked", "Ask whoever keeps the list of officers")
        phc = row[3]
        if passwords.LANES not in phc:
            phc = self._derive(password.encode())
            with self._sealed.writing() as db:
                if self._row(number) != row:
                    raise _refused()  # it was changed a moment ago
                self._write(db, (*row[:3], phc, row[4]))
        return _officer(row), passwords.stamp(phc)

    def _derive(self, password: bytes) -> str:
        with self._deriving:
            return passwords.derive(password)

    def _row(self, number: str) -> _Row | None:
        rows = self._sealed.read(f"{_ROWS} WHERE number = ?", (number,))
        return self._read(rows[0]) if rows else None


def _officer(row: _Row) -> Officer:
    return Officer(row[0], Role(row[1]), date.fromisoformat(row[2]))


def _known(row: _Row) -> Known:
    return Known(_officer(row), passwords.stamp(row[3]), locked=row[4] is not None)
