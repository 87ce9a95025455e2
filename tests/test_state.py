"""What the van is: every pair of events, long random histories, and the sentences that matter most.

The oracle below works from the whole history, backwards; the reducer from one state and one event, forwards. They
share nothing but the events.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import reduce as fold
from itertools import permutations, product

import pytest

from edge.state import Began, Condition, Ended, Event, Failed, Fine, Part, Starting, Trouble, VanState, reduce

ORDER = ["service", "custody", "clock", "permission", "list", "camera", "disk", "link"]
"""In which order a person is told, written down a second time on purpose: it is a decision."""


@dataclass(frozen=True)
class Expected:
    """What a person would say of a history."""

    condition: Condition
    why: str
    blocking: list[Trouble]
    warnings: list[Trouble]
    cameras: set[str]


def oracle(history: list[Event]) -> Expected:
    over = next((at for at, event in enumerate(history) if isinstance(event, Ended | Failed)), len(history))
    lived = history[:over]
    slots = {(e.part, e.key) for e in lived if isinstance(e, Trouble | Fine)}
    last = {
        slot: next(e for e in reversed(lived) if isinstance(e, Trouble | Fine) and (e.part, e.key) == slot)
        for slot in slots
    }
    troubles = sorted(
        (event for event in last.values() if isinstance(event, Trouble)),
        key=lambda trouble: (ORDER.index(trouble.part.value), trouble.key),
    )
    cameras = set()
    for part, key in slots:
        said = [e for e in lived if isinstance(e, Fine) or (isinstance(e, Trouble) and e.blocks)]
        said = [e for e in said if (e.part, e.key) == (part, key)]
        if part is Part.CAMERA and said and isinstance(said[-1], Fine):
            cameras.add(key)
    blocking = [t for t in troubles if t.blocks and (t.part is not Part.CAMERA or not cameras)]
    warnings = [t for t in troubles if t not in blocking]
    begun = next((at for at, event in enumerate(lived) if isinstance(event, Began)), None)
    failures = [event.why for event in history if isinstance(event, Failed)]
    if failures:
        return Expected(Condition.FAILED, failures[0], blocking, warnings, cameras)
    if over < len(history):
        return Expected(Condition.ENDED, history[over].why, blocking, warnings, cameras)  # type: ignore[union-attr]
    if begun is None:
        steps = [event.step for event in lived if isinstance(event, Starting)]
        return Expected(Condition.STARTING, steps[-1] if steps else "", blocking, warnings, cameras)
    reasons = [trouble.why for trouble in (*blocking, *warnings)]
    condition = Condition.NOT_MATCHING if blocking else Condition.MATCHING
    return Expected(condition, reasons[0] if reasons else "", blocking, warnings, cameras)


def after(*events: Event, start: VanState | None = None) -> VanState:
    return fold(reduce, events, start or VanState())


def seen(state: VanState) -> Expected:
    return Expected(state.condition, state.why, list(state.blocking), list(state.warnings), set(state.cameras))


ONCE = [
    *(Trouble(part, f"{part} is in trouble") for part in Part if part is not Part.CAMERA),
    *(Trouble(part, f"{part} is not well", blocks=False) for part in Part if part is not Part.CAMERA),
    *(Fine(part) for part in Part if part is not Part.CAMERA),
    *(Trouble(Part.CAMERA, f"camera {key} is lost", key=key) for key in "ab"),
    *(Trouble(Part.CAMERA, f"camera {key} is dim", blocks=False, key=key) for key in "ab"),
    *(Fine(Part.CAMERA, key) for key in "ab"),
    Trouble(Part.PERMISSION, "the van is outside its place"),
    Starting("reading the list"),
    Starting("loading the models"),
    Began(),
    Ended("the video has ended"),
    Ended("somebody stopped it"),
    Failed("the list is damaged"),
    Failed("the custody was breached"),
]
BEFORE: dict[str, list[Event]] = {
    "nothing": [],
    "a start": [Began()],
    "two cameras": [Began(), Fine(Part.CAMERA, "a"), Fine(Part.CAMERA, "b")],
    "a refusal and one camera": [
        Fine(Part.CAMERA, "a"), Trouble(Part.PERMISSION, "not yet"), Starting("reading the list"), Began(),
    ],
}  # fmt: skip


def test_the_table_holds_every_kind_of_event_and_every_part() -> None:
    assert {type(event) for event in ONCE} == {Trouble, Fine, Starting, Began, Ended, Failed}
    assert {event.part for event in ONCE if isinstance(event, Trouble | Fine)} == set(Part)
    assert [part.value for part in Part] == ORDER


@pytest.mark.parametrize("name", BEFORE)
def test_every_pair_of_events_leaves_what_a_person_would_say(name: str) -> None:
    wrong = []
    for pair in product(ONCE, repeat=2):
        history = [*BEFORE[name], *pair]
        if seen(after(*history)) != oracle(history):
            wrong.append(history)
    assert wrong == []


@pytest.mark.parametrize("seed", range(40))
def test_a_long_history_leaves_what_a_person_would_say_at_every_moment(seed: int) -> None:
    choose = random.Random(seed)
    lasting = [event for event in ONCE if not isinstance(event, Ended | Failed)]
    state, history = VanState(), []
    for step in range(120):
        event = choose.choice(ONCE if step > 100 else lasting)
        state, history = reduce(state, event), [*history, event]
        assert seen(state) == oracle(history), history


def about(event: Event) -> tuple[Part, str] | None:
    return (event.part, event.key) if isinstance(event, Trouble | Fine) else None


@pytest.mark.parametrize("name", BEFORE)
def test_events_of_different_parts_may_come_in_either_order(name: str) -> None:
    of_parts = [event for event in ONCE if about(event) is not None]
    for one, other in product(of_parts, repeat=2):
        if about(one) != about(other):
            assert after(*BEFORE[name], one, other) == after(*BEFORE[name], other, one)


@pytest.mark.parametrize("name", BEFORE)
def test_a_trouble_never_hides_or_ends_one_of_another_part(name: str) -> None:
    troubles = [event for event in ONCE if isinstance(event, Trouble)]
    for trouble, event in product(troubles, ONCE):
        if about(event) != about(trouble):
            assert trouble in after(*BEFORE[name], trouble, event).troubles, event


def test_a_later_trouble_of_the_same_part_takes_the_place_of_the_earlier() -> None:
    first, second = Trouble(Part.PERMISSION, "not yet"), Trouble(Part.PERMISSION, "outside its place")
    state = after(Began(), first, second)
    assert state.troubles == (second,)
    assert state.why == "outside its place"


def test_one_word_of_fine_ends_it_however_often_it_was_said() -> None:
    trouble = Trouble(Part.LINK, "the broker is gone", blocks=False)
    assert after(Began(), trouble, trouble, trouble, Fine(Part.LINK)).troubles == ()


def test_a_camera_that_comes_back_never_turns_a_refused_van_green() -> None:
    refused = Trouble(Part.PERMISSION, "the van is outside its place")
    events = [refused, Trouble(Part.CAMERA, "camera a is lost", key="a"), Fine(Part.CAMERA, "a")]
    for order in permutations(events):
        state = after(Began(), *order)
        assert state.condition is Condition.NOT_MATCHING
        assert refused in state.blocking
        assert state.why == refused.why


def test_the_last_camera_that_is_lost_blocks_and_one_of_several_only_warns() -> None:
    lost_a, lost_b = (Trouble(Part.CAMERA, f"camera {key} is lost", key=key) for key in "ab")
    both = after(Began(), Fine(Part.CAMERA, "a"), Fine(Part.CAMERA, "b"))
    one = reduce(both, lost_a)
    assert (one.condition, one.blocking, one.warnings) == (Condition.MATCHING, (), (lost_a,))
    assert one.why == "camera a is lost"
    none = reduce(one, lost_b)
    assert (none.condition, none.blocking, none.warnings) == (Condition.NOT_MATCHING, (lost_a, lost_b), ())
    back = reduce(none, Fine(Part.CAMERA, "b"))
    assert (back.condition, back.warnings, back.cameras) == (Condition.MATCHING, (lost_a,), {"b"})


def test_a_camera_that_is_merely_dim_still_counts_as_one_that_delivers() -> None:
    state = after(Began(), Fine(Part.CAMERA, "a"), Trouble(Part.CAMERA, "dim", blocks=False, key="a"))
    assert state.condition is Condition.MATCHING
    assert state.cameras == {"a"}


def test_a_warning_is_told_and_does_not_stop_matching() -> None:
    late = Trouble(Part.LINK, "the broker is gone", blocks=False)
    state = after(Began(), late)
    assert (state.condition, state.why, state.warnings) == (Condition.MATCHING, late.why, (late,))


def test_what_blocks_is_told_before_what_only_warns_and_then_by_importance() -> None:
    full = Trouble(Part.CUSTODY, "a warning of the most important part but one", blocks=False)
    gone, refused = Trouble(Part.LIST, "there is no list"), Trouble(Part.PERMISSION, "not yet")
    for order in permutations([full, gone, refused]):
        state = after(Began(), *order)
        assert state.why == "not yet"
        assert state.blocking == (refused, gone)
        assert state.warnings == (full,)


def test_nothing_to_tell_is_an_empty_line() -> None:
    assert (after(Began()).condition, after(Began()).why) == (Condition.MATCHING, "")


def test_nothing_of_a_step_is_left_when_the_start_is_done() -> None:
    assert after(Starting("loading the models")).what == "loading the models"
    assert after(Starting("loading the models"), Began()).what == ""
    assert after(Began(), Starting("loading the models")).what == "", "it is not starting any more"


def test_a_trouble_during_the_start_does_not_pretend_that_the_start_is_done() -> None:
    starting = after(Starting("loading the models"), Trouble(Part.CLOCK, "nobody has set it"))
    assert (starting.condition, starting.why) == (Condition.STARTING, "loading the models")
    begun = reduce(starting, Began())
    assert (begun.condition, begun.why) == (Condition.NOT_MATCHING, "nobody has set it")


@pytest.mark.parametrize("event", ONCE, ids=str)
def test_nothing_that_comes_after_a_failure_changes_it(event: Event) -> None:
    failed = after(Began(), Trouble(Part.DISK, "is full"), Failed("the list is damaged"))
    assert reduce(failed, event) == failed
    assert failed.why == "the list is damaged"


@pytest.mark.parametrize("event", ONCE, ids=str)
def test_an_end_gives_way_to_a_failure_and_to_nothing_else(event: Event) -> None:
    ended = after(Began(), Fine(Part.CAMERA, "a"), Ended("the video has ended"))
    state = reduce(ended, event)
    if isinstance(event, Failed):
        assert (state.condition, state.why) == (Condition.FAILED, event.why)
    else:
        assert state == ended


@pytest.mark.parametrize("before", [[], [Began()]], ids=["in the start", "while matching"])
def test_the_service_may_end_or_fail_at_any_time(before: list[Event]) -> None:
    assert after(*before, Ended("as it should")).condition is Condition.ENDED
    failed = after(*before, Failed("no stick"))
    assert (failed.condition, failed.why) == (Condition.FAILED, "no stick")


def test_a_state_is_never_changed_only_followed() -> None:
    before = after(Began(), Fine(Part.CAMERA, "a"))
    kept = (before.condition, before.troubles, before.cameras)
    for event in ONCE:
        reduce(before, event)
    assert (before.condition, before.troubles, before.cameras) == kept


class TestACameraWithSeveralTroubles:
    """Its connection, its picture and its mode have slots of their own, and it delivers while none of them blocks."""

    DARK = Trouble(Part.CAMERA, "camera a shows nothing but black", key="a/picture")
    LOST = Trouble(Part.CAMERA, "camera a is lost", key="a")
    SMALL = Trouble(Part.CAMERA, "camera a gives 640x480", blocks=False, key="a/mode")

    def test_one_that_delivers_and_shows_nothing_is_no_camera(self) -> None:
        dark = after(Began(), Fine(Part.CAMERA, "a"), self.DARK)
        assert (dark.condition, dark.why) == (Condition.NOT_MATCHING, self.DARK.why)
        assert reduce(dark, Fine(Part.CAMERA, "a/picture")).condition is Condition.MATCHING

    def test_one_that_is_back_and_still_black_does_not_match(self) -> None:
        back = after(Began(), Fine(Part.CAMERA, "a"), self.DARK, self.LOST, Fine(Part.CAMERA, "a"))
        assert (back.condition, back.troubles, back.cameras) == (Condition.NOT_MATCHING, (self.DARK,), frozenset())

    def test_one_that_is_lost_is_not_there_because_its_picture_was_good_or_its_mode_is(self) -> None:
        lost = after(
            Began(), Fine(Part.CAMERA, "a"), self.LOST, Fine(Part.CAMERA, "a/picture"), Fine(Part.CAMERA, "a/mode")
        )
        assert lost.condition is Condition.NOT_MATCHING

    def test_a_small_picture_is_a_warning_and_the_others_troubles_stay_their_own(self) -> None:
        small = after(Began(), Fine(Part.CAMERA, "a"), self.SMALL)
        assert (small.condition, small.warnings) == (Condition.MATCHING, (self.SMALL,))
        other = after(Began(), Fine(Part.CAMERA, "a"), Fine(Part.CAMERA, "b"), self.DARK)
        assert (other.condition, other.warnings) == (Condition.MATCHING, (self.DARK,))
