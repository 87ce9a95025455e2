"""From locks and a commit to an image: the order of the steps, and the one place that knows all of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from provisioning.image import debian, disk, kernel, keys, lock, release, sbom, uki, wheels
from provisioning.image.board import Board, board
from provisioning.image.tools import EPOCH, ImageUnusable, require, run, sha256_file

__all__ = ["TOOLS", "Built", "Request", "build", "commit_of", "compose"]

TOOLS = (
    *("mmdebstrap", "arch-test", "buildah", "mksquashfs", "veritysetup", "genimage", "mkfs.vfat", "mcopy", "mkfs.ext4"),
    *("mkimage", "mkenvimage", "bmaptool", "depmod", "cpio", "readelf", "dpkg-deb", "git", "aarch64-linux-gnu-objcopy"),
)
_SINGLE = "busybox-static"
_STUB = "systemd-boot-efi"
_ENABLED = (
    "lfr-volumes",
    "lfr-enrol",
    "lfr-edge",
    "lfr-commit",
    "systemd-networkd",
    "systemd-timesyncd",
    "systemd-resolved",
)
_MASKED = (
    *("getty@.service", "serial-getty@.service", "getty.target", "systemd-firstboot.service", "apt-daily.timer"),
    *("apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "systemd-networkd-wait-online.service"),
    *("fstrim.timer", "e2scrub_reap.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service"),
)
_GONE = ("usr/bin/apt", "usr/bin/apt-get", "var/cache", "var/log", "var/lib/apt", "boot", "etc/ssh")


_RAUC_SLOT = """\
# The signed command line is the same in both slots: the first root says which one runs.
[Service]
EnvironmentFile=/run/lfr-slot
ExecStart=
ExecStart=/usr/bin/rauc --mount=/run/rauc --override-boot-slot=${SLOT} service
"""
DEBIAN = debian.Mirror()
"""The live archive."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to build.

    Attributes:
        board: profile's name.
        version: numbers and dots.
        epoch: security epoch, 0–63.
        keyring: PEM file with the release authorities that a van of this image trusts, and their revocation lists.
        out: folder for the result; emptied first.
        cache: folder for what may be used again.
        mirror: where Debian comes from.
        accept_moved: build although the archive has moved on from the lock.
        development: the keyring may name a development authority.
        kernel_deb: the maker's kernel package instead of Debian's.
        overlay: a folder copied over the root at the end; images so made are for tests.
    """

    board: str
    version: str
    epoch: int
    keyring: Path
    out: Path
    cache: Path = Path(".cache/image")
    mirror: debian.Mirror = DEBIAN
    accept_moved: bool = False
    development: bool = False
    kernel_deb: Path | None = None
    overlay: Path | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """What was built."""

    folder: Path
    release: release.Release
    absent_modules: tuple[str, ...]
    untested: tuple[str, ...]


def commit_of(repository: Path) -> str:
    """The commit of a checkout, with ``-dirty`` when files that go into the image differ from it."""
    head = run(["git", "-C", repository, "rev-parse", "HEAD"], thing=str(repository)).strip()
    changed = run(
        ["git", "-C", repository, "status", "--porcelain", "--", "edge", "models", "provisioning", "Dockerfile.arm64"],
        thing=str(repository),
    )
    return f"{head}-dirty" if changed.strip() else head


def compose(root: Path, target: Board, own: release.Release, keyring: Path, source: Path) -> None:
    """Make a van of a Debian root that already holds LFR Edge: units, helpers, users, keyring, release record."""
    shutil.copytree(source / "rootfs", root, symlinks=True, dirs_exist_ok=True)
    template = root / "etc/rauc/system.conf.in"
    words = {"@COMPATIBLE@": target.compatible, "@BOOTLOADER@": target.bootloader}
    text = template.read_text()
    for name, value in words.items():
        text = text.replace(name, value)
    (root / "etc/rauc/system.conf").write_text(text)
    template.unlink()
    shutil.copyfile(keyring, root / "etc/rauc/keyring.pem")
    for path in (root / "etc/lfr", root / "etc/rauc"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    release.write(own, root / "etc/lfr/release.json")
    for folder in ("cfg", "state", "data", "ops"):
        (root / folder).mkdir(mode=0o755, exist_ok=True)
    for name in _GONE:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in (root / "var/lib/dpkg").glob("*-old"):
        path.unlink()
    # the bill of materials stays readable on the van; the rest of /var is memory
    (root / "usr/share/lfr").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / "var/lib/dpkg/status", root / "usr/share/lfr/dpkg-status")
    if target.uefi:
        override = root / "etc/systemd/system/rauc.service.d/slot.conf"
        override.parent.mkdir(parents=True)
        override.write_text(_RAUC_SLOT)
    (root / "etc/machine-id").write_text("")
    (root / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    (root / "etc/hostname").write_text("lfr-edge\n")
    _link(root / "etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
    _accounts(root)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    for name in (*_ENABLED, *(("lfr-slots",) if target.uefi else ())):
        place = "/etc/systemd/system" if name.startswith("lfr-") else "/lib/systemd/system"
        _link(wants / f"{name}.service", f"{place}/{name}.service")
    for name in _MASKED:
        _link(root / "etc/systemd/system" / name, "/dev/null")
    _link(root / "etc/systemd/system/default.target", "/lib/systemd/system/multi-user.target")


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _accounts(root: Path) -> None:
    """The service's account, and no password for anybody."""
    for name, line in (("passwd", "lfr:x:990:990:LFR Edge:/var/lib/lfr:/usr/sbin/nologin"), ("group", "lfr:x:990:")):
        path = root / "etc" / name
        lines = [entry for entry in path.read_text().splitlines() if not entry.startswith("lfr:")]
        path.write_text("\n".join([*lines, line]) + "\n")
    shadow = root / "etc/shadow"
    locked = [
        ":".join([*entry.split(":")[:1], "!*", *entry.split(":")[2:]]) for entry in shadow.read_text().splitlines()
    ]
    shadow.write_text("\n".join([*locked, "lfr:!*:::::::"]) + "\n")
    for name in ("passwd-", "group-", "shadow-", "gshadow-"):
        (root / "etc" / name).unlink(missing_ok=True)


def build(request: Request, repository: Path, say: Callable[[str], None]) -> Built:
    """Build an image.

    Leaves in ``request.out``: ``disk.img`` and ``disk.bmap`` (to flash), ``bundle/`` (the content of the update that
    ``image sign`` seals), ``sbom.cdx.json`` and ``release.json`` (which names every file by its digest).

    Raises:
        ImageUnusable: a lock, a keyring, or a size does not fit.
        ImageRefused: the keyring of a production image names a development authority.
        ToolMissing, ToolFailed: see :func:`provisioning.image.tools.run`.
    """
    require(*TOOLS)
    target = board(request.board)
    keys.check_keyring(request.keyring, development=request.development)
    commit = commit_of(repository)
    cache = request.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    out = request.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    (out / "bundle").mkdir(parents=True)
    locked = lock.parse_debian(lock.DEBIAN_LOCK.read_text())
    base = debian.bootstrap(cache, mirror=request.mirror, locked=locked, accept_moved=request.accept_moved, say=say)
    wanted = (_SINGLE, *target.side) if request.kernel_deb else (target.kernel, _SINGLE, *target.side)
    debs = debian.download(cache, wanted, mirror=request.mirror)
    side = [debian.identity(path) for path in debs.values()]
    found = {p.name: p.version for p in side}
    expected = debian.single(locked, target) if not request.kernel_deb else {}
    moved = (*base.moved, *debian.check_against_lock(found, expected, accept_moved=request.accept_moved))
    own = release.Release(
        version=request.version,
        epoch=request.epoch,
        board=target.name,
        compatible=target.compatible,
        commit=commit,
        models={str(p): sha256_file(repository / p) for p in wheels.sources(repository) if p.suffix == ".tflite"},
        locks={p.name: sha256_file(p) for p in (lock.DEBIAN_LOCK, lock.WHEEL_LOCK, lock.SOURCE_LOCK)},
        moved=moved,
    )
    with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as name:
        scratch = Path(name)
        root = scratch / "root"
        root.mkdir(mode=0o755)
        run(["tar", "-xpf", base.archive, "-C", root, "--numeric-owner"], thing="root file system")
        wheels.software(repository, cache, base.archive, root, say)
        the_kernel = kernel.unpack(request.kernel_deb or debs[target.kernel], scratch / "kernel")
        absent = kernel.install_modules(the_kernel, target, root)
        for package in target.side:
            if package != _STUB:
                _add(debs[package], root, scratch / package)
        compose(root, target, own, request.keyring, repository / "provisioning/image")
        if request.overlay:
            shutil.copytree(request.overlay, root, symlinks=True, dirs_exist_ok=True)
        pins = [
            *lock.parse_requirements(lock.WHEEL_LOCK.read_text()),
            *lock.parse_requirements(lock.SOURCE_LOCK.read_text()),
        ]
        bill = sbom.bill(
            version=own.version,
            commit=commit,
            packages=[*base.packages, *side],
            site=root / "opt/lfr/site",
            pins=pins,
            models=own.models,
        )
        (out / "sbom.cdx.json").write_text(bill)
        shutil.copyfile(out / "sbom.cdx.json", root / "usr/share/lfr/sbom.cdx.json")
        say("root image and its verity tree")
        disk.level_times(root)
        verity = disk.root_image(root, out / "rootfs.img", target)
        first = scratch / "initrd.gz"
        kernel.first_root(the_kernel, target, root, debs[_SINGLE], verity.text, first, scratch)
        if target.uefi:
            run(["dpkg-deb", "-x", debs[_STUB], scratch / "stub"], thing=_STUB)
            words = uki.command_line(target.console, verity)
            whole = out / uki.UNSIGNED
            uki.assemble(scratch / "stub" / uki.STUB, the_kernel.image, first, words, whole, scratch)
            uki.boot_partition(whole, next(p.mib for p in target.partitions if p.name == "bootA"), out / "boot.img")
        else:
            _boot_image(the_kernel, target, first, out, scratch)
        say("disk image")
        script = {} if target.uefi else disk.boot_script(target, scratch)
        disk.fat(out / "cfg.vfat", target.partitions[0].mib, script, "1f2e4ed6")
        disk.state(out / "state.ext4", next(p.mib for p in target.partitions if p.name == "state"))
        disk.disk(target, out, out / "disk.img", scratch)
    disk.block_map(out / "disk.img", out / "disk.bmap")
    _bundle_content(out, replace(own, root_hash=verity.root_hash), target)
    return _record(out, replace(own, root_hash=verity.root_hash), target, tuple(absent))


def _add(deb: Path, root: Path, scratch: Path) -> None:
    """Put one more package into a root, without running anything; of its documents only the licence."""
    run(["dpkg-deb", "-x", deb, scratch], thing=deb.name)
    for path in (scratch / "usr/share/man", scratch / "usr/share/lintian"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (scratch / "usr/share/doc").glob("*/*"):
        if path.name != "copyright":
            path.unlink()
    # unpacked straight over the root, a package's /bin would take the place of the link to /usr/bin
    shutil.copytree(scratch, root, symlinks=True, dirs_exist_ok=True)


def _boot_image(the_kernel: kernel.Kernel, target: Board, first: Path, out: Path, scratch: Path) -> None:
    vmlinuz = scratch / "vmlinuz"
    shutil.copyfile(the_kernel.image, vmlinuz)
    for path in (first, vmlinuz):
        run(["touch", f"--date=@{EPOCH}", path], thing=path.name)
    size = next(p.mib for p in target.partitions if p.name == "bootA")
    disk.fat(out / "boot.img", size, {"vmlinuz": vmlinuz, "initrd.gz": first}, "1f2e4ed7")


def _bundle_content(out: Path, own: release.Release, target: Board) -> None:
    bundle = out / "bundle"
    for name in ("rootfs.img", "boot.img"):
        (out / name).rename(bundle / name)
    _bundle_content_text(bundle, own, target)
    for name in ("cfg.vfat", "state.ext4"):
        (out / name).unlink()


def _bundle_content_text(bundle: Path, own: release.Release, target: Board) -> None:
    """The record that the van's handler reads, and RAUC's manifest."""
    inner = replace(own, digests={name: sha256_file(bundle / name) for name in ("rootfs.img", "boot.img")})
    release.write(inner, bundle / release.RELEASE_FILE)
    (bundle / "manifest.raucm").write_text(
        f"[update]\ncompatible={target.compatible}\nversion={own.version}\nbuild={own.commit}\n\n"
        "[bundle]\nformat=verity\n\n[image.rootfs]\nfilename=rootfs.img\n\n[image.boot]\nfilename=boot.img\n"
    )


def _record(out: Path, own: release.Release, target: Board, absent: tuple[str, ...]) -> Built:
    names = [
        "disk.img",
        "disk.bmap",
        "sbom.cdx.json",
        *((uki.UNSIGNED,) if target.uefi else ()),
        *(f"bundle/{p.name}" for p in sorted((out / "bundle").iterdir())),
    ]
    # partitions, so that a flashed medium can be read back piece by piece
    offsets = json.loads(run(["sfdisk", "--json", out / "disk.img"], thing="disk image"))["partitiontable"]
    parts = {}
    for part, entry in zip(target.partitions, offsets["partitions"], strict=True):
        parts[f"partition/{part.name}"] = _digest_of(out / "disk.img", entry["start"] * 512, entry["size"] * 512)
    full = replace(own, digests={**{name: sha256_file(out / name) for name in names}, **parts})
    release.write(full, out / release.RELEASE_FILE)
    return Built(out, full, absent, target.untested)


def _digest_of(path: Path, offset: int, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        stream.seek(offset)
        left = size
        while left:
            chunk = stream.read(min(left, 1 << 20))
            if not chunk:
                raise ImageUnusable(str(path), "ends before its last partition", "Build it again")
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
