"""Seal an image: the release record by a detached signature, the update by RAUC's bundle."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from provisioning.image import release, uki
from provisioning.image.board import board
from provisioning.image.tools import ImageUnusable, require, run, sha256_file

__all__ = ["SIGNATURE", "Signer", "bundle_name", "configuration", "resign", "sign"]

SIGNATURE = "release.json.p7s"


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs.

    Attributes:
        certificate: PEM file.
        key: PEM file, or a PKCS#11 URI (``pkcs11:…``); then the key never leaves its token.
    """

    certificate: Path
    key: str

    @property
    def in_token(self) -> bool:
        return self.key.startswith("pkcs11:")

    def __repr__(self) -> str:
        shown = re.sub(r"pin-value=[^;&]*", "pin-value=…", self.key)
        return f"Signer({self.certificate}, {shown})"


def bundle_name(record: release.Release) -> str:
    """File name of an image's update."""
    return f"lfr-edge-{record.board}-{record.version}.raucb"


def _bundle(content: Path, out: Path, signer: Signer) -> None:
    out.unlink(missing_ok=True)
    run(
        ["rauc", "bundle", f"--cert={signer.certificate}", f"--key={signer.key}", content, out],
        thing=out.name,
        next_step="Check the signer's certificate and key",
    )


def sign(folder: Path, signer: Signer, secure_boot: Signer | None = None) -> Path:
    """Sign what ``image build`` left in a folder; returns the bundle.

    Every digest is checked first: nothing is signed that is not what was built.

    Args:
        folder: the image.
        signer: signs the record and the update.
        secure_boot: signs the kernel image, for a board whose firmware checks it.

    Raises:
        ImageUnusable: the folder is incomplete, a file is not the one that was built, or ``secure_boot`` is lacking.
        ToolFailed: the key cannot sign.
    """
    require("rauc", "openssl")
    record = release.read(folder / release.RELEASE_FILE)
    for name, digest in record.digests.items():
        if name.startswith("partition/"):
            continue
        if not (folder / name).is_file() or sha256_file(folder / name) != digest:
            raise ImageUnusable(str(folder / name), "is not the file that was built", "Build the image again")
    if board(record.board).uefi:
        if secure_boot is None:
            raise ImageUnusable(
                str(folder),
                f"is for {record.board}, whose firmware checks the kernel image",
                "Give --secure-boot-certificate and --secure-boot-key, made by: lfr-provision image key secure-boot",
            )
        record = uki.seal(folder, record, secure_boot.certificate, secure_boot.key)
    engine = ("-engine", "pkcs11", "-keyform", "engine") if signer.in_token else ()
    run(
        [
            *("openssl", "cms", "-sign", "-binary", "-outform", "DER", "-md", "sha256", "-signer", signer.certificate),
            *(*engine, "-inkey", signer.key, "-in", folder / release.RELEASE_FILE, "-out", folder / SIGNATURE),
        ],
        thing=release.RELEASE_FILE,
        next_step="Check the signer's certificate and key",
    )
    bundle = folder / bundle_name(record)
    _bundle(folder / "bundle", bundle, signer)
    return bundle


def resign(bundle: Path, keyring: Path, signer: Signer, out: Path) -> None:
    """Replace a bundle's signature by another signer's, after checking the old one: for a rotation.

    Args:
        bundle: as it was signed.
        keyring: what the old signature must verify against.
        signer: who signs now.
        out: new file.
    """
    require("rauc")
    out.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        words = [
            f"--conf={configuration(keyring, Path(scratch))}",
            f"--keyring={keyring}",
            f"--cert={signer.certificate}",
            f"--key={signer.key}",
        ]
        run(
            ["rauc", "resign", *words, bundle, out],
            thing=bundle.name,
            next_step="Check that the keyring trusts the old signer, and the new signer's key",
        )


def configuration(keyring: Path, folder: Path) -> Path:
    """What makes RAUC check as strictly here as on the van: purpose and revocation, verity bundles only."""
    path = folder / "system.conf"
    path.write_text(
        "[system]\ncompatible=any\nbootloader=noop\nbundle-formats=verity\n"
        f"[keyring]\npath={keyring.resolve()}\ncheck-purpose=codesign\ncheck-crl=true\n"
    )
    return path
