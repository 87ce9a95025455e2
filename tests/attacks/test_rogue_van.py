"""Somebody who has a van's certificate and keys: to silence the control room or another van, or to speak for one.

===========================================  ==================================================================
attack                                       what is expected
===========================================  ==================================================================
the control room's client identifier         the control room keeps its connection and hears everybody
another van's client identifier              that van keeps its connection
a watcher's or a console's name for a van    refused at the enrolment
===========================================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge.controlroom.receive import Arrived, Receiver
from edge.controlroom.service import NAME
from edge.errors import BadInput
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
