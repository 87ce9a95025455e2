"""Debian's part of an image: the arm64 root file system and single packages, at exactly the locked versions."""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from provisioning.image import lock
from provisioning.image.board import UEFI_SIDE, Board
from provisioning.image.tools import ImageUnusable, require, run

__all__ = [
    "PACKAGES",
    "Installed",
    "Mirror",
    "RootFileSystem",
    "bootstrap",
    "check_against_lock",
    "download",
    "identity",
    "installed",
    "key_of",
    "single",
]

PACKAGES = (
    *(
        "systemd",
        "systemd-sysv",
        "systemd-timesyncd",
        "systemd-resolved",
        "udev",
        "dbus",
        "kmod",
        "util-linux-extra",
        "tzdata",
    ),
    *("python3", "rauc", "rauc-service", "libubootenv-tool", "cryptsetup-bin", "e2fsprogs", "dosfstools"),
    *("tpm2-tools", "libtss2-tcti-device0", "libgomp1", "openssl"),
)
"""What a van has. No shell server, no package installer of Python's, no compiler, no broker: it only calls out."""

_SUITES = (("debian", "bookworm"), ("debian", "bookworm-updates"), ("debian-security", "bookworm-security"))
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where Debian comes from: the live archive, or a snapshot's folder for a lock that has aged."""

    url: str = "http://deb.debian.org"

    @property
    def sources(self) -> list[str]:
        """Lines of an apt source list."""
        return [f"deb [signed-by={_KEYRING}] {self.url}/{archive} {suite} main" for archive, suite in _SUITES]


@dataclass(frozen=True, slots=True)
class Installed:
    """One package as the root file system's own data base names it."""

    name: str
    version: str
    architecture: str
    source: str


@dataclass(frozen=True, slots=True)
class RootFileSystem:
    """Debian unpacked into one archive."""

    archive: Path
    packages: tuple[Installed, ...]
    moved: tuple[str, ...]
    """Differences from the lock that the builder chose to accept; empty for a release."""


def key_of(*parts: str | bytes) -> str:
    """The name of a cache entry: a digest of everything that decides its content."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:24]


def installed(status: str) -> tuple[Installed, ...]:
    """Read dpkg's ``status`` file."""
    found = []
    for paragraph in re.split(r"\n\n+", status):
        fields = dict(re.findall(r"(?m)^([A-Za-z-]+): (.*)$", paragraph))
        if "Package" in fields and fields.get("Status", "").endswith(" installed"):
            source = str(fields.get("Source") or fields["Package"]).split(" ")[0]
            found.append(Installed(fields["Package"], fields["Version"], fields["Architecture"], source))
    return tuple(sorted(found, key=lambda p: p.name))


def _status_of(archive: Path) -> str:
    with tarfile.open(archive) as tar:
        member = tar.extractfile("./var/lib/dpkg/status")
        if member is None:
            raise ImageUnusable(str(archive), "holds no dpkg data base", "Delete it from the cache and build again")
        return member.read().decode()


_SINGLE = ("linux-image-", "busybox-static", *UEFI_SIDE)
"""Packages that are unpacked on the side and are not in the common root."""


def check_against_lock(found: Mapping[str, str], locked: Mapping[str, str], *, accept_moved: bool) -> tuple[str, ...]:
    """Compare what came with the lock; an empty lock accepts anything, because it is about to be written.

    Returns:
        The differences that were accepted.

    Raises:
        ImageUnusable: there are differences, and they are not accepted.
    """
    moved = tuple(lock.compare(locked, found)) if locked else ()
    if moved and not accept_moved:
        shown = "; ".join(moved[:5]) + (f"; and {len(moved) - 5} more" if len(moved) > 5 else "")
        raise ImageUnusable(
            str(lock.DEBIAN_LOCK),
            f"no longer matches the Debian archive ({shown})",
            "Give --mirror a snapshot of the lock's day, or write a new lock with: lfr-provision image lock",
        )
    return moved


def bootstrap(
    cache: Path, *, mirror: Mirror, locked: Mapping[str, str], accept_moved: bool, say: Callable[[str], None]
) -> RootFileSystem:
    """Make the arm64 root file system, or take it from the cache.

    Args:
        cache: folder for archives, named by everything that decides their content.
        mirror: where packages come from.
        locked: name → version, as in the lock.
        accept_moved: build although versions differ from the lock; the release record will say so.
        say: told what is being waited for.

    Raises:
        ImageUnusable: lock and archive differ.
        ToolMissing, ToolFailed: see :func:`provisioning.image.tools.run`.
    """
    in_lock = lock.format_debian({n: v for n, v in locked.items() if not n.startswith(_SINGLE)})
    key = key_of(" ".join(PACKAGES), in_lock, "1")
    archive = cache / f"debian-{key}.tar"
    if not archive.exists():
        require("mmdebstrap", "arch-test")
        say("Debian root file system: about 3 minutes")
        part = cache / f"debian-{key}.part.tar"
        options = ['Acquire::Languages "none"', 'APT::Install-Recommends "false"']
        drop = [f"--dpkgopt=path-exclude={p}" for p in ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")]
        keep = "--dpkgopt=path-include=/usr/share/doc/*/copyright"
        run(
            [
                *("mmdebstrap", "--quiet", "--variant=minbase", "--architectures=arm64"),
                f"--include={','.join(PACKAGES)}",
                *(f"--aptopt={o}" for o in options),
                *drop,
                keep,
                "bookworm",
                part,
                *mirror.sources,
            ],
            thing="Debian root file system",
            next_step="Check the network and that arm64 programs run here: scripts/setup-image",
        )
        part.replace(archive)
    packages = installed(_status_of(archive))
    in_root = {name: version for name, version in locked.items() if not name.startswith(_SINGLE)}
    moved = check_against_lock({p.name: p.version for p in packages}, in_root, accept_moved=accept_moved)
    return RootFileSystem(archive, packages, moved)


def download(cache: Path, names: tuple[str, ...], *, mirror: Mirror) -> dict[str, Path]:
    """Fetch single arm64 packages without installing them; apt checks the archive's signatures.

    A meta package's name (``linux-image-arm64``) stands for the versioned package it depends on.

    Returns:
        For each asked name the ``.deb``, called ``name_version_arm64.deb``.
    """
    pool = cache / f"debs-{key_of(mirror.url, *names)}"
    found = {name: next(iter(sorted(pool.glob(f"{name}@*.deb"))), None) for name in names}
    if all(found.values()):
        return {name: path for name, path in found.items() if path}
    shutil.rmtree(pool, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "get"):
        (pool / folder).mkdir(parents=True, exist_ok=True)
    (pool / "state/status").touch()
    (pool / "etc/sources.list").write_text("\n".join(mirror.sources) + "\n")
    configuration = pool / "apt.conf"
    configuration.write_text(
        f'Dir "{pool}"; Dir::State "{pool}/state"; Dir::State::status "{pool}/state/status";\n'
        f'Dir::Cache "{pool}/cache"; Dir::Etc "{pool}/etc"; APT::Architecture "arm64";\n'
        'APT::Architectures { "arm64"; }; Acquire::Languages "none"; APT::Sandbox::User "root";\n'
    )
    environment = {"APT_CONFIG": str(configuration)}
    run(["apt-get", "update", "-qq"], thing="package lists for arm64", environment=environment)
    result = {}
    for name in names:
        record = run(["apt-cache", "show", "--no-all-versions", name], thing=name, environment=environment)
        versioned = re.search(r"(?m)^Depends: (linux-image-[0-9][^ ,]*)", record)
        real = versioned[1] if versioned else name
        run(["apt-get", "download", "-qq", real], thing=real, environment=environment, cwd=pool / "get")
        deb = next((pool / "get").glob(f"{real}_*.deb"))
        result[name] = deb.rename(pool / f"{name}@{deb.name}")
    return result


def identity(deb: Path) -> Installed:
    """Name, version and architecture of a package file."""
    said = run(["dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", deb], thing=deb.name)
    name, version, architecture = said.split()
    return Installed(name, version, architecture, name)


def single(locked: Mapping[str, str], target: Board) -> dict[str, str]:
    """The lock's packages that are unpacked on the side for one board."""
    others = set(UEFI_SIDE) - set(target.side)
    return {name: version for name, version in locked.items() if name.startswith(_SINGLE) and name not in others}
