"""A closer look at one face: several cuts of it, whose templates and mirror images' templates are averaged.

Where a face is cut out decides much of what its template is; nobody knows the best place to within a pixel. Each cut
errs in its own way. That costs the time of some faces, so it is for those who are enrolled, and for those in the street
whom the first look brought near to somebody on the list.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge.records import ChipTemplate
from edge.sight.align import align

__all__ = ["ZOOMS", "cuts"]

ZOOMS = (1.0, 0.95, 1.05)
"""Sizes of the face in its chip, as shares of the template's. Chosen on LFW's calibration split; shifts by two pixels
and turns by four degrees gained less (docs/decisions/0067-a-closer-look.md)."""


def cuts(
    image: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    again: NDArray[np.float32] | None,
    template: ChipTemplate = "arcface-112",
) -> Iterator[NDArray[np.uint8]]:
    """The chips of one face that are averaged, one at a time.

    Args:
        image: (H, W, 3) uint8 BGR.
        landmarks: (5, 2) float32 x y, as they were detected.
        again: (5, 2) float32, as a close-up of the face shows them (:meth:`edge.sight.detect.Detector.look_again`);
            None where there is none.
        template: as of :func:`edge.sight.align.align`.

    Yields:
        (n, n, 3) uint8 BGR: whoever takes a chip overwrites it.

    Raises:
        RecordInvalid: as :func:`edge.sight.align.align`.
    """
    for zoom in ZOOMS:
        yield align(image, landmarks, template, zoom)
    if again is not None:
        yield align(image, again, template)
