"""The picture of an alert shows the matched face and nobody else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.alert.probe import encode, probe_picture
from edge.errors import BadInput


def a_street() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 255, (200, 300, 3), np.uint8)


FACE = np.array([100, 60, 160, 120], np.float32)
NEIGHBOUR = np.array([165, 60, 225, 120], np.float32)
BEHIND = np.array([150, 50, 180, 80], np.float32)


def detail(picture: np.ndarray) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var())


def test_the_matched_face_is_untouched() -> None:
    street = a_street()
    probe = probe_picture(street, np.stack([FACE, NEIGHBOUR, BEHIND]), FACE, 0.5)
    assert np.array_equal(probe[30:90, 30:90], street[60:120, 100:160])


def test_everything_outside_the_head_is_blurred_even_where_no_face_was_found() -> None:
    street = a_street()
    probe = probe_picture(street, FACE[None], FACE, 0.5)
    assert detail(np.ascontiguousarray(probe[:20])) < 0.02 * detail(street)
    assert detail(np.ascontiguousarray(probe[:, :20])) < 0.02 * detail(street)


def test_a_bystander_who_reaches_into_the_head_region_is_reduced_to_four_colours() -> None:
    street = a_street()
    without = probe_picture(street, FACE[None], FACE, 0.5)
    probe = probe_picture(street, np.stack([FACE, BEHIND]), FACE, 0.5)
    # BEHIND covers the frame's x 160..169, y 51..60 inside the head's margin: sharp without it, smooth with it.
    corner = np.s_[22:30, 90:99]
    assert detail(np.ascontiguousarray(probe[corner])) < 0.1 * detail(np.ascontiguousarray(without[corner]))


def test_the_picture_ends_at_the_frames_edge() -> None:
    at_edge = np.array([-10, -10, 40, 40], np.float32)
    assert probe_picture(a_street(), at_edge[None], at_edge, 0.5).shape == (65, 65, 3)


def test_the_picture_owns_its_memory_so_that_it_can_be_erased() -> None:
    probe = probe_picture(a_street(), FACE[None], FACE, 0.35)
    assert probe.flags.owndata
    assert encode(probe)[:2] == b"\xff\xd8"


def test_an_empty_picture_is_an_error() -> None:
    with pytest.raises(BadInput):
        encode(np.zeros((0, 0, 3), np.uint8))
