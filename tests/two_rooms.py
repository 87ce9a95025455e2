"""Two control room processes on one PostgreSQL, killed at random moments: for a test and for ``scripts/chaos-rooms``.

Real parts throughout: a van's outbox and publisher, mosquitto with mutual TLS, PostgreSQL that waits for its disk, two
``lfr-control console`` processes, and clerks who sign in to their pages, look and decide over HTTP. Both rooms' clerks
take the same alerts in the same order, so that they get in each other's way as often as they can.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import random
import re
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from edge.alert import topics
from edge.alert.outbox import Outbox
from edge.alert.submit import AlertSubmitter
from edge.controlroom.cases import State
from edge.controlroom.config import load
from edge.controlroom.recovery import open_room_store
from edge.officers import Officer, Role
from edge.records import AlertRef
from edge.trust.keys import SigningKey
from edge.trust.secret import read_secret
from provisioning.broker import write_broker
from provisioning.rooms import add_room
from tests.broker import JPEG, Site, free_port, make_alert
from tests.console_process import PASSWORD, ConsoleProcess, console
from tests.postgres import Postgres

NAMES = ("north", "south")
TOGETHER = 6
"""Alerts that a clerk looks at before deciding on each."""


def set_up(site: Site, server: Postgres) -> dict[str, Path]:
    """A folder for each room of the site: the same keys, one data base, its own name and page."""
    site.van("van-1")  # before its key is copied with the rest
    url = server.database()
    folders = {}
    for name in NAMES:
        folder = folders[name] = add_room(name, site.folder, site.folder / f"room-{name}")
        text = (folder / "control.toml").read_text()
        text = re.sub(r"^\[store\]\n", f'[store]\nurl = "{url}"\nroom = "{name}"\n', text, count=1, flags=re.MULTILINE)
        if "[store]" not in text:
            text += f'[store]\nurl = "{url}"\nroom = "{name}"\n'
        text += f"[console]\nport = {free_port()}\nlook_s = 1.0\nescalate_s = 3600\n"
        (folder / "control.toml").write_text(text)
    user = pwd.getpwuid(os.geteuid()).pw_name
    write_broker(site.folder, port=site.port, address="127.0.0.1", user=user)
    site.reload_broker()
    with open_room_store(load(folders["north"] / "control.toml")) as store:
        soon = datetime.now(UTC).date() + timedelta(days=30)
        store.officers.enrol(Officer("op-1", Role.OPERATOR, soon), PASSWORD)
    return folders


@dataclass
class Room:
    """A control room that is started again whenever it was killed."""

    folder: Path
    page: ConsoleProcess | None = None
    up: threading.Event = field(default_factory=threading.Event)
    parts: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        port = load(self.folder / "control.toml").console.port
        self.page = self.parts.enter_context(console(self.folder, port))
        self.up.set()

    def kill(self) -> None:
        assert self.page is not None
        self.up.clear()
        self.page.process.kill()
        self.page.process.communicate(timeout=30)
        self.parts.close()

    def stop(self) -> None:
        self.up.clear()
        self.parts.close()


class TwoRooms:
    """See the module.

    Args:
        site: with a running broker.
        server: where both rooms store.
        alerts: how many the van raises.
        decisions: how many the clerks take.
        seconds: over which the alerts are raised.
        chance: decides who dies when.
    """

    def __init__(
        self, site: Site, server: Postgres, *, alerts: int, decisions: int, seconds: float, chance: random.Random
    ) -> None:
        self.site = site
        self.wanted = (alerts, decisions)
        self.seconds = seconds
        self.chance = chance
        self.rooms = {name: Room(folder) for name, folder in set_up(site, server).items()}
        self.raised: list[str] = []
        self.recorded: dict[str, list[str]] = defaultdict(list)
        """By alert, who was told that their decision is recorded: the decision."""
        self.answers: Counter[str] = Counter()
        self.told: dict[str, set[str]] = defaultdict(set)
        """By alert, the decisions that came to the van: when each was taken."""
        self.gaps: list[float] = []
        self.kills: Counter[str] = Counter()
        self.ended = threading.Event()
        self.counters: Callable[[], object] = lambda: None

    # -- who does what ---------------------------------------------------------------------------

    def raise_alerts(self, desk: AlertSubmitter) -> None:
        pause = self.seconds / self.wanted[0]
        picture = JPEG + bytes(3000)
        while len(self.raised) < self.wanted[0] and not self.ended.is_set():
            self.raised.append(str(desk.submit(lambda n: make_alert(n, probe_jpeg=picture)).ref))
            time.sleep(self.chance.expovariate(1 / pause))

    def clerk(self, name: str) -> None:
        """Opens the oldest that nobody is known to have decided, looks at both pictures, and decides."""
        room = self.rooms[name]
        done: set[str] = set()
        while not self.ended.is_set() and len(self.recorded) < self.wanted[1]:
            if not room.up.wait(0.2):
                continue
            next_ones = [ref for ref in self.raised if ref not in done][:TOGETHER]
            page = room.page
            try:
                assert page is not None
                shown = [ref for ref in next_ones if self.look(page, ref)]
                time.sleep(1.05)
                for ref in shown:
                    done.add(ref)
                    self.decide(page, ref)
            except (OSError, AssertionError):  # the room has died: whether the decision counts is seen afterwards
                self.answers["the room died"] += 1
            if not next_ones or not shown:
                time.sleep(0.1)

    def look(self, page: ConsoleProcess, ref: str) -> bool:
        return all(page.ask("GET", f"/alerts/{ref}{which}")[0] == 200 for which in ("", "/probe.jpg", "/reference.jpg"))

    def decide(self, page: ConsoleProcess, ref: str) -> None:
        engage = self.chance.choice(("yes", "no"))
        form = {"engage": engage, "reason": "as the test wants it", "was": "none"}
        status, body = page.ask("POST", f"/alerts/{ref}/decision", form)
        if status == 200:
            self.recorded[ref].append(str(State.ENGAGE if engage == "yes" else State.DO_NOT_ENGAGE))
        self.answers["recorded" if status == 200 else "decided meanwhile" if "meanwhile" in body else "refused"] += 1

    def hear(self, kind: str, payload: bytes) -> None:
        """The crew's side: what comes to the van."""
        if kind != topics.ADJUDICATION:
            return
        body = json.loads(_payload(payload))
        if body["state"] in {State.ENGAGE, State.DO_NOT_ENGAGE}:
            self.told[f"{body['van']}/{body['alert_id']}"].add(body["at"])

    def kill(self, desk: AlertSubmitter, away_s: float) -> None:
        """Kill one of the rooms; how long until what is raised from then on is on the other's page."""
        name, other = self.chance.sample(NAMES, 2)
        self.rooms[name].kill()
        self.kills[name] += 1
        begun = time.monotonic()
        ref = str(desk.submit(make_alert).ref)
        self.raised.append(ref)
        page = self.rooms[other].page
        assert page is not None
        while (answer := page.ask("GET", f"/alerts/{ref}"))[0] != 200:
            assert time.monotonic() - begun < 30, (
                f"{other} does not go on, and {name} is dead: {answer}; {page.queue()[:600]}; {self.counters()}"
            )
            time.sleep(0.05)
        self.gaps.append(time.monotonic() - begun)
        time.sleep(away_s)
        self.rooms[name].start()

    # -- all of it -------------------------------------------------------------------------------

    def run(self, *, kills: int, between: Callable[[], float]) -> dict[str, Any]:
        """Kill a room ``kills`` times, ``between()`` seconds after one another; then judge."""
        folder = self.site.van("van-1")
        with ExitStack() as parts:
            for room in self.rooms.values():
                parts.callback(room.stop)
                room.start()
            outbox = parts.enter_context(Outbox(folder / "outbox.db", read_secret("outbox.key", folder), "van-1"))
            publisher = self.site.publisher(outbox, repeat_s=(2.0, 5.0), on_message=self.hear)
            publisher.start(self.site.supervisor)
            parts.callback(publisher.stop)
            parts.callback(self.ended.set)
            self.counters = outbox.counters
            desk = AlertSubmitter(outbox, SigningKey.load("van-signing.jwk", folder), self.site.recipients(), publisher)
            threads = [threading.Thread(target=self.raise_alerts, args=(desk,))]
            threads += [threading.Thread(target=self.clerk, args=(name,)) for name in NAMES]
            for thread in threads:
                thread.start()
            for _ in range(kills):
                time.sleep(between())
                self.kill(desk, self.chance.uniform(0.0, 2.0))
            for thread in threads:
                thread.join(self.seconds * 4 + 300)
                assert not thread.is_alive()
            self.ended.set()
            assert publisher.wait_empty(120), "an alert was never confirmed"
            self.settle()
            return self.judge()

    def settle(self) -> None:
        """Until every decision that is stored has been sent."""
        with open_room_store(load(self.rooms["north"].folder / "control.toml")) as store:
            deadline = time.monotonic() + 60
            while store.to_vans.outgoing() and time.monotonic() < deadline:
                time.sleep(0.2)
        time.sleep(1)

    def judge(self) -> dict[str, Any]:
        with open_room_store(load(self.rooms["north"].folder / "control.toml")) as store:
            came = [str(ref) for ref, _ in store.came()]
            cases = {str(case.ref): case for case in store.cases()}
            pictures = sum(1 for ref in came if store.alert(_ref(ref)) is not None)
        decided = {ref for ref, case in cases.items() if case.decided_at}
        return {
            "alerts_raised": len(self.raised),
            "arrived": len(came),
            "lost": len(set(self.raised) - set(came)),
            "doubled": len(came) - len(set(came)),
            "without_pictures": len(came) - pictures,
            "decided": len(decided),
            "decided_twice": sum(1 for answers in self.recorded.values() if len(answers) > 1)
            + sum(1 for times in self.told.values() if len(times) > 1),
            "recorded_and_lost": sum(
                1 for ref, answers in self.recorded.items() if str(cases[ref].decided) not in answers
            ),
            "decisions_that_no_van_heard": len(decided - set(self.told)),
            "answers": dict(self.answers),
            "kills": dict(self.kills),
            "other_page_s": {
                "p50": round(statistics.median(self.gaps), 2) if self.gaps else None,
                "max": round(max(self.gaps), 2) if self.gaps else None,
            },
        }


def _ref(text: str) -> AlertRef:
    van, _, alert_id = text.rpartition("/")
    return AlertRef(van, UUID(alert_id))


def _payload(token: bytes) -> bytes:
    part = token.split(b".")[1]
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
