"""A track's template: the quality-weighted mean of its embeddings, begun anew when it stops being one person.

Averaging over a passage is what makes small street faces identifiable: noise of single frames cancels,
and the mean is compared with the list. It is also a danger: when two people cross and the tracker
swaps them, the mean would drift from one to the other. An embedding that contradicts the template
therefore begins a new one, and the votes of the old one are void.
"""

from __future__ import annotations

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from edge.custody.erase import Biometric, Kind
from edge.custody.retention import Custodian
from edge.errors import SOFTWARE_FAULT, BiometricErased

__all__ = ["TrackTemplate"]

CONTRADICTION = 0.2
"""Cosine of an embedding and the template so far, under which they are taken to be of two people. Two
frames of one passage are seldom under 0.4, two people seldom above 0.3 (docs/models.md has the
distributions); a needless new beginning only costs a few frames."""

LEAST_WEIGHT = 1e-3
"""Of an embedding, so that a template is never nothing."""


class TrackTemplate:
    """Folds embeddings into one vector behind custody handles.

    Args:
        custodian: gives out the handles.
        track_id: the passage.
    """

    __slots__ = ("_custodian", "_sum", "_track_id", "folded", "restarts")

    def __init__(self, custodian: Custodian, track_id: UUID) -> None:
        self._custodian = custodian
        self._track_id = track_id
        self._sum: Biometric | None = None
        self.folded = 0
        """Embeddings in the present template."""
        self.restarts = 0
        """How often it was begun anew because an embedding contradicted it."""

    def fold(self, vector: NDArray[np.float32], weight: float) -> bool:
        """Add one embedding. The caller erases ``vector``.

        Args:
            vector: ``(d,)`` float32 of length 1.
            weight: its quality, 0..1.

        Returns:
            Whether the template was begun anew, because there was none any more or because this
            embedding contradicts it: earlier votes of the track are then void.
        """
        total = self._live()
        begun = total is None
        if total is not None:
            length = float(np.linalg.norm(total))
            if length > 0 and float(np.dot(total, vector)) / length < CONTRADICTION:
                self.erase()
                self.restarts += 1
                begun = True
        if begun:
            self._sum = self._custodian.hold(Kind.TEMPLATE, np.zeros_like(vector), track_id=self._track_id)
            self.folded = 0
        if self._sum is None:
            raise BiometricErased("this template", "was erased while it was used", SOFTWARE_FAULT)
        _add(self._sum.array, vector, weight)
        self._custodian.needed(self._sum)
        self.folded += 1
        return begun

    def exchange(self, vector: NDArray[np.float32], better: NDArray[np.float32], weight: float) -> None:
        """Put a better embedding of the same picture in the place of the one that was folded last.

        Args:
            vector: ``(d,)`` float32 of length 1, as it was folded.
            better: ``(d,)`` float32 of length 1.
            weight: as it was folded.

        Raises:
            BiometricErased: there is no template.
        """
        total = self._live()
        if total is None or self._sum is None:
            raise BiometricErased("this template", "has been erased", SOFTWARE_FAULT)
        _add(total, vector, weight, sign=-1)
        _add(total, better, weight)
        self._custodian.needed(self._sum)

    def probe(self) -> Biometric:
        """The template scaled to length 1, as its own handle: use it as a context manager.

        Raises:
            BiometricErased: there is no template.
        """
        total = self._live()
        if total is None:
            raise BiometricErased("this template", "has been erased", SOFTWARE_FAULT)
        scaled = total / max(float(np.linalg.norm(total)), 1e-12)
        return self._custodian.hold(Kind.EMBEDDING, np.ascontiguousarray(scaled, np.float32), track_id=self._track_id)

    def erase(self) -> None:
        """Overwrite what is held."""
        if self._sum is not None:
            self._sum.erase()
            self._sum = None

    def _live(self) -> NDArray[np.float32] | None:
        if self._sum is None or self._sum.erased:
            return None
        try:
            return self._sum.array
        except BiometricErased:
            return None


def _add(total: NDArray[np.float32], vector: NDArray[np.float32], weight: float, sign: int = 1) -> None:
    """Add a weighted embedding to the sum and leave no weighted copy of it behind."""
    weighted = vector * np.float32(sign * max(weight, LEAST_WEIGHT))
    total += weighted
    weighted.fill(0)
