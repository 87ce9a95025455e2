"""What goes into an image, written down: Debian packages by version, wheels and sources by hash.

A build takes exactly what the locks name or stops and says what moved. ``image lock`` writes them anew; the
difference is then reviewed and committed like any other change.
"""

from __future__ import annotations

import configparser
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioning.image.tools import ImageUnusable, run

__all__ = [
    "DEBIAN_LOCK",
    "LOCK_DIRECTORY",
    "PC_SOURCE_LOCK",
    "PC_WHEEL_LOCK",
    "SOURCE_LOCK",
    "WHEEL_LOCK",
    "Pin",
    "compare",
    "format_debian",
    "parse_debian",
    "parse_requirements",
    "pip",
    "platform_arguments",
    "resolve_wheels",
    "wanted",
]

LOCK_DIRECTORY = Path(__file__).parent
DEBIAN_LOCK = LOCK_DIRECTORY / "debian-arm64.lock"
WHEEL_LOCK = LOCK_DIRECTORY / "requirements-arm64.lock"
SOURCE_LOCK = LOCK_DIRECTORY / "requirements-arm64-source.lock"
PC_WHEEL_LOCK = LOCK_DIRECTORY / "requirements-x86-64.lock"
PC_SOURCE_LOCK = LOCK_DIRECTORY / "requirements-x86-64-source.lock"
"""What a control room and an office install, on a 64-bit PC: ``scripts/install-locked``."""

BUILT_HERE = ("hnswlib", "systemd-python")
"""No wheel of these exists: their sources are locked, and Dockerfile.arm64 or scripts/install-locked builds them."""

BUILD_TOOLS = ("pybind11<3", "setuptools<81", "wheel<0.46", "numpy>=2,<3")

_PLATFORMS = ("2_36", "2_34", "2_31", "2_28", "2_27", "2_17")
"""glibc versions that bookworm's 2.36 can run, newest first."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One wheel or source: name, version and the SHA-256 that its file must have."""

    name: str
    version: str
    sha256: str


def platform_arguments(machine: str = "aarch64") -> list[str]:
    """What tells pip to choose for the van's machine, or another, instead of this one."""
    platforms = [f"--platform=manylinux_{glibc}_{machine}" for glibc in _PLATFORMS]
    return [*platforms, f"--platform=manylinux2014_{machine}", "--python-version=3.11", "--implementation=cp"]


def pip(*arguments: str, thing: str) -> str:
    """Run this interpreter's pip."""
    return run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], thing=thing)


def parse_debian(text: str) -> dict[str, str]:
    """Read ``name version`` lines.

    Raises:
        ImageUnusable: a line has another form, or a name stands twice.
    """
    packages: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        if len(words) != 2 or words[0] in packages:
            raise ImageUnusable(
                f"Debian lock, line {number}",
                f"is {line!r}, not one new name and one version",
                "Write it again: image lock",
            )
        packages[words[0]] = words[1]
    return packages


def format_debian(packages: Mapping[str, str]) -> str:
    """The lock's text for installed packages."""
    head = "# Every Debian package of the image with its version. Written by: lfr-provision image lock\n"
    return head + "".join(f"{name} {version}\n" for name, version in sorted(packages.items()))


def compare(locked: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What differs between lock and root file system, one sentence each, sorted by package."""
    differences = []
    for name in sorted(locked.keys() | found.keys()):
        want, have = locked.get(name), found.get(name)
        if want == have:
            continue
        if have is None:
            differences.append(f"{name} {want} is locked and was not installed")
        elif want is None:
            differences.append(f"{name} {have} was installed and is not locked")
        else:
            differences.append(f"{name} is {have}, the lock says {want}")
    return differences


def parse_requirements(text: str) -> tuple[Pin, ...]:
    """Read ``name==version --hash=sha256:…`` lines; a requirement without exactly one hash is refused.

    Raises:
        ImageUnusable: a line is not pinned to one version and one hash.
    """
    pins = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        requirement, _, digest = stripped.partition(" --hash=sha256:")
        name, _, version = requirement.partition("==")
        if not name or not version or len(digest) != 64:
            raise ImageUnusable(
                f"wheel lock, line {number}", "is not name==version with one sha256", "Write it again: image lock"
            )
        pins.append(Pin(name.strip(), version.strip(), digest))
    return tuple(pins)


def _report(requirements: Sequence[str], arguments: Sequence[str], thing: str) -> list[Pin]:
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        target = f"--target={scratch}/none"
        pip(
            *("install", "--dry-run", "--quiet", "--ignore-installed", target, f"--report={report}"),
            *(*arguments, *requirements),
            thing=thing,
        )
        chosen = json.loads(report.read_text())["install"]
    pins = []
    for item in chosen:
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        pins.append(Pin(item["metadata"]["name"].lower().replace("_", "-"), item["metadata"]["version"], digest))
    return sorted(pins, key=lambda pin: pin.name)


def _text(pins: Sequence[Pin], head: str) -> str:
    return f"# {head} Written by: lfr-provision image lock\n" + "".join(
        f"{p.name}=={p.version} --hash=sha256:{p.sha256}\n" for p in pins
    )


def wanted(repository: Path, *extras: str) -> list[str]:
    """What ``setup.cfg`` asks for, and what it asks for with these extras."""
    setup = configparser.ConfigParser()
    setup.read(repository / "setup.cfg", encoding="utf-8")
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    lines = [line.strip() for text in texts for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def resolve_wheels(repository: Path, machine: str = "aarch64", *extras: str) -> tuple[str, str]:
    """Choose anew from the registry what :func:`wanted` says: texts of the wheel lock and of the source lock."""
    names = wanted(repository, *extras)
    only = [*platform_arguments(machine), "--only-binary=:all:"]
    wheels = _report([w for w in names if not w.startswith(BUILT_HERE)], only, f"wheels for {machine}")
    tools = _report(BUILD_TOOLS, only, f"build tools for {machine}")
    sources = _report(
        [w for w in names if w.startswith(BUILT_HERE)], ["--no-deps", "--no-binary=:all:"], "sources without a wheel"
    )
    return (
        _text(wheels, f"Every wheel that a registry carries for {machine}."),
        _text([*sources, *tools], "Sources that are built, and what they are built with."),
    )
