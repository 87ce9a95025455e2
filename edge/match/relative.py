"""List-relative scores: how much more a face resembles one entry than it resembles the rest of that list.

A cosine says how alike two faces are, and people of one origin are more alike to the model than people at large. So one
threshold on the cosine stops strangers of an origin that the list holds many people of far more often than others. The
list itself knows by how much: a probe's likeness to the entries that it is *not*, and an entry's likeness to its
neighbours on the list, are taken off. Nobody's origin is asked for or known.

``s(p, g) = cos(p, g) - a T(p, g) - b T(g)``, where ``T(p, g)`` is the mean of the ``k`` highest cosines of the probe
with entries other than ``g``, and ``T(g)`` the mean of the ``k`` highest of the entry with other entries. Entries that
are probably the same person as ``g`` (:mod:`edge.match.doubles`) are not among these others, so that ``g`` is scored as
on a list without them. A cosine below 0 counts as 0, and so does an entry that a short list does not have: nothing is
ever added, and nothing is taken off an entry that is alone on its list. It is a relative of the adaptive symmetric
normalisation of speaker recognition (Matejka et al., "Analysis of Score Normalization in Multilingual Speaker
Recognition", Interspeech 2017), with the list as its cohort. Why these weights:
``docs/decisions/0065-list-relative-scores.md``.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from edge.match.doubles import ONE_PERSON, Doubles

__all__ = ["Relative", "unit_means"]

Share = Annotated[float, Meta(ge=0.0, le=0.5)]


class Relative(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much is taken off.

    Attributes:
        probe: ``a``, share of the probe's likeness to others; with both shares 0 the score is the cosine.
        entry: ``b``, share of the entry's likeness to others.
        nearest: ``k``, how many of the others count.
        one_person: cosine from which two entries are probably one person, and no neighbours of each other.
    """

    probe: Share = 0.4
    entry: Share = 0.4
    nearest: Annotated[int, Meta(ge=1, le=100)] = 10
    one_person: Annotated[float, Meta(gt=0.0, le=1.0)] = ONE_PERSON

    def of_entries(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """``T(g)`` of every entry.

        Args:
            vectors: ``(n, d)`` of length 1, one row for each entry.

        Returns:
            ``(n,)`` float32; 0 where there is no other entry.
        """
        return self.of_list(vectors)[0]

    def of_list(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], Doubles]:
        """What :meth:`neighbours` says of every entry, and which of them are doubles.

        Args:
            vectors: ``(n, d)`` of length 1, one row for each entry, which has no others.

        Raises:
            RecordInvalid: nearly everybody is everybody's double.
        """
        doubles = Doubles()
        likeness, least = self._compare(vectors, np.arange(len(vectors)), doubles, find=True)
        lacked = doubles.complete()
        likeness[lacked], least[lacked] = self.neighbours(vectors, lacked, doubles)
        return likeness, least, doubles

    def neighbours(
        self, vectors: NDArray[np.float32], rows: NDArray[np.int64], doubles: Doubles
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``T(g)`` of some entries, and the cosine that another entry must exceed to change it.

        Args:
            vectors: ``(n, d)`` of length 1, one row for each entry; zeros for one that has left the list.
            rows: ``(m,)`` of which entries.
            doubles: of the list.

        Returns:
            ``(m,)`` float32 each; the second is 0 where every entry counts.
        """
        return self._compare(vectors, rows, doubles, find=False)

    def _compare(
        self, vectors: NDArray[np.float32], rows: NDArray[np.int64], doubles: Doubles, *, find: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        likeness, least = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
        near = min(self.nearest, len(vectors) - 1)
        if near < 1:
            return likeness, least
        # One entry at a time: what multiplies two matrices keeps copies of both for as long as the process lives.
        for at, row in enumerate(rows.tolist()):
            cosines = vectors @ vectors[row]
            cosines[row] = 0
            if not find:
                cosines[doubles.of(row)] = 0
            highest = np.maximum(np.partition(cosines, -near)[-near:], 0)
            if find and highest.max() >= self.one_person:
                same = np.flatnonzero(cosines >= self.one_person)
                doubles.add(row, same)
                cosines[same] = 0
                highest = np.maximum(np.partition(cosines, -near)[-near:], 0)
            likeness[at] = highest.sum() / self.nearest
            if near == self.nearest:
                least[at] = highest.min()
        return likeness, least

    def scores(
        self, cosines: NDArray[np.float32], of_entries: NDArray[np.float32], doubles: Doubles | None = None
    ) -> NDArray[np.float32]:
        """List-relative scores.

        Args:
            cosines: ``(…, n)``, of each probe with each entry of a list; ``-inf`` where an entry is off it.
            of_entries: ``(n,)`` or, of several lists, ``(…, n)``, as :meth:`of_entries` gave them.
            doubles: of the list, where ``cosines`` are ``(m, n)``; None leaves them among each other's neighbours.

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
        scores = np.where(np.isfinite(cosines), cosines - taken, -np.inf).astype(np.float32)
        if doubles:
            for probe in np.flatnonzero((cosines[:, list(doubles)] >= highest.min(-1, keepdims=True)).any(1)):
                of = of_entries if of_entries.ndim == 1 else of_entries[probe]
                top = np.argpartition(cosines[probe], -count)[-count:]
                self._past_doubles(scores[probe], cosines[probe], of, top, doubles)
        return scores

    def ranking(
        self, cosines: NDArray[np.float32], of_entries: NDArray[np.float32], doubles: Doubles | None = None
    ) -> NDArray[np.float32]:
        """:meth:`scores` of one probe, in half of the time.

        Args:
            cosines: ``(n,)``, n ≥ 1; ``-inf`` where an entry has left the list.
            of_entries: ``(n,)`` as :meth:`of_entries` gave them.
            doubles: of the list.
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
        if doubles:
            self._past_doubles(scores, cosines, of_entries, top, doubles)
        return scores

    def _past_doubles(
        self,
        scores: NDArray[np.float32],
        cosines: NDArray[np.float32],
        of_entries: NDArray[np.float32],
        top: NDArray[np.int64],
        doubles: Doubles,
    ) -> None:
        """Score anew, in place, who has a double among the nearest to one probe: the next nearest take its place.

        Args:
            scores: ``(n,)`` of one probe, made with the doubles.
            cosines: ``(n,)`` likewise.
            of_entries: ``(n,)``, made without the doubles.
            top: numbers of the ``k + 1`` nearest to the probe.
            doubles: of the list.
        """
        near = [others for entry in top.tolist() if len(others := doubles.of(entry))]
        if not near:
            return
        anew = np.unique(np.concatenate(near)).tolist()
        count = min(len(cosines), self.nearest + 1 + max(len(doubles.of(entry)) for entry in anew))
        pool = np.argpartition(cosines, -count)[-count:]
        pool = pool[np.argsort(-cosines[pool])]
        highest, counts = np.maximum(cosines[pool], 0), np.ones(len(cosines), np.bool_)
        share = np.float32(self.probe / self.nearest)
        for entry in anew:
            same = doubles.of(entry)
            counts[same] = counts[entry] = False
            others = highest[counts[pool]][: self.nearest].sum()
            counts[same] = counts[entry] = True
            scores[entry] = cosines[entry] - share * others - np.float32(self.entry) * of_entries[entry]


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
