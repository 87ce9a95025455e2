"""List-relative scores: how much more a face resembles one entry than it resembles the rest of that list.

A cosine says how alike two faces are, and people of one origin are more alike to the model than people at large. So one
threshold on the cosine stops strangers of an origin that the list holds many people of far more often than others. The
list itself knows by how much: a probe's likeness to the entries that it is *not*, and an entry's likeness to its
neighbours on the list, are taken off. Nobody's origin is asked for or known.

``s(p, g) = cos(p, g) - a T(p, g) - b T(g)``, where ``T(p, g)`` is the mean of the ``k`` highest cosines of the probe
with entries other than ``g``, and ``T(g)`` the mean of the ``k`` highest of the entry with other entries. It is a
relative of the adaptive symmetric normalisation of speaker recognition (Matejka et al., "Analysis of Score
Normalization in Multilingual Speaker Recognition", Interspeech 2017), with the list as its cohort.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Relative"]

BLOCK = 1024
"""Entries compared at once: bounds the memory to 1,024 times the list's length."""


@dataclass(frozen=True, slots=True)
class Relative:
    """How much is taken off.

    Attributes:
        probe: ``a``, share of the probe's likeness to others.
        entry: ``b``, share of the entry's likeness to others.
        nearest: ``k``, how many of the others count.
    """

    probe: float = 0.5
    entry: float = 0.5
    nearest: int = 10

    def of_entries(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """``T(g)`` of every entry.

        Args:
            vectors: ``(n, d)`` of length 1, one row for each entry.

        Returns:
            ``(n,)`` float32; 0 where there is no other entry.
        """
        count = len(vectors)
        nearest = min(self.nearest, count - 1)
        if nearest < 1:
            return np.zeros(count, np.float32)
        found = np.empty(count, np.float32)
        for start in range(0, count, BLOCK):
            scores = vectors[start : start + BLOCK] @ vectors.T
            rows = np.arange(len(scores))
            scores[rows, start + rows] = -np.inf
            found[start : start + BLOCK] = np.partition(scores, -nearest, axis=1)[:, -nearest:].mean(1)
        return found

    def scores(self, cosines: NDArray[np.float32], of_entries: NDArray[np.float32]) -> NDArray[np.float32]:
        """List-relative scores.

        Args:
            cosines: ``(m, n)``, of each probe with each entry; ``-inf`` where an entry is off the list for it.
            of_entries: ``(n,)`` as :meth:`of_entries` gave them.

        Returns:
            ``(m, n)`` float32; ``-inf`` where the cosine was.
        """
        count = cosines.shape[1]
        nearest = min(self.nearest, count - 1)
        if nearest < 1:
            return cosines - np.float32(self.entry) * of_entries
        highest = np.partition(cosines, -(nearest + 1), axis=1)[:, -(nearest + 1) :]
        least, total = highest.min(1), highest.sum(1, where=np.isfinite(highest))
        # With the entry itself among the highest, the others are the rest; else they are all but the least of them.
        among = cosines >= least[:, None]
        others = np.where(among, total[:, None] - cosines, (total - np.where(np.isfinite(least), least, 0))[:, None])
        taken = np.float32(self.probe / nearest) * others + np.float32(self.entry) * of_entries
        return np.where(np.isfinite(cosines), cosines - taken, -np.inf).astype(np.float32)
