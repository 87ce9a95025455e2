"""One file that firmware checks and starts: kernel, first root and command line behind systemd's stub (UEFI).

Firmware verifies its signature against the keys that it holds (Secure Boot), and the stub takes its command line from
inside it and from nowhere else. The command line names the verity hash of the root: so one signature covers everything
from the first instruction of the kernel to the last byte of the root.

``image build`` leaves it unsigned beside the image; :func:`seal` signs it and puts it where it belongs. A boot
partition holds it under the name that firmware tries by itself on any disk, ``EFI/BOOT/BOOTAA64.EFI``.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from edge.errors import SignatureInvalid
from provisioning.image import disk, release
from provisioning.image.board import board
from provisioning.image.tools import EPOCH, ImageRefused, ImageUnusable, ToolFailed, require, run, sha256_file

__all__ = ["PLACE", "UNSIGNED", "Sealed", "assemble", "boot_partition", "check", "command_line", "seal"]

UNSIGNED = "kernel.efi"
"""In an image's folder: the kernel image before it is signed; the same bytes in every build."""
PLACE = "EFI/BOOT/BOOTAA64.EFI"
"""In a boot partition."""
STUB = "usr/lib/systemd/boot/efi/linuxaa64.efi.stub"
_SERIAL = "1f2e4ed7"
_PAGE = 0x10000
"""Sections begin at multiples of this, the largest page of arm64."""
_OBJCOPY = "aarch64-linux-gnu-objcopy"
_OBJDUMP = "aarch64-linux-gnu-objdump"
_NEXT = "Do not flash or install it; ask whoever built it for the signed image"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A kernel image whose signature was checked.

    Attributes:
        signer: subject of the certificate that firmware must hold.
        command_line: what is signed with the kernel.
    """

    signer: str
    command_line: str


def command_line(console: str, verity: disk.Verity) -> str:
    """The kernel's command line; it names the one true root, by a word that systemd's own generators do not take."""
    return f"console={console} quiet panic=5 ro lfr.root={verity.root_hash}"


def assemble(  # noqa: PLR0917 - one call, by the names of what it takes
    stub: Path, kernel: Path, initrd: Path, words: str, out: Path, scratch: Path
) -> None:
    """Put kernel, first root and command line behind the stub.

    Args:
        stub: systemd's, for arm64.
        kernel: uncompressed kernel image.
        initrd: the first root.
        words: the kernel's command line.
        out: file to write; the same bytes for the same inputs.
        scratch: folder to work in.
    """
    (scratch / "cmdline").write_text(words, encoding="ascii")
    listing = run([_OBJDUMP, "-h", stub], thing=stub.name)
    ends = [int(size, 16) + int(at, 16) for size, at in re.findall(r"(?m)^\s+\d+ \.\w+\s+(\w+)\s+(\w+)", listing)]
    if not ends:
        raise ImageUnusable(str(stub), "holds no sections", "Build with the stub of Debian's systemd-boot-efi")
    place = _above(max(ends))
    arguments: list[str | Path] = []
    for name, source in ((".cmdline", scratch / "cmdline"), (".initrd", initrd), (".linux", kernel)):
        arguments += ["--add-section", f"{name}={source}", "--change-section-vma", f"{name}={place:#x}"]
        place = _above(place + source.stat().st_size)
    run([_OBJCOPY, *arguments, stub, out], thing="kernel image")


def _above(address: int) -> int:
    return -(-address // _PAGE) * _PAGE


def boot_partition(image: Path, mib: int, out: Path) -> None:
    """A boot partition with one kernel image in it."""
    os.utime(image, (EPOCH, EPOCH))
    disk.fat(out, mib, {PLACE: image}, _SERIAL)


def seal(folder: Path, record: release.Release, certificate: Path, key: str) -> release.Release:
    """Sign an image's kernel, put it into the update and onto the disk image, and name the new files in the record.

    Args:
        folder: what ``image build`` left, every digest checked.
        record: its record.
        certificate: PEM file; firmware must hold it in ``db``.
        key: PEM file, or a PKCS#11 URI.

    Returns:
        The record with the digests of what is sealed now; it is written to the folder.
    """
    require("sbsign", "mcopy", "bmaptool", "sfdisk")
    target = board(record.board)
    boot = folder / "bundle/boot.img"
    size = next(part.mib for part in target.partitions if part.name == "bootA")
    with tempfile.TemporaryDirectory() as scratch:
        signed = Path(scratch) / "signed.efi"
        engine = ("--engine", "pkcs11") if key.startswith("pkcs11:") else ()
        run(
            ["sbsign", *engine, "--key", key, "--cert", certificate, "--output", signed, folder / UNSIGNED],
            thing=UNSIGNED,
            next_step="Check the Secure Boot certificate and key",
        )
        boot_partition(signed, size, boot)
    at = disk.offset_of(folder / "disk.img", "bootA")
    with boot.open("rb") as source, (folder / "disk.img").open("r+b") as whole:
        whole.seek(at)
        while chunk := source.read(1 << 20):
            whole.write(chunk)
    disk.block_map(folder / "disk.img", folder / "disk.bmap")
    inner = release.read(folder / "bundle" / release.RELEASE_FILE)
    digest = sha256_file(boot)
    release.write(
        replace(inner, digests={**inner.digests, "boot.img": digest}), folder / "bundle" / release.RELEASE_FILE
    )
    new = {"bundle/boot.img": digest, "partition/bootA": digest}
    for name in ("disk.img", "disk.bmap", f"bundle/{release.RELEASE_FILE}"):
        new[name] = sha256_file(folder / name)
    sealed = replace(record, digests={**record.digests, **new})
    release.write(sealed, folder / release.RELEASE_FILE)
    return sealed


def check(whole: Path, keyring: Path, root_hash: str) -> Sealed:
    """Check the kernel image in slot A of a disk image as firmware will, and that it names the root it belongs to.

    Args:
        whole: the disk image.
        keyring: release authorities; the Secure Boot certificate must be issued by one of them.
        root_hash: verity's, of the root in the same image.

    Raises:
        SignatureInvalid: not signed, by a key of somebody else's, or altered since.
        ImageRefused: the command line names another root.
    """
    require("sbverify", "sbattach", "mcopy", _OBJCOPY)
    thing = f"kernel image in {whole.name}"
    boot = f"{whole}@@{disk.offset_of(whole, 'bootA')}"
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        image, detached, pem, words = (scratch / n for n in ("image.efi", "signature", "signer.pem", "cmdline"))
        run(["mcopy", "-i", boot, f"::{PLACE}", image], thing=thing)
        try:
            run(["sbattach", "--detach", detached, image], thing=thing)
            signer = pkcs7.load_der_pkcs7_certificates(detached.read_bytes())[0]
        except (ToolFailed, ValueError, OSError, IndexError):
            raise SignatureInvalid(thing, "is not signed", "Sign it with: lfr-provision image sign") from None
        _issued_by(signer, keyring, thing)
        pem.write_bytes(signer.public_bytes(Encoding.PEM))
        try:
            run(["sbverify", "--cert", pem, image], thing=thing)
        except ToolFailed:
            raise SignatureInvalid(f"signature of the {thing}", "does not belong to it", _NEXT) from None
        run([_OBJCOPY, "--dump-section", f".cmdline={words}", image, scratch / "copy.efi"], thing=thing)
        said = words.read_bytes().rstrip(b"\0").decode("ascii", errors="replace")
    if f"lfr.root={root_hash}" not in said.split():
        raise ImageRefused(thing, "names another root than the one beside it", _NEXT)
    return Sealed(signer.subject.rfc4514_string(), said)


def _issued_by(signer: x509.Certificate, keyring: Path, thing: str) -> None:
    for authority in x509.load_pem_x509_certificates(keyring.read_bytes()):
        try:
            signer.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    raise SignatureInvalid(f"signature of the {thing}", "is by a signer that this keyring does not trust", _NEXT)
