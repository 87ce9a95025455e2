"""The rules of an authority at their very edges: what is still allowed, and what no longer is."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge.errors import (
    AuthorityEnded,
    AuthorityInvalid,
    AuthorityNotYet,
    ClockUntrusted,
    EdgeError,
    OutsidePlace,
    PlaceUnknown,
    ThresholdTooLow,
    ThresholdUnsupported,
)
from edge.records import Limits
from edge.trust.authority import Facts, Notice, authority_digest, judge, parse_authority
from edge.trust.place import EARTH_RADIUS_M, Place, Position, distance_m
from tests.test_gate import AUTHORITY, SQUARE

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
END = datetime(2026, 3, 1, 16, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
GOOD = Facts(
    now=NOON,
    clock_floor=NOON,
    clock_confirmed=True,
    van="van-1",
    position=Position(51.505, -0.125, 0.0, NOON),
    watchlist=AUTHORITY["watchlist"],
    entries=500,
    several=False,
    model=AUTHORITY["model"],
    limits=Limits(0.5, 0.5),
    required=Limits(0.5, 0.4),
    weaker_rules="",
)


def written(**changes: Any) -> bytes:
    return json.dumps({key: value for key, value in {**AUTHORITY, **changes}.items() if value is not None}).encode()


AUTHORISED = parse_authority(written())


def at(now: datetime) -> dict[str, Any]:
    return {"now": now, "position": Position(51.505, -0.125, 0.0, now), "clock_floor": now}


def where(accuracy: float = 0.0, age: timedelta = timedelta()) -> dict[str, Any]:
    return {"position": Position(51.505, -0.125, accuracy, NOON - age)}


UP, DOWN = math.inf, -math.inf
EDGES: dict[str, tuple[dict[str, Any], type[EdgeError] | None]] = {
    "just before its start": (at(START - TICK), AuthorityNotYet),
    "at its start": (at(START), None),
    "just before its end": (at(END - TICK), None),
    "at its end": (at(END), AuthorityEnded),
    "the clock five seconds behind what is certainly past": ({"clock_floor": NOON + timedelta(seconds=5)}, None),
    "the clock a moment more than that behind": ({"clock_floor": NOON + timedelta(seconds=5) + TICK}, ClockUntrusted),
    "a position of thirty seconds ago": (where(age=timedelta(seconds=30)), None),
    "a position older than that": (where(age=timedelta(seconds=30) + TICK), PlaceUnknown),
    "a position known to a hundred metres": (where(100.0), None),
    "a position vaguer than that": (where(math.nextafter(100.0, UP)), PlaceUnknown),
    "a similarity that equals the floor": ({"limits": Limits(0.5, 0.45)}, None),
    "a similarity just below the floor": ({"limits": Limits(0.9, math.nextafter(0.45, DOWN))}, ThresholdTooLow),
    "a score that equals what the budget needs": ({"limits": Limits(0.3, 0.45), "required": Limits(0.3, 0.4)}, None),
    "a score just below what the budget needs": (
        {"limits": Limits(math.nextafter(0.3, DOWN), 0.9), "required": Limits(0.3, 0.4)},
        ThresholdUnsupported,
    ),
    "a similarity that equals what one scene may reach": (
        {"limits": Limits(0.9, 0.6), "required": Limits(0.3, 0.6)},
        None,
    ),
    "a similarity just below what one scene may reach": (
        {"limits": Limits(0.9, math.nextafter(0.6, DOWN)), "required": Limits(0.3, 0.6)},
        ThresholdUnsupported,
    ),
    "the model named with its algorithm": ({"model": f"sha256:{AUTHORITY['model']}"}, None),
}


@pytest.mark.parametrize("name", EDGES)
def test_a_rule_holds_up_to_its_edge_and_no_further(name: str) -> None:
    changes, refusal = EDGES[name]
    facts = replace(GOOD, **changes)
    if refusal is None:
        judge(AUTHORISED, facts)
    else:
        with pytest.raises(refusal) as caught:
            judge(AUTHORISED, facts)
        assert type(caught.value) is refusal


def test_every_van_that_is_named_may_match() -> None:
    for van in AUTHORITY["vans"]:
        judge(AUTHORISED, replace(GOOD, van=van))


DOCUMENTS: dict[str, tuple[dict[str, Any], bool]] = {
    "it lasts a day": ({"ends": "2026-03-02T10:00:00Z"}, True),
    "it ends when it starts": ({"ends": AUTHORITY["starts"]}, False),
    "it lasts a second": ({"ends": "2026-03-01T10:00:01Z"}, True),
    "it was signed when it starts": ({"authorised_at": AUTHORITY["starts"]}, True),
    "a floor of 0.2": ({"threshold_floor": 0.2}, True),
    "a floor below that": ({"threshold_floor": 0.19}, False),
    "a floor of 1": ({"threshold_floor": 1.0}, True),
    "a floor above 1": ({"threshold_floor": 1.01}, False),
    "a budget of one in a thousand": ({"budget_one_in": 1000}, True),
    "a larger budget": ({"budget_one_in": 999}, False),
    "a retention of an hour": ({"retention_h": 1}, True),
    "no retention": ({"retention_h": 0}, False),
    "a retention of 31 days": ({"retention_h": 744}, True),
    "a retention beyond that": ({"retention_h": 745}, False),
    "version 0": ({"schema": 0}, False),
    "version 2": ({"schema": 2}, False),
    "one van": ({"vans": ["v"]}, True),
    "a purpose of three letters": ({"purpose": "xyz"}, True),
    "a purpose of two": ({"purpose": "xy"}, False),
    "a purpose of a thousand letters": ({"purpose": "x" * 1000}, True),
    "a purpose of more": ({"purpose": "x" * 1001}, False),
    "a name of 64 letters": ({"deployment": "D" * 64}, True),
    "a name of 65": ({"deployment": "D" * 65}, False),
    "a name that is a path": ({"deployment": "../D-1"}, False),
    "a list by half a digest": ({"watchlist": "sha256:" + "1" * 63}, False),
    "its end without a zone": ({"ends": "2026-03-01T16:00:00"}, False),
    "its signature's time without a zone": ({"authorised_at": "2026-03-01T08:00:00"}, False),
    "a place with a field more": ({"place": {"name": "x", "polygon": SQUARE, "note": "y"}}, False),
    "a notice": (
        {"notice": {"controller": "The police", "contact": "dpo@x", "complaints": "ico", "deletion": "write"}},
        True,
    ),
    "a notice with a field more": (
        {"notice": {"controller": "The police", "contact": "x@y", "complaints": "ico", "deletion": "write", "a": "b"}},
        False,
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_authority_is_believed_within_its_bounds_only(name: str) -> None:
    changes, good = DOCUMENTS[name]
    if good:
        parsed = parse_authority(written(**changes))
        for field, value in changes.items():
            if isinstance(value, str | int | float) and "T" not in str(value):
                assert getattr(parsed, field) == value
    else:
        with pytest.raises(AuthorityInvalid):
            parse_authority(written(**changes))


def test_alerts_are_kept_a_day_unless_the_authority_says_otherwise() -> None:
    assert AUTHORISED.retention_h == 24
    assert AUTHORISED.notice is None


def test_a_notice_needs_no_page_in_the_web() -> None:
    assert Notice(controller="abc", contact="abc", complaints="abc", deletion="abc").web == ""


def test_an_authority_is_named_by_the_file_as_it_was_signed() -> None:
    content = written()
    assert authority_digest(content) == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert authority_digest(content + b" ") != authority_digest(content)


# -- the place ---------------------------------------------------------------------------------------

PLACES: dict[str, tuple[Place, str | None]] = {
    "three corners": (Place(name="x", polygon=((0, 0), (0, 0.01), (0.01, 0.01))), None),
    "the corners of the Earth": (
        Place(name="x", polygon=((-90, -180), (-90, 180), (90, 180), (90, -180))),
        "km are the most",
    ),
    "too far north": (Place(name="x", polygon=((0, 0), (0, 1), (90.1, 1))), "not on Earth"),
    "too far south": (Place(name="x", polygon=((0, 0), (0, 1), (-90.1, 1))), "not on Earth"),
    "too far east": (Place(name="x", polygon=((0, 0), (0, 180.1), (1, 1))), "not on Earth"),
    "too far west": (Place(name="x", polygon=((0, 0), (0, -180.1), (1, 1))), "not on Earth"),
    "no number": (Place(name="x", polygon=((0, 0), (0, math.nan), (1, 1))), "not on Earth"),
    "a circle beside the Earth": (Place(name="x", centre=(91, 0), radius_m=5), "not on Earth"),
    "a circle of a metre": (Place(name="x", centre=(51, 0), radius_m=1), None),
    "a circle of 2.5 km": (Place(name="x", centre=(51, 0), radius_m=2_500), None),
    "a wider circle": (Place(name="x", centre=(51, 0), radius_m=2_600), "covers 21 km²; 20 km²"),
    "a circle around the world": (Place(name="x", centre=(51, 0), radius_m=20_001), "covers 1,257 km²"),
    "a corner the wrong way round": (
        Place(name="x", polygon=((51.50, -0.13), (51.50, -0.12), (-0.12, 51.51), (51.51, -0.13))),
        "the wrong way round",
    ),
    "an outline that crosses itself": (
        Place(name="x", polygon=((51.50, -0.13), (51.51, -0.12), (51.50, -0.12), (51.51, -0.13))),
        "crosses itself",
    ),
    "a circle of nothing": (Place(name="x", centre=(51, 0), radius_m=0), "circle without a radius"),
    "a circle turned inside out": (Place(name="x", centre=(51, 0), radius_m=-5), "circle without a radius"),
    "neither": (Place(name="x"), "either a polygon or a circle"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_is_one_that_a_van_can_be_in(name: str) -> None:
    place, flaw = PLACES[name]
    assert (place.flaw() is None) if flaw is None else (flaw in str(place.flaw()))


def test_a_triangle_far_from_the_equator_holds_what_lies_in_it() -> None:
    """Its slanting edge is crossed at another longitude on every latitude."""
    place = Place(name="x", polygon=((50.0, 10.0), (52.0, 10.0), (52.0, 14.0)))
    for latitude in (50.5, 51.0, 51.5):
        edge = 10.0 + (latitude - 50.0) * 2
        assert place.contains(latitude, edge - 0.01), latitude
        assert not place.contains(latitude, edge + 0.01), latitude
        assert not place.contains(latitude, 9.99), latitude
    assert not place.contains(49.9, 10.01)
    assert not place.contains(52.1, 10.01)


def test_two_squares_that_share_an_edge_share_no_point_of_it() -> None:
    south = Place(name="s", polygon=((50, 0), (50, 1), (51, 1), (51, 0)))
    north = Place(name="n", polygon=((51, 0), (51, 1), (52, 1), (52, 0)))
    for longitude in (0.1, 0.5, 0.9):
        assert south.contains(51.0, longitude) != north.contains(51.0, longitude)
    west = Place(name="w", polygon=((50, 0), (50, 1), (51, 1), (51, 0)))
    east = Place(name="e", polygon=((50, 1), (50, 2), (51, 2), (51, 1)))
    for latitude in (50.1, 50.5, 50.9):
        assert west.contains(latitude, 1.0) != east.contains(latitude, 1.0)


def test_a_point_at_the_radius_itself_is_inside() -> None:
    centre, point = (51.5, 0.0), (51.51, 0.02)
    radius = distance_m(centre, point)
    assert Place(name="x", centre=centre, radius_m=radius).contains(*point)
    assert not Place(name="x", centre=centre, radius_m=math.nextafter(radius, 0)).contains(*point)


@pytest.mark.parametrize(
    ("one", "other", "radians"),
    [
        ((0, 0), (0, 90), math.pi / 2),
        ((0, 0), (90, 0), math.pi / 2),
        ((0, 0), (0, 180), math.pi),
        ((60, 0), (60, 180), math.pi / 3),
        ((-30, 20), (30, 20), math.pi / 3),
        ((45, 10), (45, 10), 0.0),
        ((80, 170), (80, -170), 2 * math.asin(math.cos(math.radians(80)) * math.sin(math.radians(10)))),
    ],
)
def test_distances_on_the_sphere_are_those_of_geometry(
    one: tuple[float, float], other: tuple[float, float], radians: float
) -> None:
    assert distance_m(one, other) == pytest.approx(radians * EARTH_RADIUS_M, rel=1e-9, abs=1e-6)
    assert distance_m(other, one) == pytest.approx(radians * EARTH_RADIUS_M, rel=1e-9, abs=1e-6)


def test_the_earth_has_the_size_that_geodesy_gives_it() -> None:
    # A minute of arc is a nautical mile, 1852 m, to a few tenths of a per cent on the mean sphere.
    assert distance_m((0, 0), (0, 1 / 60)) == pytest.approx(1852, rel=0.002)


def test_outside_a_circle_is_outside_its_place() -> None:
    authority = parse_authority(written(place={"name": "the station", "centre": [51.505, -0.125], "radius_m": 100}))
    judge(authority, GOOD)
    with pytest.raises(OutsidePlace):
        judge(authority, replace(GOOD, position=Position(51.507, -0.125, 0.0, NOON)))
