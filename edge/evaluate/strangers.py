"""Scoring strangers with people whom the list holds: as if the probe's own person were truly not on it. No I/O.

Data sets are small, so everybody is enrolled and also searched as a stranger, with their own entry left out. It must be
left out twice: nobody may find it, and it may not count among the neighbours of others. Who looks like the stranger
looks like the stranger's entry, too, and would otherwise be scored lower than in the field.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.match.relative import Relative

__all__ = ["List"]

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
        self.likeness = relative.of_entries(vectors)
        """``T(g)`` of every entry, ``(n,)``."""
        count = len(vectors)
        self._least = np.full(count, -np.inf, np.float32)
        self._next = np.zeros(count, np.float32)
        if count - 1 > relative.nearest:
            for start in range(0, count, BLOCK):
                cosines = vectors[start : start + BLOCK] @ vectors.T
                cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -np.inf
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
        lost[own < 0] = 0
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
        scores = self._relative.scores(cosines, self.likeness)
        if len(listed):
            scores[listed] = self._relative.scores(cosines[listed], self.likeness_without(own[listed]))
        return scores
