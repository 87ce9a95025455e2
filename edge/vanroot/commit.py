"""Decide whether the image that just started may stay.

An image on trial is one above the floor. It stays when the self-test passes: only then is its slot marked good, and
only then does the floor rise. A trial that fails restarts the van; after three tries the boot loader takes the old
slot. An image at the floor is no trial: it is marked good even with its camera unplugged, so that a fault of the
machine never sends a van back to older software. An image below the floor is a rescue: it is left as it is, takes
updates, and ``lfr-edge`` does not start in it.
"""

from __future__ import annotations

import subprocess
import sys
from enum import Enum

from . import failed_updates, floor

__all__ = ["Standing", "main", "standing"]


class Standing(Enum):
    """What the running image is, against the floor."""

    TRIAL = "on trial"
    COMMITTED = "committed"
    RESCUE = "older than this van allows: it takes updates and does not operate"


def standing(own: floor.Release, now: floor.Floor) -> Standing:
    """Compare the running image with the floor."""
    mine, lowest = (own.epoch, floor.version_key(own.version)), (now.epoch, floor.version_key(now.version))
    if mine[0] < lowest[0] or mine[1] < lowest[1]:
        return Standing.RESCUE
    return Standing.COMMITTED if mine == lowest else Standing.TRIAL


def _say(text: str) -> None:
    sys.stdout.write(f"LFR-COMMIT {text}\n")
    sys.stdout.flush()


def _self_test() -> bool:
    """Whether ``lfr-health.service`` is content; it says on the console what is wrong."""
    return subprocess.run(["systemctl", "start", "lfr-health.service"], check=False).returncode == 0


def _mark_good() -> None:
    subprocess.run(["/usr/bin/rauc", "status", "mark-good"], check=True, capture_output=True)


def main(arguments: list[str]) -> int:
    """``gate``: may the service start in this image; otherwise: commit, or ask for a restart by failing."""
    own = floor.read_release(floor.RELEASE)
    store = floor.van_floor()
    where = standing(own, store.read())
    if arguments == ["gate"]:
        return 0 if where is not Standing.RESCUE else 3
    _say(f"version {own.version} epoch {own.epoch} is {where.value}")
    if where is Standing.RESCUE:
        return 0
    if where is Standing.TRIAL and not _self_test():
        _say("self-test failed: this image may not stay")
        return 5
    _mark_good()
    now = store.rise(own)
    if where is Standing.TRIAL:
        failed_updates.clear()
    _say(f"slot is good, floor is version {now.version} epoch {now.epoch}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
