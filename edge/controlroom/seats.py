"""Who is signed in, as the command line can see it: a seat for every session of the page.

The page asks with every request, and once a second for everybody, whether a session still has its seat. So taking the
seat away, from another process or another browser, ends the session. A seat says nothing by which somebody could take
the session over. Seats begin empty with the control room: no session outlives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edge.errors import BadInput
from edge.trust.sealed import Connection, SealedStore

if TYPE_CHECKING:
    from edge.controlroom.shared import SharedStore

__all__ = ["TABLES", "Seat", "Seats"]

TABLES = """
CREATE TABLE seats (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    officer TEXT NOT NULL,
    begun   REAL NOT NULL,
    place   TEXT NOT NULL
);
"""
_ROWS = "SELECT number, officer, begun, place FROM seats"


@dataclass(frozen=True, slots=True)
class Seat:
    """A session that goes on.

    Attributes:
        number: names it; never used again.
        officer: whose, by number.
        begun: when they signed in, UTC.
        place: the address that they signed in from.
    """

    number: int
    officer: str
    begun: datetime
    place: str


class Seats:
    """See the module. Its methods may be called from any thread.

    Args:
        sealed: the control room's store.
        room: this room's name among several; empty where it is the only one.

    Raises:
        StoreDamaged, StoreUnavailable: every method may.
    """

    def __init__(self, sealed: SealedStore | SharedStore, room: str = "") -> None:
        self._sealed = sealed
        self._room = room

    def clear(self) -> None:
        """Nobody is signed in here: this control room has just started."""
        with self._sealed.writing() as db:
            db.execute("DELETE FROM seats WHERE coalesce(room, '') = ?", (self._room,))

    def take(self, officer: str, place: str, now: datetime) -> int:
        """Somebody signed in; returns the seat's number."""
        with self._sealed.writing() as db:
            row = (officer, now.timestamp(), place, self._room)
            begin = "INSERT INTO seats (officer, begun, place, room) VALUES (?, ?, ?, ?) RETURNING number"
            return int(db.execute(begin, row).fetchone()[0])

    def leave(self, number: int) -> None:
        """The session of this seat has ended."""
        with self._sealed.writing() as db:
            db.execute("DELETE FROM seats WHERE number = ?", (number,))

    def taken(self) -> set[int]:
        """Numbers of the seats whose sessions may go on."""
        return {row[0] for row in self._sealed.read("SELECT number FROM seats")}

    def all(self, officer: str | None = None) -> list[Seat]:
        """Who is signed in, the longest first; of one officer where that is given."""
        rows = self._sealed.read(
            f"{_ROWS} WHERE CAST(? AS TEXT) IS NULL OR officer = ? ORDER BY number", (officer, officer)
        )
        return [Seat(number, who, datetime.fromtimestamp(begun, UTC), place) for number, who, begun, place in rows]

    def revoke(self, db: Connection, officer: str, number: int | None = None) -> int:
        """End one session of an officer, or all; inside a transaction. Returns how many.

        Raises:
            BadInput: there is none.
        """
        which = "DELETE FROM seats WHERE officer = ? AND (CAST(? AS INTEGER) IS NULL OR number = ?)"
        ended = db.execute(which, (officer, number, number)).rowcount
        if not ended:
            raise BadInput(
                f"officer {officer}",
                "is not signed in" if number is None else f"has no session {number}",
                "See lfr-control staff sessions",
            )
        return int(ended)
