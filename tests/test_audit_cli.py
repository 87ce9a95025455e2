"""What an overseer runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.clock import SystemClock
from edge.controlroom.audit_cli import app
from edge.trust.audit import AuditLog, checkpoints_of
from edge.trust.events import Event
from edge.trust.keys import SigningKey, write_public

DESTROYED = {
    "list": "sha256:l",
    "copy": "c-1",
    "cause": "end",
    "entries": 1,
    "files": ["k"],
    "destroyed_at": "2026-03-01",
}


KEY = SigningKey.generate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    key = KEY
    write_public(tmp_path / "vans.jwks", {"keys": [key.public_jwk(owner="van-1")]})
    with AuditLog(tmp_path / "audit.jsonl", van="van-1", clock=SystemClock(), signer=key) as log:
        log.deployment = "D-1"
        imported = {"list": "sha256:l", "copy": "c-1", "entries": 2, "references": ["R-1", "R-2"]}
        log.record(Event.LIST_IMPORTED, imported)
        log.record(
            Event.ENTRY_REMOVED, {"list": "sha256:l", "copy": "c-1", "reference": "R-2", "cause": "deletion requested"}
        )
        log.record(Event.LIST_DESTROYED, DESTROYED)
        log.record(Event.STOPPED, {"cause": "end"})
    return tmp_path


def run(folder: Path, command: str, *more: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [command, str(folder / "audit.jsonl"), "--keys", str(folder / "vans.jwks"), *more])
    return done.exit_code, done.stdout, done.stderr


def test_an_unbroken_log_verifies(folder: Path) -> None:
    code, out, _ = run(folder, "verify", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["entries"], found["unsigned"], found["closed"]) == (4, 0, True)
    code, out, _ = run(folder, "verify")
    assert code == 0
    assert "4 entries, unbroken" in out


def test_a_list_that_is_destroyed_after_the_service_stopped_is_no_sign_of_a_van_that_lost_its_power(
    folder: Path,
) -> None:
    def reopened() -> AuditLog:
        return AuditLog(folder / "audit.jsonl", van="van-1", clock=SystemClock(), signer=KEY)

    with reopened() as log:
        log.record(Event.LIST_DESTROYED, DESTROYED)
    said = run(folder, "verify")[1]
    assert "written by commands on the van" in said
    assert "lost its power" not in said
    with reopened() as log:
        log.record(Event.STARTED, {"version": "1", "model": "m", "threshold_micro": 1})
    assert "lost its power" in run(folder, "verify")[1]


def test_a_tampered_log_gives_exit_code_3_and_one_line(folder: Path) -> None:
    log = folder / "audit.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"R-2","R', b'"R-3","R').replace(b'["R-1"', b'["R-9"'))
    code, out, err = run(folder, "verify")
    assert code == 3
    assert out == ""
    assert "entry 1 (line 1) was altered" in err
    assert len(err.strip().splitlines()) == 1


def test_a_cut_is_found_with_a_published_checkpoint(folder: Path) -> None:
    log = folder / "audit.jsonl"
    received = folder / "received.txt"
    received.write_bytes(checkpoints_of(log).read_bytes())
    checkpoints_of(log).write_bytes(b"")
    log.write_bytes(b"")
    code, _, err = run(folder, "verify", "--checkpoint", str(received))
    assert code == 3
    assert "entries 1, 2, 3, 4 were cut off at the end: published checkpoint 1" in err


@pytest.mark.parametrize(("reference", "cause"), [("R-1", "end"), ("R-2", "deletion requested")])
def test_somebody_who_was_listed_learns_when_and_until_when(reference: str, cause: str, folder: Path) -> None:
    code, out, _ = run(folder, "was-listed", "--reference", reference, "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["listed"]
    (time,) = answer["times"]
    assert (time["deployment"], time["van"], time["cause"]) == ("D-1", "van-1", cause)
    assert time["since"] <= time["until"]
    shown = run(folder, "was-listed", "--reference", reference)[1].splitlines()[-1]
    assert shown.split() == ["D-1", "van-1", time["since"], time["until"], *cause.split()], "nothing is cut in a pipe"


def test_somebody_who_was_not_learns_that(folder: Path) -> None:
    code, out, _ = run(folder, "was-listed", "--reference", "R-3")
    assert code == 0
    assert "R-3 was on no list" in out


def test_missing_keys_are_one_clear_error(folder: Path) -> None:
    (folder / "vans.jwks").unlink()
    code, _, err = run(folder, "verify")
    assert code == 4
    assert "vans.jwks: cannot be read" in err
