"""Scoring strangers with people whom the list holds: as if the probe's own person were truly not on it. No I/O.

Data sets are small, so everybody is enrolled and also searched as a stranger, with their own entry left out. It must be
left out twice: nobody may find it, and it may not count among the neighbours of others. Who looks like the stranger
looks like the stranger's entry, too, and would otherwise be scored lower than in the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.match.doubles import Doubles
from edge.match.relative import Relative

__all__ = ["Both", "List", "Scoring", "Second", "first", "listed"]

Scoring = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From ``(m, d)`` probes to ``(m, n)`` scores."""

BLOCK = 1024
"""Entries or probes compared at once: bounds the memory to 1,024 times the list's length."""


@dataclass(frozen=True, slots=True)
class Second:
    """A second embedder's opinion. A row of templates then holds the first embedder's numbers, then the second's.

    Attributes:
        at: numbers of the first embedder's templates.
        share: of the second in a score, 0..1: ``score = (1 - share) * first + share * second``, each list-relative.
    """

    at: int
    share: float


class List:
    """A list that is searched by people who may be on it.

    Args:
        vectors: ``(n, d)`` float32 of length 1, one row for each entry.
        relative: how scores are made.
        doubles: which entries are probably one person, where another embedder says so.
    """

    def __init__(self, vectors: NDArray[np.float32], relative: Relative, doubles: Doubles | None = None) -> None:
        self._vectors, self._relative = vectors, relative
        if doubles is None:
            self.likeness, _, self.doubles = relative.of_list(vectors)
        else:
            self.likeness, self.doubles = relative.neighbours(vectors, np.arange(len(vectors)), doubles)[0], doubles
        """``T(g)`` of every entry, ``(n,)``, and which entries are probably one person."""
        count = len(vectors)
        self._least = np.full(count, -np.inf, np.float32)
        self._next = np.zeros(count, np.float32)
        if count - 1 > relative.nearest:
            for start in range(0, count, BLOCK):
                cosines = vectors[start : start + BLOCK] @ vectors.T
                for row in range(len(cosines)):
                    cosines[row, [start + row, *self.doubles.of(start + row)]] = -np.inf
                two = np.partition(cosines, (-relative.nearest - 1, -relative.nearest), axis=1)
                self._least[start : start + BLOCK] = two[:, -relative.nearest]
                self._next[start : start + BLOCK] = np.maximum(two[:, -relative.nearest - 1], 0)

    def likeness_without(self, own: NDArray[np.int64]) -> NDArray[np.float32]:
        """``T(g)`` of every entry on a list that lacks one.

        Args:
            own: ``(m,)`` the row that is lacking, for each of several lists; -1 for none.

        Returns:
            ``(m, n)`` float32.
        """
        cosines = self._vectors[own] @ self._vectors.T
        lost = np.where(cosines >= self._least - 1e-6, np.maximum(cosines, 0) - self._next, 0)
        for row, lacking in enumerate(own.tolist()):
            # A double of theirs never counted.
            lost[row, slice(None) if lacking < 0 else self.doubles.of(lacking)] = 0
        return np.asarray(self.likeness - np.maximum(lost, 0) / self._relative.nearest, np.float32)

    def scores(self, probes: NDArray[np.float32], own: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores with every entry but the probe's own.

        Args:
            probes: ``(m, d)`` float32 of length 1.
            own: ``(m,)`` the row of the person shown; -1 for somebody who is not on the list.

        Returns:
            ``(m, n)`` float32; ``-inf`` for the own entry.
        """
        cosines = probes @ self._vectors.T
        listed = np.flatnonzero(own >= 0)
        cosines[listed, own[listed]] = -np.inf
        scores = self._relative.scores(cosines, self.likeness, self.doubles)
        if len(listed):
            scores[listed] = self._relative.scores(cosines[listed], self.likeness_without(own[listed]), self.doubles)
        return scores

    def doubles_with(self, own: int, entry: NDArray[np.float32]) -> Doubles:
        """The doubles if one entry had another template."""
        to_others = self._vectors @ entry
        to_others[own] = 0
        return self.doubles.replaced(own, np.flatnonzero(to_others >= self._relative.one_person))

    def with_another(self, own: int, entry: NDArray[np.float32], doubles: Doubles | None = None) -> Scoring:
        """How people are scored on this list if one entry had another template; ``T`` of the other entries stays.

        Args:
            own: the row that is replaced.
            entry: ``(d,)`` of length 1, in its place.
            doubles: of the list with it, where another embedder says so.
        """
        relative, to_others = self._relative, self._vectors @ entry
        to_others[own] = 0
        if doubles is None:
            doubles = self.doubles_with(own, entry)
        to_others[doubles.of(own)] = 0
        likeness = self.likeness.copy()
        likeness[own] = np.maximum(np.sort(to_others)[-relative.nearest :], 0).sum() / relative.nearest

        def score(probes: NDArray[np.float32]) -> NDArray[np.float32]:
            cosines = probes @ self._vectors.T
            cosines[:, own] = probes @ entry
            return relative.scores(cosines, likeness, doubles)

        return score


class Both:
    """A list that two embedders score. Who is whose double is the first's to say: the second's cosines lie elsewhere.

    Args:
        vectors: ``(n, d)`` float32, the parts of each row of length 1.
        relative: how either's scores are made.
        second: where the second's numbers begin, and its share.
    """

    def __init__(self, vectors: NDArray[np.float32], relative: Relative, second: Second) -> None:
        mine, others = self._parts(vectors, second)
        self._second = second
        self._one = List(mine, relative)
        self._two = List(others, relative, self._one.doubles)

    def scores(self, probes: NDArray[np.float32], own: NDArray[np.int64]) -> NDArray[np.float32]:
        """As :meth:`List.scores`."""
        mine, others = self._parts(probes, self._second)
        return self._mixed(self._one.scores(mine, own), self._two.scores(others, own))

    def with_another(self, own: int, entry: NDArray[np.float32]) -> Scoring:
        """As :meth:`List.with_another`."""
        mine, others = self._parts(entry, self._second)
        one = self._one.with_another(own, mine)
        two = self._two.with_another(own, others, self._one.doubles_with(own, mine))

        def score(probes: NDArray[np.float32]) -> NDArray[np.float32]:
            mine, others = self._parts(probes, self._second)
            return self._mixed(one(mine), two(others))

        return score

    @staticmethod
    def _parts(rows: NDArray[np.float32], second: Second) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.ascontiguousarray(rows[..., : second.at]), np.ascontiguousarray(rows[..., second.at :])

    def _mixed(self, one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float32]:
        share = np.float32(self._second.share)
        there = np.isfinite(one)  # an entry that is off the list has no score by either
        mixed = (1 - share) * np.where(there, one, 0) + share * np.where(there, two, 0)
        return np.where(there, mixed, -np.inf).astype(np.float32)


def listed(vectors: NDArray[np.float32], relative: Relative, second: Second | None) -> List | Both:
    """A list that one embedder scores, or two."""
    return List(vectors, relative) if second is None else Both(vectors, relative, second)


def first(
    on: List | Both, probes: NDArray[np.float32], own: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first candidate of every probe: its score, and which entry it is.

    Args:
        on: the list.
        probes: ``(m, d)`` float32.
        own: ``(m,)`` as for :meth:`List.scores`.
    """
    best, which = np.empty(len(probes), np.float32), np.empty(len(probes), np.int64)
    for start in range(0, len(probes), BLOCK):
        part = slice(start, start + BLOCK)
        scores = on.scores(probes[part], own[part])
        which[part] = scores.argmax(1)
        best[part] = scores.max(1)
    return best, which
