"""A closer look: cuts that err differently, and their mean in the place of one look."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.sight.align import TEMPLATE, align
from edge.sight.closer import ZOOMS, cuts


def _frame() -> NDArray[Any]:
    return np.random.default_rng(7).integers(0, 255, (300, 300, 3), np.uint8)


def test_a_face_is_cut_at_each_size_as_it_was_detected_and_once_as_the_close_up_shows_it() -> None:
    frame, landmarks = _frame(), np.asarray(TEMPLATE + 60, np.float32)
    again = landmarks + np.float32(1.5)
    made = list(cuts(frame, landmarks, again))
    expected = [*(align(frame, landmarks, zoom=zoom) for zoom in ZOOMS), align(frame, again)]
    assert len(made) == len(expected) == 4
    assert all((a == b).all() for a, b in zip(made, expected, strict=True))
    assert len({chip.tobytes() for chip in made}) == 4


def test_without_a_close_up_there_are_the_sizes_alone() -> None:
    assert len(list(cuts(_frame(), np.asarray(TEMPLATE + 60, np.float32), None))) == len(ZOOMS)


def test_a_chip_is_made_only_when_it_is_asked_for() -> None:
    """Whoever takes one overwrites it before the next is there: never are all of them in memory."""
    made = cuts(_frame(), np.asarray(TEMPLATE + 60, np.float32), None)
    first = next(made)
    first.fill(0)
    assert next(made).any()
