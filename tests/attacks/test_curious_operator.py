"""Somebody with an account, or at the control room's machine, who looks without leaving a trace or decides unseen.

===========================================  ==================================================================
attack                                       what is expected
===========================================  ==================================================================
looking at pictures in silence               every picture and every case that is opened is in the log
coming and going in silence                  sign-ins, sign-outs and refused sign-ins are in the log, with numbers
changing the staff in silence                every change is in the log, with the account that made it
going on under a password that was changed   the session ends with it
going on after leaving the staff             the session ends with it
deciding without the list's picture          refused
cutting off the end of the log               a watch elsewhere has kept its checkpoints: it shows
===========================================  ==================================================================
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.errors import AuditBroken
from edge.trust.audit import checkpoints_of, verify
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from tests.attacks.rooms import SOON, Room, hold_alerts, running_room
from tests.broker import Site
from tests.console_process import PASSWORD

pytestmark = pytest.mark.broker


def test_whoever_looks_at_a_picture_or_a_case_is_in_the_log(site: Site, room: Room) -> None:
    with room.store() as store:
        (alert,) = hold_alerts(site, 1, store=store)
    officer = room.browser()
    assert officer.sign_in() == 303
    assert officer.ask("GET", f"/alerts/{alert}")[0] == 200
    for which in ("probe", "reference"):
        assert officer.ask("GET", f"/alerts/{alert}/{which}.jpg")[0] == 200
    views = [(entry["alert"], entry["what"], entry["by"]) for entry in room.audited(Event.ALERT_VIEWED)]
    assert views == [(alert, "probe", "op-1"), (alert, "reference", "op-1")]
    assert [entry["by"] for entry in room.audited(Event.ENTRY_CONSULTED)] == ["op-1"]


def test_coming_and_going_is_in_the_log_with_the_number(room: Room) -> None:
    officer = room.browser()
    assert officer.sign_in("op-1", "wrong horse battery") == 403
    assert officer.sign_in() == 303
    officer.ask("POST", "/signout", {"x": "y"})
    refused = room.until_audited(Event.SIGN_IN_REFUSED)
    assert (refused["by"], refused["error"], refused["from"]) == ("op-1", "SignInRefused", "127.0.0.1")
    assert room.until_audited(Event.SIGNED_IN) == {"by": "op-1", "role": "operator", "from": "127.0.0.1"}
    assert room.until_audited(Event.SIGNED_OUT) == {"by": "op-1", "cause": "signed out"}


def test_every_change_of_the_staff_is_in_the_log_of_the_running_control_room(room: Room) -> None:
    until = str(SOON)
    for arguments in (
        ("add", "op-9", "--role", "operator", "--trained-until", until, "--password-stdin"),
        ("renew", "op-9", "--trained-until", until),
        ("add", "op-9", "--role", "engagement officer", "--trained-until", until, "--password-stdin"),
        ("remove", "op-9"),
    ):
        done = room.control("staff", *arguments, stdin=PASSWORD + "\n")
        assert done.returncode == 0, done.stderr
    room.until_audited(Event.STAFF_CHANGED, change="removed")
    mine = [entry for entry in room.audited(Event.STAFF_CHANGED) if entry["officer"] == "op-9"]
    assert [entry["change"] for entry in mine] == [
        f"added; operator, trained until {until}",
        f"trained until {until}",
        f"new password; engagement officer, trained until {until}",
        "removed",
    ]
    assert all(entry["by"].startswith("account ") for entry in mine)


def test_a_session_ends_with_the_password_it_was_begun_with(room: Room) -> None:
    thief, other = room.browser(), room.browser()
    assert (thief.sign_in(), other.sign_in("op-2")) == (303, 303)
    done = room.control("staff", "add", "op-1", "--role", "operator", "--trained-until", str(SOON),
                        "--password-stdin", stdin="another long password\n")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert thief.signed_out()
    assert not other.signed_out()
    assert room.until_audited(Event.SIGNED_OUT) == {"by": "op-1", "cause": "the password was changed"}


def test_a_session_ends_when_its_officer_leaves_the_staff(room: Room) -> None:
    officer = room.browser()
    assert officer.sign_in() == 303
    assert room.control("staff", "remove", "op-1").returncode == 0
    assert officer.signed_out()
    assert officer.sign_in() == 403


def test_nobody_decides_before_the_lists_picture_was_handed_out_and_looked_at(site: Site, room: Room) -> None:
    with room.store() as store:
        (alert,) = hold_alerts(site, 1, store=store)
    officer = room.browser()
    assert officer.sign_in() == 303
    form = {"engage": "yes", "reason": "same person"}
    assert officer.ask("GET", f"/alerts/{alert}")[0] == 200
    assert officer.ask("GET", f"/alerts/{alert}/probe.jpg")[0] == 200
    time.sleep(1.2)  # longer than the least look, with one picture
    status, body = officer.ask("POST", f"/alerts/{alert}/decision", form)
    assert status == 409
    assert "0 of at least 1 seconds" in body
    assert officer.ask("GET", f"/alerts/{alert}/reference.jpg")[0] == 200
    assert officer.ask("POST", f"/alerts/{alert}/decision", form)[0] == 409
    time.sleep(1.2)
    assert officer.ask("POST", f"/alerts/{alert}/decision", form)[0] == 200


def test_the_end_of_the_log_that_was_cut_off_is_missed_by_what_a_watch_has_kept(site: Site, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(site.room, tmp_path / "another machine")
    shutil.rmtree(elsewhere / "control-state")
    published = elsewhere / "control-state" / "checkpoints" / "control-room.jws"
    log = site.room / "control-state" / "audit.log"
    known = KnownSigners.of([SigningKey.load("control-signing.jwk", site.room).public_jwk(owner="control-room")])

    def kept() -> list[str]:
        return published.read_text("ascii").splitlines() if published.exists() else []

    watch = subprocess.Popen(
        [sys.executable, "-m", "edge.controlroom.cli", "watch", "--config", elsewhere / "control.toml"],
        stdout=subprocess.DEVNULL,
    )
    try:
        with running_room(site, "quick retention") as room:
            assert room.browser().sign_in() == 303
            room.until_audited(Event.SIGNED_IN)
            deadline = time.monotonic() + 90
            while not kept() or verify(log, known, published=kept()).signed_to < 2:
                assert time.monotonic() < deadline, "the watch has kept no checkpoint"
                time.sleep(0.5)
                # The watch may have begun to listen after the last checkpoint; whatever happens is followed by another.
                assert room.browser().sign_in() == 303
    finally:
        watch.terminate()
        watch.wait(30)
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    checkpoints_of(log).unlink()
    with pytest.raises(AuditBroken, match="published checkpoint"):
        verify(log, known, published=kept())
