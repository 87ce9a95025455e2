"""What can still be read of a damaged store: every row whose pages are what was written.

A page that does not verify takes the rows on it and nothing else. They are found by halving: a range of rows that
cannot be read is cut in two until single rows remain. A table whose inner pages are gone as well would be cut for
ever, so the cuts are limited and the widest ranges come first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.trust.sealed import DamagedReader

__all__ = ["Salvage"]

MOST_FAILURES = 2000
"""Ranges of one table that may turn out unreadable: each costs a new connection, about a millisecond."""
TOGETHER = 64
"""Rows that are held in memory at a time: a row may hold two pictures."""
HIGHEST = 1 << 18
"""Rows that are looked for where the table itself cannot say how many it has."""


class Salvage(DamagedReader):
    """Reads a damaged store, which stays as it is. Reads a sound one just as well.

    Args:
        path: the file.
        key: its key.

    Attributes:
        damaged: tables of which at least one row could not be read.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        super().__init__(path, key)
        self.damaged: set[str] = set()

    def rows(self, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
        """Every row of ``table`` that can be read: its ``columns``, which are separated by commas.

        A store of an earlier version lacks some: the value in such a column is None, and such a table has no rows.
        """
        known = self.read("SELECT name FROM pragma_table_info(?)", (table,))
        if known is not None:
            names = {row[0] for row in known}
            if not names:
                return
            columns = ", ".join(name if name in names else "NULL" for name in columns.split(", "))
        highest = self._highest(table)
        ranges = deque((low, min(low + TOGETHER - 1, highest)) for low in range(1, highest + 1, TOGETHER))
        failures = 0
        while ranges and failures < MOST_FAILURES:
            low, high = ranges.popleft()
            question = f"SELECT {columns} FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid"  # noqa: S608 - ours
            rows = self.read(question, (low, high))
            if rows is not None:
                yield from rows
                continue
            failures += 1
            self.damaged.add(table)
            if low < high:
                middle = (low + high) // 2
                ranges += [(low, middle), (middle + 1, high)]

    def _highest(self, table: str) -> int:
        last = self.read(f"SELECT max(rowid) FROM {table}")  # noqa: S608 - ours
        if last is not None:
            return int(last[0][0] or 0)
        self.damaged.add(table)
        counted = self.read(f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'")  # noqa: S608 - ours
        return int(counted[0][0]) if counted else HIGHEST
