"""Write a verified image to a medium, and prove that the medium holds it.

Order: verify the image, judge the target, ask for its serial number, write with bmaptool, clear what the image leaves
empty, drop caches, read every partition back and compare, leave the van's one-time secret, write the ledger. A medium
that gives back other bytes than it was given is named, must be thrown away, and is never written again: the ledger
knows its serial number.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edge.errors import EnvironmentFault
from provisioning.image import devices, release, verify
from provisioning.image import ledger as ledgers
from provisioning.image.tools import ImageRefused, ImageUnusable, pinned_environment, require, run

__all__ = [
    "Flashed",
    "MediumFaulty",
    "choose",
    "empty_ranges",
    "flash",
    "leave_secret",
    "read_back",
    "size_needed",
    "write",
]

_CHUNK = 4 << 20


class MediumFaulty(EnvironmentFault):
    """A medium does not give back what was written to it."""


@dataclass(frozen=True, slots=True)
class Flashed:
    """One line of the ledger.

    Attributes:
        at: when, ISO 8601, UTC.
        target: device or file.
        serial: of the medium.
        model: of the medium.
        version: of the image.
        epoch: of the image.
        board: of the image.
        signer: who signed it.
        partitions: partition → SHA-256, as read back.
        van: name the van will be enrolled under; empty when not said.
        secret: the medium's one-time secret, with which this van and whoever has the ledger know each other at its
            enrolment; hexadecimal. It is worth nothing once the van has taken its answer.
    """

    at: str
    target: str
    serial: str
    model: str
    version: str
    epoch: int
    board: str
    signer: str
    partitions: dict[str, str]
    van: str = ""
    secret: str = field(default="", repr=False)


def empty_ranges(block_map: str) -> list[tuple[int, int]]:
    """Parts of an image that its block map leaves out, as ``(offset, length)`` in bytes.

    Raises:
        ImageUnusable: the text is no block map.
    """
    try:
        root = ET.fromstring(block_map)  # noqa: S314 - signed and verified before it is read
        size = int((root.findtext("ImageSize") or "").strip())
        block = int((root.findtext("BlockSize") or "").strip())
        ranges = [(entry.text or "").strip() for entry in root.iter("Range")]
    except (ET.ParseError, ValueError) as error:
        raise ImageUnusable("block map", f"cannot be read ({error})", "Build the image again") from None
    empty, position = [], 0
    for text in ranges:
        first, _, last = text.partition("-")
        start, end = int(first) * block, (int(last or first) + 1) * block
        if start > position:
            empty.append((position, start - position))
        position = end
    if position < size:
        empty.append((position, size - position))
    return empty


def _clear(target: Path, ranges: list[tuple[int, int]]) -> None:
    """Zeros where the image is empty: an old volume's header must not survive on a used medium."""
    zeros = bytes(_CHUNK)
    with target.open("r+b", buffering=0) as stream:
        for offset, length in ranges:
            stream.seek(offset)
            left = length
            while left:
                left -= stream.write(zeros[: min(left, _CHUNK)])
        os.fsync(stream.fileno())


def _copy(image: Path, block_map: Path, target: Path, progress: Callable[[int], None]) -> None:
    command = ["bmaptool", "copy", "--bmap", str(block_map), str(image), str(target)]
    tail = ""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=pinned_environment(), stdin=subprocess.DEVNULL
    ) as process:
        assert process.stderr is not None
        while chunk := os.read(process.stderr.fileno(), 4096):
            tail = (tail + chunk.decode(errors="replace"))[-2000:]
            if found := re.findall(r"(\d+)% copied", tail):
                progress(int(found[-1]))
    if process.returncode != 0:
        said = " | ".join(tail.strip().splitlines()[-3:])
        raise EnvironmentFault(str(target), f"could not be written ({said})", "Try again, then try another medium")
    progress(100)


def _partitions(image: Path) -> Iterator[tuple[str, int, int]]:
    table = json.loads(run(["sfdisk", "--json", image], thing=str(image)))["partitiontable"]
    for entry in table["partitions"]:
        yield entry["name"], entry["start"] * 512, entry["size"] * 512


def _forget_cache(target: Path) -> None:
    """Make the next read come from the medium and not from memory."""
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        with contextlib.suppress(OSError):
            fcntl.ioctl(descriptor, 0x1261)  # BLKFLSBUF; a file has none
    finally:
        os.close(descriptor)


def read_back(target: Path, image: Path, expected: dict[str, str]) -> dict[str, str]:
    """Read every partition of a written medium and compare it with the signed record.

    Args:
        target: the medium.
        image: the image, for where its partitions lie.
        expected: ``partition/NAME`` → SHA-256, from the release record.

    Returns:
        Partition name → SHA-256.

    Raises:
        MediumFaulty: names the first partition that differs.
    """
    _forget_cache(target)
    found = {}
    with target.open("rb", buffering=0) as stream:
        for name, offset, size in _partitions(image):
            digest = hashlib.sha256()
            stream.seek(offset)
            left = size
            while left:
                chunk = stream.read(min(left, _CHUNK))
                if not chunk:
                    break
                digest.update(chunk)
                left -= len(chunk)
            found[name] = digest.hexdigest()
            if found[name] != expected.get(f"partition/{name}"):
                raise MediumFaulty(
                    f"{target}, partition {name}",
                    "reads back differently from what was written",
                    "Throw the medium away and flash another",
                )
    return found


def leave_secret(target: Path, image: Path) -> str:
    """Put a new one-time secret where the van finds it at its first start; returns it, hexadecimal.

    Args:
        target: the medium, written and read back.
        image: the image, for where its first partition lies.
    """
    secret = secrets.token_hex(32)
    _, offset, _ = next(_partitions(image))
    where = f"{target}@@{offset}"
    with tempfile.TemporaryDirectory(prefix="lfr-flash-") as folder:
        file = Path(folder) / "secret"
        file.write_text(f"{secret}\n", encoding="ascii")
        run(["mmd", "-i", where, "::enrol"], thing=str(target))
        run(["mcopy", "-i", where, file, "::enrol/secret"], thing=str(target))
    _forget_cache(target)
    if run(["mtype", "-i", where, "::enrol/secret"], thing=str(target)).strip() != secret:
        raise MediumFaulty(
            str(target), "does not keep what is written to it", "Throw the medium away and flash another"
        )
    return secret


def choose(
    folder: Path, target: Path, *, serial: str, forced_serial: str = "", ledger: Path | None = None
) -> devices.Device:
    """Judge a target before anything is written to it.

    Args:
        folder: what ``image sign`` left.
        target: device or file.
        serial: the medium's serial number as the engineer read it from its label.
        forced_serial: see :func:`provisioning.image.devices.judge`.
        ledger: knows which media were found faulty.

    Raises:
        ImageRefused, ImageUnusable: names the rule.
        BadInput: the ledger cannot be read.
    """
    device = devices.look_up(target)
    devices.judge(device, (folder / "disk.img").stat().st_size, forced_serial)
    if not serial or serial != device.serial:
        raise ImageRefused(
            str(target),
            f"has serial {device.serial or 'unknown'}, not {serial or 'the one you gave'}",
            "Compare it with the label",
        )
    if ledger is not None:
        ledgers.refuse_quarantined(ledger, device.serial)
    return device


def flash(
    folder: Path,
    keyring: Path,
    target: Path,
    *,
    serial: str,
    forced_serial: str = "",
    van: str = "",
    ledger: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
    after_write: Callable[[Path], None] = lambda _: None,
) -> Flashed:
    """Verify the image, then :func:`write` it.

    Args:
        folder: what ``image sign`` left.
        keyring: whom to trust.
        target: device or file.
        serial: see :func:`write`, as the others.
        forced_serial: likewise.
        van: likewise.
        ledger: likewise.
        progress: likewise.
        after_write: likewise.

    Raises:
        SignatureInvalid, ImageRefused, ImageUnusable: see :func:`provisioning.image.verify.verify` and :func:`choose`;
            nothing was written.
        MediumFaulty: the medium holds something else.
    """
    verified = verify.verify(folder, keyring)
    return write(
        folder, verified, target, serial=serial, forced_serial=forced_serial, van=van, ledger=ledger,
        progress=progress, after_write=after_write,
    )  # fmt: skip


def write(
    folder: Path,
    verified: verify.Verified,
    target: Path,
    *,
    serial: str,
    forced_serial: str = "",
    van: str = "",
    ledger: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
    after_write: Callable[[Path], None] = lambda _: None,
) -> Flashed:
    """Judge, write, read back, record. What is read back is compared with what was verified, whatever was written.

    Args:
        folder: what ``image sign`` left.
        verified: what was found in it.
        target: device or file.
        serial: the medium's serial number as the engineer typed it from its label.
        forced_serial: see :func:`provisioning.image.devices.judge`.
        van: name to record.
        ledger: file to add a line to, also for a faulty medium.
        progress: told the percentage.
        after_write: called between writing and reading back; tests spoil the medium here.

    Raises:
        ImageRefused, ImageUnusable: see :func:`choose`; nothing was written.
        MediumFaulty: the medium holds something else; the ledger knows its serial number from now on.
    """
    require("bmaptool", "sfdisk", "lsblk", "mcopy")
    device = choose(folder, target, serial=serial, forced_serial=forced_serial, ledger=ledger)
    image, block_map = folder / "disk.img", folder / "disk.bmap"
    if device.kind == "file":
        with target.open("ab") as stream:
            stream.truncate(image.stat().st_size)
    _copy(image, block_map, target, progress)
    _clear(target, empty_ranges(block_map.read_text()))
    after_write(target)
    try:
        found = read_back(target, image, verified.release.digests)
        secret = leave_secret(target, image)
    except MediumFaulty as error:
        if ledger is not None:
            ledgers.quarantine(
                ledger, serial=device.serial, model=device.model, target=str(target), van=van, cause=error.cause
            )
        raise
    if device.kind != "file":
        # the second table belongs at the medium's end, wherever that is
        run(["sfdisk", "--relocate", "gpt-bak-std", target], thing=str(target))
    record = verified.release
    line = Flashed(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        target=str(target),
        serial=device.serial,
        model=device.model,
        version=record.version,
        epoch=record.epoch,
        board=record.board,
        signer=verified.signer,
        partitions=found,
        van=van,
        secret=secret,
    )
    if ledger is not None:
        ledgers.append(ledger, asdict(line))
    return line


def size_needed(folder: Path) -> int:
    """Bytes that a medium must hold for the image in a folder."""
    release.read(folder / release.RELEASE_FILE)
    return (folder / "disk.img").stat().st_size
