"""Who may sign in: number, role, until when the training is in date, and a password that nobody can read back.

Passwords are stored as Argon2id with the parameters that RFC 9106 recommends for memory-constrained
environments (64 MiB, 3 passes, 4 lanes).
"""

from __future__ import annotations

import os
from datetime import date
from typing import Any

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from edge.controlroom.cases import Officer, Role
from edge.errors import BadInput, PolicyRefusal
from edge.trust.sealed import SealedStore

__all__ = ["Officers", "SignInRefused"]

SHORTEST_PASSWORD = 12
_ARGON2: dict[str, Any] = {"length": 32, "iterations": 3, "lanes": 4, "memory_cost": 64 * 1024}
_ROWS = "SELECT number, role, trained_until, password FROM officers"


class SignInRefused(PolicyRefusal):
    """Number and password do not belong together."""


def _refused() -> SignInRefused:
    return SignInRefused("sign-in", "number or password is wrong", "Try again, or ask who keeps the list of officers")


class Officers:
    """The list of officers in the control room's store. Its methods may be called from any thread.

    Raises:
        StoreDamaged, StoreUnavailable: every method may.
    """

    def __init__(self, sealed: SealedStore) -> None:
        self._sealed = sealed
        self._nobody = Argon2id(salt=os.urandom(16), **_ARGON2).derive_phc_encoded(os.urandom(16))

    def enrol(self, officer: Officer, password: str) -> None:
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
        with self._sealed.writing() as db:
            db.execute("INSERT OR REPLACE INTO officers VALUES (?, ?, ?, ?)", row)

    def renew_training(self, number: str, until: date) -> None:
        """Set until when an officer's training is in date.

        Raises:
            BadInput: there is no such officer.
        """
        statement = "UPDATE officers SET trained_until = ? WHERE number = ?"
        with self._sealed.writing() as db:
            found = db.execute(statement, (until.isoformat(), number)).rowcount
        if not found:
            raise BadInput(f"officer {number}", "is not on the list", "Add them with lfr-control staff add")

    def get(self, number: str) -> Officer | None:
        """The officer of this number."""
        row = self._row(number)
        return None if row is None else _officer(row)

    def all(self) -> list[Officer]:
        """Every officer, by number."""
        return [_officer(row) for row in self._sealed.read(f"{_ROWS} ORDER BY number")]

    def authenticate(self, number: str, password: str) -> Officer:
        """Who this is; takes as long for a number that does not exist.

        Raises:
            SignInRefused: number and password do not belong together.
        """
        row = self._row(number)
        try:
            Argon2id.verify_phc_encoded(password.encode(), row[3] if row else self._nobody)
        except InvalidKey:
            raise _refused() from None
        if row is None:
            raise _refused()
        return _officer(row)

    def _row(self, number: str) -> tuple[str, str, str, str] | None:
        rows = self._sealed.read(f"{_ROWS} WHERE number = ?", (number,))
        return rows[0] if rows else None


def _officer(row: tuple[str, str, str, str]) -> Officer:
    return Officer(row[0], Role(row[1]), date.fromisoformat(row[2]))
