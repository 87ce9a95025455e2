"""A van as a process, with a real list, a real broker and a real control room: what its tests share."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage, MQTTv5

from edge.trust.tls import client_context
from provisioning.demo.office import PLACE, Office
from provisioning.sources import Record, read_folder
from tests.broker import PROBE, Site
from tests.sim.street import ENROLLED, walk

COMMANDS = Path(sys.executable).parent
PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """A list with one man on it, from a photograph that never walks by, and an authority for it."""
    folder = tmp_path_factory.mktemp("office")
    made = Office(folder / "office", "op-1", "van-1")
    (folder / "for-van").mkdir()
    made.enrol_van(folder / "for-van")
    record = Record(category="wanted on warrant", lawful_basis="test", image_source="official portrait")
    made.build_list(read_folder(ENROLLED, record))
    made.authorise(starts_in_s=0.5)
    made.publish()
    return made


@pytest.fixture
def van(site: Site, office: Office) -> Van:
    folder = site.van("van-1")
    for file in (office.folder.parent / "for-van").iterdir():
        shutil.copy2(file, folder)
    return Van(folder, site, office)


class Van:
    """A van's folder, and the commands that are run in it."""

    def __init__(self, folder: Path, site: Site, office: Office) -> None:
        self.folder = folder
        self.office = office
        self.config = folder / "lfr.toml"
        self.content = {
            "van": {"id": "van-1"},
            "deployment": {"id": "op-1", "place": "Market Square"},
            "camera": {"source": "street.mp4", "pace": "every-frame"},
            "decision": {},
            "models": {"detector": "centerface:640x384-int8", "threads": 1},
            "alert": {"host": "localhost", "port": site.port},
            "repository": {"source": str(office.folder / "repository")},
            "position": {"fixed": list(PLACE)},
            "clock": {"require_confirmed": False},
            "store": {"runtime": "run"},
        }
        self.write()

    def write(self) -> None:
        self.config.write_text(tomli_w.dumps(self.content))

    def watches(self, *portraits: str, frames: int = 24) -> Van:
        walk(self.folder / "street.mp4", portraits, frames)
        return self

    def fetches(self) -> Van:
        """Everything comes onto the van, and the stick is pulled out."""
        done = self.run("fetch", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["entries"] == 1
        self.content["repository"]["source"] = "no-stick"
        self.write()
        return self

    @property
    def list_files(self) -> list[Path]:
        return [path for path in (self.folder / "lists").rglob("*") if path.is_file()]

    def command(self, *arguments: str) -> list[str]:
        return [str(COMMANDS / "lfr-edge"), *arguments]

    def run(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*prefix, *self.command(*arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            check=False,
        )

    def files(self) -> Iterator[Path]:
        return (path for path in (self.folder / "state").rglob("*") if path.is_file())


class Eavesdropper:
    """Everything that a control room's certificate may hear, on every topic there is."""

    def __init__(self, site: Site) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._reports = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "eavesdropper", protocol=MQTTv5)
        self._client.tls_set_context(client_context("ca.crt", f"{PROBE}.crt", f"{PROBE}.key", site.room))
        self._client.on_message = self._on_message
        self._client.connect("localhost", site.port)
        self._client.subscribe("#", qos=1)
        self._client.loop_start()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.heard.append((message.topic, message.payload))
        if message.topic.endswith("/health"):
            self._reports.set()

    def say(self, topic: str, payload: bytes) -> None:
        """Once the van reports, it listens, too."""
        assert self._reports.wait(20)
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)

    def stop(self) -> list[tuple[str, bytes]]:
        self._client.disconnect()
        self._client.loop_stop()
        return self.heard


def started(van: Van) -> subprocess.Popen[str]:
    van.content["camera"]["pace"] = "live"
    van.write()
    process = subprocess.Popen(
        van.command("run", "--events"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=van.folder
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "watching"
    return process


def audit_of(van: Van) -> list[dict]:
    return [json.loads(line) for line in (van.folder / "state" / "audit.jsonl").read_text().splitlines()]


def wait_for_event(van: Van, event: str, seconds: float = 20.0) -> dict:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for entry in audit_of(van):
            if entry["event"] == event:
                return entry
        time.sleep(0.05)
    raise AssertionError(f"no {event} in the audit log after {seconds} s")
