"""Where a van may watch: its size, its outline in metres, and what is no place at all."""

from __future__ import annotations

import math

import pytest

from edge.trust.place import EARTH_RADIUS_M, MAX_AREA_KM2, MAX_LENGTH_KM, Place, Point

NORTH, EAST = 51.5, -3.18
DEGREE_M = math.pi / 180 * EARTH_RADIUS_M


def at(east_m: float, north_m: float) -> Point:
    """A point so many metres from NORTH, EAST."""
    return NORTH + north_m / DEGREE_M, EAST + east_m / DEGREE_M / math.cos(math.radians(NORTH))


def polygon(*corners_m: tuple[float, float]) -> Place:
    return Place(name="here", polygon=tuple(at(*corner) for corner in corners_m))


L_SHAPE = ((0, 0), (400, 0), (400, 100), (100, 100), (100, 300), (0, 300))
"""60,000 m²: 400 by 100 and 100 by 200."""


@pytest.mark.parametrize("corners", [L_SHAPE, L_SHAPE[::-1], L_SHAPE[2:] + L_SHAPE[:2]])
def test_an_area_does_not_depend_on_the_first_corner_or_the_way_round(corners: tuple[tuple[float, float], ...]) -> None:
    assert polygon(*corners).area_km2 == pytest.approx(0.06, rel=1e-4)
    assert polygon(*corners).flaw() is None


def test_the_middle_is_that_of_the_box_around_it_and_the_outline_is_in_metres_from_there() -> None:
    place = polygon(*L_SHAPE)
    assert place.middle == pytest.approx(at(200, 150))
    expected = [(east - 200, north - 150) for east, north in L_SHAPE]
    for found, wanted in zip(place.outline_m(), expected, strict=True):
        assert found == pytest.approx(wanted, abs=0.02)


def test_a_circle_has_its_own_middle_area_and_an_outline_of_72_corners() -> None:
    place = Place(name="here", centre=(NORTH, EAST), radius_m=250)
    assert place.middle == (NORTH, EAST)
    assert place.area_km2 == pytest.approx(math.pi * 0.0625)
    outline = place.outline_m()
    assert outline[0] == (250, 0)
    assert outline[18] == pytest.approx((0, 250))
    assert outline[36] == pytest.approx((-250, 0))
    assert len(set(outline)) == 72
    assert all(math.hypot(*corner) == pytest.approx(250) for corner in outline)


def test_a_circle_without_a_radius_has_no_size() -> None:
    place = Place(name="here", centre=(NORTH, EAST))
    assert place.area_km2 == 0
    assert set(place.outline_m()) == {(0.0, 0.0)}
    assert place.flaw() == "has a circle without a radius of more than 0 m"


@pytest.mark.parametrize("radius_m", [0.0, -1.0, float("nan")])
def test_a_radius_is_a_length(radius_m: float) -> None:
    assert Place(name="here", centre=(NORTH, EAST), radius_m=radius_m).flaw() is not None


def test_a_place_may_be_as_large_as_the_limit_and_no_larger() -> None:
    widest_m = math.sqrt(MAX_AREA_KM2 / math.pi) * 1000
    assert Place(name="here", centre=(NORTH, EAST), radius_m=widest_m * 0.9999).flaw() is None
    flaw = Place(name="here", centre=(NORTH, EAST), radius_m=widest_m * 1.03).flaw()
    assert flaw is not None
    assert flaw.startswith("covers 21 km²; 20 km² and 10 km are the most")
    assert "the wrong way round" in flaw


def test_a_place_may_be_as_long_as_the_limit_and_no_longer() -> None:
    def street(length_m: float) -> str | None:
        return polygon((0, 0), (length_m, 0), (length_m, 10), (0, 10)).flaw()

    assert street(MAX_LENGTH_KM * 1000 - 2) is None
    flaw = street(MAX_LENGTH_KM * 1000 + 900)
    assert flaw is not None
    assert flaw.startswith("is 11 km long")


def test_corners_in_the_wrong_order_are_seen_wherever_the_outline_crosses_itself() -> None:
    square = [(0.0, 0.0), (100.0, 0.0), (100.0, 100.0), (0.0, 100.0)]
    assert polygon(*square).flaw() is None
    for first in range(4):
        turned = square[first:] + square[:first]
        bow = [turned[0], turned[2], turned[1], turned[3]]
        assert polygon(*bow).flaw() == "has an outline that crosses itself: give the corners in their order"
    star = [(math.cos(a) * 100, math.sin(a) * 100) for a in (4 * math.pi * n / 5 for n in range(5))]
    assert "crosses itself" in str(polygon(*star).flaw())


def test_edges_whose_lines_would_meet_further_on_do_not_cross() -> None:
    assert polygon((0, 0), (300, 0), (300, 200), (200, 60), (100, 200)).flaw() is None
    assert polygon((0, 0), (100, 0), (50, 10), (100, 20), (0, 20)).flaw() is None
    comb = ((0, 0), (500, 0), (500, 100), (400, 100), (400, 20), (300, 20), (300, 100), (0, 100))
    assert polygon(*comb).flaw() is None


def test_a_triangle_has_no_edges_that_could_cross() -> None:
    assert polygon((0, 0), (100, 0), (50, 80)).flaw() is None
