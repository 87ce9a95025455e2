"""Two control rooms with one store: one is killed and nothing is lost; the data base goes away and comes back."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from edge.controlroom.config import load
from edge.controlroom.recovery import open_room_store
from tests.broker import Site
from tests.console_process import console
from tests.postgres import Postgres
from tests.two_rooms import TwoRooms, set_up

pytestmark = pytest.mark.broker


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One that waits for its disk, and may be stopped."""
    made = Postgres(fsync=True)
    yield made
    made.remove()


def test_a_room_that_is_killed_loses_nothing_and_the_other_goes_on(site: Site, server: Postgres) -> None:
    both = TwoRooms(site, server, alerts=40, decisions=12, seconds=4, chance=random.Random(18))
    found = both.run(kills=2, between=lambda: 0.7)
    assert (found["lost"], found["doubled"], found["without_pictures"]) == (0, 0, 0), found
    assert (found["decided_twice"], found["recorded_and_lost"], found["decisions_that_no_van_heard"]) == (0, 0, 0), (
        found
    )
    assert found["arrived"] == found["alerts_raised"] >= 40
    assert found["decided"] >= 12
    assert found["other_page_s"]["max"] < 5, found


def test_without_its_data_base_a_room_says_so_keeps_every_alert_at_the_broker_and_recovers(
    site: Site, server: Postgres
) -> None:
    folders = set_up(site, server)
    port = load(folders["north"] / "control.toml").console.port
    from tests.integration.test_control_room_failures import van_of

    with console(folders["north"], port) as room, van_of(site) as van:
        room.until("Connected to the broker")
        server.stop("immediate")
        deadline = time.monotonic() + 20
        while "its server does not answer" not in room.queue():
            assert time.monotonic() < deadline
        assert "No alerts" not in room.queue(), "it does not know"
        alert = van.submit()
        status, words = room.ask("GET", f"/alerts/{alert.ref}")
        assert status == 503
        assert "its server does not answer" in words
        assert van.outbox.counters().waiting == 1, "no receipt before it is stored"
        server.start()
        room.until("van-1 no. 1", seconds=40)
        assert van.publisher.wait_empty(30)
        deadline = time.monotonic() + 30
        while "does not answer" in room.until("Connected to the broker"):
            assert time.monotonic() < deadline, "it has recovered and does not say so"
    with open_room_store(load(folders["south"] / "control.toml")) as store:
        assert [case.ref for case in store.cases()] == [alert.ref]
