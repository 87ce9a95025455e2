"""Scoring strangers with people whom the list holds: as if the probe's own person were truly not on it. No I/O.

Data sets are small, so everybody is enrolled and also searched as a stranger, with their own entry left out. It must be
left out twice: nobody may find it, and it may not count among the neighbours of others. Who looks like the stranger
looks like the stranger's entry, too, and would otherwise be scored lower than in the field.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge.match.relative import Relative

__all__ = ["List", "Scoring"]

Scoring = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From ``(m, d)`` probes to ``(m, n)`` scores."""

BLOCK = 1024
"""Entries compared at once: bounds the memory to 1,024 times the list's length."""


class List:
    """A list that is searched by people who may be on it.

    Args:
        vectors: ``(n, d)`` float32 of length 1, one row for each entry.
        relative: how scores are made.
    """

    def __init__(self, vectors: NDArray[np.float32], relative: Relative) -> None:
        self._vectors, self._relative = vectors, relative
        self.likeness, _, self.doubles = relative.of_list(vectors)
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

    def with_another(self, own: int, entry: NDArray[np.float32]) -> Scoring:
        """How people are scored on this list if one entry had another template; ``T`` of the other entries stays.

        Args:
            own: the row that is replaced.
            entry: ``(d,)`` of length 1, in its place.
        """
        relative, to_others = self._relative, self._vectors @ entry
        to_others[own] = 0
        doubles = self.doubles.replaced(own, np.flatnonzero(to_others >= relative.one_person))
        to_others[doubles.of(own)] = 0
        likeness = self.likeness.copy()
        likeness[own] = np.maximum(np.sort(to_others)[-relative.nearest :], 0).sum() / relative.nearest

        def score(probes: NDArray[np.float32]) -> NDArray[np.float32]:
            cosines = probes @ self._vectors.T
            cosines[:, own] = probes @ entry
            return relative.scores(cosines, likeness, doubles)

        return score
