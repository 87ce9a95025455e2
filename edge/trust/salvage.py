"""What can still be read of a damaged store: every row whose pages are what was written.

A page that does not verify takes the rows on it and nothing else. They are found by halving: a range of rows that
cannot be read is cut in two until single rows remain. A table whose inner pages are gone as well would be cut for
ever, so the cuts are limited and the widest ranges come first.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.errors import StoreDamaged, StoreUnavailable
from edge.trust.sealed import SealedStore, StoreKind

__all__ = ["salvage"]

MOST_FAILURES = 4000
"""Ranges of one table that may turn out unreadable: each costs a new connection, about a millisecond."""
HIGHEST = 1 << 20
"""Rows that are looked for where the table itself cannot say how many it has."""


class _Damaged(SealedStore):
    """Opened as it is: no check of its pages, no migration."""

    def _check_pages(self) -> None:
        pass

    def _migrate(self) -> None:
        # It would say so for every page that is tried; that the store is damaged has been said.
        self._db.execute("PRAGMA cipher_log_level = NONE")


def salvage(path: Path, key: bytes, kind: StoreKind, tables: Mapping[str, str]) -> dict[str, list[tuple[Any, ...]]]:
    """Read what can be read of a damaged store; the file stays as it is.

    Args:
        path: the damaged file.
        key: its key.
        kind: what it is.
        tables: columns to read, separated by commas, for each table.

    Returns:
        Rows per table, in the order of their row numbers.

    Raises:
        KeyUnusable: the key does not fit, or the first page is damaged: nothing can be read then.
        WatchlistUnreadable: it is a store of another kind.
    """
    return {table: _Salvage(path, key, kind, table, columns).rows() for table, columns in tables.items()}


class _Salvage:
    """One table. SQLCipher refuses everything after the first page that does not verify, so each failure reopens."""

    def __init__(self, path: Path, key: bytes, kind: StoreKind, table: str, columns: str) -> None:
        self._open = lambda: _Damaged(path, key, kind)
        self._table, self._columns = table, columns
        self._store: SealedStore | None = None

    def rows(self) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        ranges = deque([(1, self._highest())])
        failures = 0
        while ranges and failures < MOST_FAILURES:
            low, high = ranges.popleft()
            rows = self._read(
                f"SELECT rowid, {self._columns} FROM {self._table} WHERE rowid BETWEEN ? AND ?",  # noqa: S608 - ours
                (low, high),
            )
            if rows is not None:
                found += rows
                continue
            failures += 1
            if low < high:
                middle = (low + high) // 2
                ranges += [(low, middle), (middle + 1, high)]
        self._close()
        return [row[1:] for row in sorted(found, key=lambda row: row[0])]

    def _highest(self) -> int:
        for question in (
            f"SELECT max(rowid) FROM {self._table}",  # noqa: S608 - ours
            f"SELECT seq FROM sqlite_sequence WHERE name = '{self._table}'",  # noqa: S608 - ours
        ):
            answer = self._read(question, ())
            if answer and answer[0][0] is not None:
                return int(answer[0][0])
            if answer:
                return 1  # empty
        return HIGHEST

    def _read(self, question: str, values: tuple[int, ...]) -> list[tuple[Any, ...]] | None:
        with contextlib.suppress(StoreDamaged, StoreUnavailable):
            if self._store is None:
                self._store = self._open()
            return self._store.read(question, values)
        self._close()
        return None

    def _close(self) -> None:
        if self._store is not None:
            with contextlib.suppress(StoreDamaged, StoreUnavailable):
                self._store.close()
            self._store = None
