"""Who may sign in on the crew's page, and on which tablets: the file ``crew.json``.

It is made in the office, with the van's other keys: badge numbers, roles, until when each officer's training is in
date, a PIN that nobody can read back, and the fingerprint of each enrolled tablet's certificate. Whoever is taken off
the file is out with their next step, without a restart.
"""

from __future__ import annotations

import contextlib
import hashlib
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edge.errors import BadInput, PolicyRefusal
from edge.fields import in_words
from edge.officers import Officer, Role
from edge.parsing import json_as
from edge.web import passwords

__all__ = ["SHORTEST_PIN", "Crew", "CrewFile", "CrewOfficer", "Member", "PinRefused", "Tablet", "read_crew"]

LONGEST_FILE = 256 * 1024
SHORTEST_PIN = 6
"""Digits. A tablet or the van's own screen must be at hand to try one, and few may be tried."""


class PinRefused(PolicyRefusal):
    """Number and PIN do not belong together."""


class CrewOfficer(Struct, frozen=True, forbid_unknown_fields=True):
    """One officer: number, role, last day of training, and the PIN as Argon2id in PHC form."""

    number: Annotated[str, Meta(min_length=1, max_length=64)]
    role: Role
    trained_until: date
    pin: Annotated[str, Meta(pattern=r"^\$argon2id\$", max_length=500)]


class Tablet(Struct, frozen=True, forbid_unknown_fields=True):
    """One tablet or phone: its name, and the SHA-256 of its certificate in DER, hexadecimal."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class CrewFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    officers: tuple[CrewOfficer, ...] = ()
    tablets: tuple[Tablet, ...] = ()


class Member(Struct, frozen=True):
    """An officer of the file, and what changes with their PIN."""

    officer: Officer
    stamp: str


def read_crew(path: Path) -> CrewFile:
    """The file.

    Raises:
        BadInput: it is not there, too long, or damaged: then nobody may sign in.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise BadInput(
            str(path), f"cannot be read ({error.strerror})", "Bring the list of the crew onto this van"
        ) from None
    if len(content) > LONGEST_FILE:
        raise BadInput(str(path), "is too long", "Bring the list of the crew onto this van again")
    try:
        return json_as(content, CrewFile)
    except msgspec.MsgspecError as error:
        raise BadInput(
            str(path), f"is damaged: {in_words(error)}", "Bring the list of the crew onto this van again"
        ) from None


class Crew:
    """The file as it is now: read again whenever it has changed.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._file = CrewFile()
        self._nobody = passwords.derive(b"nobody")

    def file(self) -> CrewFile:
        """What it says.

        Raises:
            BadInput: see :func:`read_crew`; nobody of before stays signed in then.
        """
        found = (0, 0)
        with contextlib.suppress(OSError):
            seen = self._path.stat()
            found = (seen.st_mtime_ns, seen.st_ino)
        if found != self._read_at or found == (0, 0):
            self._file, self._read_at = CrewFile(), None
            self._file = read_crew(self._path)
            self._read_at = found
        return self._file

    def numbers(self) -> tuple[str, ...]:
        """Everybody who may sign in, by number."""
        return tuple(sorted(each.number for each in self.file().officers))

    def member(self, number: str) -> Member | None:
        """An officer by number; None where the file names nobody of it."""
        found = next((each for each in self.file().officers if each.number == number), None)
        if found is None:
            return None
        return Member(Officer(found.number, found.role, found.trained_until), passwords.stamp(found.pin))

    def tablet(self, certificate: bytes) -> str:
        """The name of the tablet that shows this certificate (DER); empty where it is not enrolled."""
        shown = hashlib.sha256(certificate).hexdigest()
        try:
            return next((each.name for each in self.file().tablets if each.sha256 == shown), "")
        except BadInput:
            return ""

    def authenticate(self, number: str, pin: str) -> Member:
        """Who this is; takes as long for a number that is not there.

        Raises:
            PinRefused: number and PIN do not belong together.
            BadInput: the file cannot be read.
        """
        found = next((each for each in self.file().officers if each.number == number), None)
        right = passwords.fits(pin.encode(), found.pin if found else self._nobody)
        member = self.member(number) if right else None
        if member is None:
            raise PinRefused("sign-in", "number or PIN is wrong", "Try again, or ask who keeps the list of the crew")
        return member
