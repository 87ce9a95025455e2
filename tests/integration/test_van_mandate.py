"""The van as a process: its authority, its place, revocations, decisions, and the end of its list."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from edge.alert.adjudication import ADJUDICATION, AdjudicationBody
from edge.controlroom.receive import VanCheckpoint
from edge.errors import DeploymentOver
from edge.trust.keys import SigningKey
from provisioning.demo.office import Office
from provisioning.sources import Record, read_folder
from tests.broker import Heard, Site
from tests.sim.street import ENROLLED
from tests.van_process import COMMANDS, Eavesdropper, Van, audit_of, office, started, van, wait_for_event  # noqa: F401

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_an_authority_that_ends_stops_matching_and_destroys_the_list(site: Site, tmp_path: Path) -> None:
    office = Office(tmp_path / "office", "op-1", "van-1")
    folder = site.van("van-1")
    office.enrol_van(folder)
    record = Record(category="wanted on warrant", lawful_basis="test", image_source="official portrait")
    office.build_list(read_folder(ENROLLED, record))
    ends = office.authorise(starts_in_s=0.5, hours=14 / 3600).ends
    office.publish()
    van = Van(folder, site, office).fetches().watches("obama2.jpg", frames=900)
    process = started(van)
    destroyed = wait_for_event(van, "list.destroyed")
    process.communicate(timeout=30)
    assert process.returncode == 0
    late = datetime.fromisoformat(destroyed["data"]["destroyed_at"]) - ends
    assert timedelta(seconds=-1) <= late <= timedelta(seconds=3)
    assert not van.list_files
    assert not (van.folder / "state" / "authority.json").exists()
    again = van.run("run")
    assert again.returncode == DeploymentOver.exit_code
    assert "deployment op-1: has ended on this van at" in again.stderr


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
    said, _ = process.communicate(timeout=30)
    last = json.loads(said.splitlines()[-1])
    assert process.returncode == 0
    assert last["list_entries"] == 0


def test_an_authority_that_is_withdrawn_ends_within_seconds_and_no_start_brings_it_back(site: Site, van: Van) -> None:
    """Said over MQTT by the control room, signed by the intelligence unit; then the stick is plugged in again."""
    stick = van.content["repository"]["source"]
    van.fetches().watches("obama2.jpg", frames=900)
    process = started(van)
    listening = Eavesdropper(site)
    key = van.office.folder / "intelligence-unit.jwk"
    lines = [
        subprocess.run(
            [str(COMMANDS / "lfr-provision"), "watchlist", *what, "--key", str(key), "--deployment", "op-1",
             "--cause", "stand down"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for what in (["revoke", "--reference", "SUBJECT-001"], ["withdraw"])
    ]  # fmt: skip
    listening.say("lfr/1/van-1/revocation", "\n".join(lines).encode())
    said = time.monotonic()
    destroyed = wait_for_event(van, "list.destroyed", seconds=5)
    assert time.monotonic() - said < 5
    assert destroyed["data"]["cause"] == "the authority was withdrawn"
    listening.stop()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert not van.list_files
    van.content["repository"]["source"] = stick
    van.write()
    again = van.run("run")
    assert again.returncode == DeploymentOver.exit_code
    assert "was withdrawn at" in again.stderr
    assert "stand down" in again.stderr
    assert not van.list_files


def test_a_decision_of_the_control_room_comes_back_to_the_vans_log(site: Site, van: Van) -> None:
    van.fetches().watches("biden.jpg", frames=900)
    process = started(van)
    listening = Eavesdropper(site)
    body = AdjudicationBody(
        alert_id=uuid4(), van="van-1", state="closed", correct=False, result="no action", by="PC-4711",
        role="engagement officer", at=datetime.now(UTC),
    )  # fmt: skip
    key = SigningKey.load("control-signing.jwk", site.room)
    listening.say("lfr/1/van-1/adjudication", ADJUDICATION.sign(body, key))
    entry = wait_for_event(van, "alert.adjudicated")["data"]
    listening.stop()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert entry == {"alert": str(body.alert_id), "verdict": "closed: no action, incorrect", "by": "PC-4711"}


def test_an_overseer_sees_an_end_that_was_cut_off_by_the_published_checkpoints(site: Site, van: Van) -> None:
    heard = Heard()
    receiver = site.receiver(heard)
    receiver.start(site.supervisor)
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


@pytest.mark.parametrize("command", ["run", "retire"])
@pytest.mark.parametrize(
    "tamper",
    [lambda text: text.replace("SUBJECT-001", "SUBJECT-002"), lambda text: text + "{}\n"],
    ids=["an entry altered", "a last line that is none"],
)
def test_a_log_that_was_tampered_with_is_refused_and_no_list_stays(van: Van, tamper, command: str) -> None:
    van.fetches().watches("biden.jpg", frames=4)
    log = van.folder / "state" / "audit.jsonl"
    log.write_text(tamper(log.read_text()))
    ended = van.run(command)
    assert ended.returncode == 3, ended.stderr
    assert "audit.jsonl" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not van.list_files


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
