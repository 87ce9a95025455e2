"""A damaged outbox is kept aside, and every alert that can still be read goes into a new one.

The new outbox is made complete beside the damaged one before either is moved, so that a power cut at any moment leaves
the damaged one to begin with again, or the new one to take up:

===================  ==========================================================
here at the start    what that means
===================  ==========================================================
both                 the new one may be half made: it is made again
the new one alone    the damaged one was set aside: the new one takes its place
===================  ==========================================================

Numbers go on where the damaged outbox stood. Where that cannot be read any more they go on above the highest number
that can; the control room notices a van that counts anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge.alert.outbox import OUTBOX, Outbox, anothers
from edge.custody.shred import shred
from edge.errors import StoreDamaged, StoreUnavailable
from edge.files import fsync_folder
from edge.trust.salvage import Salvage
from edge.trust.sealed import SealedStore, companions, name_aside, set_aside

__all__ = ["open_outbox"]

MOST_PROBED = 10_000
"""Numbers tried one by one where neither table nor index says which there are."""
_BY_ID = "sqlite_autoindex_outbox_1"
"""SQLite's own index on the alerts' identifiers: it names the number of each alert and lies in pages of its own."""


@dataclass(frozen=True, slots=True)
class _Book:
    van: str
    reserved: int
    delivered: int
    expired: int


def open_outbox(path: Path, key: bytes, van: str, *, now: datetime, limit: int = 10_000) -> Outbox:
    """Open the outbox, or what can be saved of a damaged one: :meth:`Outbox.damage` says then what came of it.

    Args:
        path: see :class:`Outbox`; the file that is kept aside lies beside it.
        key: see :class:`Outbox`.
        van: see :class:`Outbox`.
        limit: see :class:`Outbox`.
        now: names the file that is kept aside, UTC.

    Raises:
        See :class:`Outbox`, but for StoreDamaged.
    """
    fresh = path.with_name(f"{path.name}.repair")
    try:
        if fresh.exists() and not path.exists():
            _take_up(fresh, path)
    except OSError as error:
        raise _unmovable(fresh, error) from None
    try:
        return Outbox(path, key, van, limit=limit)
    except StoreDamaged:
        _repair(path, fresh, key, van, now)
    return Outbox(path, key, van, limit=limit)


def _take_up(fresh: Path, path: Path) -> None:
    for left in companions(path):  # a log of the damaged one must not be taken for the new one's
        shred(left)
    fresh.replace(path)
    fsync_folder(path.parent)


def _unmovable(path: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        str(path), f"cannot be moved ({error.strerror})", "Check that the disk is not full or failing"
    )


def _repair(path: Path, fresh: Path, key: bytes, van: str, now: datetime) -> None:
    for left in companions(fresh):
        shred(left)
    with Salvage(path, key) as old, SealedStore(fresh, key, OUTBOX, create=True) as new:
        rows = old.read("SELECT van, reserved, delivered, expired FROM book")
        book = _Book(*rows[0]) if rows else None
        if book is not None and book.van != van:
            raise anothers(path, book.van, van)
        before = old.read("SELECT file, carried, lost, told FROM damage") or []
        numbers = _numbers(old, book)
        carried = 0
        with new.writing() as db:
            for number in numbers:
                for row in old.read("SELECT * FROM outbox WHERE sequence = ?", (number,)) or []:
                    db.execute("INSERT INTO outbox VALUES (?, ?, ?, ?)", row)
                    carried += 1
            reserved = max([0 if book is None else book.reserved, *numbers])
            lost_before, expired = sum(row[2] for row in before), 0 if book is None else book.expired
            lost = len(numbers) - carried
            if book is not None:
                lost = max(lost, reserved - book.delivered - expired - lost_before - carried)
            delivered = max(0, reserved - expired - lost_before - lost - carried)
            db.execute("INSERT INTO book VALUES (1, ?, ?, ?, ?)", (van, reserved, delivered, expired))
            db.executemany("INSERT INTO damage VALUES (?, ?, ?, ?)", before)
            db.execute("INSERT INTO damage VALUES (?, ?, ?, 0)", (name_aside(path, now).name, carried, lost))
        new.fold()  # complete in one file: only that is renamed
    fsync_folder(path.parent)
    set_aside(path, now)
    try:
        _take_up(fresh, path)
    except OSError as error:
        raise _unmovable(fresh, error) from None


def _numbers(old: Salvage, book: _Book | None) -> list[int]:
    """The numbers of all alerts that were waiting, as far as table, index and trial tell."""
    table = _Walk(old, "SELECT sequence, sequence FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT 1", 0)
    found = set(table)
    if not table.whole:
        index = _Walk(
            old,
            f"SELECT alert_id, sequence FROM outbox INDEXED BY {_BY_ID} WHERE alert_id > ? ORDER BY alert_id LIMIT 1",  # noqa: S608
            "",
        )
        found |= set(index)
        if not index.whole:
            highest = 2**63 - 1
            back = _Walk(
                old, "SELECT sequence, sequence FROM outbox WHERE sequence < ? ORDER BY sequence DESC LIMIT 1", highest
            )
            found |= set(back)
            last = max([0 if book is None else book.reserved, *found])
            first = max(last - MOST_PROBED, table.last_number) + 1
            for number in range(first, last + 1):
                if number not in found and old.read("SELECT 1 FROM outbox WHERE sequence = ?", (number,)):
                    found.add(number)
    return sorted(found)


class _Walk:
    """From one row to the next in an order, until the end or a damaged page.

    Attributes:
        whole: whether the end was reached.
        last_number: the last number on the way; 0 at first.
    """

    def __init__(self, old: Salvage, query: str, start: int | str) -> None:
        self._old = old
        self._query = query
        self._at = start
        self.whole = False
        self.last_number = 0

    def __iter__(self) -> Iterator[int]:
        while (rows := self._old.read(self._query, (self._at,))) is not None:
            if not rows:
                self.whole = True
                return
            ((self._at, self.last_number),) = rows
            yield self.last_number
