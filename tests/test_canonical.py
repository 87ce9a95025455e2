"""One way to write a thing down, and the catalogue of what an audit log can say."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from edge.errors import RecordInvalid
from edge.trust.canonical import canonical, sha256
from edge.trust.events import FIELDS, MAX_TEXT, Event, check_fields


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"b": 1, "a": [True, None, -2, "x"]}, '{"a":[true,null,-2,"x"],"b":1}'),
        ({"z": {"y": {}, "x": []}}, '{"z":{"x":[],"y":{}}}'),
        ({"Straße": "Ö – €"}, '{"Straße":"Ö – €"}'),
        (("a", 1), '["a",1]'),
        ('"\\\n', r'"\"\\\n"'),
        (None, "null"),
        (2**70, str(2**70)),
    ],
)
def test_a_thing_is_written_in_one_way_whoever_writes_it(value: Any, written: str) -> None:
    assert canonical(value) == written.encode("utf-8")


def test_the_order_in_which_somebody_put_the_names_does_not_matter() -> None:
    assert canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (0.5, r"\$:"),
        ({"a": [1, {"b": 0.5}]}, r"\$\.a\[1\]\.b:"),
        ({"a": [0, 1, b"x"]}, r"\$\.a\[2\]:"),
        ({1: "x"}, r"\$:"),
        ({"a": {None: 1}}, r"\$\.a:"),
        ([(1, object())], r"\$\[0\]\[1\]:"),
        ({"a": {1, 2}}, r"\$\.a:"),
        (float("nan"), r"\$:"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_has_no_one_way_is_refused_and_its_place_named(value: Any, place: str) -> None:
    with pytest.raises(RecordInvalid, match=place):
        canonical(value)


def test_a_digest_says_of_which_kind_it_is() -> None:
    assert sha256(b"abc") == "sha256:" + hashlib.sha256(b"abc").hexdigest()
    assert sha256(b"") != sha256(b" ")


# -- the catalogue ---------------------------------------------------------------------------------------------------

PUBLISHED = {
    "lfr.started": {"version": str, "model": str, "threshold_micro": int},
    "lfr.stopped": {"cause": str},
    "lfr.refused": {"error": str, "thing": str, "cause": str},
    "audit.repaired": {"bytes": int},
    "authority.accepted": {"authority": str, "digest": str, "starts": str, "ends": str},
    "authority.ended": {"authority": str, "cause": str},
    "list.imported": {"list": str, "copy": str, "entries": int, "references": list},
    "list.destroyed": {
        "list": str, "copy": str, "cause": str, "entries": int, "files": list, "destroyed_at": str,
    },
    "entry.absent": {"list": str, "reference": str, "cause": str},
    "entry.consulted": {"list": str, "reference": str, "by": str, "purpose": str},
    "entry.removed": {"list": str, "copy": str, "reference": str, "cause": str},
    "alert.sent": {"alert": str, "reference": str, "to": list},
    "alert.adjudicated": {"alert": str, "verdict": str, "by": str},
    "alerts.deleted": {"store": str, "count": int, "cause": str},
    "erasure.totals": {"from": str, "to": str, "count": int, "longest_ms": int, "overdue": int},
    "custody.breached": {"cause": str},
    "service.failed": {"part": str, "cause": str},
    "store.damaged": {"store": str, "kept": str, "carried": int, "lost": str},
    "clock.unconfirmed": {},
    "clock.confirmed": {"by": str},
}  # fmt: skip
"""What overseers rely on, written down a second time on purpose: an event may be added, none of these may change."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_event_that_was_published_never_changes(name: str) -> None:
    assert FIELDS[Event(name)] == PUBLISHED[name]


def test_every_event_has_its_fields_and_none_can_hold_a_picture() -> None:
    assert set(FIELDS) == set(Event)
    assert {kind for fields in FIELDS.values() for kind in fields.values()} <= {str, int, list}


def good(event: Event) -> dict[str, Any]:
    return {name: {str: "x", int: 1, list: ["x"]}[kind] for name, kind in FIELDS[event].items()}


@pytest.mark.parametrize("event", Event)
def test_an_event_with_its_own_fields_is_accepted_and_with_any_other_is_not(event: Event) -> None:
    check_fields(event, good(event))
    with pytest.raises(RecordInvalid, match="another"):
        check_fields(event, {**good(event), "another": "x"})
    for name in FIELDS[event]:
        with pytest.raises(RecordInvalid, match=name):
            check_fields(event, {key: value for key, value in good(event).items() if key != name})


class Text(str):
    """Looks like text and could carry anything."""

    __slots__ = ("more",)


WRONG: dict[str, list[Any]] = {
    "str": [1, b"x", None, ["x"], "x" * (MAX_TEXT + 1), Text("x")],
    "int": ["1", 1.0, True, None, [1]],
    "list": ["x", ("x",), [1], ["x", b"x"], ["x" * (MAX_TEXT + 1)], ["x", None], [Text("x")], [["x"]]],
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_field_holds_exactly_its_kind_and_no_more_than_a_thousand_letters(kind: str) -> None:
    event = Event.LIST_DESTROYED  # has fields of every kind
    name = next(name for name, type_ in FIELDS[event].items() if type_.__name__ == kind)
    for value in WRONG[kind]:
        with pytest.raises(RecordInvalid, match=name):
            check_fields(event, {**good(event), name: value})


def test_a_field_may_be_just_as_long_as_it_may() -> None:
    assert MAX_TEXT == 1000
    check_fields(Event.LIST_DESTROYED, {**good(Event.LIST_DESTROYED), "cause": "x" * 1000, "files": ["x" * 1000, ""]})
    check_fields(Event.LIST_DESTROYED, {**good(Event.LIST_DESTROYED), "files": []})


def test_what_was_published_is_json_that_anybody_can_read() -> None:
    assert json.loads(canonical(good(Event.LIST_IMPORTED))) == good(Event.LIST_IMPORTED)
