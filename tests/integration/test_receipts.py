"""An alert leaves the van when the control room says that it has it, and on nobody else's word."""

from __future__ import annotations

import queue
import shutil
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from edge.alert.link import Link
from edge.alert.outbox import Outbox
from edge.alert.publish import LinkState, Publisher
from edge.alert.receipt import MOST_TOGETHER, RECEIPT, Held, message_digest, sign_receipts
from edge.alert.submit import AlertSubmitter
from edge.controlroom.intake import Intake, Message, Opened
from edge.controlroom.receive import Arrived, Receiver
from edge.errors import AlertRejected, EdgeError, SignatureInvalid
from edge.records import AlertRef
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.secret import read_secret
from tests.broker import PROBE, Heard, Site, Van, make_alert, opened

pytestmark = pytest.mark.broker


def with_a_session(site: Site) -> Heard:
    """A control room that was here once, so that the broker keeps alerts for it, and has gone."""
    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
    heard.online()
    receiver.stop()
    return heard


def test_what_the_broker_has_acknowledged_stays_on_the_van_until_the_control_room_confirms_it(
    site: Site, van: Van, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Publisher, "CONFIRM_S", 0.2)
    heard = with_a_session(site)
    van.submit()
    van.until(LinkState.UNCONFIRMED)
    assert van.outbox.counters().waiting == 1
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
    assert heard.next(Arrived).alert.sequence == 1
    assert van.publisher.wait_empty(10)
    van.until(LinkState.ONLINE)
    receiver.stop()


def test_what_a_broker_acknowledged_and_then_lost_arrives_all_the_same_and_in_order(
    site: Site, van: Van, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Publisher, "CONFIRM_S", 0.2)
    heard = with_a_session(site)
    for _ in range(3):
        van.submit()
    van.until(LinkState.UNCONFIRMED)
    site.stop_broker(signal.SIGKILL)
    shutil.rmtree(site.folder / "broker" / "state")  # all that it had promised to keep
    (site.folder / "broker" / "state").mkdir(mode=0o700)
    site.start_broker()
    van.submit()
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
    assert [heard.next(Arrived).alert.sequence for _ in range(4)] == [1, 2, 3, 4]
    assert van.publisher.wait_empty(10)
    receiver.stop()


def test_a_receipt_that_is_lost_is_asked_for_by_a_repeat_and_the_alert_is_shown_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[tuple[AlertRef, str]] = []
    say = Receiver._confirm

    def loses_the_first(receiver: Receiver, link: Link, alerts: Sequence[tuple[AlertRef, str]]) -> None:
        if alerts and not lost:
            lost.extend(alerts)
            return
        say(receiver, link, alerts)

    monkeypatch.setattr(Receiver, "_confirm", loses_the_first)
    folder = site.van("van-1")
    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
    heard.online()
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = site.publisher(outbox, repeat_s=(0.2, 1.0))
        desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        publisher.start(site.supervisor)
        desk.submit(make_alert)
        heard_first = heard.next(Arrived).alert
        assert heard_first.sequence == 1
        assert publisher.wait_empty(10)
        publisher.stop()
    receiver.stop()
    assert lost[0][0] == heard_first.ref
    assert receiver.intake.counts.accepted == 1
    assert receiver.intake.counts.duplicates >= 1


def test_an_alert_that_got_lost_is_sent_again_although_later_ones_are_confirmed_all_the_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a broker in between loses one: the van's own link stays as it is."""
    dropped: list[int] = []
    read = Intake._open

    def loses_number_two(intake: Intake, message: Message) -> object:
        opened = read(intake, message)
        if isinstance(opened, Opened) and opened.alert.sequence == 2 and not dropped:
            dropped.append(opened.alert.sequence)
            raise AlertRejected("alert", "is lost for this test", "Nothing")
        return opened

    monkeypatch.setattr(Intake, "_open", loses_number_two)
    folder = site.van("van-1")
    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
    heard.online()
    numbers: list[int] = []
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = site.publisher(outbox, repeat_s=(0.5, 1.0))
        desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        publisher.start(site.supervisor)
        while 2 not in numbers:
            desk.submit(make_alert)
            numbers.append(heard.next(Arrived).alert.sequence)
            assert len(numbers) < 500, "number 2 was never sent again"
            if len(numbers) == 1:
                desk.submit(make_alert)  # this one gets lost, and no later one waits for long
        assert publisher.wait_empty(10)
        publisher.stop()
    receiver.stop()
    assert dropped == [2]
    assert len(numbers) > 3


def test_no_more_than_a_window_of_alerts_waits_at_the_broker_and_the_rest_on_the_van(site: Site, van: Van) -> None:
    heard = with_a_session(site)
    seen: queue.SimpleQueue[object] = queue.SimpleQueue()
    spy = opened(site, site.room, "control-room-watch", on_message=seen.put)
    spy.subscribe("lfr/1/van-1/alert", "lfr/1/van-1/health")
    for _ in range(Publisher.WINDOW + 5):
        van.submit()
    for _ in range(Publisher.WINDOW):
        seen.get(timeout=20)
    # What the van's own connection says next comes after whatever else it had sent: there was nothing.
    link = van.publisher._link
    assert link is not None
    link.tell("lfr/1/van-1/health", b"now")
    assert seen.get(timeout=10).payload == b"now"  # type: ignore[attr-defined]
    assert van.outbox.counters().waiting == Publisher.WINDOW + 5
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
    numbers = [heard.next(Arrived).alert.sequence for _ in range(Publisher.WINDOW + 5)]
    assert numbers == list(range(1, Publisher.WINDOW + 6))
    assert van.publisher.wait_empty(20)
    receiver.stop()
    spy.close()


def test_a_forged_receipt_is_reported_and_frees_no_alert(site: Site) -> None:
    with_a_session(site)
    folder = site.van("van-1")
    reported: queue.SimpleQueue[tuple[str, EdgeError]] = queue.SimpleQueue()
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = site.publisher(outbox, on_refused=lambda kind, error: reported.put((kind, error)))
        desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        publisher.start(site.supervisor)
        alert = desk.submit(make_alert)
        room = opened(site, site.room, PROBE)
        now = datetime.now(UTC)
        ours = Held(alert_id=alert.alert_id, digest=message_digest(outbox.message(alert.alert_id) or b""))
        anothers = Held(alert_id=alert.alert_id, digest=message_digest(b"the alert of another van"))
        honest = SigningKey.load("control-signing.jwk", site.room)
        forged = [
            (sign_receipts("van-1", [ours], now, SigningKey.generate())[0], SignatureInvalid),
            (sign_receipts("van-2", [ours], now, honest)[0], AlertRejected),
            (sign_receipts("van-1", [anothers], now, honest)[0], AlertRejected),
            (honest.sign(b'{"v":2,"van":"van-1","alerts":[]}', RECEIPT.jws_type), AlertRejected),
            (honest.sign(b"{}", "lfr-adjudication+json"), SignatureInvalid),
            (b"x" * (RECEIPT.limit + 1), AlertRejected),
        ]
        for message, error in forged:
            while room.publish("lfr/1/van-1/receipt", message) == 0x10:
                pass
            kind, refusal = reported.get(timeout=10)
            assert (kind, type(refusal)) == ("receipt", error)
        assert outbox.counters().waiting == 1
        room.publish("lfr/1/van-1/receipt", sign_receipts("van-1", [ours], now, honest)[0])
        assert publisher.wait_empty(10)
        room.close()
        publisher.stop()


def test_a_van_may_be_told_to_believe_the_broker_for_a_control_room_that_gives_no_receipts(site: Site) -> None:
    with_a_session(site)
    folder = site.van("van-1")
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = site.publisher(outbox, receipts_by=None)
        desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        publisher.start(site.supervisor)
        desk.submit(make_alert)
        assert publisher.wait_empty(10)
        publisher.stop()


def test_many_alerts_are_confirmed_in_receipts_of_no_more_than_fifty() -> None:
    key = SigningKey.generate()
    rooms = KnownSigners.of([key.public_jwk(owner="control-room")])
    alerts = [Held(alert_id=uuid4(), digest=message_digest(bytes([n]))) for n in range(2 * MOST_TOGETHER + 1)]
    receipts = [RECEIPT.read(each, rooms, "van-1") for each in sign_receipts("van-1", alerts, datetime.now(UTC), key)]
    assert [len(each.alerts) for each in receipts] == [MOST_TOGETHER, MOST_TOGETHER, 1]
    assert [alert for each in receipts for alert in each.alerts] == alerts
    assert sign_receipts("van-1", [], datetime.now(UTC), key) == []
