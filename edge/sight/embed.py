"""Chip → template vector of length 1."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edge.errors import SOFTWARE_FAULT, ModelRejected, RecordInvalid
from edge.records import CHIP_SIZES, ChipTemplate
from edge.sight.runtime import Model

__all__ = ["Embedder"]


class Embedder:
    """Turns aligned faces into vectors that can be compared by their cosine.

    Not safe to share between threads.

    Args:
        model: a checked pack of kind ``embedder`` whose card says how its chips are aligned.

    Raises:
        ModelRejected: the card names no alignment, the model takes another size than it, or its output is no vector.
    """

    def __init__(self, model: Model) -> None:
        template = model.card.input.template
        side = CHIP_SIZES[template] if template else 0
        one_vector = len(model.outputs) == 1 and len(model.outputs[0].shape) == 2
        if template is None or model.size != (side, side) or not one_vector:
            raise ModelRejected(
                f"model '{model.reference}'",
                "an embedder names its alignment in input.template, takes pictures of that size and gives one vector",
                "Name an embedder, or convert it with scripts/pack-model",
            )
        self.model = model
        self.template: ChipTemplate = template
        """How its chips are aligned: to be handed to :func:`edge.sight.align.align`."""
        self.chip_size = side
        """Side of its chips in pixels."""

    @property
    def dimension(self) -> int:
        """Length d of the vectors."""
        return self.model.outputs[0].shape[1]

    @property
    def digest(self) -> str:
        """SHA-256 of the model file, hexadecimal: templates of different digests must never be compared."""
        return self.model.digest

    def embed(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The template of one chip.

        Args:
            chip: (n, n, 3) uint8 BGR of :attr:`chip_size`, as :func:`edge.sight.align.align` makes it.

        Returns:
            (d,) float32 of length 1. A model that answers zero gives zero, which resembles nobody.

        Raises:
            RecordInvalid: the chip has another shape or type.
        """
        return _unit(self._raw(chip))

    def embed_mean(self, chips: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """The mean of the templates of several chips of one face and of their mirror images, of length 1: less noise.

        Args:
            chips: each as for :meth:`embed`; at least one.

        Raises:
            RecordInvalid: a chip has another shape or type.
        """
        total = np.zeros(self.dimension, np.float32)
        try:
            for chip in chips:
                mirrored = np.ascontiguousarray(chip[:, ::-1])
                for side in (chip, mirrored):
                    vector = _unit(self._raw(side))
                    total += vector
                    vector.fill(0)
                mirrored.fill(0)
        except BaseException:  # the next picture may be erased by now: nothing of the others stays
            total.fill(0)
            raise
        return _unit(total)

    def flush(self) -> None:
        """Overwrites what is left of the last chip in the runtime's memory. Costs one run."""
        self.model.flush()

    def _raw(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]:
        if chip.shape != (self.chip_size, self.chip_size, 3) or chip.dtype != np.uint8:
            raise RecordInvalid(
                "chip",
                f"must be uint8[{self.chip_size}, {self.chip_size}, 3], got {chip.dtype}{list(chip.shape)}",
                SOFTWARE_FAULT,
            )
        stored = self.model.run(chip)[0]
        vector = np.array(self.model.outputs[0].real(stored), np.float32)
        stored.fill(0)  # the vector that goes out is the only one
        return vector


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale ``vector`` to length 1 where it lies, so that no second copy of a face is left behind."""
    length = np.float32(np.sqrt(np.dot(vector, vector)))
    if length > 0:
        vector /= length
    return vector
