"""A site with its broker, and the control room as the process that people run: what several adversaries attack."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edge.alert.receipt import message_digest
from edge.controlroom.config import load
from edge.controlroom.recovery import open_room_store
from edge.controlroom.store import AlertStore
from edge.officers import Officer, Role
from edge.trust.audit import read_log
from edge.trust.events import Event
from tests.broker import JPEG, Site, free_port, make_alert, make_site
from tests.console_process import PASSWORD

ROOT = Path(__file__).resolve().parents[2]
SOON = datetime.now(UTC).date() + timedelta(days=200)


@dataclass
class Browser:
    """One browser: its cookies, and what it was last answered."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Ask for a page; the answer's status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        shown = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
                 "origin": f"http://127.0.0.1:{self.port}", **(headers or {})}  # fmt: skip
        connection.request(method, path, urlencode(form) if form else None, shown)
        answer = connection.getresponse()
        for given in answer.headers.get_all("set-cookie") or []:
            name, _, value = given.split(";")[0].partition("=")
            self.cookies[name] = value
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        body = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, body

    def sign_in(self, number: str = "op-1", password: str = PASSWORD) -> int:
        """The status of the answer: 303 when one is in."""
        return self.ask("POST", "/signin", {"number": number, "password": password})[0]

    def signed_out(self) -> bool:
        return self.ask("GET", "/queue")[0] == 303


@dataclass
class Room:
    """A control room that runs.

    Attributes:
        site: its site.
        port: of its page.
        process: ``lfr-control console``.
    """

    site: Site
    port: int
    process: subprocess.Popen[bytes]

    def browser(self) -> Browser:
        return Browser(self.port)

    def store(self) -> AlertStore:
        """The store itself, as the command line opens it."""
        return open_room_store(load(self.site.room / "control.toml"))

    def audited(self, event: Event) -> list[dict[str, Any]]:
        return [dict(e.data) for e in read_log(self.site.room / "control-state" / "audit.log") if e.event == event]

    def until_audited(self, event: Event, **fields: Any) -> dict[str, Any]:
        """The first entry of this kind with these fields."""
        deadline = time.monotonic() + 30
        while True:
            for entry in self.audited(event):
                if fields.items() <= entry.items():
                    return entry
            assert time.monotonic() < deadline, f"{event} {fields} is not in the log: {self.audited(event)}"
            time.sleep(0.05)

    def until_shown(self, browser: Browser, words: str) -> None:
        """The list of alerts has these words."""
        deadline = time.monotonic() + 30
        while words not in (shown := browser.ask("GET", "/queue")[1]):
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)

    def control(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """``lfr-control`` beside the running control room."""
        return subprocess.run(
            [sys.executable, "-m", "edge.controlroom.cli", *arguments, "--config", self.site.room / "control.toml"],
            input=stdin, check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip


def hold_alerts(site: Site, *numbers: int, store: AlertStore | None = None) -> list[str]:
    """Put alerts of van-1 straight into the control room's store; returns the keys of their cases."""
    opened = store or open_room_store(load(site.room / "control.toml"))
    now = datetime.now(UTC)
    alerts = [make_alert(n, probe_jpeg=JPEG + b"p", reference_jpeg=JPEG + b"r") for n in numbers]
    for alert in alerts:
        opened.accept(alert, message_digest(b""), now)
    if store is None:
        opened.close()
    return [str(alert.ref) for alert in alerts]


@contextmanager
def running_site(folder: Path, console: str = "") -> Iterator[Site]:
    """A site with its broker, two officers (op-1, eo-1), and ``console`` in its control.toml."""
    site = make_site(folder / "site")
    site.start_broker()
    text = (site.room / "control.toml").read_text()
    (site.room / "control.toml").write_text(f"{text}[console]\nport = {free_port()}\nlook_s = 1\n{console}")
    with open_room_store(load(site.room / "control.toml")) as store:
        for number, role in (("op-1", Role.OPERATOR), ("op-2", Role.OPERATOR), ("eo-1", Role.ENGAGEMENT)):
            store.officers.enrol(Officer(number, role, SOON), PASSWORD)
    try:
        yield site
    finally:
        site.stop_broker()


@contextmanager
def running_room(site: Site, what: str = "") -> Iterator[Room]:
    """``lfr-control console`` of a site, once it answers; with ``what``, see :mod:`tests.console_process`."""
    config = site.room / "control.toml"
    log = (site.room.parent / "console.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", *(["tests.console_process", what] if what else ["edge.controlroom.cli", "console"]),
         "--config", str(config)],
        cwd=ROOT, stdout=log, stderr=log,
    )  # fmt: skip
    room = Room(site, load(config).console.port, process)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, (site.room.parent / "console.log").read_text()
            assert time.monotonic() < deadline, "the page does not answer"
            try:
                if room.browser().ask("GET", "/signin")[0] == 200:
                    break
            except OSError:
                time.sleep(0.05)
        yield room
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
            log.close()
