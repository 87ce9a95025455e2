"""What an authorising officer is asked for, is shown and is refused before anything is signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w

from edge.errors import AuthorityInvalid
from edge.fields import in_words
from edge.trust.authority import Authority
from edge.trust.place import Place
from provisioning.authority import draft_authority, read_force
from provisioning.place_map import described, drawn
from tests.lists import Site, entry

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
STREETS = Place(name="x", polygon=((51.50, -0.13), (51.50, -0.12), (51.51, -0.12), (51.51, -0.13)))
CONTENT: dict[str, Any] = {
    "deployment": "D-1",
    "purpose": "To find people who are wanted on warrant for violence",
    "legal_basis": "Common law; the force's policy",
    "authorised_by": "Superintendent, authorising officer",
    "starts": NOW + timedelta(hours=1),
    "ends": NOW + timedelta(hours=6),
    "vans": ["van-1"],
    "threshold_floor": 0.45,
    "budget_one_in": 6000,
    "place": {"name": "High Street", "polygon": [list(corner) for corner in STREETS.polygon]},
    "grounds": {
        "use_case": "People wanted on warrant",
        "necessity": "Visits to their addresses found nobody",
        "why_here": "They were seen there",
        "seriousness": "Five years or more",
        "rank": "Superintendent",
    },
}
REPORT = {"under_18": {"R-1": "missing"}}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.enrol_van()
    return made


def sign(site: Site, *, report: Any = None, force: Place | None = None, **changes: Any) -> Authority:
    from edge.watchlist.bundle import parse_manifest

    _, manifest = site.build([entry("R-1")])
    file = site.folder / "authority.toml"
    content = {**CONTENT, **changes}
    file.write_text(tomli_w.dumps({name: value for name, value in content.items() if value is not None}))
    return draft_authority(file, parse_manifest(manifest), NOW, report=report, force=force)[0]


def grounds(**changes: Any) -> dict[str, Any]:
    return {"grounds": {**CONTENT["grounds"], **changes}}


def turned() -> dict[str, Any]:
    return {"place": {"name": "High Street", "polygon": [[lon, lat] for lat, lon in STREETS.polygon]}}


LONDON = Place(name="the Metropolitan Police District", polygon=((51.2, -0.6), (51.2, 0.4), (51.8, 0.4), (51.8, -0.6)))

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no grounds": ({"grounds": None}, "grounds: is missing: it says why this deployment is necessary, and why here"),
    "no necessity": (grounds(necessity=""), "grounds.necessity must have at least 3 letters"),
    "a ground that nobody knows": (grounds(mood="good"), "grounds.mood is not a field that is known here"),
    "children without a reason": ({"report": REPORT}, "grounds.children: is empty, and 1 of the people on the list"),
    "a protest without a reason": ({"purpose": "To watch the protest march"}, "grounds.protest: is empty, and the"),
    "latitude and longitude the wrong way round": ({**turned(), "force": LONDON}, "Latitude comes first"),
    "another force's town": (
        {"place": {"name": "Leeds", "centre": [53.8, -1.54], "radius_m": 300.0}, "force": LONDON},
        "lies around 53.8000, -1.5400, which is not all in the Metropolitan Police District. Correct the place",
    ),
    "signed at a moment that is to come": (
        {"authorised_at": NOW + timedelta(minutes=6)},
        "authorised_at: lies ahead: a withdrawal before that moment would not count. Leave it out",
    ),
    "kept too long": ({"retention_h": 1000}, "retention_h must be 744 at most"),
    "a word for a number": ({"budget_one_in": "many"}, "budget_one_in must be a whole number"),
    "a corner of three": ({"place": {"name": "x", "polygon": [[1, 2, 3]]}}, "place.polygon must have"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_officer_must_not_sign_is_refused_in_words_for_an_officer(name: str, site: Site) -> None:
    changes, words = REFUSED[name]
    with pytest.raises(AuthorityInvalid) as caught:
        sign(site, **changes)
    assert words in str(caught.value)
    assert "$" not in str(caught.value)
    assert "`" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"force": LONDON},
        {"report": REPORT, **grounds(children="One is missing and at risk")},
        {"purpose": "To watch the protest march", **grounds(protest="A threat to life was received")},
    ],
    ids=["as it should be", "inside the force's area", "children with a reason", "a protest with a reason"],
)
def test_what_an_officer_weighed_is_part_of_what_is_signed(changes: dict[str, Any], site: Site) -> None:
    signed = sign(site, **changes)
    assert signed.grounds is not None
    assert signed.grounds.why_here == "They were seen there"


def test_the_forces_area_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "force.toml").write_text(tomli_w.dumps({"name": "x", "centre": [51.5, -0.1], "radius_m": 20000.0}))
    assert read_force(tmp_path / "force.toml").contains(51.6, -0.1)


def test_the_place_is_shown_with_its_size_and_outline() -> None:
    assert described(STREETS) == (
        "0.77 km², 692 m from west to east and 1,112 m from south to north, around 51.5050° N, 0.1250° W"
    )
    *rows, scale = drawn(STREETS)
    assert scale.endswith("m, north is up")
    share = sum(row.count("#") + row.count("+") for row in rows) / (len(rows) * len(rows[0]))
    assert share == pytest.approx(692 / (48 * 1112 / 32), abs=0.05)
    ring = drawn(Place(name="x", centre=(51.5, 0.0), radius_m=100.0))
    assert ring[0].count("#") < ring[7].count("#") == ring[8].count("#") + 1


class Sample(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    many: list[int] = []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{}", "name is missing"),
        (b'{"name": 1}', "name must be text"),
        (b'{"name": "x", "many": ["y"]}', "many must be a whole number"),
        (b'{"name": "x", "more": 1}', "more is not a field that is known here"),
        (b"[]", "it must be a group of fields"),
        (b"{", "it cannot be read (input data was truncated)"),
    ],
)
def test_a_decoders_complaint_names_the_field(text: bytes, words: str) -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(text, type=Sample)
    assert in_words(caught.value) == words
