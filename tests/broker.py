"""A real mosquitto on loopback with a freshly generated site, for tests that need a broker."""

from __future__ import annotations

import os
import pwd
import queue
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from edge.alert.link import Broker, Link
from edge.alert.message import seal
from edge.alert.outbox import Outbox
from edge.alert.publish import LinkState, Publisher
from edge.alert.submit import AlertSubmitter
from edge.clock import SystemClock, uuid7
from edge.controlroom.config import load
from edge.controlroom.receive import LinkChanged, Receiver, ReceiverEvent, connect
from edge.controlroom.store import AlertStore
from edge.errors import EdgeError
from edge.records import Alert
from edge.trust.keys import KnownSigners, Recipients, SigningKey
from edge.trust.secret import read_secret
from edge.trust.tls import client_context
from edge.worker import Supervisor
from provisioning.broker import write_broker
from provisioning.site import CONTROL_LIFE, CONTROL_ROOM, enrol_van, init_site, issue, load_authority, pair_files

Kind = TypeVar("Kind")
QUICK = (0.05, 0.3)
"""Shortest and longest wait between attempts, for tests, in seconds."""
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")
"""Not a face, and enough of a JPEG to be recognised byte by byte."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_alert(sequence: int = 1, van: str = "van-1", **changes: Any) -> Alert:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "alert_id": uuid7(SystemClock()),
        "van": van,
        "deployment": "d-1",
        "sequence": sequence,
        "raised_at": now,
        "seen_at": now - timedelta(milliseconds=80),
        "expires_at": now + timedelta(hours=4),
        "erase_at": now + timedelta(hours=24),
        "reference": "S-0042",
        "category": "wanted on warrant",
        "similarity": 0.71,
        "score": 0.412,
        "threshold": 0.339,
        "votes": 3,
        "frames": 9,
        "eye_distance": 41.5,
        "place": "Market Square",
        "watchlist": "sha256:aa",
        "model": "sha256:bb",
        "image_taken": "2019-05-01",
        "probe_jpeg": JPEG + b"probe",
        "reference_jpeg": JPEG + b"reference",
        "lookalikes": ("S-0077", "S-0100"),
        **changes,
    }
    return Alert(**values)


def start_mosquitto(conf: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Run a mosquitto and wait until it listens."""
    mosquitto = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    assert mosquitto, "mosquitto is not installed: run scripts/setup"
    with log.open("ab") as lines:
        process = subprocess.Popen([mosquitto, "-c", conf], stdout=lines, stderr=lines)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"mosquitto ended: {log.read_text()[-500:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process
    process.kill()
    raise AssertionError("mosquitto does not listen")


@dataclass
class Site:
    """A site, its vans and its broker."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)
    supervisor: Supervisor = field(default_factory=Supervisor)
    """Of the workers that a test starts in its own process."""

    def __post_init__(self) -> None:
        self.log = self.folder.with_suffix(".log")

    @property
    def room(self) -> Path:
        return self.folder / CONTROL_ROOM

    def van(self, name: str) -> Path:
        """The folder of a van, enrolled when it is first asked for."""
        out = self.folder.parent / name
        if not out.exists():
            enrol_van(name, self.folder, out)
        return out

    def start_broker(self) -> None:
        self.process = start_mosquitto(self.folder / "broker" / "mosquitto.conf", self.port, self.log)

    def stop_broker(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None

    def reload_broker(self) -> None:
        self.stop_broker()
        self.start_broker()

    def broker(self, folder: Path, stem: str) -> Broker:
        """The way to the broker with the certificate ``stem`` of ``folder``."""
        return Broker("localhost", self.port, client_context("ca.crt", f"{stem}.crt", f"{stem}.key", folder))

    def recipients(self) -> Recipients:
        return Recipients.load(self.folder / "public" / "control-room.jwks")

    def signers(self) -> KnownSigners:
        """The control room, whose receipts and decisions vans believe."""
        return KnownSigners.load(self.folder / "public" / "control-signing.jwks")

    def publisher(self, outbox: Outbox, van: str = "van-1", **options: Any) -> Publisher:
        """A van's publisher, not yet started."""
        options = {"receipts_by": self.signers(), "backoff_s": QUICK, **options}
        broker = options.pop("broker", None) or self.broker(self.van(van), "van")
        return Publisher(outbox, broker, van, **options)

    def sealed(self, alert: Alert, signer: str | None = None) -> bytes:
        """The message of an alert, signed by its van (or by ``signer``)."""
        key = SigningKey.load("van-signing.jwk", self.van(signer or alert.van))
        return seal(alert, key, self.recipients())

    def store(self, name: str = "test") -> AlertStore:
        """The store of ``lfr-control watch --name NAME``."""
        path = self.room / "control-state" / f"{name}.watch.db"
        return AlertStore(path, read_secret("control-store.key", self.room), opens_cases=False)

    def receiver(
        self, heard: Callable[[ReceiverEvent], None], name: str = "control-room-test", **options: Any
    ) -> Receiver:
        store = options.pop("store", None) or self.store(name)
        options.setdefault("backoff_s", (0.05, 0.3))
        return connect(load(self.room / "control.toml"), name, store, heard, **options)


class Heard:
    """What a receiver told, to wait for."""

    def __init__(self) -> None:
        self.all: list[ReceiverEvent] = []
        self._fresh: queue.SimpleQueue[ReceiverEvent] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def __call__(self, event: ReceiverEvent) -> None:
        with self._lock:
            self.all.append(event)
        self._fresh.put(event)

    def online(self) -> None:
        """Wait until the receiver is."""
        while self.next(LinkChanged).state is not LinkState.ONLINE:
            pass

    def next(self, kind: type[Kind], timeout: float = 15.0) -> Kind:
        """The next event of ``kind``; fails after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                event = self._fresh.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind.__name__} within {timeout} s; heard {self.all}") from None
            if isinstance(event, kind):
                return event


PROBE = f"{CONTROL_ROOM}-probe"
"""A certificate with the control room's rights: a test's own connection beside a control room that runs."""


def make_site(folder: Path) -> Site:
    """A site whose broker listens on a free port of loopback, not yet started."""
    port = free_port()
    init_site(folder, ("localhost", "127.0.0.1"), port)
    pair_files(folder / CONTROL_ROOM, PROBE, issue(load_authority(folder), PROBE, CONTROL_LIFE))
    write_broker(folder, port=port, address="127.0.0.1", user=pwd.getpwuid(os.geteuid()).pw_name)
    rules = folder / "broker" / "acl"
    (mine,) = re.findall(rf"^user {CONTROL_ROOM}\n(?:topic .*\n)+", rules.read_text(), re.MULTILINE)
    rules.write_text(f"{rules.read_text()}\n{mine.replace(CONTROL_ROOM, PROBE, 1)}")
    return Site(folder, port)


def link(site: Site, folder: Path, stem: str = "van", client: str = "raw", **options: Any) -> Link:
    return Link(site.broker(folder, stem), client, queue.SimpleQueue(), **options)


def opened(site: Site, folder: Path, stem: str = "van", client: str = "raw", **options: Any) -> Link:
    made = link(site, folder, stem, client, **options)
    made.open()
    return made


States = queue.SimpleQueue[tuple[LinkState, EdgeError | None]]


@dataclass
class Van:
    """A van's way out, started."""

    desk: AlertSubmitter
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
