"""The van as a process: what it sends, writes, refuses, and leaves."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import cv2
import pytest

from edge.controlroom.receive import Arrived
from tests.broker import Heard, Site
from tests.sim import films
from tests.sim.films import frames_of
from tests.van_process import PICTURE_STARTS, Eavesdropper, Van, audit_of, office, van  # noqa: F401 - fixtures

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_a_listed_man_raises_one_alert_with_both_pictures_and_a_bystander_none(site: Site, van: Van) -> None:
    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
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
    own.add(van.folder / "run" / ".status.json.new")
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
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(said.splitlines()[-1])["state"] == "ended"
    status = van.run("status", "--json")
    assert json.loads(status.stdout)["state"] == "ended"
    assert van.list_files, "stopping the service is not the end of the deployment"


def test_retiring_destroys_key_and_list_and_keeps_the_references(van: Van) -> None:
    van.fetches()
    done = van.run("retire", "--cause", "end of shift", "--json")
    receipt = json.loads(done.stdout)
    assert receipt["references"] == ["SUBJECT-001"]
    assert receipt["cause"] == "end of shift"
    assert not van.list_files
    entries = [json.loads(line) for line in (van.folder / "state" / "audit.jsonl").read_text().splitlines()]
    assert [entry["event"] for entry in entries] == [
        "authority.accepted", "list.imported", "authority.ended", "list.destroyed",
    ]  # fmt: skip
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
        (lambda van: store_of(van).unlink(), 3, "is not on this van"),
        (lambda van: store_of(van).write_bytes(b"not a data base" * 400), 4, "does not open"),
        (lambda van: (van.folder / "state" / "authority.json").unlink(), 3, "has no authority on this van"),
        (lambda van: (van.folder / "state" / "authority.json").write_text("{}"), 3, "was never accepted"),
        (lambda van: van.content["deployment"].update(id="op-2"), 3, "was never accepted"),
        (lambda van: van.content["decision"].update(min_similarity=0.3), 3, "below the authority's floor"),
        (lambda van: shutil.rmtree(van.folder / "lists"), 7, "found gone after a power cut"),
        (lambda van: van.content["models"].update(embedder="facenet:int8"), 4, "facenet"),
        (lambda van: (van.folder / "street.mp4").write_text("text"), 4, "is not a video"),
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


def test_a_film_that_lies_on_its_side_raises_the_alert_all_the_same(site: Site, van: Van) -> None:
    van.watches("obama2.jpg")
    film = van.folder / "street.mp4"
    lying = [cv2.rotate(frame, cv2.ROTATE_90_COUNTERCLOCKWISE) for frame in frames_of(film)]
    films.turned(films.write(film, lying), 90)
    ended = van.run("run", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["alerts"] == 1


def test_a_damaged_film_is_watched_as_far_as_it_can_be_read_and_ends_with_an_error(site: Site, van: Van) -> None:
    van.watches("obama2.jpg", frames=40)
    films.zeroed(van.folder / "street.mp4", start=0.6)
    ended = van.run("run", "--json")
    assert ended.returncode == 4, ended.stdout
    health = json.loads(ended.stdout)
    assert health["alerts"] == 1
    assert health["unreadable"] > 0
    assert f"{health['unreadable']} of its 56 frames cannot be read: it is cut off or damaged" in ended.stderr
    assert health["state"] == "failed"
    assert "cannot be read" in health["why"]
    stopped = audit_of(van)[-1]
    assert stopped["event"] == "lfr.stopped"
    assert "cannot be read" in json.dumps(stopped)
