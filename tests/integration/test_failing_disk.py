"""A disk or card that stops answering while the van is out: a real file system on a real block device that fails."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge.deployment.guard import Guard
from edge.deployment.permit import Permit
from edge.errors import AuthorityEnded, EdgeError, PolicyRefusal, StoreUnavailable, WorkerFailed
from edge.system.health import Health, read_status
from edge.watchlist.destruction import KEY
from tests.broker import Site
from tests.test_mandate import Deployment
from tests.van_process import Eavesdropper, Van, office, started, van  # noqa: F401

FROZEN_LONGEST_S = 45.0
"""The disk is asked every ten seconds, and a part that waits for it may be silent for ten; twice that is no page's."""


class FailingDisk:
    """An ext4 file system whose medium can be made to refuse what is read from it, or to answer no write at all."""

    def __init__(self, place: Path, backing: Path) -> None:
        self.place = place
        self._backing = backing
        self._content = b""

    def lose(self) -> None:
        """From now on what is read from the medium is an input/output error; what is remembered of it is not."""
        subprocess.run(["sync", "--file-system", str(self.place)], check=True)
        self._content = self._backing.read_bytes()
        os.truncate(self._backing, 0)

    def find(self) -> None:
        """All of it is there again."""
        with self._backing.open("r+b") as stream:
            stream.write(self._content)

    def hang(self) -> None:
        """From now on what is written waits, and nothing can end whoever waits for it."""
        subprocess.run(["fsfreeze", "--freeze", str(self.place)], check=True)

    def go_on(self) -> None:
        """What waits is done now."""
        subprocess.run(["fsfreeze", "--unfreeze", str(self.place)], check=False, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    place, backing = tmp_path / "disk", tmp_path / "disk.img"
    place.mkdir()
    with backing.open("wb") as stream:
        stream.truncate(32 << 20)
    mount = ["mount", "-o", "loop,noatime", str(backing), str(place)]
    made = [["mkfs.ext4", "-q", "-m", "0", str(backing)], mount]
    if os.geteuid() != 0 or any(subprocess.run(step, check=False, capture_output=True).returncode for step in made):
        pytest.skip("only root mounts")
    found = FailingDisk(place, backing)
    try:
        yield found
    finally:
        found.go_on()
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_list_that_the_disk_does_not_give_back_is_no_list_although_the_machine_remembers_it(
    disk: FailingDisk,
) -> None:
    out = Deployment(disk.place)
    answers: list[EdgeError | None] = []
    permit, mandate = Permit(out.site.clock), out.mandate()
    guard = Guard(mandate, permit, on_answer=answers.append, on_over=lambda _: None)
    mandate.start()
    guard.ask()
    assert permit.valid
    disk.lose()
    guard.ask()
    assert not permit.valid
    assert isinstance(answers[-1], StoreUnavailable)
    assert "watchlist.db: cannot be read from the disk any more (Input/output error)" in str(answers[-1])
    disk.find()
    guard.ask()
    assert permit.valid
    out.keeper.close()
    out.audit.close()


def test_an_authority_that_ends_behind_a_disk_that_gives_nothing_back_ends_all_the_same(disk: FailingDisk) -> None:
    out = Deployment(disk.place)
    permit, mandate = Permit(out.site.clock), out.mandate()
    over: list[PolicyRefusal] = []
    guard = Guard(mandate, permit, on_answer=lambda _: None, on_over=over.append)
    mandate.start()
    guard.ask()
    disk.lose()
    guard.ask()
    assert not permit.valid
    out.site.clock.advance(9 * 3600)
    guard.ask()
    assert [type(error) for error in over] == [AuthorityEnded]
    assert not list(out.keeper.folder.glob(f"list-*/{KEY}"))
    disk.find()
    permit.grant()
    assert not permit.valid
    out.audit.close()


def test_what_is_overwritten_and_cannot_be_removed_is_named_and_the_guard_lives(disk: FailingDisk) -> None:
    """Nothing but its name is left of the key. The next question tries again."""
    out = Deployment(disk.place)
    answers: list[EdgeError | None] = []
    over: list[PolicyRefusal] = []
    permit, mandate = Permit(out.site.clock), out.mandate()
    guard = Guard(mandate, permit, on_answer=answers.append, on_over=over.append)
    mandate.start()
    (key,) = out.keeper.folder.glob(f"list-*/{KEY}")
    before = key.read_bytes()
    subprocess.run(["chattr", "+a", str(key.parent)], check=True)
    out.site.clock.advance(9 * 3600)
    try:
        guard.ask()
        assert isinstance(answers[-1], StoreUnavailable)
        assert "is overwritten, but cannot be removed (Operation not permitted)" in str(answers[-1])
        assert key.read_bytes() != before
        assert not permit.valid
    finally:
        subprocess.run(["chattr", "-a", str(key.parent)], check=True)
    guard.ask()
    assert [type(error) for error in over] == [AuthorityEnded]
    assert not key.exists()
    out.audit.close()


def test_a_list_is_looked_for_on_the_disk_without_letting_go_of_its_locks(tmp_path: Path) -> None:
    """To close any handle of a file ends the locks that a process holds on it: another process might then write."""
    out = Deployment(tmp_path)
    out.mandate().start()
    store = out.keeper.open()

    def locks() -> list[str]:
        inode = f":{store.path.stat().st_ino} "
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        return [line.split(": ", 1)[1] for line in lines if inode in line and f" {os.getpid()} " in line]

    before = locks()
    assert before
    for _ in range(3):
        store.touch()
    assert locks() == before
    out.keeper.close()
    assert locks() == []
    with pytest.raises(StoreUnavailable, match="is closed"):
        store.touch()
    out.audit.close()


def _status(van: Van) -> Health | None:
    with contextlib.suppress(EdgeError):
        return read_status(van.folder / "run" / "status.json")
    return None


def _until(is_so: Callable[[], bool], longest_s: float, last: Callable[[], object]) -> float:
    """How many seconds it took until it was so."""
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < longest_s, f"it never came to that: {last()}"
        time.sleep(0.05)
    return time.monotonic() - begun


def _seconds_until(van: Van, condition: str, longest_s: float) -> float:
    return _until(lambda: getattr(_status(van), "state", "") == condition, longest_s, lambda: _status(van))


def _said(listening: Eavesdropper) -> list[str]:
    """What the van said outside that it is, one after the other."""
    return [msgspec.json.decode(said)["condition"] for topic, said in listening.heard if topic.endswith("/state")]


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("who", ["biden.jpg", "obama2.jpg"], ids=["nobody on the list passes", "the listed man passes"])
def test_a_disk_that_hangs_leaves_neither_a_green_page_nor_a_green_word_outside(
    site: Site, van: Van, disk: FailingDisk, who: str
) -> None:
    """Whoever writes to it waits in the kernel, where nothing ends it: the process stays until the disk answers."""
    van.content["store"]["directory"] = str(disk.place)
    van.write()
    van.fetches().watches("biden.jpg", who, frames=600)
    process = started(van)
    listening = Eavesdropper(site)
    try:
        _seconds_until(van, "matching", 30)
        disk.hang()
        took = _seconds_until(van, "failed", FROZEN_LONGEST_S)
        shown = _status(van)
        print(f"page after {took:.1f} s: {shown.why if shown else ''}")
        assert shown is not None
        assert "part" in shown.why
        _until(lambda: _said(listening)[-1] == "failed", 5, lambda: f"outside was said {_said(listening)}")
        assert process.poll() is None
    finally:
        disk.go_on()
        listening.stop()
        process.stdout.close()
        code = process.wait(30)
    assert code == WorkerFailed.exit_code
