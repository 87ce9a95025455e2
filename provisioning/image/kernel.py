"""The kernel, the modules that a van needs and no others, and the small first root that opens the verified one."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from provisioning.image.board import Board
from provisioning.image.tools import ImageUnusable, run

__all__ = ["Kernel", "first_root", "install_modules", "module_closure", "needed_libraries", "unpack"]

_FIRST_PROGRAMS = ("usr/sbin/veritysetup",)

_INIT = """#!/bin/busybox sh
# Opens the root by its verity hash and starts it: on the first disk that has it and is not on USB, since all other
# partitions are then taken from that disk. Any failure reboots: the boot loader counts, and falls back.
/bin/busybox mkdir -p /dev /proc /sys /run /root
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
fail() { echo "LFR-BOOT slot $slot: $1. Restarting"; sleep 1; echo b > /proc/sysrq-trigger; sleep 9; reboot -f; }
slot=?
signed=
for word in $(cat /proc/cmdline); do
  case $word in rauc.slot=*) slot=${word#rauc.slot=};; lfr.root=*) signed=${word#lfr.root=};; esac
done
while read -r module; do insmod "/lib/modules/$module" 2>/dev/null; done < /lib/modules/order
. /verity.conf
if [ -n "$signed" ]; then
  # one signed file: kernel, first root and this command line. It says by the partition it was started from which slot
  [ "$signed" = "$ROOT_HASH" ] || fail "the command line names another root than the first root was made for"
  mount -t efivarfs efi /sys/firmware/efi/efivars
  from=$(tail -c +5 "/sys/firmware/efi/efivars/@FROM@" | tr -d '\\0' | tr A-F a-f)
  case $from in @BOOT_A@) slot=A;; @BOOT_B@) slot=B;; *) fail "it was started from a foreign partition ($from)";; esac
  umount /sys/firmware/efi/efivars
  echo "LFR-BOOT slot $slot"
  mount -t tmpfs -o mode=0755,nosuid,nodev run /run
  echo "SLOT=$slot" > /run/lfr-slot
fi
device=; tries=0
while [ -z "$device" ] && [ $tries -lt 100 ]; do
  for event in /sys/class/block/*/uevent; do
    case $(readlink -f "${event%/uevent}") in */usb[0-9]*) continue;; esac
    if [ -z "$device" ] && grep -qx "PARTNAME=root$slot" "$event"; then
      device=/dev/$(sed -n 's/^DEVNAME=//p' "$event")
    fi
  done
  [ -n "$device" ] || { sleep 0.1; tries=$((tries + 1)); }
done
[ -n "$device" ] || fail "there is no partition root$slot"
veritysetup open "$device" root "$device" "$ROOT_HASH" --hash-offset="$HASH_OFFSET" ||
  fail "the root is not the signed one"
mount -t squashfs -o ro /dev/mapper/root /root || fail "the root cannot be mounted"
[ -z "$signed" ] || mount --move /run /root/run
umount /proc /sys; mount --move /dev /root/dev
exec switch_root /root /sbin/init
fail "there is no init"
"""


_STARTED_FROM = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
"""Variable in which systemd's stub names the partition that it was started from."""


class Kernel:
    """An unpacked kernel package.

    Args:
        tree: folder it was unpacked to.

    Attributes:
        version: the kernel's release, as ``uname -r`` will say it.
        image: the file that the boot loader starts.
    """

    def __init__(self, tree: Path) -> None:
        images = sorted(tree.glob("boot/vmlinu[xz]-*"))
        if not images:
            raise ImageUnusable(str(tree), "holds no kernel under /boot", "Use a Debian kernel package for arm64")
        self.tree = tree
        self.image = images[-1]
        self.version = self.image.name.partition("-")[2]
        # merged-/usr packages keep modules under /usr/lib
        self.modules = next(d for d in (tree / "lib/modules", tree / "usr/lib/modules") if d.is_dir()) / self.version


def unpack(deb: Path, tree: Path) -> Kernel:
    """Unpack a kernel package and index its modules, without running its scripts."""
    run(["dpkg-deb", "-x", deb, tree], thing=deb.name)
    kernel = Kernel(tree)
    run(["depmod", "-b", tree, kernel.version], thing=f"modules of {kernel.version}")
    return kernel


def _plain(name: str) -> str:
    return re.sub(r"\.ko(\.\w+)?$", "", name.rsplit("/", 1)[-1]).replace("-", "_")


def module_closure(dependencies: str, wanted: Iterable[str]) -> tuple[list[str], list[str]]:
    """Modules to load for those wanted, each after what it needs.

    Args:
        dependencies: text of ``modules.dep``.
        wanted: module names, with ``-`` or ``_``.

    Returns:
        Paths as they stand in ``modules.dep``, in loading order; and the wanted names that are not in it (built into
        the kernel, or absent).
    """
    paths: dict[str, str] = {}
    needs: dict[str, list[str]] = {}
    for line in dependencies.splitlines():
        path, _, rest = line.partition(":")
        paths[_plain(path)] = path
        needs[_plain(path)] = [_plain(p) for p in rest.split()]
    order: list[str] = []
    absent: list[str] = []

    def visit(name: str) -> None:
        # modules.dep lists every dependency, nearest first: from the far end each comes after what it needs itself
        for needed in reversed(needs[name]):
            if paths[needed] not in order:
                order.append(paths[needed])
        if paths[name] not in order:
            order.append(paths[name])

    for name in map(_plain, wanted):
        if name in paths:
            visit(name)
        elif name not in absent:
            absent.append(name)
    return order, absent


def install_modules(kernel: Kernel, board: Board, root: Path) -> list[str]:
    """Copy the board's modules and what they need into the root file system; returns names that the kernel lacks."""
    order, absent = module_closure((kernel.modules / "modules.dep").read_text(), board.modules)
    target = root / "usr/lib/modules" / kernel.version
    for path in order:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kernel.modules / path, target / path)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(kernel.modules / name, target / name)
    run(["depmod", "-b", root, kernel.version], thing="module index")
    for index in ("modules.symbols", "modules.symbols.bin"):
        (target / index).unlink(missing_ok=True)
    return absent


def needed_libraries(root: Path, program: str) -> list[str]:
    """Shared libraries of a program, to the last, as paths inside the root; with the loader that starts it."""
    folders = ("usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib", "lib")
    found: list[str] = ["lib/ld-linux-aarch64.so.1"]
    queue = [program]
    while queue:
        listing = run(["readelf", "-d", root / queue.pop()], thing=program)
        for name in re.findall(r"\(NEEDED\).*\[(.+?)\]", listing):
            path = next((f"{d}/{name}" for d in folders if (root / d / name).exists()), None)
            if path is None:
                raise ImageUnusable(f"library {name}", "is not in the root file system", "Add its package to the lock")
            if path not in found:
                found.append(path)
                queue.append(path)
    return found


def first_root(  # noqa: PLR0917 - one call, by the names of what it takes
    kernel: Kernel, board: Board, root: Path, busybox: Path, verity: str, out: Path, scratch: Path
) -> None:
    """Write the compressed first root: busybox, veritysetup, the few modules, and the hash of the one true root.

    Args:
        kernel: where modules come from.
        board: which modules are needed before the root.
        root: the van's root file system, for veritysetup and its libraries.
        busybox: the static busybox package.
        verity: text of ``/verity.conf``.
        out: file to write.
        scratch: empty folder to work in.
    """
    tree = scratch / "first"
    (tree / "bin").mkdir(parents=True)
    (tree / "lib/modules").mkdir(parents=True)
    run(["dpkg-deb", "-x", busybox, scratch / "busybox"], thing=busybox.name)
    shutil.copyfile(next((scratch / "busybox").glob("**/bin/busybox")), tree / "bin/busybox")
    (tree / "bin/busybox").chmod(0o755)
    order, _ = module_closure((kernel.modules / "modules.dep").read_text(), board.first_modules)
    for path in order:
        shutil.copyfile(kernel.modules / path, tree / "lib/modules" / path.rsplit("/", 1)[-1])
    (tree / "lib/modules/order").write_text("".join(p.rsplit("/", 1)[-1] + "\n" for p in order))
    for program in _FIRST_PROGRAMS:
        for path in (program, *needed_libraries(root, program)):
            place = tree / ("bin" if path == program else "lib") / Path(path).name
            place.write_bytes((root / path).read_bytes())
            place.chmod(0o755)
    (tree / "verity.conf").write_text(verity)
    uuid = {part.name: part.uuid for part in board.partitions}
    words = {"@FROM@": _STARTED_FROM, "@BOOT_A@": uuid["bootA"], "@BOOT_B@": uuid["bootB"]}
    script = _INIT
    for name, value in words.items():
        script = script.replace(name, value)
    (tree / "init").write_text(script)
    (tree / "init").chmod(0o755)
    out.write_bytes(gzip.compress(_archive(tree), compresslevel=6, mtime=0))


def _archive(tree: Path) -> bytes:
    names = sorted(str(p.relative_to(tree)) for p in tree.rglob("*"))
    for name in (*names, "."):
        os.utime(tree / name, (0, 0))
    done = subprocess.run(
        ["cpio", "--quiet", "--reproducible", "--owner=0:0", "-o", "-H", "newc"],
        cwd=tree,
        input="\n".join(names).encode() + b"\n",
        capture_output=True,
        check=True,
    )
    return done.stdout
