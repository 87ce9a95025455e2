"""The control room's page in a real browser, with a real broker behind it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
import pytest

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from edge.alert.adjudication import ADJUDICATION
from edge.alert.outbox import Outbox
from edge.alert.submit import AlertSubmitter
from edge.controlroom.cases import Officer, Role, State
from edge.controlroom.config import load
from edge.controlroom.listen import server as web_server
from edge.controlroom.service import ControlRoom
from edge.controlroom.web import Page, create_app
from edge.errors import ConfigInvalid
from edge.records import AlertRef
from edge.trust.audit import read_log
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.secret import read_secret
from tests.broker import Site, free_port, make_alert
from tests.browser import DESKTOP, TABLET, chromium
from tests.node import node_modules

pytestmark = pytest.mark.broker

PORTRAITS = Path(__file__).resolve().parents[2] / "provisioning" / "demo" / "portraits"
SCREENSHOTS = os.environ.get("LFR_SCREENSHOTS")
"""Folder for screenshots; docs/images when they are to be renewed."""
PASSWORD = "correct horse battery"
TODAY = datetime.now(UTC).date()
LOOK_S = 1.0
ESCALATE_S = 2.5


@dataclass
class Console:
    url: str
    site: Site
    room: ControlRoom
    desk: AlertSubmitter
    decisions: list[tuple[str, bytes]]

    def raise_alert(self, **changes: object) -> str:
        """A van raises an alert; returns how the page names it."""
        alert = self.desk.submit(
            lambda number: make_alert(
                number,
                probe_jpeg=(PORTRAITS / "obama3.jpg").read_bytes(),
                reference_jpeg=(PORTRAITS / "obama2.jpg").read_bytes(),
                place="Market Square, north side",
                **changes,
            )
        )
        return str(alert.ref)

    def case_is(self, alert: str, state: State) -> bool:
        van, alert_id = alert.split("/")
        case = self.room.store.case(AlertRef(van, UUID(alert_id)))
        return case is not None and case.state is state

    def audited(self, event: Event) -> list[dict[str, object]]:
        log = self.site.room / "control-state" / "audit.log"
        return [dict(entry.data) for entry in read_log(log) if entry.event == event]


@pytest.fixture
def console(site: Site, tmp_path: Path) -> Iterator[Console]:
    folder = site.van("van-1")
    text = (site.room / "control.toml").read_text()
    (site.room / "control.toml").write_text(f"{text}[console]\nlook_s = {LOOK_S}\nescalate_s = {ESCALATE_S}\n")
    room = ControlRoom.open(load(site.room / "control.toml"))
    soon = TODAY + timedelta(days=200)
    for number, role, until in (
        ("op-1", Role.OPERATOR, soon),
        ("eo-1", Role.ENGAGEMENT, soon),
        ("op-old", Role.OPERATOR, TODAY - timedelta(days=1)),
    ):
        room.store.officers.enrol(Officer(number, role, until), PASSWORD)
    room.start(site.supervisor)
    port, page = free_port(), Page(room, secure=False)
    server = web_server(create_app(page), room.config)
    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    decisions: list[tuple[str, bytes]] = []
    with Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1") as outbox:
        publisher = site.publisher(outbox, on_message=lambda kind, payload: decisions.append((kind, payload)))
        desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), site.recipients(), publisher)
        publisher.start(site.supervisor)
        while not server.started:
            time.sleep(0.01)
        yield Console(f"http://127.0.0.1:{port}", site, room, desk, decisions)
        publisher.stop()
    page.end()
    server.should_exit = True
    thread.join(10)
    room.stop()


def wait(browser: webdriver.Chrome, seconds: float = 15) -> WebDriverWait[webdriver.Chrome]:
    """Asks again while the page is being replaced under the question: htmx swaps elements at any moment."""
    gone = (StaleElementReferenceException, NoSuchElementException)
    return WebDriverWait(browser, seconds, poll_frequency=0.05, ignored_exceptions=gone)


def sign_in(browser: webdriver.Chrome, console: Console, number: str, password: str = PASSWORD) -> None:
    browser.get(console.url)
    browser.find_element(By.ID, "number").send_keys(number)
    browser.find_element(By.ID, "password").send_keys(password + Keys.ENTER)


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def shot(browser: webdriver.Chrome, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        image = cv2.imdecode(np.frombuffer(browser.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
        cv2.imwrite(str(Path(SCREENSHOTS) / f"{name}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 82])


def serious_findings(browser: webdriver.Chrome) -> list[str]:
    browser.execute_script((node_modules() / "axe-core" / "axe.min.js").read_text())
    result = browser.execute_async_script(
        "const done = arguments[0];"
        "axe.run(document, {runOnly: ['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa']}).then(done)"
    )
    return [
        f"{found['id']}: {found['nodes'][0]['html']}"
        for found in result["violations"]
        if found["impact"] in {"serious", "critical"}
    ]


def test_an_alert_goes_from_its_arrival_to_its_outcome_by_keyboard_alone(console: Console) -> None:
    with chromium(DESKTOP) as browser:
        sign_in(browser, console, "op-1")
        wait(browser).until(lambda b: "No alerts" in b.find_element(By.ID, "queue").text)
        alert = console.raise_alert()
        new_card = (By.CSS_SELECTOR, ".card.new")
        assert wait(browser).until(lambda b: b.find_element(*new_card).get_attribute("data-alert")) == alert
        assert "(1)" in browser.title

        press(browser, "j", Keys.ENTER)
        wait(browser).until(lambda b: b.find_element(By.ID, "reference").get_property("naturalWidth") > 0)
        assert console.case_is(alert, State.SEEN)
        text = wait(browser).until(lambda b: b.find_element(By.ID, "detail").text)
        for words in ("S-0042", "wanted on warrant", "0.710", "threshold 0.339", "7 years ago", "S-0077; S-0100",
                      "Market Square", "9 frames"):  # fmt: skip
            assert words in text, words
        probe, reference = wait(browser).until(
            lambda b: [b.find_element(By.ID, name).rect for name in ("probe", "reference")]
        )
        assert reference["width"] <= probe["width"]
        assert reference["height"] <= probe["height"]
        assert probe["x"] < reference["x"]
        button = (By.CSS_SELECTOR, "#decision button")
        assert wait(browser).until(lambda b: [b.find_element(*button).is_enabled()]) == [False]
        shot(browser, "control-room-desktop")

        press(browser, "e")
        press(browser, "same person as far as can be seen")
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, "#decision button").is_enabled())
        assert serious_findings(browser) == []
        press(browser, Keys.ENTER)
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".state-word").text == "engage")
        assert console.case_is(alert, State.ENGAGE)
        assert not browser.find_elements(By.ID, "outcome"), "an operator closes no case"

    with chromium(TABLET) as browser:
        sign_in(browser, console, "eo-1")
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".card.engage"))
        press(browser, "j", Keys.ENTER)
        wait(browser).until(lambda b: b.find_element(By.ID, "outcome"))
        wait(browser).until(lambda b: b.find_element(By.ID, "reference").get_property("naturalWidth") > 0)
        shot(browser, "control-room-tablet")
        assert serious_findings(browser) == []
        press(browser, "o", " ", Keys.TAB, Keys.ARROW_RIGHT)
        browser.find_element(By.CSS_SELECTOR, 'input[name="correct"][value="yes"]').send_keys(" ")
        browser.find_element(By.CSS_SELECTOR, 'input[name="result"][value="arrest"]').send_keys(" ")
        browser.find_element(By.CSS_SELECTOR, "#outcome button").send_keys(Keys.ENTER)
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".closed"))
        assert console.case_is(alert, State.CLOSED)

    rooms = KnownSigners.load(console.site.van("van-1") / "control-signing.jwks")
    deadline = time.monotonic() + 15
    while len(console.decisions) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    told = [ADJUDICATION.read(payload, rooms, "van-1") for kind, payload in console.decisions if kind == "adjudication"]
    assert [(body.state, body.by) for body in told] == [("seen", "op-1"), ("engage", "op-1"), ("closed", "eo-1")]
    assert (told[-1].correct, told[-1].result) == (True, "arrest")
    assert [entry["by"] for entry in console.audited(Event.ENTRY_CONSULTED)] == ["op-1", "eo-1"]
    assert [entry["verdict"] for entry in console.audited(Event.ALERT_ADJUDICATED)] == [
        "engage",
        "closed: correct, arrest",
    ]


def test_an_alert_that_nobody_opens_escalates_on_every_page(console: Console) -> None:
    with chromium() as browser:
        sign_in(browser, console, "op-1")
        alert = console.raise_alert()
        wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".card.new"))
        card = wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".card.escalated"))
        assert "escalated" in card.text
        shot(browser, "control-room-escalated")
        assert console.audited(Event.ALERT_ADJUDICATED) == [{"alert": alert, "by": "system", "verdict": "escalated"}]


def test_nobody_signs_in_with_lapsed_training_or_a_wrong_password(console: Console) -> None:
    with chromium() as browser:
        for number, password, words in (
            ("op-old", PASSWORD, "was trained until"),
            ("op-1", "wrong horse battery", "number or password is wrong"),
            ("nobody", PASSWORD, "number or password is wrong"),
        ):
            sign_in(browser, console, number, password)
            error = wait(browser).until(lambda b: b.find_element(By.CSS_SELECTOR, ".error"))
            assert words in error.text
        assert serious_findings(browser) == []
        browser.get(console.url)
        assert browser.current_url.endswith("/signin")
    assert [(entry["by"], entry["error"]) for entry in console.audited(Event.SIGN_IN_REFUSED)] == [
        ("op-old", "TrainingLapsed"),
        ("op-1", "SignInRefused"),
        ("(not on the list)", "SignInRefused"),
    ]


def test_training_that_lapses_during_a_shift_ends_the_session(console: Console) -> None:
    with chromium() as browser:
        sign_in(browser, console, "op-1")
        wait(browser).until(lambda b: b.find_element(By.ID, "queue"))
        console.room.store.officers.renew_training("op-1", TODAY - timedelta(days=1))
        console.raise_alert()
        wait(browser).until(lambda b: b.current_url.endswith("/signin"))


class TestWithoutABrowser:
    """What the page refuses, asked directly."""

    @pytest.fixture
    def client(self, console: Console) -> Client:
        return Client(console)

    def test_a_decision_before_the_minimum_look_is_refused(self, console: Console, client: Client) -> None:
        alert = client.alert()
        assert client.get(f"/alerts/{alert}")[0] == 200
        form = {"engage": "no", "reason": "different person"}
        assert client.post(f"/alerts/{alert}/decision", form)[0] == 409, "nobody looked at all"
        assert client.get(f"/alerts/{alert}/probe.jpg")[0] == 200
        status, body = client.post(f"/alerts/{alert}/decision", form)
        assert status == 409
        assert "has been looked at" in body
        assert console.case_is(alert, State.SEEN)

    def test_the_lists_picture_is_not_handed_out_before_the_probe(self, client: Client) -> None:
        alert = client.alert()
        assert client.get(f"/alerts/{alert}/reference.jpg")[0] == 403
        assert client.get(f"/alerts/{alert}/probe.jpg")[0] == 200
        assert client.get(f"/alerts/{alert}/reference.jpg")[0] == 200

    def test_both_figures_are_shown_and_said_in_words(self, client: Client) -> None:
        page = client.get(f"/alerts/{client.alert()}")[1]
        assert 'aria-label="Score 0.412 on a scale from 0 to 1, threshold 0.339"' in page
        assert "Score <strong>0.412</strong>, threshold 0.339: 0.073 above the threshold" in page
        assert "similarity of the two faces 0.710" in page

    def test_an_alert_of_an_older_van_is_judged_by_its_similarity(self, client: Client) -> None:
        page = client.get(f"/alerts/{client.alert(score=None, threshold=0.7)}")[1]
        assert 'aria-label="Similarity 0.710 on a scale from 0 to 1, threshold 0.700"' in page
        assert "Similarity <strong>0.710</strong>, threshold 0.700: just above the threshold, by 0.010" in page
        assert "Score" not in page

    def test_without_a_session_nothing_is_shown(self, console: Console, client: Client) -> None:
        alert = client.alert()
        client.cookie = ""
        for path in ("/", "/queue", "/events", f"/alerts/{alert}", f"/alerts/{alert}/probe.jpg"):
            assert client.get(path)[0] == 303, path

    def test_a_form_from_another_site_is_refused(self, console: Console, client: Client) -> None:
        alert = client.alert()
        client.get(f"/alerts/{alert}")
        status, _ = client.post(
            f"/alerts/{alert}/decision", {"engage": "yes", "reason": "xxx"}, origin="https://elsewhere.example"
        )
        assert status == 400
        assert console.case_is(alert, State.SEEN)

    def test_every_answer_forbids_inline_code_framing_and_storing(self, client: Client) -> None:
        for path in ("/signin", "/", "/static/room.js"):
            client.get(path)
            headers = client.headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"

    def test_passwords_can_be_guessed_five_times_a_minute(self, console: Console, client: Client) -> None:
        for _ in range(5):
            assert client.post("/signin", {"number": "op-1", "password": "guess"})[0] == 403
        assert client.post("/signin", {"number": "op-1", "password": PASSWORD})[0] == 429


class Client:
    """Just enough of HTTP, signed in as an operator."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cookie = ""
        self.headers: dict[str, str] = {}
        self.cookies: list[str] = []
        self.post("/signin", {"number": "op-1", "password": PASSWORD})
        self.cookie = next(each.split(";")[0] for each in self.cookies if each.startswith("lfr_session"))
        assert "HttpOnly" in self.headers["set-cookie"]
        assert "SameSite=strict" in self.headers["set-cookie"]

    def alert(self, **changes: object) -> str:
        alert = self.console.raise_alert(**changes)
        deadline = time.monotonic() + 15
        while not self.console.case_is(alert, State.NEW):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return alert

    def get(self, path: str) -> tuple[int, str]:
        return self._ask("GET", path, None, {})

    def post(self, path: str, form: dict[str, str], origin: str | None = None) -> tuple[int, str]:
        from urllib.parse import urlencode

        return self._ask("POST", path, urlencode(form), {"origin": origin or self.console.url})

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, str]:
        import http.client

        connection = http.client.HTTPConnection(self.console.url.removeprefix("http://"), timeout=20)
        connection.request(method, path, body, {"cookie": self.cookie, **headers})
        answer = connection.getresponse()
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        self.cookies = answer.headers.get_all("set-cookie") or []
        content = answer.read().decode("utf-8", "replace") if "event-stream" not in str(answer.headers) else ""
        connection.close()
        return answer.status, content


def test_the_page_does_not_listen_beyond_this_machine_without_tls(site: Site) -> None:
    from edge.controlroom.serve import serve

    (site.room / "control.toml").write_text('[console]\nhost = "0.0.0.0"\n')
    with pytest.raises(ConfigInvalid, match="needs TLS"):
        serve(site.room / "control.toml")


def test_officers_are_kept_from_the_command_line(site: Site) -> None:
    def control(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge.controlroom.cli", *arguments, "--config", str(site.room / "control.toml")],
            input=stdin, check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    until = f"{datetime.now(UTC).date() + timedelta(days=30)}"
    added = control("staff", "add", "op-7", "--role", "operator", "--trained-until", until, "--password-stdin",
                    stdin=PASSWORD + "\n")  # fmt: skip
    assert added.returncode == 0, added.stderr
    assert f"op-7  operator  trained until {until}" in control("staff", "list").stdout
    short = control("staff", "add", "op-8", "--role", "operator", "--trained-until", until, "--password-stdin",
                    stdin="short\n")  # fmt: skip
    assert short.returncode == 4
    assert control("staff", "renew", "op-9", "--trained-until", until).returncode == 4
