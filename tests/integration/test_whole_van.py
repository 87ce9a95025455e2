"""The van as a process, with a real list, a real broker and a real control room."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage, MQTTv5

from edge.controlroom.receive import Arrived
from edge.trust.tls import client_context
from provisioning.encoder import make_encoder
from provisioning.sources import Record, read_folder
from provisioning.watchlist import build_store
from tests.broker import Heard, Site
from tests.sim.street import ENROLLED, walk

pytestmark = [pytest.mark.broker, pytest.mark.slow]

COMMANDS = Path(sys.executable).parent
PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list with one man on it, from a photograph that never walks by."""
    folder = tmp_path_factory.mktemp("list")
    record = Record(category="wanted on warrant", lawful_basis="test", image_source="official portrait")
    build_store(read_folder(ENROLLED, record), folder, "op-1", make_encoder("", ""), quiet=True)
    return folder


@pytest.fixture
def van(site: Site, built: Path, tmp_path: Path) -> Van:
    folder = site.van("van-1")
    for name in ("watchlist.db", "watchlist.key"):
        shutil.copy2(built / name, folder / name)
    return Van(folder, site)


class Van:
    """A van's folder, and the commands that are run in it."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder = folder
        self.config = folder / "lfr.toml"
        self.content = {
            "van": {"id": "van-1"},
            "deployment": {"id": "op-1", "place": "Market Square"},
            "camera": {"source": "street.mp4", "pace": "every-frame"},
            "models": {"detector": "centerface:640x384-int8", "threads": 1},
            "alert": {"host": "localhost", "port": site.port},
        }
        self.write()

    def write(self) -> None:
        self.config.write_text(tomli_w.dumps(self.content))

    def watches(self, *portraits: str, frames: int = 24) -> None:
        walk(self.folder / "street.mp4", portraits, frames)

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
        self._client = Client(CallbackAPIVersion.VERSION2, "eavesdropper", protocol=MQTTv5)
        self._client.tls_set_context(client_context("ca.crt", "control-room.crt", "control-room.key", site.room))
        self._client.on_message = self._on_message
        self._client.connect("localhost", site.port)
        self._client.subscribe("#", qos=1)
        self._client.loop_start()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.heard.append((message.topic, message.payload))

    def stop(self) -> list[tuple[str, bytes]]:
        self._client.disconnect()
        self._client.loop_stop()
        return self.heard


def test_a_listed_man_raises_one_alert_with_both_pictures_and_a_bystander_none(site: Site, van: Van) -> None:
    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start()
    heard.online()
    van.watches("biden.jpg", "obama2.jpg", "hopper.jpg")
    ended = van.run("run", "--json")
    assert ended.returncode == 0, ended.stderr
    health = json.loads(ended.stdout)
    alert = heard.next(Arrived).alert
    receiver.stop()
    assert alert.reference == "SUBJECT-001"
    assert alert.category == "wanted on warrant"
    assert alert.probe_jpeg.startswith(PICTURE_STARTS[0])
    assert alert.reference_jpeg.startswith(PICTURE_STARTS[0])
    assert health["alerts"] == 1
    assert health["faces_seen"] >= 3
    assert health["nonmatch_overdue"] == 0
    assert health["undelivered"] == 0
    assert health["erasure_ms"]["max"] <= 3000
    entries = [json.loads(line) for line in (van.folder / "state" / "audit.jsonl").read_text().splitlines()]
    events = [entry["event"] for entry in entries]
    assert events[0] == "lfr.started"
    assert events[-1] == "lfr.stopped"
    assert events.count("alert.sent") == 1
    totals = [entry["data"] for entry in entries if entry["event"] == "erasure.totals"]
    assert sum(total["count"] for total in totals) == health["faces_seen"]


def test_nothing_of_people_who_are_not_on_the_list_is_published_written_or_logged(site: Site, van: Van) -> None:
    van.watches("biden.jpg", "hopper.jpg", "collins.jpg")
    listening = Eavesdropper(site)
    trace = van.folder.parent / "trace.txt"
    strace = ("strace", "-f", "-qq", "-e", "trace=openat,creat,rename,renameat2", "-o", str(trace))
    ended = van.run("run", "--json", prefix=strace)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["embedded"] > 20, "the faces were searched, and not only missed"

    topics = {topic for topic, _ in listening.stop()}
    assert topics, "the subscriber must have heard something"
    assert topics <= {"lfr/1/van-1/state", "lfr/1/van-1/health"}
    assert not any(start in payload for _, payload in listening.heard for start in PICTURE_STARTS)

    opened = re.findall(r'openat\([^,]+, "([^"]+)", [^)]*(?:O_WRONLY|O_RDWR|O_CREAT)', trace.read_text())
    written = {Path(van.folder, name).resolve() for name in opened if not name.startswith(("/dev/", "/proc/", "/sys/"))}
    own = {path.resolve() for path in van.files()} | {
        van.folder / "state" / name
        for name in (
            "status.new",
            "audit.jsonl",
            "audit.jsonl.checkpoints",
            "outbox.db",
            "outbox.db-wal",
            "outbox.db-shm",
            "outbox.db-journal",
        )
    }
    own |= {van.folder / f"watchlist.db{suffix}" for suffix in ("", "-wal", "-shm", "-journal")}
    assert written <= own, "the van wrote a file that it has no business with"
    for path in van.files():
        assert not any(start in path.read_bytes() for start in PICTURE_STARTS), path

    assert "array" not in ended.stderr
    assert max((len(line) for line in ended.stderr.splitlines()), default=0) < 1000


def test_the_service_ends_orderly_when_it_is_told_to(site: Site, van: Van) -> None:
    van.content["camera"]["pace"] = "live"
    van.write()
    van.watches("biden.jpg", frames=600)
    process = subprocess.Popen(
        van.command("run", "--events"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=van.folder
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "watching"
    process.send_signal(signal.SIGTERM)
    last = process.stdout.read().strip().splitlines()[-1]
    assert process.wait(30) == 0
    assert json.loads(last)["state"] == "stopped"
    status = van.run("status", "--json")
    assert json.loads(status.stdout)["state"] == "stopped"
    assert (van.folder / "watchlist.db").exists(), "stopping the service is not the end of the deployment"


def test_retiring_destroys_key_and_list_and_keeps_the_references(van: Van) -> None:
    done = van.run("retire", "--cause", "end of shift", "--json")
    receipt = json.loads(done.stdout)
    assert receipt["references"] == ["SUBJECT-001"]
    assert receipt["cause"] == "end of shift"
    assert not list(van.folder.glob("watchlist*"))
    entries = [json.loads(line) for line in (van.folder / "state" / "audit.jsonl").read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["list.destroyed"]
    again = van.run("retire")
    assert again.returncode == 4
    assert "no list to destroy" in again.stderr


def test_the_self_test_tries_every_part_and_names_what_fails(site: Site, van: Van) -> None:
    van.watches("biden.jpg")
    good = van.run("self-test", "--json")
    assert good.returncode == 0, good.stdout
    assert {check["name"] for check in json.loads(good.stdout)} == {
        "memory", "models", "watchlist", "keys", "broker", "camera",
    }  # fmt: skip
    site.stop_broker()
    (van.folder / "street.mp4").unlink()
    bad = van.run("self-test", "--json")
    assert {check["name"] for check in json.loads(bad.stdout) if not check["good"]} == {"broker", "camera"}
    assert bad.returncode == 5


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda van: van.content["camera"].update(source="/dev/video77"), 5, "no such camera"),
        (lambda van: van.content["camera"].update(sourc="x"), 4, "camera.sourc: is unknown"),
        (lambda van: (van.folder / "watchlist.key").write_text("00" * 32), 4, "does not open with this key"),
        (lambda van: (van.folder / "watchlist.key").chmod(0o644), 4, "chmod 600"),
        (lambda van: (van.folder / "watchlist.db").unlink(), 4, "no such store"),
        (lambda van: (van.folder / "watchlist.db").write_bytes(b"not a data base" * 400), 4, "does not open"),
        (lambda van: van.content["models"].update(embedder="facenet:int8"), 4, "facenet"),
        (lambda van: (van.folder / "street.mp4").write_text("text"), 4, "no video"),
        (lambda van: (van.folder / "van.crt").unlink(), 4, "van.crt"),
        (lambda van: (van.folder / "van-signing.jwk").write_text("{}"), 4, "van-signing.jwk"),
        (lambda van: van.content["alert"].update(port=99999), 4, "alert.port"),
    ],
    ids=[
        "missing camera", "unknown key", "wrong list key", "open key file", "missing list", "no list", "unknown model",
        "text as video", "missing certificate", "wrong signing key", "port out of range",
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_names_thing_cause_and_next_step(van: Van, spoil, code: int, words: str) -> None:
    van.watches("biden.jpg", frames=4)
    spoil(van)
    van.write()
    ended = van.run("run")
    lines = [line for line in ended.stderr.splitlines() if line.startswith("lfr-edge:")]
    assert ended.returncode == code, ended.stderr
    assert len(lines) == 1
    assert words in lines[0]
    assert lines[0].endswith(".")
    assert "Traceback" not in ended.stderr
    assert not list(van.folder.glob("core*"))


def test_a_full_disk_stops_matching_loudly_and_loses_no_alert(van: Van) -> None:
    """The outbox's folder cannot take another byte: the van says so and ends, instead of dropping the alert."""
    van.watches("obama2.jpg")
    full = van.folder / "state"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(full)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a small disk to fill")
    try:
        ended = van.run("run")
        assert ended.returncode == 5
        assert "disk is full" in ended.stderr or "No space left" in ended.stderr
        assert "Traceback" not in ended.stderr
    finally:
        subprocess.run(["umount", str(full)], check=True)
