"""What the control room says to vans again and again: revocations that stand, each beside those before it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from edge.controlroom.store import AlertStore
from edge.controlroom.to_vans import read_lines
from edge.errors import BadInput
from edge.trust.keys import SigningKey
from edge.trust.revocation import MAX_MESSAGE, REVOCATION, Revocation
from tests.sim.clock import HandClock

NOW = datetime(2026, 11, 20, 13, tzinfo=UTC)
UNIT = SigningKey.generate()
TOPIC = "lfr/1/van-1/revocation"


def signed(reference: str, at: datetime = NOW, kind: str = REVOCATION) -> bytes:
    said = Revocation(deployment="D-1", reference=reference, cause="granted", issued_at=at)
    return UNIT.sign(msgspec.json.encode(said), kind)


@pytest.fixture
def clock() -> HandClock:
    return HandClock(NOW)


@pytest.fixture
def store(tmp_path: Path, clock: HandClock) -> Iterator[AlertStore]:
    with AlertStore(tmp_path / "store.db", bytes(32), clock=clock) as made:
        yield made


def test_a_second_revocation_stands_beside_the_first_and_not_in_its_place(store: AlertStore) -> None:
    first, second = signed("R-1"), signed("R-2")
    assert store.to_vans.stand("van-1", [first], by="account unit") == 1
    assert store.to_vans.stand("van-1", [second, first, second], by="account unit") == 1
    assert store.to_vans.standing() == [("van-1", TOPIC, first + b"\n" + second)]


def test_what_a_broker_has_is_said_again_only_when_everything_is(store: AlertStore) -> None:
    store.to_vans.stand("van-1", [signed("R-1")], by="account unit")
    ((van, _, payload),) = store.to_vans.standing()
    store.to_vans.stood(van, payload)
    assert store.to_vans.standing() == []
    assert store.to_vans.standing(every=True) == [(van, TOPIC, payload)]


def test_what_came_while_the_former_message_was_under_way_is_still_to_be_said(store: AlertStore) -> None:
    store.to_vans.stand("van-1", [signed("R-1")], by="account unit")
    ((van, _, payload),) = store.to_vans.standing()
    store.to_vans.stand("van-1", [signed("R-2")], by="account unit")
    store.to_vans.stood(van, payload)
    assert len(store.to_vans.standing()) == 1


def test_one_of_a_month_ago_is_left_out_of_the_next_message(store: AlertStore, clock: HandClock) -> None:
    old, new = signed("R-1"), signed("R-2", NOW + timedelta(days=31))
    store.to_vans.stand("van-1", [old], by="account unit")
    clock.advance(31 * 86_400)
    store.to_vans.stand("van-1", [new], by="account unit")
    assert [payload for _, _, payload in store.to_vans.standing()] == [new]


def test_more_than_one_message_can_hold_is_refused_and_what_stood_stands(store: AlertStore) -> None:
    token = signed("R-1")
    store.to_vans.stand("van-1", [token], by="account unit")
    with pytest.raises(BadInput, match=f"{MAX_MESSAGE} are allowed"):
        store.to_vans.stand(
            "van-1", [signed(f"R-{n}") for n in range(MAX_MESSAGE // len(token) + 1)], by="account unit"
        )
    assert [payload for _, _, payload in store.to_vans.standing()] == [token]


def test_the_audit_log_is_told_who_handed_over_how_many_once(store: AlertStore) -> None:
    told: list[tuple[str, int, str]] = []
    store.to_vans.stand("van-1", [signed("R-1"), signed("R-2")], by="account unit")
    store.to_vans.stand("van-1", [signed("R-1", NOW + timedelta(seconds=1))], by="account unit")

    def write(*row: object) -> None:
        told.append(row)  # type: ignore[arg-type]

    assert store.to_vans.audit_handed_over(write)
    assert not store.to_vans.audit_handed_over(write)
    assert told == [("van-1", 2, "account unit"), ("van-1", 1, "account unit")]


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"a.b.c", signed("R-1", kind="lfr-alert+json"), signed("R-1")[:40], b"x" * 9000, b"\xff.\xff.\xff"],
    ids=["nonsense", "three parts", "another kind", "cut off", "too long", "no text"],
)
def test_a_line_that_is_no_revocation_is_named_and_nothing_is_taken(line: bytes) -> None:
    with pytest.raises(BadInput, match="line 2"):
        read_lines(signed("R-1") + b"\n" + line + b"\n")


def test_a_file_without_a_line_is_refused() -> None:
    with pytest.raises(BadInput, match="holds no revocation"):
        read_lines(b"\n\n")
