"""RAUC calls this after it has checked a bundle's signature and before it touches a slot.

RAUC 1.8 would install an older signed bundle, and would notice a damaged payload only half-way through overwriting
the slot that the van falls back to. Both are refused here, by name, while the old slot is still whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from . import failed_updates, floor
from .files import read_small, replace_file

__all__ = ["inspect", "main"]

REFUSAL = Path("/run/lfr/update-refusal.json")
AGAIN = Path("/run/lfr/update-again")
"""There while an update stick asks for an image once more."""
ACCEPTED = Path("/run/lfr/update-accepted.json")
"""Release record of the bundle that was last let through."""
OPS_VOLUME = Path("/dev/mapper/lfr-ops")
PAYLOAD = ("rootfs.img", "boot.img")


def inspect(
    source: Path, floor_now: floor.Floor, *, board: str, deployed: bool, history: floor.History | None = None
) -> floor.Refusal | None:
    """Judge the bundle whose content is mounted at ``source``; every byte of it is read and compared.

    Args:
        source: the mounted payload.
        floor_now: the van's floor.
        board: the van's board.
        deployed: whether a deployment's list is on the van.
        history: what runs here and what was tried; None when that does not count.

    Returns:
        The first refusal; None when it may be installed.
    """
    try:
        candidate = floor.read_release(source / "release.json")
    except OSError as error:
        return floor.Refusal("PayloadDamaged", f"release record cannot be read ({error.strerror})")
    except ValueError as error:
        return floor.Refusal("NoRelease", str(error))
    if refusal := floor.judge(candidate, floor_now, board=board, deployed=deployed):
        return refusal
    if history and (refusal := floor.seen_before(candidate, history)):
        return refusal
    for name in PAYLOAD:
        digest = hashlib.sha256()
        try:
            with (source / name).open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        except OSError as error:
            return floor.Refusal("PayloadDamaged", f"{name} cannot be read to its end ({error.strerror})")
        if digest.hexdigest() != candidate.digests.get(name):
            return floor.Refusal("PayloadDamaged", f"{name} is not the file that the release names")
    return None


def main() -> int:
    """Run as RAUC's handler: 0 lets the installation go on."""
    own = floor.read_release(floor.RELEASE)
    try:
        floor_now = floor.van_floor().read()
    except (OSError, ValueError) as error:
        refusal: floor.Refusal | None = floor.Refusal("FloorUnreadable", f"this van's floor cannot be read ({error})")
    else:
        source = Path(os.environ["RAUC_UPDATE_SOURCE"])
        history = None if AGAIN.exists() else floor.History(own, failed_updates.read())
        refusal = inspect(source, floor_now, board=own.board, deployed=OPS_VOLUME.exists(), history=history)
    REFUSAL.parent.mkdir(parents=True, exist_ok=True)
    if refusal is None:
        replace_file(ACCEPTED, read_small(source / "release.json"), mode=0o644)
        return 0
    replace_file(REFUSAL, json.dumps({"name": refusal.name, "reason": refusal.reason}).encode(), mode=0o644)
    sys.stderr.write(f"refused {refusal.name}: {refusal.reason}\n")
    return 3


if __name__ == "__main__":
    sys.exit(main())
