"""The van as a process, with a real list, a real broker and a real control room."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import tomli_w
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage, MQTTv5

from edge.alert.adjudication import AdjudicationBody, sign_adjudication
from edge.controlroom.receive import Arrived, VanCheckpoint
from edge.trust.keys import SigningKey
from edge.trust.tls import client_context
from provisioning.demo.office import PLACE, Office
from provisioning.sources import Record, read_folder
from tests.broker import Heard, Site
from tests.sim.street import ENROLLED, walk

pytestmark = [pytest.mark.broker, pytest.mark.slow]

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
        self._client.tls_set_context(client_context("ca.crt", "control-room.crt", "control-room.key", site.room))
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
    assert events[:3] == ["authority.accepted", "list.imported", "lfr.started"]
    assert events[-1] == "lfr.stopped"
    assert events.count("alert.sent") == 1
    totals = [entry["data"] for entry in entries if entry["event"] == "erasure.totals"]
    assert sum(total["count"] for total in totals) == health["faces_seen"]


def test_nothing_of_people_who_are_not_on_the_list_is_published_written_or_logged(site: Site, van: Van) -> None:
    van.fetches().watches("biden.jpg", "hopper.jpg", "collins.jpg")
    listening = Eavesdropper(site)
    trace = van.folder.parent / "trace.txt"
    strace = ("strace", "-f", "-qq", "-e", "trace=openat,creat,rename,renameat2", "-o", str(trace))
    ended = van.run("run", "--json", prefix=strace)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["embedded"] > 20, "the faces were searched, and not only missed"

    topics = {topic for topic, _ in listening.stop()}
    assert topics, "the subscriber must have heard something"
    assert topics <= {"lfr/1/van-1/state", "lfr/1/van-1/health", "lfr/1/van-1/checkpoint"}
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
    own |= {Path(f"{path}{suffix}") for path in van.list_files for suffix in ("", "-wal", "-shm", "-journal")}
    assert written <= own, "the van wrote a file that it has no business with"
    for path in van.files():
        assert not any(start in path.read_bytes() for start in PICTURE_STARTS), path

    assert "array" not in ended.stderr
    assert max((len(line) for line in ended.stderr.splitlines()), default=0) < 1000


def test_the_service_ends_orderly_when_it_is_told_to(site: Site, van: Van) -> None:
    van.content["camera"]["pace"] = "live"
    van.write()
    van.fetches().watches("biden.jpg", frames=600)
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
    assert van.list_files, "stopping the service is not the end of the deployment"


def test_retiring_destroys_key_and_list_and_keeps_the_references(van: Van) -> None:
    van.fetches()
    done = van.run("retire", "--cause", "end of shift", "--json")
    receipt = json.loads(done.stdout)
    assert receipt["references"] == ["SUBJECT-001"]
    assert receipt["cause"] == "end of shift"
    assert not van.list_files
    entries = [json.loads(line) for line in (van.folder / "state" / "audit.jsonl").read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["authority.accepted", "list.imported", "list.destroyed"]
    again = van.run("retire")
    assert again.returncode == 3
    assert "no list to destroy" in again.stderr


def test_the_self_test_tries_every_part_and_names_what_fails(site: Site, van: Van) -> None:
    van.fetches().watches("biden.jpg")
    good = van.run("self-test", "--json")
    assert good.returncode == 0, good.stdout
    assert {check["name"] for check in json.loads(good.stdout)} == {
        "memory", "models", "deployment", "keys", "broker", "camera",
    }  # fmt: skip
    site.stop_broker()
    (van.folder / "street.mp4").unlink()
    bad = van.run("self-test", "--json")
    assert {check["name"] for check in json.loads(bad.stdout) if not check["good"]} == {"broker", "camera"}
    assert bad.returncode == 5


def key_of(van: Van) -> Path:
    return next(path for path in van.list_files if path.name == "watchlist.key")


def store_of(van: Van) -> Path:
    return next(path for path in van.list_files if path.name == "watchlist.db")


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda van: van.content["camera"].update(source="/dev/video77"), 5, "no such camera"),
        (lambda van: van.content["camera"].update(sourc="x"), 4, "camera.sourc: is unknown"),
        (lambda van: key_of(van).write_text("00" * 32), 4, "does not open with this key"),
        (lambda van: key_of(van).chmod(0o644), 4, "chmod 600"),
        (lambda van: store_of(van).unlink(), 3, "there is none on this van"),
        (lambda van: store_of(van).write_bytes(b"not a data base" * 400), 4, "does not open"),
        (lambda van: (van.folder / "state" / "authority.json").unlink(), 3, "has no authority on this van"),
        (lambda van: (van.folder / "state" / "authority.json").write_text("{}"), 3, "was never accepted"),
        (lambda van: van.content["deployment"].update(id="op-2"), 3, "was never accepted"),
        (lambda van: van.content["decision"].update(threshold=0.3), 3, "below the authority's floor"),
        (lambda van: shutil.rmtree(van.folder / "lists"), 3, "there is none on this van"),
        (lambda van: van.content["models"].update(embedder="facenet:int8"), 4, "facenet"),
        (lambda van: (van.folder / "street.mp4").write_text("text"), 4, "no video"),
        (lambda van: (van.folder / "van.crt").unlink(), 4, "van.crt"),
        (lambda van: (van.folder / "van-signing.jwk").write_text("{}"), 4, "van-signing.jwk"),
        (lambda van: van.content["alert"].update(port=99999), 4, "alert.port"),
    ],
    ids=[
        "missing camera", "unknown key", "wrong list key", "open key file", "missing store", "no store", "no authority",
        "other authority", "other deployment", "low threshold", "no list", "unknown model",
        "text as video", "missing certificate", "wrong signing key", "port out of range",
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_names_thing_cause_and_next_step(van: Van, spoil, code: int, words: str) -> None:
    van.fetches().watches("biden.jpg", frames=4)
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
    van.fetches().watches("obama2.jpg")
    full = van.folder / "state"
    kept = {path.name: path.read_bytes() for path in full.iterdir() if path.is_file()}
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(full)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a small disk to fill")
    for name, content in kept.items():
        (full / name).write_bytes(content)
    try:
        ended = van.run("run")
        assert ended.returncode == 5
        assert "disk is full" in ended.stderr or "No space left" in ended.stderr
        assert "Traceback" not in ended.stderr
    finally:
        subprocess.run(["umount", str(full)], check=True)


# -- authority, revocation, end ------------------------------------------------------------------------


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


def test_an_authority_that_ends_stops_matching_and_destroys_the_list(site: Site, tmp_path: Path) -> None:
    office = Office(tmp_path / "office", "op-1", "van-1")
    folder = site.van("van-1")
    office.enrol_van(folder)
    record = Record(category="wanted on warrant", lawful_basis="test", image_source="official portrait")
    office.build_list(read_folder(ENROLLED, record))
    ends = office.authorise(starts_in_s=0.5, hours=9 / 3600).ends
    office.publish()
    van = Van(folder, site, office).fetches().watches("obama2.jpg", frames=900)
    process = started(van)
    destroyed = wait_for_event(van, "list.destroyed")
    assert process.wait(30) == 0
    late = datetime.fromisoformat(destroyed["data"]["destroyed_at"]) - ends
    assert timedelta(seconds=-1) <= late <= timedelta(seconds=3)
    assert not van.list_files
    assert not (van.folder / "state" / "authority.json").exists()
    again = van.run("run")
    assert again.returncode == 3
    assert "has no authority on this van" in again.stderr


def test_a_van_outside_its_place_matches_nobody_and_says_so(site: Site, van: Van) -> None:
    van.content["position"]["fixed"] = [52.0, -1.0]
    van.write()
    van.watches("obama2.jpg")
    ended = van.run("run", "--json")
    health = json.loads(ended.stdout)
    assert health["embedded"] == 0
    assert health["alerts"] == 0
    refused = [entry["data"] for entry in audit_of(van) if entry["event"] == "lfr.refused"]
    assert {entry["error"] for entry in refused} == {"OutsidePlace"}


def test_a_revoked_subject_leaves_store_index_and_memory_within_five_seconds(site: Site, van: Van) -> None:
    """Said over MQTT by the control room, signed by the intelligence unit."""
    van.fetches().watches("obama2.jpg", frames=900)
    process = started(van)
    listening = Eavesdropper(site)
    key = van.office.folder / "intelligence-unit.jwk"
    token = subprocess.run(
        [str(COMMANDS / "lfr-provision"), "watchlist", "revoke", "--key", str(key), "--reference", "SUBJECT-001",
         "--cause", "deletion was granted", "--deployment", "op-1"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    listening.say("lfr/1/van-1/revocation", token.encode())
    said = time.monotonic()
    entry = wait_for_event(van, "entry.removed", seconds=5)
    assert time.monotonic() - said < 5
    assert entry["data"]["reference"] == "SUBJECT-001"
    listening.stop()
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    last = json.loads(process.stdout.read().strip().splitlines()[-1])
    assert process.wait(30) == 0
    assert last["list_entries"] == 0


def test_a_decision_of_the_control_room_comes_back_to_the_vans_log(site: Site, van: Van) -> None:
    van.fetches().watches("biden.jpg", frames=900)
    process = started(van)
    listening = Eavesdropper(site)
    body = AdjudicationBody(
        alert_id=uuid4(), van="van-1", state="closed", correct=False, result="no action", by="PC-4711",
        role="engagement officer", at=datetime.now(UTC),
    )  # fmt: skip
    key = SigningKey.load("control-signing.jwk", site.room)
    listening.say("lfr/1/van-1/adjudication", sign_adjudication(body, key))
    entry = wait_for_event(van, "alert.adjudicated")["data"]
    listening.stop()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert entry == {"alert": str(body.alert_id), "verdict": "closed: no action, incorrect", "by": "PC-4711"}


def test_an_overseer_sees_an_end_that_was_cut_off_by_the_published_checkpoints(site: Site, van: Van) -> None:
    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start()
    heard.online()
    van.watches("biden.jpg", frames=60)
    assert van.run("run").returncode == 0
    heard.next(VanCheckpoint)
    receiver.stop()
    log = van.folder / "state" / "audit.jsonl"
    published = site.room / "control-state" / "checkpoints" / "van-1.jws"
    keys = ("--keys", str(site.room / "vans.jwks"))

    def verify(*more: str) -> subprocess.CompletedProcess[str]:
        command = [str(COMMANDS / "lfr-control"), "audit", "verify", str(log), *keys, *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert verify("--checkpoint", str(published)).returncode == 0
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-2]))
    beside = log.with_name("audit.jsonl.checkpoints")
    beside.write_text("".join(beside.read_text().splitlines(keepends=True)[:-1]))
    cut = verify("--checkpoint", str(published))
    assert cut.returncode == 3
    assert "cut off" in cut.stderr or "missing" in cut.stderr


def test_a_revocation_that_is_not_signed_by_the_unit_changes_nothing(site: Site, van: Van) -> None:
    van.fetches().watches("biden.jpg", frames=900)
    process = started(van)
    listening = Eavesdropper(site)
    stranger = SigningKey.generate()
    body = {"deployment": "op-1", "reference": "SUBJECT-001", "cause": "mischief", "issued_at": "2026-01-01T00:00:00Z"}
    listening.say("lfr/1/van-1/revocation", stranger.sign(json.dumps(body).encode(), "lfr-revocation"))
    assert wait_for_event(van, "lfr.refused")["data"]["error"] == "SignatureInvalid"
    listening.stop()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert "entry.removed" not in [entry["event"] for entry in audit_of(van)]
