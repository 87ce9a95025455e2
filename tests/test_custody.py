"""What may be held, for how long, and what happens to what outstays its limit."""

from __future__ import annotations

import copy
import pickle
import threading
from uuid import uuid4

import numpy as np
import pytest

from edge.clock import SystemClock
from edge.custody.erase import LONGEST_MS, Biometric, Kind
from edge.custody.retention import Custodian, CustodyTotals
from edge.errors import BiometricErased, CustodyBreached, RecordInvalid
from edge.records import CHIP_SIZES, ErasureCause, ErasureReceipt
from edge.worker import Supervisor
from provisioning.notice import WHAT_HAPPENS
from tests.sim.clock import HandClock

SWEEP_NS = 100_000_000
"""The sweeper looks ten times a second."""


def an_embedding(value: float = 0.5) -> np.ndarray:
    return np.full(8, value, np.float32)


def test_erasing_overwrites_the_very_memory_that_was_handed_in() -> None:
    array = an_embedding()
    handle = Biometric(Kind.EMBEDDING, array, HandClock())
    handle.erase()
    assert not array.any()


def test_leaving_the_block_erases() -> None:
    array = an_embedding()
    with Biometric(Kind.EMBEDDING, array, HandClock()) as handle:
        assert handle.array is array
    assert handle.erased
    assert not array.any()


def test_an_exception_in_the_block_erases_too() -> None:
    array = an_embedding()
    with pytest.raises(ZeroDivisionError), Biometric(Kind.EMBEDDING, array, HandClock()):
        _ = 1 / 0
    assert not array.any()


def test_dropping_the_last_reference_erases() -> None:
    array = an_embedding()
    handle = Biometric(Kind.EMBEDDING, array, HandClock())
    del handle
    assert not array.any()


def test_what_is_erased_cannot_be_read() -> None:
    handle = Biometric(Kind.EMBEDDING, an_embedding(), HandClock())
    handle.erase()
    with pytest.raises(BiometricErased):
        _ = handle.array


def test_reading_after_the_deadline_erases_instead() -> None:
    clock = HandClock()
    array = an_embedding()
    handle = Biometric(Kind.EMBEDDING, array, clock)
    clock.advance(1.1)
    with pytest.raises(BiometricErased):
        _ = handle.array
    assert not array.any()


@pytest.mark.parametrize(
    "leak",
    [copy.copy, copy.deepcopy, pickle.dumps, np.asarray, list, bytes],
    ids=["copy", "deepcopy", "pickle", "numpy", "list", "bytes"],
)
def test_a_handle_cannot_be_copied_pickled_or_turned_into_an_array(leak) -> None:
    with pytest.raises(TypeError):
        leak(Biometric(Kind.EMBEDDING, an_embedding(), HandClock()))


def test_a_handle_shows_nothing_of_what_it_holds() -> None:
    handle = Biometric(Kind.EMBEDDING, an_embedding(0.123), HandClock())
    assert "0.1" not in f"{handle!r} {handle}"


@pytest.mark.parametrize("side", CHIP_SIZES.values())
def test_a_chip_in_any_embedders_alignment_is_held(side: int) -> None:
    assert Biometric(Kind.CHIP, np.ones((side, side, 3), np.uint8), HandClock()).array.shape == (side, side, 3)


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        (Kind.FRAME, np.zeros((4, 4), np.uint8)),
        (Kind.FRAME, np.zeros((4, 4, 3), np.float32)),
        (Kind.CHIP, np.zeros((100, 100, 3), np.uint8)),
        (Kind.CHIP, np.zeros((112, 150, 3), np.uint8)),
        (Kind.EMBEDDING, np.zeros((2, 8), np.float32)),
        (Kind.TEMPLATE, np.zeros(8, np.float64)),
        (Kind.EMBEDDING, np.zeros(16, np.float32)[::2]),
        (Kind.EMBEDDING, np.zeros(16, np.float32)[:8]),
    ],
    ids=[
        "grey frame",
        "float frame",
        "wrong chip",
        "oblong chip",
        "matrix",
        "float64",
        "strided view",
        "view of another array",
    ],
)
def test_a_wrong_shape_or_borrowed_memory_is_refused(kind: Kind, array: np.ndarray) -> None:
    with pytest.raises(RecordInvalid):
        Biometric(kind, array, HandClock())


LIMITS_S = {
    Kind.FRAME: (2.0, "gone once processed; a machine that needs longer gives the frame up"),
    Kind.CHIP: (1.0, "gone once embedded, in the same turn"),
    Kind.EMBEDDING: (1.0, "gone once folded into the template, in the same turn"),
    Kind.TEMPLATE: (3.0, "gone when the passage has ended, and 3 s after it was last needed at the latest"),
    Kind.PROBE: (5.0, "gone once encoded: the clear picture lives only while its alert is made"),
}
"""How long each may live, in seconds, and why: written down a second time on purpose, because it is a promise."""


@pytest.mark.parametrize("kind", Kind)
def test_everything_biometric_lives_exactly_as_long_as_was_promised(kind: Kind) -> None:
    limit_s, _ = LIMITS_S[kind]
    clock = HandClock()
    held = {
        Kind.FRAME: np.ones((4, 4, 3), np.uint8), Kind.PROBE: np.ones((4, 4, 3), np.uint8),
        Kind.CHIP: np.ones((112, 112, 3), np.uint8),
    }.get(kind, an_embedding())  # fmt: skip
    handle = Biometric(kind, held, clock)
    assert handle.created_ns == clock.monotonic_ns()
    clock.advance(limit_s)
    assert not handle.overdue(), "its last moment is still its own"
    assert handle.array is held
    clock.advance(1e-9)
    assert handle.overdue()
    with pytest.raises(BiometricErased):
        _ = handle.array
    assert not held.any()
    assert not handle.overdue(), "what is gone cannot be overdue"


def test_only_a_template_may_have_its_limit_renewed() -> None:
    clock = HandClock()
    template = Biometric(Kind.TEMPLATE, an_embedding(), clock)
    clock.advance(2)
    template.needed()
    clock.advance(2)
    assert template.array.any()
    with pytest.raises(RecordInvalid):
        Biometric(Kind.EMBEDDING, an_embedding(), clock).needed()


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.PROBE])
@pytest.mark.parametrize("behind_s", [0.0, 0.5, 1.9])
def test_nothing_of_a_face_outlives_what_the_notice_promises_however_far_the_machine_is_behind(
    kind: Kind, behind_s: float
) -> None:
    clock = HandClock()
    custodian, track = Custodian(clock), uuid4()
    arrived = clock.monotonic_ns()
    custodian.seen(track, arrived)
    clock.advance(behind_s)
    shapes = {Kind.FRAME: (4, 4, 3), Kind.CHIP: (112, 112, 3)}
    held = np.ones(shapes[kind], np.uint8) if kind in shapes else an_embedding()
    handle = custodian.hold(kind, held, track_id=track)
    if kind is Kind.TEMPLATE:
        custodian.needed(handle)
    own = clock.monotonic_ns() + kind.limit_ns
    assert handle.deadline_ns == min(own, arrived + LONGEST_MS * 1_000_000)
    assert f"at the latest {LONGEST_MS // 1000} seconds" in WHAT_HAPPENS


def test_a_passage_that_goes_on_keeps_its_template_from_picture_to_picture() -> None:
    clock = HandClock()
    custodian, track = Custodian(clock), uuid4()
    custodian.seen(track, clock.monotonic_ns())
    template = custodian.hold(Kind.TEMPLATE, an_embedding(), track_id=track)
    for _ in range(5):
        clock.advance(2)
        custodian.seen(track, clock.monotonic_ns())
        custodian.needed(template)
        assert template.array.any()
    clock.advance(3.1)
    assert template.overdue()


def test_the_sweeper_erases_what_reaches_its_deadline_without_calling_it_a_breach() -> None:
    clock = HandClock()
    custodian = Custodian(clock)
    array = an_embedding()
    custodian.hold(Kind.TEMPLATE, array)
    clock.advance(2.9)
    custodian.sweep()
    assert not array.any()
    assert custodian.totals().overdue == 0
    assert custodian.breach is None


def test_something_overdue_trips_a_purge_of_everything_and_nothing_new_is_held() -> None:
    clock = HandClock()
    breaches: list[CustodyBreached] = []
    custodian = Custodian(clock, on_breach=breaches.append)
    stalled, innocent, late = an_embedding(), an_embedding(), an_embedding()
    custodian.hold(Kind.EMBEDDING, stalled)
    custodian.hold(Kind.TEMPLATE, innocent)
    clock.advance(3)
    custodian.sweep()
    assert not stalled.any()
    assert not innocent.any()
    assert len(breaches) == 1
    assert "1 s" in str(breaches[0])
    with pytest.raises(CustodyBreached):
        custodian.hold(Kind.EMBEDDING, late)
    assert not late.any()
    assert custodian.totals().overdue == 1


def test_an_empty_array_is_nothing_to_hold_and_one_number_is_something() -> None:
    for kind, empty in ((Kind.FRAME, np.zeros((0, 4, 3), np.uint8)), (Kind.EMBEDDING, np.zeros(0, np.float32))):
        with pytest.raises(RecordInvalid):
            Biometric(kind, empty, HandClock())
    assert Biometric(Kind.EMBEDDING, np.ones(1, np.float32), HandClock()).array.size == 1


def test_a_template_that_is_gone_cannot_be_kept_any_longer() -> None:
    handle = Biometric(Kind.TEMPLATE, an_embedding(), HandClock())
    handle.erase()
    with pytest.raises(BiometricErased):
        handle.needed()


def test_it_is_known_when_and_why_something_was_erased_and_it_happens_once() -> None:
    clock = HandClock()
    told: list[tuple[Biometric, ErasureCause]] = []
    handle = Biometric(
        Kind.TEMPLATE, an_embedding(), clock, on_erased=lambda handle, cause: told.append((handle, cause))
    )
    assert handle.erased_ns is None
    clock.advance(0.25)
    handle.erase(ErasureCause.PURGE)
    at = clock.monotonic_ns()
    clock.advance(0.25)
    handle.erase(ErasureCause.USED)
    assert handle.erased_ns == at
    assert told == [(handle, ErasureCause.PURGE)]


def test_the_totals_count_every_handle_and_every_passage() -> None:
    clock = HandClock()
    custodian = Custodian(clock)
    assert custodian.totals() == CustodyTotals(live=0, given=0, erased=0, overdue=0, passages=0, longest_held_ms=0.0)
    one, other = uuid4(), uuid4()
    for track in (one, other):
        custodian.seen(track, clock.monotonic_ns())
    handles = [custodian.hold(Kind.TEMPLATE, an_embedding(), track_id=one) for _ in range(3)]
    handles[0].erase()
    found = custodian.totals()
    assert (found.live, found.given, found.erased, found.passages) == (2, 3, 1, 0)
    clock.advance(0.4)
    custodian.close(one)
    clock.advance(0.3)
    custodian.close(other)
    found = custodian.totals()
    assert (found.live, found.given, found.erased, found.overdue, found.passages) == (0, 3, 3, 0, 2)
    assert found.longest_held_ms == pytest.approx(700)


def test_the_longest_time_is_that_of_people_who_raised_no_alert() -> None:
    clock = HandClock()
    custodian = Custodian(clock)
    listed, passer_by = uuid4(), uuid4()
    for track in (listed, passer_by):
        custodian.seen(track, clock.monotonic_ns())
    custodian.matched(listed)
    clock.advance(0.2)
    closed = custodian.close(passer_by)
    assert closed is not None
    assert not closed.matched
    clock.advance(4)
    closed = custodian.close(listed)
    assert closed is not None
    assert closed.matched
    assert custodian.totals().longest_held_ms == pytest.approx(200)
    quick = uuid4()
    custodian.seen(quick, clock.monotonic_ns())
    custodian.close(quick)
    assert custodian.totals().longest_held_ms == pytest.approx(200), "a shorter one does not lower it"


def test_a_receipt_says_from_when_to_when_somebody_was_seen_and_what_was_held() -> None:
    clock = HandClock()
    custodian = Custodian(clock)
    track = uuid4()
    custodian.hold(Kind.EMBEDDING, an_embedding(), track_id=track)  # before it was a passage
    custodian.hold(Kind.FRAME, np.ones((4, 4, 3), np.uint8))  # nobody's
    first = clock.monotonic_ns()
    custodian.seen(track, first)
    clock.advance(0.5)
    last = clock.monotonic_ns()
    custodian.seen(track, last)
    custodian.hold(Kind.EMBEDDING, an_embedding(), track_id=track)
    clock.advance(0.1)
    receipt = custodian.close(track, ErasureCause.PURGE)
    assert receipt == ErasureReceipt(track, ErasureCause.PURGE, False, first, last, clock.monotonic_ns(), 1)
    assert custodian.close(track) is None, "a passage is closed once"


def test_nobody_becomes_a_passage_by_raising_an_alert() -> None:
    custodian = Custodian(HandClock())
    custodian.matched(uuid4())
    assert custodian.close(uuid4()) is None
    assert custodian.totals().passages == 0


def test_a_purge_closes_every_passage_and_hands_out_their_receipts() -> None:
    clock = HandClock()
    receipts: list[ErasureReceipt] = []
    custodian = Custodian(clock, on_receipt=receipts.append)
    tracks = {uuid4() for _ in range(3)}
    arrays = []
    for track in tracks:
        custodian.seen(track, clock.monotonic_ns())
        arrays.append(an_embedding())
        custodian.hold(Kind.TEMPLATE, arrays[-1], track_id=track)
    frame = np.ones((4, 4, 3), np.uint8)
    custodian.hold(Kind.FRAME, frame)
    custodian.purge()
    assert not any(array.any() for array in (*arrays, frame))
    assert {receipt.track_id for receipt in receipts} == tracks
    assert {receipt.cause for receipt in receipts} == {ErasureCause.PURGE}
    assert (custodian.totals().live, custodian.totals().passages) == (0, 3)


@pytest.mark.parametrize(
    ("before_deadline_ns", "erased"),
    [(2 * SWEEP_NS + 1, False), (2 * SWEEP_NS, True), (1, True), (0, True)],
    ids=["it outlives the next two sweeps", "it would end with the sweep after the next", "a moment before", "at it"],
)
def test_the_sweeper_erases_what_would_reach_its_deadline_before_it_looks_twice_again(
    before_deadline_ns: int, erased: bool
) -> None:
    clock = HandClock()
    custodian = Custodian(clock)
    array = an_embedding()
    handle = custodian.hold(Kind.EMBEDDING, array)
    clock.advance((handle.deadline_ns - clock.monotonic_ns() - before_deadline_ns) / 1e9)
    assert handle.deadline_ns - clock.monotonic_ns() == before_deadline_ns
    custodian.sweep()
    assert handle.erased is erased
    assert array.any() is not erased
    assert custodian.breach is None, "not before it is past its deadline"
    assert custodian.totals().overdue == 0


def test_one_moment_past_its_deadline_is_a_breach() -> None:
    clock = HandClock()
    custodian = Custodian(clock)
    array = an_embedding()
    custodian.hold(Kind.EMBEDDING, array)
    clock.advance(1)
    clock.advance(1e-9)
    custodian.sweep()
    assert not array.any()
    assert custodian.breach is not None
    assert custodian.totals().overdue == 1


def test_closing_a_passage_erases_all_of_it_and_says_how_long_it_was_held() -> None:
    clock = HandClock()
    receipts: list[ErasureReceipt] = []
    custodian = Custodian(clock, on_receipt=receipts.append)
    track, other = uuid4(), uuid4()
    for passage in (track, other):
        custodian.seen(passage, clock.monotonic_ns())
    mine = [an_embedding(), an_embedding()]
    for array in mine:
        custodian.hold(Kind.TEMPLATE, array, track_id=track)
    others = an_embedding()
    custodian.hold(Kind.TEMPLATE, others, track_id=other)
    clock.advance(0.7)
    custodian.close(track)
    assert not any(array.any() for array in mine)
    assert others.any()
    assert [r.track_id for r in receipts] == [track]
    assert receipts[0].held_after_last_seen_ms == pytest.approx(700)
    assert receipts[0].handles == 2
    assert receipts[0].cause is ErasureCause.TRACK_ENDED
    assert not receipts[0].matched


def test_the_running_sweeper_needs_nobody_to_call_it(workers: Supervisor) -> None:
    gone = threading.Event()
    custodian = Custodian(SystemClock())
    array = an_embedding()
    handle = custodian.hold(Kind.EMBEDDING, array)
    handle._on_erased = lambda *_: gone.set()
    custodian.start(workers)
    try:
        assert gone.wait(3)
    finally:
        custodian.stop()
    assert not array.any()


def test_stopping_erases_everything(workers: Supervisor) -> None:
    custodian = Custodian(SystemClock())
    array = an_embedding()
    custodian.hold(Kind.TEMPLATE, array)
    custodian.start(workers)
    custodian.stop()
    assert not array.any()
    assert custodian.totals().live == 0
