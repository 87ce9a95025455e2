"""What survives: brokers, networks and processes that end, in the middle of alerts."""

from __future__ import annotations

import os
import pwd
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edge.alert.link import Broker
from edge.alert.outbox import Outbox
from edge.alert.publish import LinkState
from edge.alert.submit import AlertSubmitter
from edge.controlroom.numbering import Verdict
from edge.controlroom.receive import Arrived, Receiver, VanState
from edge.errors import StoreUnavailable
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from edge.trust.tls import client_context
from provisioning.broker import write_bridge
from tests.broker import PROBE, Heard, Site, States, Van, free_port, make_alert, opened, start_mosquitto

pytestmark = pytest.mark.broker

Listening = tuple[Receiver, Heard]


class TestNothingIsLost:
    def test_an_alert_arrives_with_both_pictures_and_leaves_the_outbox(self, listening: Listening, van: Van) -> None:
        _, heard = listening
        sent = van.submit()
        arrived = heard.next(Arrived)
        assert arrived.alert == sent
        assert arrived.alert.probe_jpeg == sent.probe_jpeg
        assert arrived.alert.reference_jpeg == sent.reference_jpeg
        assert van.publisher.wait_empty(10)
        assert van.outbox.counters().delivered == 1

    def test_alerts_raised_while_the_broker_is_away_arrive_in_order_when_it_is_back(
        self, site: Site, listening: Listening, van: Van
    ) -> None:
        _, heard = listening
        van.until(LinkState.ONLINE)
        site.stop_broker()
        van.until(LinkState.AWAY)
        for _ in range(5):
            van.submit()
        site.start_broker()
        assert [heard.next(Arrived).alert.sequence for _ in range(5)] == [1, 2, 3, 4, 5]
        assert van.publisher.wait_empty(10)

    def test_an_alert_that_nobody_would_hear_stays_until_a_control_room_listens(self, site: Site, van: Van) -> None:
        van.submit()
        van.until(LinkState.UNHEARD)
        assert van.outbox.counters().waiting == 1
        heard = Heard()
        receiver = site.receiver(heard)
        receiver.start(site.supervisor)
        assert heard.next(Arrived).alert.sequence == 1
        assert van.publisher.wait_empty(10)
        receiver.stop()

    def test_alerts_for_a_control_room_that_is_away_wait_at_the_broker(self, site: Site) -> None:
        heard = Heard()
        receiver = site.receiver(heard)
        receiver.start(site.supervisor)
        heard.online()
        receiver.stop()
        raw = opened(site, site.van("van-1"))
        assert raw.publish("lfr/1/van-1/alert", site.sealed(make_alert(1))) == 0
        raw.close()
        site.reload_broker()
        receiver = site.receiver(heard)
        receiver.start(site.supervisor)
        assert heard.next(Arrived).alert.sequence == 1
        receiver.stop()

    def test_what_waited_at_the_broker_in_another_order_is_told_in_the_vans(self, site: Site) -> None:
        heard = Heard()
        receiver = site.receiver(heard)
        receiver.start(site.supervisor)
        heard.online()
        receiver.stop()
        raw = opened(site, site.van("van-1"))
        alerts = [make_alert(number) for number in (1, 2, 3, 4)]
        for alert in (alerts[0], alerts[2], alerts[1], alerts[3]):
            raw.publish("lfr/1/van-1/alert", site.sealed(alert))
        receiver = site.receiver(heard)
        receiver.start(site.supervisor)
        arrived = [heard.next(Arrived) for _ in alerts]
        assert [each.alert.sequence for each in arrived] == [1, 2, 3, 4]
        assert all(each.acceptance.missing is None for each in arrived)
        receiver.stop()
        raw.close()

    def test_a_long_queue_at_the_broker_waits_there_and_not_in_the_receivers_memory(self, site: Site) -> None:
        heard = Heard()
        receiver = site.receiver(heard)
        receiver.start(site.supervisor)
        heard.online()
        receiver.stop()
        raw = opened(site, site.van("van-1"))
        for number in range(1, 301):
            raw.publish("lfr/1/van-1/alert", site.sealed(make_alert(number)))
        longest = 0

        def slow(event: object) -> None:
            nonlocal longest
            longest = max(longest, receiver._events.qsize())
            heard(event)  # type: ignore[arg-type]

        receiver = site.receiver(slow)
        receiver.start(site.supervisor)
        assert [heard.next(Arrived, 30).alert.sequence for _ in range(300)] == list(range(1, 301))
        receiver.stop()
        assert 0 < longest <= 110
        raw.close()

    def test_the_outbox_survives_a_sigkill_and_another_process_delivers_it(
        self, site: Site, listening: Listening
    ) -> None:
        _, heard = listening
        folder = site.van("van-1")
        script = textwrap.dedent("""
            import os, signal, sys
            from pathlib import Path
            from edge.alert.submit import AlertSubmitter
            from edge.alert.outbox import Outbox
            from edge.trust.keys import Recipients, SigningKey
            from edge.trust.secret import read_secret
            from tests.broker import make_alert

            class Nobody:
                def wake(self): ...

            folder = Path(sys.argv[1])
            outbox = Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1")
            recipients = Recipients.load(folder / "control-room.jwks")
            desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), recipients, Nobody())
            for _ in range(3):
                desk.submit(make_alert)
            os.kill(os.getpid(), signal.SIGKILL)
        """)
        died = subprocess.run([sys.executable, "-c", script, str(folder)], check=False, timeout=60)
        assert died.returncode == -signal.SIGKILL
        with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
            assert outbox.counters().waiting == 3
            publisher = site.publisher(outbox)
            publisher.start(site.supervisor)
            assert [heard.next(Arrived).alert.sequence for _ in range(3)] == [1, 2, 3]
            assert publisher.wait_empty(10)
            publisher.stop()

    def test_a_number_that_is_skipped_is_shown_as_a_gap_and_closes_when_it_comes(
        self, site: Site, listening: Listening
    ) -> None:
        _, heard = listening
        raw = opened(site, site.van("van-1"))
        for number in (1, 4, 3):
            raw.publish("lfr/1/van-1/alert", site.sealed(make_alert(number)))
        assert heard.next(Arrived).acceptance.missing is None
        assert heard.next(Arrived).acceptance.missing == (2, 3)
        assert heard.next(Arrived).acceptance.verdict is Verdict.LATE
        raw.close()

    def test_a_broker_that_refuses_the_topic_is_reported_and_the_alert_kept(
        self, site: Site, listening: Listening, van: Van
    ) -> None:
        van.until(LinkState.ONLINE)
        (site.folder / "broker" / "acl").write_text("pattern write lfr/1/%u/state\n")
        site.reload_broker()
        van.submit()
        trouble = van.until(LinkState.REFUSED)
        assert "does not authorise" in str(trouble)
        assert van.outbox.counters().waiting == 1

    def test_a_broker_that_refuses_is_not_taken_back_while_it_is_asked_again(self, site: Site, van: Van) -> None:
        van.until(LinkState.ONLINE)
        (site.folder / "broker" / "acl").write_text("pattern write lfr/1/nobody/state\n")
        site.reload_broker()
        van.until(LinkState.REFUSED)
        time.sleep(1.5)  # several attempts
        told = [van.states.get() for _ in range(van.states.qsize())]
        assert (LinkState.REFUSED, None) not in told, "a refusal without a reason would be shown as none"


class TestBridge:
    def test_a_van_with_its_own_broker_delivers_through_an_outage_and_a_sigkill_and_hears_back(
        self, site: Site, listening: Listening, tmp_path: Path
    ) -> None:
        _, heard = listening
        folder = site.van("van-1")
        port, log = free_port(), tmp_path / "bridge.log"
        conf = write_bridge(folder, "localhost", site.port, port=port, user=pwd.getpwuid(os.geteuid()).pw_name)
        bridge = start_mosquitto(conf, port, log)
        told: queue.SimpleQueue[bytes] = queue.SimpleQueue()

        def hears(_: str, payload: bytes) -> None:
            told.put(payload)

        tls = client_context("ca.crt", "van.crt", "van.key", folder)
        with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
            publisher = site.publisher(outbox, broker=Broker("localhost", port, tls), on_message=hears)
            desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
            publisher.start(site.supervisor)
            desk.submit(make_alert)
            assert heard.next(Arrived, 30).alert.sequence == 1
            assert publisher.wait_empty(15), "the control room's receipt comes back through the bridge"
            publisher.stop()
            publisher = site.publisher(
                outbox, broker=Broker("localhost", port, tls), receipts_by=None, on_message=hears
            )
            desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
            publisher.start(site.supervisor)
            site.stop_broker()
            for _ in range(10):
                desk.submit(make_alert)
            assert publisher.wait_empty(15), "the van's own broker has taken them over"
            bridge.kill()
            bridge.wait()
            bridge = start_mosquitto(conf, port, log)
            site.start_broker()
            assert [heard.next(Arrived, 40).alert.sequence for _ in range(10)] == list(range(2, 12))
            room = opened(site, site.room, PROBE)
            while room.publish("lfr/1/van-1/adjudication", b"heard") == 0x10:
                pass
            assert told.get(timeout=15) == b"heard"
            room.close()
            publisher.stop()
        bridge.terminate()
        bridge.wait()


class TestWhatCouldNotBeDone:
    def test_a_revocation_that_the_disk_refused_comes_again_and_nothing_else_does(
        self, site: Site, tmp_path: Path
    ) -> None:
        told: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        states: States = queue.SimpleQueue()
        refused = threading.Event()

        def hears(_: str, payload: bytes) -> None:
            told.put(payload)
            if payload == b"a" and not refused.is_set():
                refused.set()
                raise StoreUnavailable("the list", "the disk is full", "Make room")

        folder = site.van("van-1")
        with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
            publisher = site.publisher(outbox, on_message=hears, on_state=lambda *each: states.put(each))
            publisher.start(site.supervisor)
            room = opened(site, site.room, "control-room", client="room")
            while room.publish("lfr/1/van-1/adjudication", b"a") == 0x10:
                pass
            room.publish("lfr/1/van-1/adjudication", b"b")
            seen = [told.get(timeout=10)]
            while seen.count(b"a") < 2 or b"b" not in seen:
                seen.append(told.get(timeout=10))
            room.close()
            publisher.stop()
        assert seen.count(b"a") == 2
        assert seen.count(b"b") == 1
        assert any(isinstance(states.get(timeout=1)[1], StoreUnavailable) for _ in range(states.qsize()))

    @pytest.mark.parametrize("confirmed", [True, False])
    def test_an_alert_gets_no_date_from_a_clock_that_nothing_vouches_for(self, site: Site, confirmed: bool) -> None:
        seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
        room = opened(site, site.room, "control-room", client="room", on_message=seen.put)
        room.subscribe("lfr/1/+/alert")
        folder = site.van("van-1")
        with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
            publisher = site.publisher(outbox, receipts_by=None, clock_confirmed=lambda: confirmed)
            desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
            publisher.start(site.supervisor)
            desk.submit(make_alert)
            message = seen.get(timeout=10)
            publisher.stop()
        room.close()
        assert hasattr(message.properties, "MessageExpiryInterval") is confirmed


class TestStates:
    def test_the_control_room_sees_a_van_come_go_and_fall_silent(self, site: Site, listening: Listening) -> None:
        _, heard = listening
        folder = site.van("van-1")
        with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
            publisher = site.publisher(outbox)
            publisher.start(site.supervisor)
            assert heard.next(VanState).body.state == "online"
            publisher.stop()
            assert heard.next(VanState).body.state == "offline"
            publisher.start(site.supervisor)
            assert heard.next(VanState).body.state == "online"
            # A second client of the same name takes over: to the broker, the first has fallen silent.
            thief = opened(site, folder, client="van-1")
            assert heard.next(VanState).body.state == "lost"
            thief.close()
            publisher.stop()
