"""A second embedder's opinion of whoever the first has brought near somebody on the list.

The first embedder looks at everybody and searches the list. Whoever comes near somebody by it alone is looked at more
closely, with both, and the score that counts is the mean of their list-relative scores, weighed. Two networks that were
trained by different people on different faces seldom err alike. A list then holds both templates of each picture, as
one row; one digest names the pair. Why and how much it gains: ``docs/decisions/0073-a-second-opinion.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge.errors import RecordInvalid
from edge.match.index import Index
from edge.match.relative import Relative
from edge.records import SearchResult

__all__ = ["SecondOpinion", "apart", "by_first", "joined", "pair_digest", "taken_apart"]

HALF = np.float32(np.sqrt(0.5))
"""By which either part of a row is multiplied, so that the row has length 1."""


def pair_digest(first: str, second: str) -> str:
    """What names two embedders as the model of a list: SHA-256 over both digests in their order, hexadecimal.

    Args:
        first: digest of the embedder that searches.
        second: that of the second opinion; empty where there is none, which leaves the first's.
    """
    return hashlib.sha256(f"{first}\n{second}\n".encode()).hexdigest() if second else first


def joined(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two templates of one picture as one row of length 1. Both are overwritten.

    Args:
        first: ``(d,)`` of length 1.
        second: ``(e,)`` of length 1.
    """
    row = np.concatenate([first, second])
    row *= HALF
    first.fill(0)
    second.fill(0)
    return row


def apart(rows: NDArray[np.float32], at: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The first and the second embedder's templates of rows that :func:`joined` made; the rows stay.

    Args:
        rows: ``(n, d + e)``.
        at: ``d``, numbers of the first embedder's templates.

    Returns:
        ``(n, d)`` and ``(n, e)`` float32, rows of length 1.

    Raises:
        RecordInvalid: the rows are no joined templates of that kind.
    """
    parts = rows[:, :at] / HALF, rows[:, at:] / HALF
    lengths = [np.linalg.norm(part, axis=1) for part in parts]
    if len(rows) and not all(np.allclose(length, 1.0, atol=2e-3) for length in lengths):
        for part in parts:
            part.fill(0)
        raise RecordInvalid(
            "the list's templates", "are not those of two embedders", "Build the list again with the van's models"
        )
    for part, length in zip(parts, lengths, strict=True):
        np.divide(part, length[:, None], out=part)
    return parts


def taken_apart(rows: NDArray[np.float32], at: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """As :func:`apart`, and the rows are overwritten, whatever comes of it."""
    try:
        return apart(rows, at)
    finally:
        rows.fill(0)


def by_first(rows: NDArray[np.float32], at: int) -> NDArray[np.float32]:
    """The first embedder's templates of rows that hold its alone, which are returned as they are, or a second's too.

    Args:
        rows: ``(n, d)`` or as :func:`joined` made them.
        at: numbers of the first embedder's templates.

    Raises:
        RecordInvalid: as :func:`apart`.
    """
    if rows.shape[1] == at:
        return rows
    first, second = apart(rows, at)
    second.fill(0)
    return first


class SecondOpinion:
    """The list as the second embedder sees it. One thread uses it, or one at a time.

    Args:
        first: the index of the first embedder's templates, made of the same references in the same order: who is
            probably one person (:mod:`edge.match.doubles`) is its to say.
        references: the reference of each row.
        templates: ``(n, e)`` of length 1, the second embedder's; adopted.
        relative: how scores are made.
        share: of the second in a score, 0..1.
    """

    def __init__(
        self,
        first: Index,
        references: Sequence[str],
        templates: NDArray[np.float32],
        *,
        relative: Relative,
        share: float,
    ) -> None:
        self._index = Index(references, templates, method="exact", relative=relative, doubles=first.doubles)
        self._share = share

    def __repr__(self) -> str:
        return f"<SecondOpinion on {len(self._index)} subjects>"

    def weigh(self, found: SearchResult, probe: NDArray[np.float32]) -> SearchResult:
        """The candidates by the mean of both scores, best first; their similarity stays the first embedder's.

        Args:
            found: what the first embedder found.
            probe: ``(e,)`` of length 1, the second's template of the same passage.

        Raises:
            RecordInvalid: the probe has another dimension than the list.
        """
        names = [candidate.reference for candidate in found.candidates]
        mixed = [
            replace(candidate, score=(1 - self._share) * candidate.score + self._share * score)
            for candidate, score in zip(found.candidates, self._index.scores_of(names, probe), strict=True)
        ]
        return SearchResult(tuple(sorted(mixed, key=lambda one: -one.score)), exact=found.exact)

    def remove(self, reference: str) -> None:
        """Hold nothing of ``reference`` any more: its templates are overwritten where they lie."""
        self._index.remove(reference)

    def erase(self) -> None:
        """Overwrite every template."""
        self._index.erase()
