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
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from edge.alert import topics
from edge.alert.link import Broker, Link, LinkLost
from edge.alert.message import seal
from edge.controlroom.receive import Arrived, Receiver, ReceiverEvent, Refused
from edge.errors import AlertRejected, BrokerUnavailable, EdgeError, SignatureInvalid
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from provisioning.broker import write_broker
from provisioning.site import add_watcher, enrol_van, init_site, revoke_van
from tests.broker import JPEG, PROBE, Heard, Site, Van, link, make_alert, opened
from tests.sealedpages import decrypted_pages

pytestmark = pytest.mark.broker

NOT_AUTHORISED = 0x87
Listening = tuple[Receiver, Heard]


@dataclass
class Message:
    """A message as the broker hands it over."""

    topic: str
    payload: bytes


class TestWhoIsLetIn:
    def test_a_client_without_a_certificate_is_refused(self, site: Site) -> None:
        context = ssl.create_default_context(cafile=str(site.room / "ca.crt"))
        bare = Link(Broker("localhost", site.port, context), "nobody", queue.SimpleQueue())
        with pytest.raises(BrokerUnavailable, match="do not accept a certificate"):
            bare.open()
        bare.close()

    def test_a_certificate_of_another_site_is_refused(self, site: Site, tmp_path: Path) -> None:
        foreign = tmp_path / "foreign"
        init_site(foreign)
        enrol_van("van-1", foreign, tmp_path / "stranger")
        (tmp_path / "stranger" / "ca.crt").write_bytes((site.room / "ca.crt").read_bytes())
        stranger = link(site, tmp_path / "stranger")
        with pytest.raises(BrokerUnavailable, match="do not accept a certificate"):
            stranger.open()
        stranger.close()

    def test_an_expired_certificate_is_refused(self, site: Site, tmp_path: Path) -> None:
        enrol_van("van-9", site.folder, tmp_path / "late", life=timedelta(minutes=-1))
        late = link(site, tmp_path / "late")
        with pytest.raises(BrokerUnavailable, match="do not accept a certificate"):
            late.open()
        late.close()

    def test_a_revoked_van_is_refused_by_the_broker(self, site: Site) -> None:
        opened(site, site.van("van-1")).close()
        revoke_van("van-1", site.folder)
        site.reload_broker()
        revoked = link(site, site.van("van-1"))
        with pytest.raises(BrokerUnavailable, match="do not accept a certificate"):
            revoked.open()
        revoked.close()
        opened(site, site.van("van-2")).close()

    # paho leaves a socket open whose handshake fails, for nobody to close.
    @pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
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
        room = opened(site, site.room, PROBE)
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
            ("tampered", AlertRejected, "was altered"),
            ("other van's key", SignatureInvalid, "signed by van-2"),
            ("unknown key", SignatureInvalid, "not known here"),
            ("expired", AlertRejected, "expired"),
            ("malformed", AlertRejected, "not an alert of version 1"),
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
        assert receiver.intake.counts.refused == {error.__name__: 1}
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

        def judged() -> ReceiverEvent:
            (event,) = receiver.intake.judge([message]).events
            return event

        unknown = judged()
        assert isinstance(unknown, Refused)
        assert isinstance(unknown.error, SignatureInvalid)
        assert "not known here" in str(unknown.error)
        assert receiver.intake.refresh_vans() is None
        assert isinstance(judged(), Arrived)
        revoke_van("van-3", site.folder)
        assert receiver.intake.refresh_vans() is None
        revoked = judged()
        assert isinstance(revoked, Refused)
        assert "revoked" in str(revoked.error)

    def test_a_replayed_alert_is_taken_in_once(self, site: Site, listening: Listening) -> None:
        receiver, heard = listening
        raw = opened(site, site.van("van-1"))
        message = site.sealed(make_alert(1))
        for payload in (message, message, site.sealed(make_alert(2))):
            raw.publish("lfr/1/van-1/alert", payload)
        assert heard.next(Arrived).alert.sequence == 1
        assert heard.next(Arrived).alert.sequence == 2
        assert receiver.intake.counts.duplicates == 1
        raw.close()


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

    def test_watch_keeps_nothing_of_what_it_has_shown_and_erases_old_pictures(
        self, site: Site, van: Van, tmp_path: Path
    ) -> None:
        mine = tmp_path / f"van-1-000001-{uuid4()}-probe.jpg"
        foreign = tmp_path / "holiday.jpg"
        for path in (mine, foreign):
            path.write_bytes(JPEG)
            os.utime(path, (time.time() - 25 * 3600,) * 2)
        sent = van.submit()
        ended = self.watch(site, "--json", "--count", "1", "--timeout", "30", "--pictures", tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert sorted(path.name for path in tmp_path.glob("*.jpg")) == [
            foreign.name, *(f"van-1-{sent.sequence:06d}-{sent.alert_id}-{kind}.jpg" for kind in ("probe", "reference")),
        ]  # fmt: skip
        path = site.room / "control-state" / "control-room-watch.watch.db"
        assert b"S-0042" not in decrypted_pages(path, read_secret("control-store.key", site.room))

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

    @pytest.mark.parametrize(("name", "confirmed"), [("control-room-watch", 0), ("control-room", 1)])
    def test_an_alert_leaves_the_van_only_when_the_control_room_itself_has_it(
        self, site: Site, van: Van, name: str, confirmed: int
    ) -> None:
        van.submit()
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.controlroom.cli", "watch", "--config", site.room / "control.toml",
             "--json", "--timeout", "60", "--name", name],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdout is not None
        while '"event":"alert"' not in process.stdout.readline():
            assert process.poll() is None
        if confirmed:
            assert van.publisher.wait_empty(15)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert van.outbox.counters().delivered == confirmed
        assert "Denied PUBLISH" not in site.log.read_text(), "it says what it may not say"

    def test_each_watcher_has_its_own_certificate_and_only_listens(self, site: Site) -> None:
        add_watcher("control-room-night", site.folder)
        user = pwd.getpwuid(os.geteuid()).pw_name
        write_broker(site.folder, port=site.port, address="127.0.0.1", user=user)
        site.reload_broker()
        with_one, with_another = (
            subprocess.Popen(
                [sys.executable, "-m", "edge.controlroom.cli", "watch", "--config", site.room / "control.toml",
                 "--json", "--count", "1", "--timeout", "30", "--name", name],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in ("control-room-watch", "control-room-night")
        )  # fmt: skip
        van = opened(site, site.van("van-1"))
        number = 0
        while with_one.poll() is None or with_another.poll() is None:  # each ends with the first that it hears
            number += 1
            van.publish("lfr/1/van-1/alert", site.sealed(make_alert(number)))
        for each in (with_one, with_another):
            output, _ = each.communicate(timeout=60)
            assert each.returncode == 0
            assert '"event":"alert"' in output
        watcher = opened(site, site.room, "control-room-watch")
        for kind in (topics.RECEIPT, topics.ADJUDICATION, topics.REVOCATION, topics.ALERT):
            assert watcher.publish(f"lfr/1/van-1/{kind}", b"x") == NOT_AUTHORISED
        for link_ in (watcher, van):
            link_.close()
