"""A broker that offers no more than MQTT 3.1.1: a real mosquitto behind a door that refuses version 5."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from edge.alert.link import Broker
from edge.alert.outbox import Outbox
from edge.alert.submit import AlertSubmitter
from edge.controlroom.receive import Arrived
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from edge.trust.tls import client_context
from tests.broker import Heard, Site, make_alert

pytestmark = pytest.mark.broker

UNACCEPTABLE_VERSION = b"\x20\x02\x00\x01"
"""CONNACK of MQTT 3.1.1 with return code 1 (3.2.2.3): what its section 3.1.2.2 demands for an unknown level."""


class Door:
    """Lets MQTT 3.1.1 through to the broker and answers version 5 as a broker of old does."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.levels: list[int] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(site.folder / "broker" / "broker.crt", site.folder / "broker" / "broker.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError):
            near = self._tls.wrap_socket(raw, server_side=True)
            first = near.recv(65536)
            level = first[first.index(b"MQTT") + 4]
            self.levels.append(level)
            if level == 5:
                near.sendall(UNACCEPTABLE_VERSION)
                near.close()
                return
            tls = client_context("ca.crt", "van.crt", "van.key", self._site.van("van-1"))
            plain = socket.create_connection(("127.0.0.1", self._site.port))
            far = tls.wrap_socket(plain, server_hostname="localhost")
            far.sendall(first)
            threading.Thread(target=_pump, args=(far, near), daemon=True).start()
            _pump(near, far)


def _pump(source: ssl.SSLSocket, sink: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for each in (source, sink):
        each.close()


@pytest.fixture
def door(site: Site) -> Iterator[Door]:
    made = Door(site)
    yield made
    made.close()


def test_a_van_falls_back_to_3_1_1_when_the_broker_knows_no_more(site: Site, door: Door) -> None:
    heard = Heard()
    folder = site.van("van-1")
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
    heard.online()
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        tls = client_context("ca.crt", "van.crt", "van.key", folder)
        publisher = site.publisher(outbox, broker=Broker("localhost", door.port, tls))
        publisher.start(site.supervisor)
        desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        sent = desk.submit(make_alert)
        assert heard.next(Arrived).alert == sent
        assert publisher.wait_empty(10)
        publisher.stop()
    assert door.levels[:2] == [5, 4]
    receiver.stop()
