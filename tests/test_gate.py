"""When a van may match. One named case per refusal, with the words that a crew reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge.deployment.gate import Gate, ListFacts
from edge.errors import (
    AuthorityEnded,
    AuthorityInvalid,
    AuthorityMissing,
    AuthorityNotYet,
    ClockUntrusted,
    EdgeError,
    ModelNotNamed,
    OutsidePlace,
    PlaceUnknown,
    ThresholdTooLow,
    ThresholdUnsupported,
    VanNotNamed,
    WatchlistGone,
    WatchlistNotNamed,
)
from edge.records import Limits
from edge.trust.place import Place, Position, distance_m

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LIST = "sha256:" + "1" * 64
MODEL = "2" * 64
SQUARE = [[51.50, -0.13], [51.50, -0.12], [51.51, -0.12], [51.51, -0.13]]
HERE = Position(51.505, -0.125, 10.0, NOW)

AUTHORITY: dict[str, Any] = {
    "schema": 1,
    "deployment": "D-1",
    "purpose": "To find people wanted on warrant for violence",
    "legal_basis": "Common law; the force's policy of 2026",
    "authorised_by": "Superintendent, authorising officer",
    "authorised_at": "2026-03-01T08:00:00Z",
    "place": {"name": "Leicester Square", "polygon": SQUARE},
    "starts": "2026-03-01T10:00:00Z",
    "ends": "2026-03-01T16:00:00Z",
    "vans": ["van-1", "van-2"],
    "watchlist": LIST,
    "model": MODEL,
    "threshold_floor": 0.45,
    "budget_one_in": 6000,
}


@dataclass(frozen=True)
class Needs:
    """A predicted threshold."""

    threshold: float


class UpTo10000:
    """A calibration that needs 0.50 up to 10,000 people and does not reach further."""

    scene_similarity = 0.3

    def threshold(self, fpir: float, entries: int, *, several: bool = False) -> Needs:
        if entries > 10_000:
            raise ThresholdUnsupported("the threshold", "is not supported", "Shorten the list")
        return Needs(0.50 if fpir >= 1 / 6000 else 0.55)


def gate(**changes: Any) -> Gate:
    arguments: dict[str, Any] = {"calibration": UpTo10000(), "weaker_rules": "", "clock_floor": NOW - timedelta(days=9)}
    return Gate("van-1", **{**arguments, **changes})


def written(**changes: Any) -> bytes:
    return json.dumps({key: value for key, value in {**AUTHORITY, **changes}.items() if value is not None}).encode()


def ask(at: Gate, **changes: Any) -> Any:
    asked: dict[str, Any] = {
        "now": NOW,
        "position": HERE,
        "watchlist": ListFacts(LIST, 500, 500),
        "model": MODEL,
        "score": 0.52,
        "similarity": 0.45,
    }
    values = {**asked, **changes}
    return at.check(
        values["now"],
        values["position"],
        values["watchlist"],
        model=values["model"],
        limits=Limits(values["score"], values["similarity"]),
    )


def test_a_van_within_its_authority_may_match() -> None:
    ready = gate()
    ready.load(written())
    assert ask(ready).deployment == "D-1"


@dataclass(frozen=True)
class Case:
    """One refusal: what is different from a good deployment, and what the crew then reads."""

    error: type[EdgeError]
    message: str
    authority: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)


ELSEWHERE = Position(51.52, -0.125, 10.0, NOW)
REFUSALS = {
    "no authority": Case(AuthorityMissing, "the deployment: nobody has authorised it. Plug in the stick", {"skip": 1}),
    "not yet": Case(AuthorityNotYet, "begins at .* nothing is matched", facts={"now": NOW - timedelta(hours=3)}),
    "over": Case(AuthorityEnded, "ended at .* being destroyed", facts={"now": NOW + timedelta(hours=4)}),
    "another van": Case(VanNotNamed, "names van-7, van-8 and not van-1", {"vans": ["van-7", "van-8"]}),
    "outside the polygon": Case(OutsidePlace, "is for Leicester Square; 51.52000", facts={"position": ELSEWHERE}),
    "outside the circle": Case(
        OutsidePlace,
        "is for the station; 51.50500, -0.12500 is outside",
        {"place": {"name": "the station", "centre": [51.50, -0.12], "radius_m": 200}},
    ),
    "no position": Case(PlaceUnknown, "position: is not known", facts={"position": None}),
    "an old position": Case(
        PlaceUnknown, "is 31 s old", facts={"position": Position(51.505, -0.125, 10.0, NOW - timedelta(seconds=31))}
    ),
    "a vague position": Case(
        PlaceUnknown, "is only accurate to 150 m", facts={"position": Position(51.505, -0.125, 150.0, NOW)}
    ),
    "no list": Case(WatchlistGone, "is not on this van", facts={"watchlist": None}),
    "another list": Case(
        WatchlistNotNamed,
        "names list 111111111111, this van holds 333333333333",
        facts={"watchlist": ListFacts("sha256:" + "3" * 64, 500, 500)},
    ),
    "another model": Case(
        ModelNotNamed, "names model 222222222222, this van runs 444444444444", facts={"model": "4" * 64}
    ),
    "a similarity below the floor": Case(
        ThresholdTooLow, "is 0.440, below the authority's floor of 0.450", facts={"similarity": 0.44}
    ),
    "a threshold that cannot keep the budget": Case(
        ThresholdUnsupported,
        "is 0.490; one false alert in 6000 with 500 on the list needs 0.500",
        facts={"score": 0.49},
    ),
    "a list too long for the calibration": Case(
        ThresholdUnsupported,
        "cannot be shown to keep one false alert in 6000 with 10001 on the list",
        facts={"watchlist": ListFacts(LIST, 10_001, 10_001)},
    ),
    "a model without calibration": Case(
        ThresholdUnsupported, "the model was not measured that far", gate={"calibration": None}
    ),
    "a clock behind what is certainly past": Case(
        ClockUntrusted,
        "shows 2026-03-01 .* has certainly passed",
        gate={"clock_floor": NOW + timedelta(minutes=1)},
    ),
    "a clock that nobody has set": Case(
        ClockUntrusted, "has not been set since", gate={"clock_confirmed": lambda: False}
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_van_outside_its_authority_is_told_exactly_why(name: str) -> None:
    case = REFUSALS[name]
    asked = gate(**case.gate)
    if "skip" not in case.authority:
        asked.load(written(**case.authority))
    with pytest.raises(case.error, match=case.message) as caught:
        ask(asked, **case.facts)
    assert type(caught.value) is case.error
    assert caught.value.exit_code == 3


MALFORMED = {
    "not json": (b"{", "input data was truncated"),
    "a field more": (written(note="x"), "note is not a field that is known here"),
    "a field less": (written(purpose=None), "purpose is missing"),
    "ends before it starts": (written(ends="2026-03-01T09:00:00Z"), "it ends before it starts"),
    "too long": (written(ends="2026-03-02T10:00:01Z"), "it lasts longer than 24 hours"),
    "signed after its start": (written(authorised_at="2026-03-01T11:00:00Z"), "it was signed after its start"),
    "times without a zone": (written(starts="2026-03-01T10:00:00"), r"starts is not written as it must be"),
    "no van": (written(vans=[]), r"vans must have at least 1 value"),
    "a floor below all sense": (written(threshold_floor=0.1), r"threshold_floor must be 0.2 at least"),
    "a budget above the ceiling": (written(budget_one_in=999), r"budget_one_in must be 1000 at least"),
    "retention beyond 31 days": (written(retention_h=745), r"retention_h must be 744 at most"),
    "no place": (written(place={"name": "x"}), "its place must be either a polygon or a circle"),
    "both kinds of place": (
        written(place={"name": "x", "polygon": SQUARE, "centre": [51.5, 0], "radius_m": 5}),
        "its place must be either a polygon or a circle",
    ),
    "a line for a place": (written(place={"name": "x", "polygon": SQUARE[:2]}), "fewer than three corners"),
    "a place not on Earth": (
        written(place={"name": "x", "polygon": [[91, 0], [0, 0], [0, 1]]}),
        "a corner that is not on Earth",
    ),
    "a circle of any size": (written(place={"name": "x", "centre": [51.5, 0]}), "a circle without a radius"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_an_authority_that_contradicts_itself_is_refused_and_nothing_is_left(name: str) -> None:
    content, message = MALFORMED[name]
    asked = gate()
    asked.load(written())
    with pytest.raises(AuthorityInvalid, match=message):
        asked.load(content)
    with pytest.raises(AuthorityMissing):
        ask(asked)


def test_reasons_come_in_the_order_in_which_they_can_be_mended() -> None:
    asked = gate(clock_floor=NOW + timedelta(hours=9))
    asked.load(written(vans=["van-9"]))
    with pytest.raises(ClockUntrusted):
        ask(asked, watchlist=None, model="x", threshold=0.0, position=None)


def test_an_authority_ends_while_running() -> None:
    asked = gate()
    asked.load(written())
    end = datetime(2026, 3, 1, 16, tzinfo=UTC)

    def at(now: datetime) -> None:
        ask(asked, now=now, position=Position(51.505, -0.125, 10.0, now))

    at(end - timedelta(milliseconds=1))
    with pytest.raises(AuthorityEnded):
        at(end)


def test_setting_the_clock_back_does_not_lengthen_an_authority() -> None:
    asked = gate()
    asked.load(written())
    ask(asked, now=NOW)
    ask(asked, now=NOW - timedelta(seconds=4))  # what an honest time server may do
    with pytest.raises(ClockUntrusted):
        ask(asked, now=NOW - timedelta(minutes=10))


@pytest.mark.parametrize(
    ("point", "inside"),
    [((51.505, -0.125), True), ((51.505, -0.14), False), ((51.52, -0.125), False), ((51.5001, -0.1201), True)],
)
def test_a_polygon_holds_what_lies_in_it_either_way_round(point: tuple[float, float], inside: bool) -> None:
    corners = tuple((lat, lon) for lat, lon in SQUARE)
    for polygon in (corners, corners[::-1]):
        assert Place(name="x", polygon=polygon).contains(*point) is inside


def test_a_hollow_in_a_polygon_is_outside() -> None:
    horseshoe = ((0.0, 0.0), (0.0, 3.0), (3.0, 3.0), (3.0, 2.0), (1.0, 2.0), (1.0, 1.0), (3.0, 1.0), (3.0, 0.0))
    place = Place(name="x", polygon=horseshoe)
    assert not place.contains(2.0, 1.5)
    assert place.contains(2.0, 0.5)
    assert place.contains(2.0, 2.5)


def test_a_circle_s_edge_lies_at_its_radius() -> None:
    place = Place(name="x", centre=(51.5, 0.0), radius_m=500.0)
    metre = 360 / 40_030_173  # degrees of latitude on the mean sphere
    assert place.contains(51.5 + 499 * metre, 0.0)
    assert not place.contains(51.5 + 501 * metre, 0.0)


def test_distances_agree_with_a_known_one() -> None:
    # London King's Cross to Paris Gare du Nord, about 344 km along the great circle.
    assert distance_m((51.5308, -0.1238), (48.8809, 2.3553)) == pytest.approx(343_600, rel=0.01)
