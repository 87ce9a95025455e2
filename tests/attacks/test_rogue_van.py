"""Somebody who has a van's certificate and keys: to silence the control room or another van, or to speak for one.

===========================================  ==================================================================
attack                                       what is expected
===========================================  ==================================================================
the control room's client identifier         the control room keeps its connection and hears everybody
another van's client identifier              that van keeps its connection
a watcher's or a console's name for a van    refused at the enrolment
the identifier of another van's alert        both are on the page, and each van's receipt is for its own
another alert under an identifier of its     refused by name; the first stays as it is and no receipt is given
own
junk that the broker is made to keep         comes once and not with every new connection
===========================================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge.alert.outbox import Outbox
from edge.alert.submit import AlertSubmitter
from edge.controlroom.receive import Arrived, Receiver, Refused
from edge.controlroom.service import NAME
from edge.errors import BadInput
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from provisioning.site import enrol_van
from tests.broker import Heard, Site, make_alert, opened

pytestmark = pytest.mark.broker


@pytest.fixture
def listening(site: Site) -> Iterator[tuple[Receiver, Heard]]:
    """A receiver that is online, and what it hears."""
    for van in ("van-1", "van-2"):
        site.van(van)
    heard = Heard()
    receiver = site.receiver(heard, NAME)
    receiver.start(site.supervisor)
    heard.online()
    yield receiver, heard
    receiver.stop()


@pytest.mark.parametrize("name", [NAME, "control-room", "control-room-watch"])
def test_a_van_under_the_control_rooms_name_takes_nothing_from_it(
    site: Site, listening: tuple[Receiver, Heard], name: str
) -> None:
    _, heard = listening
    for _ in range(3):
        opened(site, site.van("van-2"), client=name, session_s=3600).close()
    thief = opened(site, site.van("van-2"), client=name, session_s=3600)
    honest = opened(site, site.van("van-1"))
    assert honest.publish("lfr/1/van-1/alert", site.sealed(make_alert(1))) == 0, "somebody listens"
    assert heard.next(Arrived).alert.van == "van-1"
    assert "already connected, closing old" not in site.log.read_text()
    for each in (thief, honest):
        each.close()


def test_the_identifier_of_another_vans_alert_hides_neither(site: Site, listening: tuple[Receiver, Heard]) -> None:
    receiver, heard = listening
    folder = site.van("van-1")
    refused: list[str] = []
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = site.publisher(outbox, on_refused=lambda kind, error: refused.append(str(error)))
        desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        honest = desk.submit(make_alert)
        rogue = make_alert(1, "van-2", alert_id=honest.alert_id, reference="S-rogue")
        thief = opened(site, site.van("van-2"))
        thief.publish("lfr/1/van-2/alert", site.sealed(rogue))
        assert heard.next(Arrived).alert == rogue
        publisher.start(site.supervisor)
        assert heard.next(Arrived).alert == honest
        assert publisher.wait_empty(10)
        assert refused == []
        publisher.stop()
        thief.close()
    assert [stored.alert for stored in receiver.intake.store.alerts()] == [rogue, honest]


def test_another_alert_under_one_of_its_own_identifiers_is_refused_and_not_confirmed(
    site: Site, listening: tuple[Receiver, Heard]
) -> None:
    receiver, heard = listening
    van = opened(site, site.van("van-1"))
    first = make_alert()
    van.publish("lfr/1/van-1/alert", site.sealed(first))
    assert heard.next(Arrived).alert == first
    second = site.sealed(make_alert(2, alert_id=first.alert_id, reference="S-other"))
    van.publish("lfr/1/van-1/alert", second)
    assert "has the identifier of another alert of that van" in str(heard.next(Refused).error)
    assert [stored.alert for stored in receiver.intake.store.alerts()] == [first]
    assert receiver.intake.counts.accepted == 1
    van.close()


def test_junk_that_the_broker_was_made_to_keep_does_not_come_with_every_connection(site: Site) -> None:
    van = opened(site, site.van("van-1"))
    for kind in ("alert", "health", "checkpoint"):
        assert van.publish(f"lfr/1/van-1/{kind}", b"junk", retain=True) in {0, 0x10}
    heard = Heard()
    receiver = site.receiver(heard, NAME)
    receiver.start(site.supervisor)
    heard.online()
    van.publish("lfr/1/van-1/alert", site.sealed(make_alert()))
    assert heard.next(Arrived).alert.sequence == 1
    assert [event for event in heard.all if isinstance(event, Refused)] == []
    receiver.stop()
    van.close()


def test_a_van_under_another_vans_name_takes_nothing_from_it(site: Site) -> None:
    honest = opened(site, site.van("van-1"), client="van-1")
    thief = opened(site, site.van("van-2"), client="van-1")
    assert honest.publish("lfr/1/van-1/alert", b"x") in {0, 0x10}
    for each in (honest, thief):
        each.close()


@pytest.mark.parametrize("name", ["control-room", "control-room-watch", "control-room-2"])
def test_no_van_is_enrolled_under_a_name_that_the_broker_believes_to_be_a_control_rooms(site: Site, name: str) -> None:
    with pytest.raises(BadInput, match="cannot be a van's name"):
        enrol_van(name, site.folder, site.folder.parent / "van")
