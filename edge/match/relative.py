"""List-relative scores: how much more a face resembles one entry than it resembles the rest of that list.

A cosine says how alike two faces are, and people of one origin are more alike to the model than people at large. So one
threshold on the cosine stops strangers of an origin that the list holds many people of far more often than others. The
list itself knows by how much: a probe's likeness to the entries that it is *not*, and an entry's likeness to its
neighbours on the list, are taken off. Nobody's origin is asked for or known.

``s(p, g) = cos(p, g) - a T(p, g) - b T(g)``, where ``T(p, g)`` is the mean of the ``k`` highest cosines of the probe
with entries other than ``g``, and ``T(g)`` the mean of the ``k`` highest of the entry with other entries. In them a
cosine below 0 counts as 0, and so does an entry that a short list does not have: nothing is ever added, and nothing is
taken off an entry that is alone on its list. It is a relative of the adaptive symmetric normalisation of speaker
recognition (Matejka et al., "Analysis of Score Normalization in Multilingual Speaker Recognition", Interspeech 2017),
with the list as its cohort. Why these weights: ``docs/decisions/0065-list-relative-scores.md``.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

__all__ = ["Relative", "unit_means"]

Share = Annotated[float, Meta(ge=0.0, le=0.5)]


class Relative(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much is taken off.

    Attributes:
        probe: ``a``, share of the probe's likeness to others; with both shares 0 the score is the cosine.
        entry: ``b``, share of the entry's likeness to others.
        nearest: ``k``, how many of the others count.
    """

    probe: Share = 0.4
    entry: Share = 0.4
    nearest: Annotated[int, Meta(ge=1, le=100)] = 10

    def of_entries(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """``T(g)`` of every entry.

        Args:
            vectors: ``(n, d)`` of length 1, one row for each entry.

        Returns:
            ``(n,)`` float32; 0 where there is no other entry.
        """
        return self.neighbours(vectors, np.arange(len(vectors)))[0]

    def neighbours(
        self, vectors: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``T(g)`` of some entries, and the cosine that another entry must exceed to change it.

        Args:
            vectors: ``(n, d)`` of length 1, one row for each entry; zeros for one that has left the list.
            rows: ``(m,)`` of which entries.

        Returns:
            ``(m,)`` float32 each; the second is 0 where every entry counts.
        """
        likeness, least = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
        near = min(self.nearest, len(vectors) - 1)
        if near < 1:
            return likeness, least
        # One entry at a time: what multiplies two matrices keeps copies of both for as long as the process lives.
        for at, row in enumerate(rows):
            cosines = vectors @ vectors[row]
            cosines[row] = 0
            highest = np.maximum(np.partition(cosines, -near)[-near:], 0)
            likeness[at] = highest.sum() / self.nearest
            if near == self.nearest:
                least[at] = highest.min()
        return likeness, least

    def scores(self, cosines: NDArray[np.float32], of_entries: NDArray[np.float32]) -> NDArray[np.float32]:
        """List-relative scores.

        Args:
            cosines: ``(…, n)``, of each probe with each entry of a list; ``-inf`` where an entry is off it.
            of_entries: ``(n,)`` or, of several lists, ``(…, n)``, as :meth:`of_entries` gave them.

        Returns:
            ``(…, n)`` float32; ``-inf`` where the cosine was.
        """
        if not cosines.shape[-1]:
            return cosines
        count = min(self.nearest + 1, cosines.shape[-1])
        highest = np.maximum(np.partition(cosines, -count, axis=-1)[..., -count:], 0)
        # Of the k + 1 highest, the others are all but the entry itself, or all but the least when it is not among them.
        least = highest.min(-1, keepdims=True) if count > self.nearest else np.float32(0)
        others = highest.sum(-1, keepdims=True) - np.maximum(cosines, least)
        taken = np.float32(self.probe / self.nearest) * others + np.float32(self.entry) * of_entries
        return np.where(np.isfinite(cosines), cosines - taken, -np.inf).astype(np.float32)

    def ranking(self, cosines: NDArray[np.float32], of_entries: NDArray[np.float32]) -> NDArray[np.float32]:
        """:meth:`scores` of one probe, in half of the time.

        Args:
            cosines: ``(n,)``, n ≥ 1; ``-inf`` where an entry has left the list.
            of_entries: ``(n,)`` as :meth:`of_entries` gave them.
        """
        count = min(self.nearest + 1, len(cosines))
        # np.partition takes half the time of np.argpartition, which is only needed where values tie.
        top = np.flatnonzero(cosines >= np.partition(cosines, -count)[-count])
        if len(top) > count:
            top = np.argpartition(cosines, -count)[-count:]
        highest = np.maximum(cosines[top], 0)
        least = highest.min() if count > self.nearest else np.float32(0)
        share, total = np.float32(self.probe / self.nearest), highest.sum()
        scores = cosines - np.float32(self.entry) * of_entries
        own = share * (total - np.maximum(highest, least))
        scores[top] += share * (total - least) - own
        scores -= share * (total - least)
        return scores


def unit_means(rows: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean direction of each group of rows.

    Args:
        rows: ``(n, d)`` of length 1, the rows of a group beside each other.
        starts: ``(g,)`` where each group begins, ascending from 0.

    Returns:
        ``(g, d)`` float32 of length 1.
    """
    means: NDArray[np.float32] = np.add.reduceat(rows, starts, axis=0)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return means
