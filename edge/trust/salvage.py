"""What can still be read of a damaged store: every row whose pages are what was written.

A page that does not verify takes the rows on it and nothing else. They are found by halving: a range of rows that
cannot be read is cut in two until single rows remain. A table whose inner pages are gone as well would be cut for
ever, so the cuts are limited and the widest ranges come first.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from edge.errors import StoreDamaged, StoreUnavailable
from edge.trust.sealed import SealedStore, StoreKind

__all__ = ["Salvage"]

MOST_FAILURES = 2000
"""Ranges of one table that may turn out unreadable: each costs a new connection, about a millisecond."""
TOGETHER = 64
"""Rows that are held in memory at a time: a row may hold two pictures."""
HIGHEST = 1 << 18
"""Rows that are looked for where the table itself cannot say how many it has."""


class _Damaged(SealedStore):
    """Opened as it is: no check of its pages, no migration."""

    def _check(self) -> None:
        pass

    def _migrate(self) -> None:
        # It would say so for every page that is tried; that the store is damaged has been said.
        self._db.execute("PRAGMA cipher_log_level = NONE")


class Salvage:
    """Reads a damaged store, which stays as it is. Reads a sound one just as well.

    Args:
        path: the file.
        key: its key.
        kind: what it is.

    Attributes:
        damaged: tables of which at least one row could not be read.
    """

    def __init__(self, path: Path, key: bytes, kind: StoreKind) -> None:
        self._path, self._key, self._kind = path, key, kind
        self._store: SealedStore | None = None
        self.damaged: set[str] = set()

    def rows(self, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
        """Every row of ``table`` that can be read: its ``columns``, which are separated by commas.

        Raises:
            KeyUnusable: the key does not fit, or the first page is damaged: nothing can be read then.
            WatchlistUnreadable: it is a store of another kind.
        """
        highest = self._highest(table)
        ranges = deque((low, min(low + TOGETHER - 1, highest)) for low in range(1, highest + 1, TOGETHER))
        failures = 0
        while ranges and failures < MOST_FAILURES:
            low, high = ranges.popleft()
            question = f"SELECT {columns} FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid"  # noqa: S608 - ours
            rows = self._read(question, (low, high))
            if rows is not None:
                yield from rows
                continue
            failures += 1
            self.damaged.add(table)
            if low < high:
                middle = (low + high) // 2
                ranges += [(low, middle), (middle + 1, high)]

    def _highest(self, table: str) -> int:
        last = self._read(f"SELECT max(rowid) FROM {table}", ())  # noqa: S608 - ours
        if last is not None:
            return int(last[0][0] or 0)
        self.damaged.add(table)
        counted = self._read(f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'", ())  # noqa: S608 - ours
        return int(counted[0][0]) if counted else HIGHEST

    def _read(self, question: str, values: tuple[int, ...]) -> list[tuple[Any, ...]] | None:
        with contextlib.suppress(StoreDamaged, StoreUnavailable):
            if self._store is None:
                self._store = _Damaged(self._path, self._key, self._kind)
            return self._store.read(question, values)
        # SQLCipher refuses everything on a connection that has seen one page that does not verify.
        self.close()
        return None

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
