"""A disk without a byte left, by accident or by somebody who filled it: a real file system of 2 MiB in memory."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.assembly.mandate import open_audit, retire
from edge.config import Config, parse
from edge.controlroom.cases import State
from edge.controlroom.config import load as load_control
from edge.controlroom.service import ControlRoom
from edge.deployment.clock_trust import ClockTrust
from edge.deployment.guard import Guard
from edge.deployment.kept import AUTHORITY_FILE
from edge.deployment.permit import Permit
from edge.errors import DeploymentOver, EdgeError, PolicyRefusal, StoreUnavailable, WatchlistGone
from edge.officers import Officer, Role
from edge.trust.audit import read_log, verify
from edge.trust.events import Event
from edge.trust.keys import SigningKey, write_private
from edge.vanroot import volumes
from edge.watchlist.destruction import KEY
from tests.attacks.rooms import SOON, hold_alerts
from tests.broker import make_site
from tests.lists import START
from tests.sim.clock import HandClock
from tests.test_mandate import Deployment

SIZE = 4 << 20


class SmallDisk:
    """A file system that can be filled to its last byte and its last file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def fill(self) -> None:
        with (self.place / "filler").open("wb", buffering=0) as stream:
            for size in (1 << 16, 4096, 1):
                try:
                    while True:
                        stream.write(b"x" * size)
                except OSError:
                    continue
        try:
            for number in range(1000):
                (self.place / f"empty-{number}").touch()
        except OSError:
            return
        raise AssertionError("there is room for more files")

    def empty(self) -> None:
        for path in (self.place / "filler", *self.place.glob("empty-*")):
            path.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    place = tmp_path / "disk"
    place.mkdir()
    options = f"size={SIZE},nr_inodes=300"
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root mounts")
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def out(disk: SmallDisk) -> Iterator[Deployment]:
    (disk.place / "van").mkdir()
    made = Deployment(disk.place / "van")
    yield made
    made.keeper.close()
    disk.empty() if (disk.place / "filler").exists() else None
    made.audit.close()


def keys(out: Deployment) -> list[Path]:
    return list(out.keeper.folder.glob(f"list-*/{KEY}"))


def config_of(out: Deployment) -> Config:
    folder = out.site.folder
    write_private(folder / "van-signing.jwk", out.site.signing.private_jwk())
    text = (
        '[van]\nid = "van-1"\n[deployment]\nid = "D-1"\n[camera]\nsource = "x"\n[store]\ndirectory = "."\n'
        "[clock]\nrequire_confirmed = false\n"
    )
    return parse(text, base=str(folder))


def test_a_running_van_whose_authority_ends_on_a_full_disk_destroys_its_list_and_stops(
    out: Deployment, disk: SmallDisk
) -> None:
    mandate = out.mandate()
    mandate.start()
    over: list[PolicyRefusal] = []
    permit = Permit(out.site.clock)
    guard = Guard(mandate, permit, on_answer=lambda _: None, on_over=over.append)
    guard.ask()
    assert permit.valid
    disk.fill()
    out.site.clock.advance(9 * 3600)
    guard.ask()
    assert [type(error).__name__ for error in over] == ["AuthorityEnded"]
    assert not permit.valid
    assert keys(out) == []
    assert not list(out.keeper.folder.glob("list-*"))
    assert mandate.authority is None


def test_what_ended_on_a_full_disk_does_not_come_back_when_there_is_room_again(
    out: Deployment, disk: SmallDisk
) -> None:
    mandate = out.mandate()
    mandate.start()
    began = out.site.clock.at
    disk.fill()
    out.site.clock.advance(9 * 3600)
    with pytest.raises(PolicyRefusal):
        mandate.check()
    disk.empty()
    out.site.clock.at = began
    out.restart()
    with pytest.raises(DeploymentOver):
        out.mandate().start()
    assert not list(out.keeper.folder.glob("list-*"))


def test_a_list_is_destroyed_by_hand_on_a_full_disk(out: Deployment, disk: SmallDisk) -> None:
    out.mandate().start()
    out.keeper.close()
    out.audit.close()
    config = config_of(out)
    disk.fill()
    receipt = retire(config, "by hand")
    assert receipt.files[-1] == "watchlist.db"
    assert len(receipt.references) == 3, "what the list leaves behind is room enough for its receipt"
    assert keys(out) == []
    assert not list(out.keeper.folder.glob("list-*"))
    assert not (out.site.folder / AUTHORITY_FILE).exists()


def test_a_list_is_destroyed_by_hand_where_no_log_can_be_written(out: Deployment) -> None:
    out.mandate().start()
    out.keeper.close()
    out.audit.close()
    config = config_of(out)
    out.site.log.rename(out.site.log.with_suffix(".kept"))
    out.site.log.mkdir()
    with pytest.raises(StoreUnavailable):
        retire(config, "by hand")
    assert not list(out.keeper.folder.glob("list-*"))
    out.site.log.rmdir()
    out.site.log.with_suffix(".kept").rename(out.site.log)
    assert len(retire(config, "by hand, again").references) == 3
    with pytest.raises(WatchlistGone):
        retire(config, "by hand")
    (made_up,) = [e for e in verify(out.site.log, out.site.signers).entries if e.event == Event.LIST_DESTROYED]
    assert (made_up.data["entries"], made_up.data["cause"]) == (3, "by hand, again")


def test_a_start_after_the_end_destroys_the_list_on_a_full_disk(out: Deployment, disk: SmallDisk) -> None:
    out.mandate().start()
    out.restart()
    disk.fill()
    out.site.clock.advance(9 * 3600)
    with pytest.raises(EdgeError):
        out.mandate().start()
    assert keys(out) == []
    assert not list(out.keeper.folder.glob(f"list-*/{'watchlist.db'}"))


def test_the_key_goes_before_the_log_is_opened(out: Deployment, disk: SmallDisk) -> None:
    """Also when there is no log any more, and none can be made."""
    out.mandate().start()
    out.keeper.close()
    out.audit.close()
    config = config_of(out)
    out.site.log.unlink()
    disk.fill()
    out.site.clock.advance(9 * 3600)
    with pytest.raises(StoreUnavailable):
        open_audit(config, out.site.clock, SigningKey.generate(), ClockTrust(out.site.clock, required=False))
    assert keys(out) == []


def test_on_the_word_of_a_clock_that_nothing_vouches_for_no_key_is_destroyed(out: Deployment, tmp_path: Path) -> None:
    out.mandate().start()
    out.keeper.close()
    out.audit.close()
    config = config_of(out)
    out.site.clock.advance(9 * 3600)

    class Unconfirmed(ClockTrust):
        def confirmed(self) -> bool:
            return False

    open_audit(config, out.site.clock, out.site.signing, Unconfirmed(out.site.clock)).close()
    assert len(keys(out)) == 1


def test_while_the_service_runs_its_list_is_not_destroyed_behind_its_back(out: Deployment) -> None:
    out.mandate().start()
    config = config_of(out)
    with pytest.raises(StoreUnavailable, match="is in use"):
        retire(config, "by hand")
    assert len(keys(out)) == 1


# -- the volume's sealed key ---------------------------------------------------------------------


def test_the_volumes_sealed_key_is_destroyed_in_place_on_a_full_disk(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = disk.place / "sealed"
    sealed.mkdir()
    secret = os.urandom(700)
    (sealed / "ops.cred").write_bytes(secret)
    kept = os.open(sealed / "ops.cred", os.O_RDONLY)  # whoever holds the blocks, reads noise
    disk.fill()
    monkeypatch.setattr(volumes, "SEALED", sealed)
    try:
        assert volumes.destroy_key("ops") == secret
        assert not (sealed / "ops.cred").exists()
        left = os.pread(kept, 700, 0)
        assert len(left) == 700
        assert left != secret
    finally:
        os.close(kept)


@pytest.mark.parametrize("broken", ["systemctl", "cryptsetup", "systemd-creds", "blkid"])
def test_whatever_fails_at_the_end_of_a_deployment_the_sealed_key_is_gone(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tool of the end is one that does nothing but fail, or hangs on nothing."""
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    (sealed / "ops.cred").write_bytes(b"sealed")
    order = tmp_path / "order"
    for tool in ("systemctl", "cryptsetup", "systemd-creds", "blkid"):
        script = tmp_path / tool
        state = f'[ -e {sealed}/ops.cred ] && echo "{tool} before" >> {order}'
        script.write_text(f"#!/bin/sh\n{state}\nexit {1 if tool == broken else 0}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(volumes, "SEALED", sealed)
    monkeypatch.setattr("time.sleep", lambda _: None)
    volumes.main(["retire"])
    assert not (sealed / "ops.cred").exists()
    assert not order.exists(), "nothing was asked before the key was destroyed"


def test_the_audit_log_says_when_the_list_was_destroyed(out: Deployment) -> None:
    mandate = out.mandate()
    mandate.start()
    out.site.clock.advance(9 * 3600)
    with pytest.raises(PolicyRefusal):
        mandate.check()
    out.audit.checkpoint()
    entries = verify(out.site.log, out.site.signers).entries
    (destroyed,) = [e.data for e in entries if e.event == Event.LIST_DESTROYED]
    assert destroyed["cause"] == "the authority ended"
    assert destroyed["files"][0] == KEY
    assert datetime.fromisoformat(destroyed["destroyed_at"]) > START
    assert json.dumps(destroyed)


def test_what_the_control_rooms_log_cannot_take_was_neither_decided_nor_seen(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    site.van("van-1")
    (site.room / "control.toml").write_text(f"{(site.room / 'control.toml').read_text()}[console]\nlook_s = 1\n")
    clock = HandClock(datetime.now(UTC))
    room = ControlRoom.open(load_control(site.room / "control.toml"), clock)
    hold_alerts(site, 1, 2, store=room.store)
    officer = Officer("op-1", Role.OPERATOR, SOON)
    first, second = (case.ref for case in room.store.cases())
    room.desk.open_alert(first, officer)
    for which in ("probe", "reference"):
        room.desk.picture(first, which, officer)
    clock.advance(2)
    told = room.store.to_vans.outgoing()
    log, full = room._audit._file, os.open("/dev/full", os.O_WRONLY)  # the last block goes to the store
    room._audit._file = full
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        room.desk.decide(first, officer, engage=True, reason="Same person")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        room.desk.open_alert(second, officer)
    room._audit._file = log
    os.close(full)
    assert [case.state for case in room.store.cases()] == [State.SEEN, State.NEW]
    assert room.store.to_vans.outgoing() == told, "no van is told either"
    assert room.desk.decide(first, officer, engage=True, reason="Same person").state is State.ENGAGE
    assert read_log(room._audit.path)[-1].event == Event.ALERT_ADJUDICATED
    room.stop()
