"""Which entries of a list are probably one person: they are no neighbours of each other when scores are made.

One person under several references would otherwise hide: each reference would count as what the others resemble
besides, and take their scores down. Why: ``docs/decisions/0068-doubles-do-not-hide.md``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge.errors import RecordInvalid

__all__ = ["MOST_PAIRS", "ONE_PERSON", "Doubles", "among_pictures"]

ONE_PERSON = 0.60
"""Similarity from which two references are probably one person: of pairs of one person in LFW's evaluation split, 92 %
lie above, and of pairs of different people 9 in a million (11.8 million pairs of the templates of a closer look,
measured with the shipped embedder)."""

MOST_PAIRS = 1_000_000
"""A list with more pairs of doubles is refused: 1,400 references of one person have so many, and each pair is kept."""

_NOBODY = np.zeros(0, np.int64)


class Doubles:
    """The doubles of each entry of a list, by the entries' numbers. Only entries that have one take memory."""

    def __init__(self) -> None:
        self._of: dict[int, NDArray[np.int64]] = {}
        self._held = 0

    def __bool__(self) -> bool:
        return bool(self._of)

    def __len__(self) -> int:
        """How many entries have a double."""
        return len(self._of)

    def __iter__(self) -> Iterator[int]:
        """The entries that have a double."""
        return iter(self._of)

    def __repr__(self) -> str:
        return f"<Doubles of {len(self)} entries>"

    def of(self, entry: int) -> NDArray[np.int64]:
        """The doubles of an entry, ascending; empty where it has none."""
        return self._of.get(entry, _NOBODY)

    def add(self, entry: int, others: NDArray[np.int64]) -> None:
        """Name the doubles of an entry: as seen from it, so that each of a pair is asked in its turn.

        Raises:
            RecordInvalid: the list has more than :data:`MOST_PAIRS`.
        """
        if len(others):
            self._held += len(others)
            if self._held > 2 * MOST_PAIRS:
                raise RecordInvalid(
                    "the list",
                    f"more than {MOST_PAIRS:,} pairs of its references are probably one person",
                    "Have the office look through it, and build it again",
                )
            self._of[entry] = np.union1d(self.of(entry), others)

    def complete(self) -> NDArray[np.int64]:
        """See to it that each double of an entry has the entry for its own; numbers round, and a graph overlooks.

        Returns:
            The entries that had lacked one.
        """
        lacking: dict[int, list[int]] = {}
        for entry, others in self._of.items():
            for other in others.tolist():
                mine = self.of(other)
                at = int(np.searchsorted(mine, entry))
                if at == len(mine) or mine[at] != entry:
                    lacking.setdefault(other, []).append(entry)
        for entry, ones in lacking.items():
            self.add(entry, np.array(ones, np.int64))
        return np.array(sorted(lacking), np.int64)

    def remove(self, entry: int) -> None:
        """An entry leaves the list."""
        for other in self._of.pop(entry, _NOBODY).tolist():
            left = self._of[other][self._of[other] != entry]
            self._held -= 2
            if len(left):
                self._of[other] = left
            else:
                del self._of[other]

    def copy(self) -> Doubles:
        """The same doubles, to be changed and erased by themselves."""
        copy = Doubles()
        copy._of, copy._held = {entry: others.copy() for entry, others in self._of.items()}, self._held
        return copy

    def replaced(self, entry: int, others: NDArray[np.int64]) -> Doubles:
        """These doubles if the entry had other ones; this object stays as it is."""
        copy = self.copy()
        copy.remove(entry)
        copy.add(entry, others)
        copy.complete()
        return copy

    def among(self, entries: NDArray[np.int64]) -> Doubles:
        """The doubles among some entries, by their places there.

        Args:
            entries: ascending.
        """
        found = Doubles()
        if self._of:
            for at, entry in enumerate(entries.tolist()):
                others = self._of.get(entry)
                if others is not None:
                    found.add(at, np.flatnonzero(np.isin(entries, others)))
        return found

    def erase(self) -> None:
        """Forget all of them."""
        for others in self._of.values():
            others.fill(0)
        self._of.clear()
        self._held = 0


def among_pictures(
    rows: NDArray[np.float32], starts: NDArray[np.int64], owner: NDArray[np.int64], at_least: float
) -> Doubles:
    """Entries of which any two rows are as alike as those of one person.

    Args:
        rows: ``(n, d)`` of length 1, those of an entry beside each other.
        starts: ``(g,)`` where each entry's rows begin.
        owner: ``(n,)`` whose row it is.
        at_least: cosine of two rows of one person.

    Raises:
        RecordInvalid: there are more than :data:`MOST_PAIRS`.
    """
    doubles, ends = Doubles(), np.append(starts[1:], len(rows))[: len(starts)]
    # One row at a time: what multiplies two matrices keeps copies of both for as long as the process lives.
    for entry, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        later = [owner[end:][rows[end:] @ row >= at_least] for row in rows[start:end]]
        doubles.add(entry, np.unique(np.concatenate(later)))
    doubles.complete()
    return doubles
