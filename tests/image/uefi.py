"""A van whose firmware is UEFI: its keys, its memory of variables, its kernel images, spoilt or not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from provisioning.image import build, disk, firmware_keys, sign, uki
from tests.image import bench
from tests.image.bench import CACHE, REPOSITORY, Ring

FORMATTED = Path("/usr/share/AAVMF/AAVMF_VARS.ms.fd")
"""Debian's empty file of variables is zeros, which only the firmware itself can format; this one's keys are deleted."""
BOARD = "arm64-uefi"


def keys_of(ring: Ring, name: str) -> Path:
    """Firmware keys below one of the ring's authorities; kept over runs."""
    folder = ring.folder / f"{name}-firmware"
    if not (folder / "db.auth").exists():
        shutil.rmtree(folder, ignore_errors=True)
        firmware_keys.make(ring.folder / name, folder)
    return folder


def signer(ring: Ring, name: str = "release") -> sign.Signer:
    """Who signs kernel images."""
    folder = keys_of(ring, name)
    return sign.Signer(folder / "db.crt", str(folder / "db.key"))


def variables(ring: Ring, out: Path) -> Path:
    """The memory of a firmware in which the release's keys are enrolled and Secure Boot is on."""
    folder, owner = keys_of(ring, "release"), str(firmware_keys.OWNER)
    gone = [word for name in ("PK", "KEK", "db", "dbx") for word in ("-d", name)]
    ours = [word for name in ("set-pk", "add-kek", "add-db") for word in (f"--{name}", owner)]
    for place, name in ((2, "PK"), (5, "KEK"), (8, "db")):
        ours.insert(place, str(folder / f"{name}.crt"))
    tool = Path(sys.executable).with_name("virt-fw-vars")
    subprocess.run(
        [str(tool), "-i", str(FORMATTED), "-o", str(out), *gone, *ours, "--sb"], check=True, capture_output=True
    )
    return out


def image(
    ring: Ring, version: str, epoch: int, *, accept_moved: bool, overlay: Path | None = None, name: str = ""
) -> Path:
    """A built, signed and verified image for a machine with UEFI."""

    def made(out: Path) -> None:
        request = build.Request(
            board=BOARD, version=version, epoch=epoch, keyring=ring.keyring, out=out, cache=CACHE,
            accept_moved=accept_moved, overlay=overlay,
        )  # fmt: skip
        build.build(request, REPOSITORY, bench.say)
        sign.sign(out, ring.signer(), signer(ring))

    key = (keys_of(ring, "release") / "db.crt").read_bytes()
    return bench.kept(f"{BOARD}-{name or f'{version}-{epoch}'}", ring, [version, str(epoch), key, overlay], made)


def kernel_of(medium: Path, out: Path, slot: str = "A") -> Path:
    """The kernel image that lies in a slot of a medium."""
    where = f"{medium}@@{disk.offset_of(medium, f'boot{slot}')}"
    subprocess.run(["mcopy", "-o", "-i", where, f"::{uki.PLACE}", str(out)], check=True)
    return out


def put_kernel(medium: Path, image_file: Path, slot: str = "A") -> None:
    """Write a kernel image over the one in a slot, as whoever has the medium for a minute can."""
    where = f"{medium}@@{disk.offset_of(medium, f'boot{slot}')}"
    subprocess.run(["mcopy", "-o", "-i", where, str(image_file), f"::{uki.PLACE}"], check=True)


def rewritten(source: Path, out: Path, change: Callable[[bytes], bytes]) -> Path:
    """A kernel image with some of its bytes changed, and as long as before."""
    before = source.read_bytes()
    after = change(before)
    assert len(after) == len(before)
    assert after != before
    out.write_bytes(after)
    return out


def signed_by(ring: Ring, name: str, unsigned: Path, out: Path) -> Path:
    """A kernel image, signed with the Secure Boot key below one of the ring's authorities."""
    who = signer(ring, name)
    subprocess.run(
        ["sbsign", "--key", who.key, "--cert", str(who.certificate), "--output", str(out), str(unsigned)],
        check=True,
        capture_output=True,
    )
    return out
