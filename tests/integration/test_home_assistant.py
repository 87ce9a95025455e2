"""A Home Assistant at the broker: it finds the vans by itself, and sees no alert."""

from __future__ import annotations

import os
import pwd
import queue
from typing import Any

import pytest

from edge.alert.discovery import description
from edge.alert.outbox import Outbox
from edge.alert.publish import LinkState
from edge.errors import EdgeError
from edge.trust.secret import read_secret
from provisioning.broker import write_broker
from provisioning.site import HOME_ASSISTANT, init_home_assistant
from tests.broker import Site, make_alert, opened

pytestmark = pytest.mark.broker


def with_discovery(site: Site) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    write_broker(site.folder, port=site.port, address="127.0.0.1", user=user, discovery="homeassistant")
    site.reload_broker()


def test_it_is_told_of_a_van_and_hears_its_counters_but_no_alert(site: Site) -> None:
    with_discovery(site)
    folder = site.van("van-1")
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    assistant = opened(site, init_home_assistant(site.folder), HOME_ASSISTANT, client="ha", on_message=heard.put)
    assistant.subscribe("#")
    topic, payload = description("homeassistant", "van-1")
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = site.publisher(outbox, described={topic: payload})
        publisher.start(site.supervisor)
        told = {}
        while topic not in told:
            message = heard.get(timeout=15)
            told[message.topic] = message.payload
        assert set(told) == {"lfr/1/van-1/state", topic}
        assert told[topic] == payload
        raw = opened(site, site.van("van-2"))
        raw.publish("lfr/1/van-2/alert", site.sealed(make_alert(van="van-2")))
        raw.tell("lfr/1/van-2/health", b"counters")
        assert heard.get(timeout=15).payload == b"counters"
        assert assistant.publish("lfr/1/van-1/adjudication", b"x") == 0x87
        raw.close()
        publisher.stop()
    assistant.close()


def test_a_van_may_describe_itself_only(site: Site) -> None:
    with_discovery(site)
    raw = opened(site, site.van("van-1"))
    assert raw.publish("homeassistant/device/lfr-edge/van-2/config", b"x") == 0x87
    raw.close()


def test_a_broker_that_does_not_allow_it_is_reported_and_the_link_goes_on(site: Site) -> None:
    folder = site.van("van-2")
    reported: queue.SimpleQueue[tuple[str, EdgeError]] = queue.SimpleQueue()
    states: queue.SimpleQueue[LinkState] = queue.SimpleQueue()
    topic, payload = description("homeassistant", "van-2")
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-2") as outbox:
        publisher = site.publisher(
            outbox,
            "van-2",
            described={topic: payload},
            on_refused=lambda what, error: reported.put((what, error)),
            on_state=lambda state, _: states.put(state),
        )
        publisher.start(site.supervisor)
        what, error = reported.get(timeout=15)
        assert what == topic
        assert "does not authorise" in str(error)
        while states.get(timeout=15) is not LinkState.ONLINE:
            pass
        publisher.stop()
