"""The control room's page as a browser sees it: a real broker, a real store, real pictures, a real server."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from urllib.parse import urlencode
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

from edge.alert.outbox import Outbox
from edge.alert.receipt import message_digest
from edge.alert.submit import AlertSubmitter
from edge.controlroom.cases import State
from edge.controlroom.config import load
from edge.controlroom.listen import tls
from edge.controlroom.service import ControlRoom
from edge.controlroom.web import Page, create_app
from edge.officers import Officer, Role
from edge.records import Alert, AlertRef
from edge.trust.audit import read_log
from edge.trust.events import Event
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from edge.web.listen import server as web_server
from tests.broker import Site, free_port, make_alert
from tests.node import node_modules

PORTRAITS = Path(__file__).resolve().parents[2] / "provisioning" / "demo" / "portraits"
SCREENSHOTS = os.environ.get("LFR_SCREENSHOTS")
"""Folder for screenshots; docs/images when they are to be renewed."""
PASSWORD = "correct horse battery"
TODAY = datetime.now(UTC).date()
LOOK_S = 1.0
ESCALATE_S = 2.5
CATEGORIES = ("wanted on warrant", "missing person", "court order")
PLACES = ("Market Square, north side", "Station Road", "Riverside car park")


@cache
def cut(name: str, left: int, top: int, right: int, bottom: int, margin: float) -> bytes:
    """A portrait as the van or the office cuts it: a face's box, as the detector finds it, with a margin."""
    image = cv2.imread(str(PORTRAITS / f"{name}.jpg"))
    wide, high = round(margin * (right - left)), round(margin * (bottom - top))
    part = image[max(0, top - high) : bottom + high, max(0, left - wide) : right + wide]
    scale = min(1.0, 320 / max(part.shape[:2]))
    done, data = cv2.imencode(".jpg", cv2.resize(part, None, fx=scale, fy=scale))
    assert done
    return bytes(data.tobytes())


def probe() -> bytes:
    return cut("obama3", 250, 142, 473, 450, 0.35)


def reference() -> bytes:
    return cut("obama2", 139, 60, 353, 368, 0.45)


PROBE_EYES = 106.0 * 320 / 524
"""Pixels between the eyes in :func:`probe`, which is shrunk from 524 pixels of height."""


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
                probe_jpeg=probe(),
                reference_jpeg=reference(),
                eye_distance=PROBE_EYES,
                place=PLACES[0],
                **changes,
            )
        )
        return str(alert.ref)

    def hold(self, *alerts: Alert, ago_s: float = 0.0) -> list[str]:
        """Put alerts into the store as the receiver does; returns how the page names them, in this order."""
        now = datetime.now(UTC) - timedelta(seconds=ago_s)
        for number, alert in enumerate(alerts):
            self.room.store.accept(alert, message_digest(str(alert.ref).encode()), now + timedelta(milliseconds=number))
        self.room.on_change()
        return [str(alert.ref) for alert in alerts]

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
    server = web_server(create_app(page), tls(room.config))
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


def many(count: int) -> list[Alert]:
    """Alerts of several vans, categories and places, each with its own reference."""
    return [
        make_alert(
            1 + number // 3,
            f"van-{1 + number % 3}",
            reference=f"S-{number:04d}",
            category=CATEGORIES[number % 3],
            place=PLACES[number % 2],
            probe_jpeg=probe(),
            reference_jpeg=reference(),
            eye_distance=PROBE_EYES,
        )
        for number in range(count)
    ]


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


def findings(browser: webdriver.Chrome) -> list[str]:
    """What axe finds, of any weight, by WCAG 2.2 AA and by its own best practices."""
    browser.execute_script((node_modules() / "axe-core" / "axe.min.js").read_text())
    result = browser.execute_async_script(
        "const done = arguments[0];"
        "axe.run(document, {runOnly: ['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']}).then(done)"
    )
    return [f"{found['id']}: {found['nodes'][0]['html']}" for found in result["violations"]]


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
        return self._ask("POST", path, urlencode(form), {"origin": origin or self.console.url})

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.console.url.removeprefix("http://"), timeout=20)
        connection.request(method, path, body, {"cookie": self.cookie, **headers})
        answer = connection.getresponse()
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        self.cookies = answer.headers.get_all("set-cookie") or []
        content = answer.read().decode("utf-8", "replace") if "event-stream" not in str(answer.headers) else ""
        connection.close()
        return answer.status, content
