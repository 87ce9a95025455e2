from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.alert.outbox import Outbox
from edge.alert.submit import AlertSubmitter
from edge.controlroom.receive import Receiver
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from tests.broker import Heard, Site, States, Van, make_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with its broker running."""
    made = make_site(tmp_path / "site")
    made.start_broker()
    yield made
    made.stop_broker()
    assert made.supervisor.failure is None


@pytest.fixture
def listening(site: Site) -> Iterator[tuple[Receiver, Heard]]:
    """A receiver that is online, and what it hears."""
    site.van("van-1")
    site.van("van-2")
    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
    heard.online()
    yield receiver, heard
    receiver.stop()


@pytest.fixture
def van(site: Site) -> Iterator[Van]:
    folder = site.van("van-1")
    states: States = queue.SimpleQueue()
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = site.publisher(outbox, on_state=lambda state, trouble: states.put((state, trouble)))
        desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        publisher.start(site.supervisor)
        yield Van(desk, outbox, publisher, states)
        publisher.stop()
