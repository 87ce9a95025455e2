"""A disk or card that stops answering while the van is out: a real file system on a real block device that fails."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge.deployment.guard import Guard
from edge.deployment.permit import Permit
from edge.errors import EdgeError, StoreUnavailable, WorkerFailed
from edge.system.health import Health, read_status
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


def _seconds_until(van: Van, condition: str, longest_s: float) -> float:
    begun = time.monotonic()
    while (shown := _status(van)) is None or shown.state != condition:
        assert time.monotonic() - begun < longest_s, f"it never was {condition}; last: {shown}"
        time.sleep(0.05)
    return time.monotonic() - begun


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("who", ["biden.jpg", "obama2.jpg"], ids=["nobody on the list passes", "the listed man passes"])
def test_a_disk_that_hangs_leaves_neither_a_green_page_nor_a_green_word_outside(
    site: Site, van: Van, disk: FailingDisk, who: str
) -> None:
    """Whoever writes to it waits in the kernel, where nothing ends it: the process itself stays until the disk answers."""
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
        time.sleep(0.5)
        conditions = [
            msgspec.json.decode(payload)["condition"] for topic, payload in listening.heard if topic.endswith("/state")
        ]
        assert conditions[-1] == "failed", conditions
        assert process.poll() is None
    finally:
        disk.go_on()
        listening.stop()
        process.stdout.close()
        code = process.wait(30)
    assert code == WorkerFailed.exit_code
