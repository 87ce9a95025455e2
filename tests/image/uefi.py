"""A van whose firmware is UEFI: its keys, its memory of variables, its kernel images, spoilt or not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from provisioning.image import build, debian, disk, firmware_keys, sign, uki
from provisioning.image.board import board
from tests.image import bench, qemu
from tests.image.bench import CACHE, REPOSITORY, Ring

EMPTY = Path("/usr/share/AAVMF/AAVMF_VARS.fd")
"""The memory of a firmware that never ran; it holds no keys."""
BOARD = "arm64-uefi"
_ENROL = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
insmod /efivarfs.ko; mount -t efivarfs efi /sys/firmware/efi/efivars
global=8be4df61-93ca-11d2-aa0d-00e098032b8c
give() {
  # attributes: kept, also while the system runs, changed by whoever signs
  { printf '\047\000\000\000'; cat "/$1.auth"; } > /value
  if dd if=/value of="/sys/firmware/efi/efivars/$1-$2" bs=64k 2>/why
  then echo "ENROL $1 taken"; else echo "ENROL $1 refused: $(cat /why)"; fi
}
give db d719b2cb-3d3a-4596-a3bc-dad00e67656f
give KEK $global
give PK $global
echo "ENROL setup mode $(tail -c 1 /sys/firmware/efi/efivars/SetupMode-$global | od -An -tu1)"
echo b > /proc/sysrq-trigger
sleep 60
"""


def keys_of(ring: Ring, name: str) -> Path:
    """Firmware keys beside one of the ring's authorities; kept over runs of the same code."""
    made_by = debian.key_of(Path(firmware_keys.__file__).read_bytes())
    folder = ring.folder / f"{name}-firmware-{made_by}"
    if not (folder / "db.auth").exists():
        shutil.rmtree(folder, ignore_errors=True)
        firmware_keys.make(ring.folder / name, folder)
    return folder


def signer(ring: Ring, name: str = "release") -> sign.Signer:
    """Who signs kernel images."""
    folder = keys_of(ring, name)
    return sign.Signer(folder / "db.crt", str(folder / "db.key"))


def variables(ring: Ring, out: Path, scratch: Path) -> tuple[Path, str]:
    """The memory of a firmware that was given the release's keys as an engineer gives them, and what it said to each.

    A small system is started on firmware that holds no keys, and hands it the files of ``image key secure-boot``.
    """
    tree = scratch / "enrol"
    for folder in ("bin", "dev", "proc", "sys"):
        (tree / folder).mkdir(parents=True)
    target = board(BOARD)
    debs = debian.download(CACHE, (target.kernel, "busybox-static", *target.side), mirror=build.DEBIAN)
    for package, wanted in ((target.kernel, ("*/vmlinuz-*", "*/efivarfs.ko")), ("busybox-static", ("*/busybox",))):
        archive = scratch / f"{package}.tar"
        with archive.open("wb") as stream:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", str(debs[package])], check=True, stdout=stream)
        subprocess.run(["tar", "-xf", str(archive), "-C", str(scratch), "--wildcards", *wanted], check=True)
    shutil.copy(next(scratch.glob("bin/busybox")), tree / "bin/busybox")
    shutil.copy(next(scratch.rglob("efivarfs.ko")), tree / "efivarfs.ko")
    for name in firmware_keys.NAMES:
        shutil.copy(keys_of(ring, "release") / f"{name}.auth", tree)
    (tree / "init").write_text(_ENROL)
    (tree / "init").chmod(0o755)
    root = scratch / "root.cpio"
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with root.open("wb") as stream:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc"], cwd=tree, input=names.encode(), stdout=stream, check=True
        )
    shutil.copy(EMPTY, out)
    kernel = str(next(scratch.glob("boot/vmlinuz-*")))
    command = [
        *("qemu-system-aarch64", "-machine", "virt", "-cpu", qemu.PROCESSOR, "-accel", "tcg", "-m", "512"),
        *(*qemu.uefi(out), "-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio"),
        *("-kernel", kernel, "-initrd", str(root), "-append", "console=ttyAMA0 quiet"),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=600)
    return out, done.stdout.decode(errors="replace")


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
