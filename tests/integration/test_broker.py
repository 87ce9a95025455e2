"""The way of an alert over a real broker: who is let in, on which topics, and what survives."""

from __future__ import annotations

import json
import os
import pwd
import queue
import signal
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.alert import topics
from edge.alert.desk import AlertDesk
from edge.alert.link import Broker, Link, LinkLost
from edge.alert.message import seal
from edge.alert.outbox import Outbox
from edge.alert.publish import LinkState, Publisher
from edge.controlroom.inbox import Verdict
from edge.controlroom.receive import Arrived, Receiver, Refused, VanState
from edge.errors import AlertRejected, BrokerUnavailable, EdgeError, SignatureInvalid
from edge.records import Alert
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from edge.trust.tls import client_context
from provisioning.broker import write_bridge
from provisioning.site import enrol_van, init_site, revoke_van
from tests.broker import Heard, Site, free_port, make_alert, start_mosquitto

pytestmark = pytest.mark.broker

NOT_AUTHORISED = 0x87
QUICK = (0.05, 0.3)
Listening = tuple[Receiver, Heard]


def link(site: Site, folder: Path, stem: str = "van", client: str = "raw", **options: Any) -> Link:
    return Link(site.broker(folder, stem), client, queue.SimpleQueue(), **options)


def opened(site: Site, folder: Path, stem: str = "van", client: str = "raw", **options: Any) -> Link:
    made = link(site, folder, stem, client, **options)
    made.open()
    return made


@pytest.fixture
def listening(site: Site) -> Iterator[Listening]:
    """A receiver that is online, and what it hears."""
    site.van("van-1")
    site.van("van-2")
    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start()
    heard.online()
    yield receiver, heard
    receiver.stop()


@dataclass
class Message:
    """A message as the broker hands it over."""

    topic: str
    payload: bytes


States = queue.SimpleQueue[tuple[LinkState, EdgeError | None]]


@dataclass
class Van:
    """A van's way out, started."""

    desk: AlertDesk
    outbox: Outbox
    publisher: Publisher
    states: States

    def submit(self) -> Alert:
        return self.desk.submit(make_alert)

    def until(self, wanted: LinkState) -> EdgeError | None:
        while True:
            state, trouble = self.states.get(timeout=15)
            if state is wanted:
                return trouble


@pytest.fixture
def van(site: Site) -> Iterator[Van]:
    folder = site.van("van-1")
    states: States = queue.SimpleQueue()
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = Publisher(
            outbox,
            site.broker(folder, "van"),
            "van-1",
            on_state=lambda state, trouble: states.put((state, trouble)),
            backoff_s=QUICK,
        )
        desk = AlertDesk(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        publisher.start()
        yield Van(desk, outbox, publisher, states)
        publisher.stop()


class TestWhoIsLetIn:
    def test_a_client_without_a_certificate_is_refused(self, site: Site) -> None:
        context = ssl.create_default_context(cafile=str(site.room / "ca.crt"))
        bare = Link(Broker("localhost", site.port, context), "nobody", queue.SimpleQueue())
        with pytest.raises(BrokerUnavailable, match="certificate that it does not accept"):
            bare.open()
        bare.close()

    def test_a_certificate_of_another_site_is_refused(self, site: Site, tmp_path: Path) -> None:
        foreign = tmp_path / "foreign"
        init_site(foreign)
        enrol_van("van-1", foreign, tmp_path / "stranger")
        (tmp_path / "stranger" / "ca.crt").write_bytes((site.room / "ca.crt").read_bytes())
        stranger = link(site, tmp_path / "stranger")
        with pytest.raises(BrokerUnavailable, match="certificate that it does not accept"):
            stranger.open()
        stranger.close()

    def test_an_expired_certificate_is_refused(self, site: Site, tmp_path: Path) -> None:
        enrol_van("van-9", site.folder, tmp_path / "late", life=timedelta(minutes=-1))
        late = link(site, tmp_path / "late")
        with pytest.raises(BrokerUnavailable, match="certificate that it does not accept"):
            late.open()
        late.close()

    def test_a_revoked_van_is_refused_by_the_broker(self, site: Site) -> None:
        opened(site, site.van("van-1")).close()
        revoke_van("van-1", site.folder)
        site.reload_broker()
        revoked = link(site, site.van("van-1"))
        with pytest.raises(BrokerUnavailable, match="certificate that it does not accept"):
            revoked.open()
        revoked.close()
        opened(site, site.van("van-2")).close()

    def test_a_broker_of_another_site_is_not_trusted_and_that_is_a_matter_for_a_person(
        self, site: Site, tmp_path: Path
    ) -> None:
        init_site(tmp_path / "foreign")
        folder = site.van("van-1")
        (folder / "ca.crt").write_bytes((tmp_path / "foreign" / "ca" / "ca.crt").read_bytes())
        with pytest.raises(BrokerUnavailable, match="cannot be trusted"):
            link(site, folder).open()


class TestOnWhichTopics:
    def test_a_van_may_publish_on_its_own_topics_only_and_the_reason_code_says_so(
        self, site: Site, listening: Listening
    ) -> None:
        raw = opened(site, site.van("van-1"))
        assert raw.publish(topics.topic("van-1", topics.ALERT), b"x") == 0
        for other in ("lfr/1/van-2/alert", "lfr/1/van-2/state", "lfr/1/van-1/adjudication", "elsewhere"):
            assert raw.publish(other, b"x") == NOT_AUTHORISED, other
        raw.close()

    def test_a_van_that_listens_to_everything_hears_nothing_of_others(self, site: Site, listening: Listening) -> None:
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        spy = opened(site, site.van("van-2"), client="spy", on_message=heard.put)
        spy.subscribe("#")
        sender = opened(site, site.van("van-1"))
        assert sender.publish("lfr/1/van-1/alert", site.sealed(make_alert())) == 0
        # The broker hands out in order: once the spy hears what was sent later to it, it has heard all.
        room = opened(site, site.room, "control-room", client="room")
        assert room.publish("lfr/1/van-2/adjudication", b"for the spy") == 0
        assert heard.get(timeout=10).payload == b"for the spy"
        assert heard.empty()
        for each in (spy, sender, room):
            each.close()

    def test_a_control_room_cannot_speak_as_a_van(self, site: Site) -> None:
        room = opened(site, site.room, "control-room")
        assert room.publish("lfr/1/van-1/alert", b"x") == NOT_AUTHORISED
        room.close()

    def test_an_oversize_message_is_refused_and_the_receiver_goes_on(self, site: Site, listening: Listening) -> None:
        _, heard = listening
        raw = opened(site, site.van("van-1"))
        with pytest.raises(LinkLost):
            raw.publish("lfr/1/van-1/alert", b"x" * (2 * 1024 * 1024 + 5000))
        raw.close()
        raw = opened(site, site.van("van-1"))
        raw.publish("lfr/1/van-1/alert", site.sealed(make_alert()))
        assert heard.next(Arrived).alert.sequence == 1
        raw.close()


class TestWhatIsBelieved:
    @pytest.mark.parametrize(
        ("name", "error", "words"),
        [
            ("tampered", AlertRejected, "tampered"),
            ("other van's key", SignatureInvalid, "signed by van-2"),
            ("unknown key", SignatureInvalid, "nobody here knows"),
            ("expired", AlertRejected, "expired"),
            ("malformed", AlertRejected, "no alert of version 1"),
        ],
    )
    def test_what_is_not_right_is_refused_reported_and_does_not_stop_the_receiver(
        self, site: Site, listening: Listening, name: str, error: type[EdgeError], words: str
    ) -> None:
        receiver, heard = listening
        good = site.sealed(make_alert(2))
        event = json.loads(good)
        match name:
            case "tampered":
                text = event["data"]["ciphertext"]
                event["data"]["ciphertext"] = text[:50] + ("A" if text[50] != "A" else "B") + text[51:]
                bad = json.dumps(event).encode()
            case "other van's key":
                bad = site.sealed(make_alert(1), signer="van-2")
            case "unknown key":
                bad = seal(make_alert(1), SigningKey.generate(), site.recipients())
            case "expired":
                past = make_alert().raised_at - timedelta(hours=5)
                bad = site.sealed(make_alert(1, raised_at=past, seen_at=past, expires_at=past + timedelta(hours=4)))
            case "malformed":
                bad = b'{"specversion": "1.0"}'
        raw = opened(site, site.van("van-1"))
        raw.publish("lfr/1/van-1/alert", bad)
        raw.publish("lfr/1/van-1/alert", good)
        refused = heard.next(Refused)
        assert isinstance(refused.error, error)
        assert words in str(refused.error)
        assert heard.next(Arrived).alert.sequence == 2
        assert receiver.counts.refused == {error.__name__: 1}
        raw.close()

    def test_a_van_whose_alert_comes_on_anothers_topic_is_refused(self, site: Site, listening: Listening) -> None:
        _, heard = listening
        raw = opened(site, site.van("van-2"))
        raw.publish("lfr/1/van-2/alert", site.sealed(make_alert(1, "van-1")))
        assert "came on the topic of van-2" in str(heard.next(Refused).error)
        raw.close()

    def test_a_van_is_believed_and_revoked_without_a_restart(self, site: Site) -> None:
        heard = Heard()
        receiver = site.receiver(heard)
        message = Message("lfr/1/van-3/alert", site.sealed(make_alert(1, "van-3")))
        with pytest.raises(SignatureInvalid, match="nobody here knows"):
            receiver.judge(message)
        receiver.refresh_vans()
        assert isinstance(receiver.judge(message), Arrived)
        revoke_van("van-3", site.folder)
        receiver.refresh_vans()
        with pytest.raises(SignatureInvalid, match="revoked"):
            receiver.judge(message)

    def test_a_replayed_alert_is_taken_in_once(self, site: Site, listening: Listening) -> None:
        receiver, heard = listening
        raw = opened(site, site.van("van-1"))
        message = site.sealed(make_alert(1))
        for payload in (message, message, site.sealed(make_alert(2))):
            raw.publish("lfr/1/van-1/alert", payload)
        assert heard.next(Arrived).alert.sequence == 1
        assert heard.next(Arrived).alert.sequence == 2
        assert receiver.counts.duplicates == 1
        raw.close()


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
        receiver.start()
        assert heard.next(Arrived).alert.sequence == 1
        assert van.publisher.wait_empty(10)
        receiver.stop()

    def test_alerts_for_a_control_room_that_is_away_wait_at_the_broker(self, site: Site, van: Van) -> None:
        heard = Heard()
        receiver = site.receiver(heard)
        receiver.start()
        heard.online()
        receiver.stop()
        van.submit()
        assert van.publisher.wait_empty(10)
        site.reload_broker()
        receiver = site.receiver(heard)
        receiver.start()
        assert heard.next(Arrived).alert.sequence == 1
        receiver.stop()

    def test_the_outbox_survives_a_sigkill_and_another_process_delivers_it(
        self, site: Site, listening: Listening
    ) -> None:
        _, heard = listening
        folder = site.van("van-1")
        script = textwrap.dedent("""
            import os, signal, sys
            from pathlib import Path
            from edge.alert.desk import AlertDesk
            from edge.alert.outbox import Outbox
            from edge.trust.keys import Recipients, SigningKey
            from edge.trust.secret import read_secret
            from tests.broker import make_alert

            class Nobody:
                def wake(self): ...

            folder = Path(sys.argv[1])
            outbox = Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1")
            recipients = Recipients.load(folder / "control-room.jwks")
            desk = AlertDesk(outbox, SigningKey.load("van-signing.jwk", folder), recipients, Nobody())
            for _ in range(3):
                desk.submit(make_alert)
            os.kill(os.getpid(), signal.SIGKILL)
        """)
        died = subprocess.run([sys.executable, "-c", script, str(folder)], check=False, timeout=60)
        assert died.returncode == -signal.SIGKILL
        with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
            assert outbox.counters().waiting == 3
            publisher = Publisher(outbox, site.broker(folder, "van"), "van-1", backoff_s=QUICK)
            publisher.start()
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
        tls = client_context("ca.crt", "van.crt", "van.key", folder)
        with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
            publisher = Publisher(
                outbox,
                Broker("localhost", port, tls),
                "van-1",
                backoff_s=QUICK,
                on_message=lambda _, payload: told.put(payload),
            )
            desk = AlertDesk(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
            publisher.start()
            desk.submit(make_alert)
            assert heard.next(Arrived, 30).alert.sequence == 1
            site.stop_broker()
            for _ in range(10):
                desk.submit(make_alert)
            assert publisher.wait_empty(15), "the van's own broker has taken them over"
            bridge.kill()
            bridge.wait()
            bridge = start_mosquitto(conf, port, log)
            site.start_broker()
            assert [heard.next(Arrived, 40).alert.sequence for _ in range(10)] == list(range(2, 12))
            room = opened(site, site.room, "control-room", client="room")
            while room.publish("lfr/1/van-1/adjudication", b"heard") == 0x10:
                pass
            assert told.get(timeout=15) == b"heard"
            room.close()
            publisher.stop()
        bridge.terminate()
        bridge.wait()


class TestStates:
    def test_the_control_room_sees_a_van_come_go_and_fall_silent(self, site: Site, listening: Listening) -> None:
        _, heard = listening
        folder = site.van("van-1")
        with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
            publisher = Publisher(outbox, site.broker(folder, "van"), "van-1", backoff_s=QUICK)
            publisher.start()
            assert heard.next(VanState).body.state == "online"
            publisher.stop()
            assert heard.next(VanState).body.state == "offline"
            publisher.start()
            assert heard.next(VanState).body.state == "online"
            # A second client of the same name takes over: to the broker, the first has fallen silent.
            thief = opened(site, folder, client="van-1")
            assert heard.next(VanState).body.state == "lost"
            thief.close()
            publisher.stop()


class TestWatch:
    def watch(self, site: Site, *options: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge.controlroom.cli", "watch", "--config", site.room / "control.toml", *options],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_watch_prints_lines_writes_both_pictures_and_ends_at_the_count(
        self, site: Site, van: Van, tmp_path: Path
    ) -> None:
        sent = van.submit()
        ended = self.watch(site, "--json", "--count", "1", "--timeout", "30", "--pictures", tmp_path / "pictures")
        assert ended.returncode == 0, ended.stderr
        alert = next(line for line in map(json.loads, ended.stdout.splitlines()) if line["event"] == "alert")
        assert alert["alert_id"] == str(sent.alert_id)
        assert alert["reference"] == "S-0042"
        assert not any(name.endswith("_jpeg") for name in alert)
        assert Path(alert["probe_path"]).read_bytes() == sent.probe_jpeg
        assert Path(alert["reference_path"]).read_bytes() == sent.reference_jpeg
        assert Path(alert["probe_path"]).stat().st_mode & 0o077 == 0

    def test_watch_reports_a_tampered_alert_and_goes_on(self, site: Site) -> None:
        raw = opened(site, site.van("van-1"))
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.controlroom.cli", "watch", "--config", site.room / "control.toml", "--json",
             "--count", "1", "--timeout", "30"],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        while raw.publish("lfr/1/van-1/alert", site.sealed(make_alert(1))[:-2]) == 0x10:
            pass
        raw.publish("lfr/1/van-1/alert", site.sealed(make_alert(2)))
        output, _ = process.communicate(timeout=60)
        events = [json.loads(line) for line in output.splitlines()]
        assert process.returncode == 0
        assert [event["event"] for event in events if event["event"] != "state"] == ["refused", "alert"]
        assert events[0]["kind"] == "AlertRejected"
        raw.close()

    def test_watch_ends_with_5_when_too_few_came_in_time(self, site: Site) -> None:
        ended = self.watch(site, "--count", "1", "--timeout", "1")
        assert ended.returncode == 5
        assert "0 of 1 arrived" in ended.stderr
        assert "Traceback" not in ended.stderr
