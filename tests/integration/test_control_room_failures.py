"""What the control room does when a part of it fails: nothing is lost, nothing is silent, the process ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from edge.alert.link import LinkLost, SessionTakenOver, SessionWatch, raise_if_ended
from edge.alert.outbox import Outbox
from edge.alert.receipt import message_digest
from edge.alert.submit import AlertSubmitter
from edge.controlroom.config import load
from edge.controlroom.recovery import open_room_store
from edge.controlroom.service import NAME, ControlRoom
from edge.errors import StoreUnavailable
from edge.officers import Officer, Role
from edge.trust.audit import read_log
from edge.trust.events import Event
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from tests.broker import PROBE, QUICK, Heard, Site, Van, free_port, make_alert, opened
from tests.console_process import PASSWORD, console
from tests.sim.clock import HandClock
from tests.test_control_store import JPEG, damage, page_of

pytestmark = pytest.mark.broker


@pytest.fixture
def port(site: Site) -> int:
    """A control room that is set up: where its page will listen."""
    site.van("van-1")
    port = free_port()
    with (site.room / "control.toml").open("a") as file:
        file.write(f"[console]\nport = {port}\n")
    with open_room_store(load(site.room / "control.toml")) as store:
        soon = datetime.now(UTC).date() + timedelta(days=30)
        store.officers.enrol(Officer("op-1", Role.OPERATOR, soon), PASSWORD)
    return port


def audited(site: Site, event: Event) -> list[dict[str, object]]:
    return [dict(entry.data) for entry in read_log(site.room / "control-state" / "audit.log") if entry.event == event]


@contextmanager
def van_of(site: Site) -> Iterator[Van]:
    """A van whose alerts are repeated quickly until they are confirmed."""
    import queue

    folder, states = site.van("van-1"), queue.SimpleQueue()  # type: ignore[var-annotated]
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = site.publisher(outbox, repeat_s=(0.5, 1.0))
        desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        publisher.start(site.supervisor)
        yield Van(desk, outbox, publisher, states)
        publisher.stop()


# Asked in one step: between two, the page may have been redrawn.
STATE = "return document.querySelector('#state')?.innerText ?? ''"
RED = "return [...document.querySelectorAll('.failure')].find((each) => each.checkVisibility())?.innerText ?? ''"


class TestEachWorker:
    @pytest.mark.parametrize(
        ("part", "named", "cause"),
        [
            ("receiver", "receiver", "unexpected fault (RuntimeError"),
            ("network callback", "receiver", "unexpected fault (RuntimeError"),
            ("escalation", "escalation", "unexpected fault (RuntimeError"),
            ("retention", "retention", "unexpected fault (RuntimeError"),
            ("escalation hangs", "escalation", "hangs: it has made no progress"),
            ("a library's thread", "a library's thread", "unexpected fault (KeyError"),
            ("page", "page", "unexpected fault (RuntimeError"),
        ],
    )
    def test_a_worker_that_fails_turns_the_page_red_is_written_down_and_ends_the_process(
        self, site: Site, port: int, part: str, named: str, cause: str, record_property: pytest.RecordProperty
    ) -> None:
        from selenium.webdriver.common.by import By

        from tests.browser import chromium

        def red(browser: object) -> str:
            return str(browser.execute_script(RED))  # type: ignore[attr-defined]

        with console(site.room, port, part) as room, van_of(site) as van, chromium() as browser:
            room.until("Connected to the broker")
            browser.get(room.url)
            browser.find_element(By.ID, "number").send_keys("op-1")
            browser.find_element(By.ID, "password").send_keys(PASSWORD + "\n")
            while "Connected to the broker" not in browser.execute_script(STATE):
                time.sleep(0.05)
            assert red(browser) == ""
            room.begin()
            begun = time.monotonic()
            if part in {"receiver", "network callback"}:
                van.submit()
            while not (words := red(browser)):
                assert time.monotonic() - begun < 5, "the page is not red"
                time.sleep(0.02)
            red_s = time.monotonic() - begun
            if part == "page":  # it cannot say anything any more; what the browser says must do
                assert "lost the control room" in words
            else:
                assert f"{named} " in words
                assert cause in words
            code, errors = room.end()
            ended_s = time.monotonic() - begun
            assert code == 5
            assert ended_s < 12 if "hangs" in part else ended_s < 8
            (entry,) = audited(site, Event.SERVICE_FAILED)
            assert entry["part"] == named
            assert cause in str(entry["cause"])
            assert f"the {named} part" in errors.splitlines()[-1]
            journal = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
            assert [line["failed"] for line in journal if line["event"] == "service failed"] == [named]
            while "lost the control room" not in red(browser):
                assert time.monotonic() - begun < 20, "the page does not say that nobody answers"
                time.sleep(0.05)
        print(f"| {part} | {red_s:.1f} s | {ended_s:.1f} s | {code} | {entry['cause']} |")
        record_property("row", f"{part}: red after {red_s:.1f} s, ended after {ended_s:.1f} s with {code}")

    def test_a_worker_that_hangs_with_the_audit_log_in_its_hand_does_not_keep_the_process_alive(
        self, site: Site, port: int
    ) -> None:
        with console(site.room, port, "escalation hangs with the log") as room:
            room.until("Connected to the broker")
            room.begin()
            room.until("The control room has stopped working", "escalation", "hangs")
            code, errors = room.end()
        assert code == 5
        assert "ended by force" in errors
        assert "the escalation part" in errors.splitlines()[-1]


class TestNothingIsLost:
    @pytest.mark.parametrize(
        "moment",
        ["killed before the receipt", "killed after the receipt", "killed before the acknowledgement"],
    )
    def test_an_alert_is_on_the_page_whenever_the_control_room_was_killed(
        self, site: Site, port: int, moment: str
    ) -> None:
        with van_of(site) as van:
            with console(site.room, port, moment) as room:
                room.until("Connected to the broker")
                room.begin()
                van.submit()
                assert room.end()[0] == -9
            with console(site.room, port) as room:
                room.until("1 unseen alert", "van-1 no. 1")
                assert van.publisher.wait_empty(15)
                van.submit()
                assert "missing" not in room.until("2 unseen alerts", "van-1 no. 2")

    def test_an_alert_whose_case_cannot_be_stored_gets_no_receipt_and_is_shown_when_it_can(
        self, site: Site, port: int
    ) -> None:
        """The disk is full for the case, and not for the alert before it."""
        room = ControlRoom.open(load(site.room / "control.toml"))
        assert room.receiver is not None
        room.receiver._backoff_s = QUICK
        add_case, refused = room.store.add_case, []

        def full(case: object) -> bool:
            if len(refused) < 3:
                refused.append(case)
                raise StoreUnavailable("store", "the disk is full", "Make room")
            return add_case(case)  # type: ignore[arg-type]

        room.store.add_case = full  # type: ignore[method-assign]
        room.start(site.supervisor)
        with van_of(site) as van:
            sent = van.submit()
            assert van.publisher.wait_empty(20)
            case = room.store.case(sent.ref)
            assert case is not None, "confirmed to the van, and nobody will ever see it"
            assert [line.case.alert_id for line in room.desk.listed()] == [sent.alert_id]
            assert len(refused) == 3
        room.stop()

    def test_retention_goes_on_while_the_broker_is_away(self, site: Site, port: int) -> None:
        old = make_alert(1)
        with open_room_store(load(site.room / "control.toml")) as store:
            store.accept(old, message_digest(b"old"), datetime.now(UTC) - timedelta(hours=25))
        site.stop_broker()
        with console(site.room, port, "quick retention") as room:
            room.until("No connection to the broker", "van-1 no. 1")
            deadline = time.monotonic() + 10
            while not (deleted := audited(site, Event.ALERTS_DELETED)):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert deleted == [{"store": "control room", "count": 1, "cause": "as their van said, 24 hours at most"}]
            assert room.ask("GET", f"/alerts/{old.ref}/probe.jpg")[0] == 400
        site.start_broker()


class TestDamage:
    def fill(self, site: Site) -> Path:
        """Twelve alerts in the control room's store; a page of the seventh's pictures is damaged."""
        with open_room_store(load(site.room / "control.toml")) as store:
            for number in range(1, 13):
                alert = make_alert(number, alert_id=UUID(int=number), reference_jpeg=JPEG + b"%04d" % number * 3000)
                store.accept(alert, message_digest(b"%d" % number), datetime.now(UTC))
        return site.room / "control-state" / "control-room.db"

    def damage(self, site: Site, path: Path) -> None:
        key = read_secret("control-store.key", site.room)
        damage(path, page_of(path, b"0007" * 100, key=key))

    def test_a_store_that_is_damaged_while_it_is_used_is_said_and_repaired_by_the_restart(
        self, site: Site, port: int
    ) -> None:
        path = self.fill(site)
        with console(site.room, port, "small cache") as room:
            room.until("Connected to the broker", "12 unseen alerts")
            self.damage(site, path)
            assert room.ask("GET", f"/alerts/van-1/{UUID(int=7)}")[0] == 503
            room.until("The control room has stopped working", "store", "is damaged on the disk", seconds=2)
            code, errors = room.end()
            assert code == 5
            assert "is damaged on the disk" in errors
            assert "Traceback" not in errors
        (failed,) = audited(site, Event.SERVICE_FAILED)
        assert "is damaged on the disk" in str(failed["cause"])
        with console(site.room, port) as room:
            text = room.until("12 unseen alerts", "was found damaged", "the pictures of alert no. 7 of van-1")
            status, seventh = room.ask("GET", f"/alerts/van-1/{UUID(int=7)}")
            assert status == 200
            assert "or lost when the store was damaged" in seventh
            assert "stopped working" not in text
            (found,) = audited(site, Event.STORE_DAMAGED)
            assert (found["store"], found["lost"]) == ("control-room.db", "the pictures of alert no. 7 of van-1")
            assert path.with_name(str(found["kept"])).exists()
            with van_of(site) as van:
                van.submit()
                assert van.publisher.wait_empty(15)
            room.until("12 unseen alerts")  # the seventh is opened now

    def test_a_damaged_store_of_the_receiver_does_not_leave_the_page_green(self, site: Site, port: int) -> None:
        """The page of the store that the next alert needs: found by the receiver, and not by who asks."""
        path = self.fill(site)
        with console(site.room, port, "small cache") as room, van_of(site) as van:
            room.until("Connected to the broker")
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(bytes(size - 4096))
            van.submit()
            text = room.until("stopped working", seconds=10)
            assert "Connected to the broker" not in text
            assert room.end()[0] == 5


class TestOneSession:
    def test_another_program_that_takes_the_connection_is_named_and_not_fought(self, site: Site, port: int) -> None:
        def connections() -> int:
            return site.log.read_text().count(f" as {NAME} ")

        with console(site.room, port) as room:
            room.until("Connected to the broker")
            thief = site.receiver(Heard(), NAME)
            thief.start(site.supervisor)
            room.until("another program uses this control room's connection")
            before, until = connections(), time.monotonic() + 6
            while time.monotonic() < until:  # in which each would have come back twelve times
                assert "another program uses this control room's connection" in room.queue()
                time.sleep(0.1)
            assert connections() - before <= 2
            thief.stop()


class TestTheNetworkThread:
    """Of a real connection."""

    def test_what_its_callback_raises_reaches_the_owner(self, site: Site) -> None:
        def fails(_: object) -> None:
            raise ZeroDivisionError

        made = opened(site, site.van("van-1"), client="van-1", on_message=fails)
        made.subscribe("lfr/1/van-1/adjudication")
        room = opened(site, site.room, PROBE)
        room.publish("lfr/1/van-1/adjudication", b"x")
        with pytest.raises(ZeroDivisionError):
            made.wait("closed")
        made.close()
        room.close()

    def test_a_fault_inside_paho_ends_the_connection(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        made = opened(site, site.van("van-1"), client="van-1")

        def fails(_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(made._client, "_handle_pubackcomp", fails)
        monkeypatch.setattr(made._client, "_packet_handle", fails)
        with pytest.raises(LinkLost, match="failed on this side") as lost:
            made.publish("lfr/1/van-1/state", b"x")
        assert lost.value.reason is None
        made.close()

    def test_a_broker_that_says_who_has_the_session_is_believed_at_once(self) -> None:
        with pytest.raises(SessionTakenOver) as taken:
            raise_if_ended(("closed", 0x8E))
        watch = SessionWatch(HandClock())
        watch.accepted()
        assert watch.lost(taken.value)

    def test_a_session_is_contended_when_it_is_lost_three_times_running_right_after_it_was_gained(self) -> None:
        clock = HandClock()
        watch = SessionWatch(clock)
        for held_s, reason, taken in (
            (1, 128, False), (1, 128, False), (10.1, 128, False), (1, 128, False), (1, 128, False), (1, None, False),
            (1, 128, False), (1, 128, False), (9.9, 128, True), (9.9, 128, True),
        ):  # fmt: skip
            watch.accepted()
            clock.advance(held_s)
            assert watch.lost(LinkLost("lost", reason)) is taken
        watch.accepted()
        assert watch.contended
        clock.advance(10.1)
        assert not watch.contended
