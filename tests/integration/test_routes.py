"""Every route of the control room's page, by role and by state of the case: who may, who may not, what is logged.

The table is compared with the routes of the application itself: a new route without a row fails, and so does a row
without its route.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.routing import Route

from edge.controlroom.cases import Result, State
from edge.controlroom.config import load
from edge.controlroom.listen import tls
from edge.controlroom.service import ControlRoom
from edge.controlroom.web import Page, create_app
from edge.officers import Officer, Role
from edge.records import Alert
from edge.trust.audit import read_log
from edge.web.listen import server as web_server
from tests.broker import Site, free_port, make_alert, make_site

PASSWORD = "correct horse battery"
SOON = datetime.now(UTC).date() + timedelta(days=90)
OPERATOR, ENGAGEMENT = Officer("op-1", Role.OPERATOR, SOON), Officer("eo-1", Role.ENGAGEMENT, SOON)
OFFICERS = {"operator": OPERATOR, "engagement officer": ENGAGEMENT}
GONE = ("nobody", "locked", "removed", "lapsed", "new password", "signed out by somebody else")
"""Whose session is not good, or who never had one: all of them are sent to the sign-in, from everywhere."""
HELD = ("new", "seen", "engage", "do not engage", "closed")
STATES = (*HELD, "open, retention over", "closed, retention over", "unknown")
WITHOUT = ("-",)
"""For routes that are about no case."""

Answer = int
Logged = tuple[str, ...]
"""What a request adds to the audit log, in order: events with what tells them apart."""


@dataclass(frozen=True)
class Row:
    """One route.

    Attributes:
        method: HTTP's.
        path: as the application has it.
        answers: per state of the case, or for ``-``, what each of the two roles is answered and what is logged.
        form: what is sent.
        public: whether it is answered without a session; then what it answers to everybody.
        looks: whether both pictures were looked at before.
    """

    method: str
    path: str
    answers: dict[str, dict[str, tuple[Answer, Logged]]]
    form: dict[str, str] | None = None
    public: Answer | None = None
    looks: bool = False


def same(status: Answer, *logged: str) -> dict[str, tuple[Answer, Logged]]:
    """Both roles alike."""
    return dict.fromkeys(OFFICERS, (status, logged))


def each(**by_role: tuple[Answer, Logged]) -> dict[str, tuple[Answer, Logged]]:
    return {name.replace("_", " "): value for name, value in by_role.items()}


ENGAGE, OUTCOME = {"engage": "yes", "reason": "the same person"}, {"correct": "yes", "result": "no action"}
CLOSED_BY = each(engagement_officer=(200, ("alert.adjudicated closed: correct, no action",)), operator=(409, ()))


def picture(what: str) -> dict[str, dict[str, tuple[Answer, Logged]]]:
    return {**dict.fromkeys(HELD, same(200, f"alert.viewed {what}")), **dict.fromkeys(STATES[5:], same(400))}


TABLE = (
    Row("GET", "/signin", {}, public=200),
    Row("POST", "/signin", {}, form={"number": "op-1", "password": "wrong horse battery"}, public=403),
    Row("GET", "/static/{name}", {}, public=200),
    Row("POST", "/signout", {"-": same(303, "officer.signed-out signed out")}, form={"x": "y"}, public=303),
    Row("GET", "/", {"-": same(200)}),
    Row("GET", "/queue", {"-": same(200)}),
    Row("GET", "/events", {"-": same(200)}),
    Row("GET", "/history", {"-": same(200, "history.viewed ")}),
    Row("POST", "/history", {"-": same(200, "history.viewed words")}, form={"words": "S-0042"}),
    Row("GET", "/sessions", {"-": same(200, "sessions.viewed ")}),
    Row("POST", "/sessions", {"-": same(400, "sessions.viewed ")}, form={"session": "999"}),
    Row(
        "GET",
        "/alerts/{van}/{alert_id}",
        {
            **dict.fromkeys(HELD, same(200, "entry.consulted ")),
            "open, retention over": same(200, "alert.viewed case"),
            "closed, retention over": same(400),
            "unknown": same(400),
        },
    ),
    Row("GET", "/alerts/{van}/{alert_id}/probe.jpg", picture("probe")),
    Row("GET", "/alerts/{van}/{alert_id}/thumb.jpg", picture("thumbnail")),
    Row("GET", "/alerts/{van}/{alert_id}/other.jpg", dict.fromkeys(STATES, same(400))),
    Row(
        "GET",
        "/alerts/{van}/{alert_id}/reference.jpg",
        {**dict.fromkeys(HELD, same(403)), **dict.fromkeys(STATES[5:], same(400))},
    ),
    Row("GET", "/alerts/{van}/{alert_id}/reference.jpg", picture("reference"), looks=True),
    Row(
        "POST",
        "/alerts/{van}/{alert_id}/decision",
        {**dict.fromkeys(HELD, same(409)), "open, retention over": same(409), **dict.fromkeys(STATES[6:], same(404))},
        form=ENGAGE,
    ),
    Row(
        "POST",
        "/alerts/{van}/{alert_id}/decision",
        {
            "new": same(409),
            **dict.fromkeys(("seen", "engage", "do not engage"), same(200, "alert.adjudicated engage")),
            "closed": same(409),
            "open, retention over": same(409),
            **dict.fromkeys(STATES[6:], same(404)),
        },
        form=ENGAGE,
        looks=True,
    ),
    Row(
        "POST",
        "/alerts/{van}/{alert_id}/outcome",
        {
            **dict.fromkeys(("new", "seen", "closed"), same(409)),
            **dict.fromkeys(("engage", "do not engage", "open, retention over"), CLOSED_BY),
            **dict.fromkeys(STATES[6:], same(404)),
        },
        form=OUTCOME,
    ),
)


class Desk:
    """A control room with its real store, log and page, and browsers that ask it; no broker is needed for that."""

    def __init__(self, room: ControlRoom, page: Page, url: str, log: Path) -> None:
        self.room = room
        self.page = page
        self.url = url
        self._log = log
        self._numbers = 0
        self._read = 0

    def case(self, state: str) -> Alert:
        """A fresh alert whose case is in this state."""
        self._numbers += 1
        over = "retention over" in state
        alert = make_alert(self._numbers, erase_at=datetime.now(UTC) + timedelta(hours=-1 if over else 1))
        if state == "unknown":
            return alert
        self.room.store.accept(alert, "digest", datetime.now(UTC))
        now, words = datetime.now(UTC), state.split(",", maxsplit=1)[0]
        final = {"open": State.ENGAGE, "closed": State.CLOSED}.get(words) or State(words)
        if final is not State.NEW:
            decision = None if final is State.SEEN else (State.ENGAGE if final is State.CLOSED else final)
            change = {"state": final, "seen_at": now, "seen_by": "op-9"}
            if decision is not None:
                change |= {"decision": decision, "decided_at": now, "decided_by": "op-9", "reason": "said before"}
                change["engaged"] = decision is State.ENGAGE
            if final is State.CLOSED:
                change |= {"closed_at": now, "closed_by": "eo-9", "correct": True, "result": Result.ARREST}
            self.room.store.change(alert.ref, lambda case: replace(case, **change), lambda _: None)  # type: ignore[arg-type]
        return alert

    def browser(self, officer: Officer | None) -> Browser:
        """One in which this officer has signed in a moment ago; how one signs in is for other tests."""
        made = Browser(self.url)
        if officer is not None:
            known = self.room.store.officers.known(officer.number)
            assert known is not None
            seat = self.room.store.seats.take(officer.number, "127.0.0.1", datetime.now(UTC))
            sessions = self.page.door.sessions
            for token, session in sessions.all():
                if session.number == officer.number:
                    sessions.end(token, "made room")
            made.cookies[sessions.cookie] = sessions.begin(officer.number, known.stamp, seat)
        return made

    def logged(self) -> Logged:
        """What was added to the audit log since this was asked last."""
        entries = list(read_log(self._log))
        new, self._read = entries[self._read :], len(entries)
        tells = ("what", "verdict", "cause", "error")
        said = []
        for entry in new:
            data = dict(entry.data)
            said.append(
                f"{entry.event} {next((str(data[t]) for t in tells if t in data), ','.join(data.get('asked', [])))}"
            )  # type: ignore[arg-type]
        return tuple(said)


class Browser:
    def __init__(self, url: str) -> None:
        self._at = url
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, *, origin: str = "") -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._at.removeprefix("http://"), timeout=20)
        headers = {"cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items()), "origin": origin or self._at}
        connection.request(method, path, urlencode(form) if form else None, headers)
        answer = connection.getresponse()
        for given in answer.headers.get_all("set-cookie") or []:
            name, _, value = given.split(";")[0].partition("=")
            self.cookies[name] = value
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        text = "" if "event-stream" in str(answer.headers) else answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = make_site(tmp_path_factory.mktemp("routes") / "site")
    text = (made.room / "control.toml").read_text()
    (made.room / "control.toml").write_text(f"{text}[console]\nlook_s = 1\n")
    return made


@pytest.fixture(scope="module")
def desk(site: Site) -> Iterator[Desk]:
    room = ControlRoom.open(load(site.room / "control.toml"))
    for officer in (OPERATOR, ENGAGEMENT):
        room.store.officers.enrol(officer, PASSWORD)
    room._workers.append(room.sign_ins.start(site.supervisor))
    room.receiver = None  # nothing is sent or received here: who may do what is asked of the page
    port, page = free_port(), Page(room, secure=False)
    server = web_server(create_app(page), tls(room.config))
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [socket.create_server(("127.0.0.1", port))]}, daemon=True
    )
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Desk(room, page, f"http://127.0.0.1:{port}", site.room / "control-state" / "audit.log")
    page.end()
    server.should_exit = True
    thread.join(10)
    room.stop()


def path_of(row: Row, alert: Alert | None) -> str:
    path = row.path.replace("{name}", "room.js")
    return path if alert is None else path.replace("{van}/{alert_id}", str(alert.ref))


def key(row: Row) -> tuple[str, str]:
    """The route of a row: the pictures are one."""
    return row.method, "/alerts/{van}/{alert_id}/{which:str}.jpg" if row.path.endswith(".jpg") else row.path


def test_every_route_of_the_application_has_its_row_and_every_row_its_route(desk: Desk) -> None:
    app = create_app(Page(desk.room, secure=False))
    routes = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert len(routes) == len([r for r in app.routes if isinstance(r, Route)]) == len(app.routes), "another kind"
    assert {key(row) for row in TABLE} == routes


def test_every_row_says_what_happens_in_every_state_and_to_every_role() -> None:
    for row in TABLE:
        wanted = set(STATES) if "{alert_id}" in row.path else set(WITHOUT)
        if row.public is None:
            assert set(row.answers) == wanted, row
        for state, roles in row.answers.items():
            assert set(roles) == set(OFFICERS), (row, state)


CASES = [
    pytest.param(row, state, role, id=f"{row.method} {row.path}{' after a look' if row.looks else ''}: {state}, {role}")
    for row in TABLE
    for state, roles in row.answers.items()
    for role in roles
]


@pytest.mark.parametrize(("row", "state", "role"), CASES)
def test_who_may_and_what_is_logged(desk: Desk, row: Row, state: str, role: str) -> None:
    officer = OFFICERS[role]
    alert = None if state == "-" else desk.case(state)
    browser = desk.browser(officer)
    if row.looks and alert is not None:
        browser.ask("GET", f"/alerts/{alert.ref}/probe.jpg")
        if row.form is not None:
            browser.ask("GET", f"/alerts/{alert.ref}/reference.jpg")
            looks = desk.room.desk._looks.get((officer.number, alert.ref), {})
            for which in looks:
                looks[which] -= 2 * 10**9  # two seconds ago, of one that is asked for
    desk.logged()
    status, page = browser.ask(row.method, path_of(row, alert), row.form)
    expected, logged = row.answers[state][role]
    assert (status, desk.logged()) == (expected, logged), page
    assert browser.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in browser.headers["content-security-policy"]


def without(desk: Desk, who: str) -> Browser:
    """A browser whose session is not good."""
    if who == "nobody":
        return desk.browser(None)
    officer = Officer(f"op-{who.replace(' ', '-')}", Role.OPERATOR, SOON)
    officers = desk.room.store.officers
    officers.enrol(officer, PASSWORD)
    officers.unlock(officer.number)
    browser = desk.browser(officer)
    end: Callable[[], object] = {
        "locked": lambda: officers.lock(officer.number),
        "removed": lambda: officers.remove(officer.number),
        "lapsed": lambda: officers.renew_training(officer.number, datetime.now(UTC).date() - timedelta(days=1)),
        "new password": lambda: officers.enrol(officer, PASSWORD + "!"),
        "signed out by somebody else": lambda: officers.sign_out(desk.room.store.seats, officer.number),
    }[who]
    end()
    return browser


@pytest.mark.parametrize("who", GONE)
def test_without_a_good_session_every_route_but_the_sign_in_leads_there_and_shows_nothing(desk: Desk, who: str) -> None:
    alert = desk.case("engage")
    before = desk.room.store.case(alert.ref)
    for row in TABLE:
        if row.public is not None:
            continue
        browser = without(desk, who)
        status, page = browser.ask(row.method, path_of(row, alert), row.form)
        assert (status, browser.headers["location"], page) == (303, "/signin", ""), row
    assert desk.room.store.case(alert.ref) == before


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.public is not None], ids=lambda row: f"{row.method} {row.path}"
)
def test_what_is_public_is_answered_to_everybody_alike_and_names_nobody(desk: Desk, row: Row) -> None:
    desk.logged()
    status, page = desk.browser(None).ask(row.method, path_of(row, None), row.form)
    assert status == row.public
    for words in ("S-0042", "van-1", "eo-1"):
        assert words not in page
    refused = ("officer.refused SignInRefused",) if row.public == 403 else ()
    assert desk.logged() == refused


@pytest.mark.parametrize("row", [row for row in TABLE if row.method == "POST"], ids=lambda row: f"POST {row.path}")
def test_no_form_of_another_site_is_taken_and_nothing_is_changed(desk: Desk, row: Row) -> None:
    alert = desk.case("engage")
    browser, before = desk.browser(ENGAGEMENT), desk.room.store.case(alert.ref)
    desk.logged()
    status, _ = browser.ask("POST", path_of(row, alert), row.form, origin="https://elsewhere.example")
    assert (status, desk.logged()) == (400, ())
    assert desk.room.store.case(alert.ref) == before
    assert browser.ask("GET", "/queue")[0] == 200, "still signed in"


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_other_method_shows_or_changes_anything(desk: Desk, method: str) -> None:
    alert = desk.case("seen")
    browser = desk.browser(OPERATOR)
    before = desk.room.store.case(alert.ref)
    for row in TABLE:
        status, page = browser.ask(method, path_of(row, alert), row.form)
        if method != "HEAD":
            assert status == 405, row
        assert "S-0042" not in page
    assert desk.room.store.case(alert.ref) == before
