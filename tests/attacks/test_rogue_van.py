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
a moment of the year 1, or 9999              refused; the alerts of others are stored, and the page shows them
an alert that makes the store fall over      it alone is refused; those beside it are stored and confirmed
nonsense without end                         a minute's first ones are in the log, the others are counted
checkpoints without end                      kept up to a bound; none that is kept is dropped for a later one
what a terminal would obey, in an alert      a watch prints it on its own lines as plain text
numbers left out again and again             a bounded count of them is kept, and others wait for none of it
===========================================  ==================================================================
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.alert.message import ALERT_TYPE, CONTENT_TYPE, JWS_TYPE, AlertBody, source_of
from edge.alert.outbox import Outbox
from edge.alert.receipt import message_digest
from edge.alert.submit import AlertSubmitter
from edge.controlroom.checkpoints import MOST_KEPT, keep_checkpoint
from edge.controlroom.config import load
from edge.controlroom.intake import Intake
from edge.controlroom.receive import Arrived, Receiver, Refused
from edge.controlroom.service import NAME
from edge.controlroom.store import AlertStore
from edge.errors import AlertRejected, BadInput
from edge.trust.audit import CHECKPOINT
from edge.trust.events import Event
from edge.trust.keys import DecryptionKeys, KnownSigners, SigningKey
from edge.trust.secret import read_secret
from provisioning.site import enrol_van
from tests.attacks.rooms import running_room
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


EAST, WEST = timezone(timedelta(hours=14)), timezone(-timedelta(hours=14))
FIRST, LAST = datetime(1, 1, 1, tzinfo=EAST), datetime(9999, 12, 31, 23, 59, tzinfo=WEST)
"""Moments that Python reads, and that in another time zone it cannot tell."""


def forged(site: Site, van: str, **changes: Any) -> bytes:
    """An alert with moments that no honest program signs, genuine in everything else."""
    alert, folder = make_alert(1, van), site.van(van)
    body = {name: getattr(alert, name) for name in AlertBody.__struct_fields__ if hasattr(alert, name)}
    body |= {"v": 1, "probe_jpeg": "", "reference_jpeg": "", **changes}
    token = SigningKey.load("van-signing.jwk", folder).sign(msgspec.json.encode(body), JWS_TYPE)
    sealed = site.recipients().encrypt(token, "JOSE")
    return msgspec.json.encode(
        {"specversion": "1.0", "id": alert.alert_id, "source": source_of(van), "type": ALERT_TYPE,
         "time": body["raised_at"], "datacontenttype": CONTENT_TYPE, "data": sealed}
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"raised_at": FIRST, "seen_at": FIRST},
        {"seen_at": datetime(1, 1, 1, tzinfo=UTC)},
        {"seen_at": LAST},
        {"expires_at": LAST},
        {"expires_at": LAST, "erase_at": LAST},
        {"raised_at": LAST, "erase_at": None},
    ],
)
def test_an_alert_with_a_moment_that_cannot_be_is_refused_and_stands_in_nobodys_way(
    site: Site, listening: tuple[Receiver, Heard], changes: dict[str, Any]
) -> None:
    _, heard = listening
    thief, honest = opened(site, site.van("van-2")), opened(site, site.van("van-1"))
    thief.publish("lfr/1/van-2/alert", forged(site, "van-2", **changes))
    honest.publish("lfr/1/van-1/alert", site.sealed(make_alert()))
    assert heard.next(Arrived).alert.van == "van-1"
    assert [type(event.error) for event in heard.all if isinstance(event, Refused)] == [AlertRejected]
    for each in (thief, honest):
        each.close()


def test_the_page_shows_others_alerts_after_a_moment_of_the_year_one(site: Site) -> None:
    for van in ("van-1", "van-2"):
        site.van(van)
    with running_room(site) as room:
        thief, honest = opened(site, site.van("van-2")), opened(site, site.van("van-1"))
        browser = room.browser()
        assert browser.sign_in() == 303
        thief.publish("lfr/1/van-2/alert", forged(site, "van-2", raised_at=FIRST, seen_at=FIRST))
        room.until_audited(Event.REFUSED, thing="lfr/1/van-2/alert")
        honest.publish("lfr/1/van-1/alert", site.sealed(make_alert(7)))
        room.until_shown(browser, "van-1 no. 7")
        assert room.process.poll() is None
        for each in (thief, honest):
            each.close()


class _Brittle(AlertStore):
    """The real store, with a fault of ours that one alert provokes."""

    def accept(self, alert: Any, *rest: Any) -> Any:
        taken = super().accept(alert, *rest)
        if alert.reference == "S-poison":
            raise OverflowError
        return taken


def test_an_alert_that_makes_the_store_fall_over_stands_in_nobodys_way(site: Site, tmp_path: Path) -> None:
    settings = load(site.room / "control.toml")
    keys = DecryptionKeys.load(settings.keys.decryption, site.room)
    for van in ("van-1", "van-2"):
        site.van(van)

    @dataclass
    class Message:
        topic: str
        payload: bytes

    said = [("van-2", make_alert(1, "van-2", reference="S-poison")), ("van-1", make_alert(1)), ("van-1", make_alert(2))]
    messages = [Message(f"lfr/1/{van}/alert", site.sealed(alert)) for van, alert in said]
    with _Brittle(tmp_path / "brittle.db", bytes(32)) as store:
        found = Intake(store, keys, KnownSigners.load(settings.path(settings.keys.vans))).judge(messages)
        assert [type(event).__name__ for event in found.events] == ["Refused", "Arrived", "Arrived"]
        assert [each.digest for each in found.stored] == [message_digest(each.payload) for each in messages[1:]]
        assert [stored.alert for stored in store.alerts()] == [alert for _, alert in said[1:]]


def test_numbers_that_are_left_out_again_and_again_cost_neither_room_nor_time(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with AlertStore(tmp_path / "store.db", bytes(32)) as store:
        for number in range(1, 400_000_000, 10_000_000):
            store.accept(make_alert(number, "van-2"), message_digest(b""), now)
        assert len(store.missing("van-2")) == 10_000
        assert max(store.missing("van-2")) == 380_000_001 + 1000
        store.accept(make_alert(1), message_digest(b""), now)
        store.accept(make_alert(3), message_digest(b""), now)
        assert store.missing("van-1") == [2]


def test_nonsense_without_end_fills_no_log_and_keeps_nobodys_alert_back(site: Site) -> None:
    for van in ("van-1", "van-2"):
        site.van(van)
    with running_room(site) as room:
        thief, honest = opened(site, site.van("van-2")), opened(site, site.van("van-1"))
        for _ in range(2000):
            thief.tell("lfr/1/van-2/health", b"junk")
        thief.publish("lfr/1/van-2/alert", b"junk")
        honest.publish("lfr/1/van-1/alert", site.sealed(make_alert(7)))
        browser = room.browser()
        assert browser.sign_in() == 303
        room.until_shown(browser, "van-1 no. 7")
        room.until_shown(browser, "2001 messages refused")
        assert len(room.audited(Event.REFUSED)) == 60
        for each in (thief, honest):
            each.close()


def test_checkpoints_without_end_fill_no_disk_and_push_out_none_that_is_kept(tmp_path: Path) -> None:
    key = SigningKey.generate()
    vans = KnownSigners.of([key.public_jwk(owner="van-2")])
    first = key.sign(b"first", CHECKPOINT)
    keep_checkpoint(tmp_path, "van-2", first, vans)
    path = tmp_path / "van-2.jws"
    with path.open("r+b") as file:  # as if there were many of them
        file.truncate(MOST_KEPT)
    with pytest.raises(AlertRejected, match="64 MiB of them already"):
        keep_checkpoint(tmp_path, "van-2", key.sign(b"another", CHECKPOINT), vans)
    assert path.stat().st_size == MOST_KEPT
    assert path.read_bytes().startswith(first)


def test_what_a_terminal_would_obey_is_printed_as_plain_text(site: Site) -> None:
    site.van("van-2")
    command = [sys.executable, "-m", "edge.controlroom.cli", "watch", "--config", site.room / "control.toml"]
    with subprocess.Popen(
        [*command, "--count", "1", "--timeout", "30"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stderr is not None
        assert watch.stdout is not None
        assert watch.stderr.readline() == "listening\n"
        thief = opened(site, site.van("van-2"))
        said = {
            "reference": "S-1\x1b[2J",
            "category": "x\r\nALERT  S-2  forged",
            "place": "\x9b2J",
            "lookalikes": ("\x1b]0;x\x07",),
        }
        thief.publish("lfr/1/van-2/alert", site.sealed(make_alert(1, "van-2", **said)))
        lines = watch.stdout.read().splitlines()
        assert watch.wait(30) == 0
        thief.close()
    assert all(line.isprintable() for line in lines), lines
    assert [line for line in lines if line.startswith("ALERT")] == ["ALERT  S-1 [2J  x  ALERT  S-2  forged"]
