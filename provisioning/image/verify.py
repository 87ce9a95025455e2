"""Is this image what somebody we trust has signed: signature first, then every byte.

RAUC's own ``info`` checks a verity bundle's manifest only, and a flipped byte of the payload passes. Here the bundle
is taken apart and each file is compared with the signed record.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.errors import SignatureInvalid
from provisioning.image import release, uki
from provisioning.image.board import board
from provisioning.image.sign import SIGNATURE, bundle_name, configuration
from provisioning.image.tools import ImageRefused, ImageUnusable, ToolFailed, require, run, sha256_file

__all__ = ["Verified", "verify", "verify_bundle"]

_MANIFEST = "manifest.raucm"
_NEXT = "Do not flash or install it; ask whoever built it for the signed image"


@dataclass(frozen=True, slots=True)
class Verified:
    """An image that may be flashed.

    Attributes:
        release: the signed record.
        signer: subject of the signer's certificate.
        files: files compared, bundle content included.
        kernel: who signed the kernel image and what is signed with it; None on a board whose firmware does not ask.
    """

    release: release.Release
    signer: str
    files: int
    kernel: uki.Sealed | None = None


def _cause(said: str) -> str:
    low = said.lower()
    if "revoked" in low:
        return "is by a signer whose certificate was revoked"
    if "expired" in low:
        return "is by a signer whose certificate has expired"
    if "local issuer" in low or "self-signed" in low or "self signed" in low:
        return "is by a signer that this keyring does not trust"
    if "purpose" in low:
        return "is by a certificate that may not sign code"
    return "does not belong to this file: one of the two was altered"


def _signed_by(folder: Path, keyring: Path) -> str:
    record, signature = folder / release.RELEASE_FILE, folder / SIGNATURE
    if not signature.is_file():
        raise SignatureInvalid(str(folder), "is not signed", "Sign it with: lfr-provision image sign")
    with tempfile.TemporaryDirectory() as scratch:
        who = Path(scratch) / "signer.pem"
        try:
            run(
                [
                    *("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", signature, "-content", record),
                    *("-CAfile", keyring, "-no-CApath", "-crl_check_all", "-purpose", "any"),
                    *("-signer", who, "-out", "/dev/null"),
                ],
                thing=str(record),
            )
        except ToolFailed as error:
            raise SignatureInvalid(f"signature of {record}", _cause(error.cause), _NEXT) from None
        certificate = x509.load_pem_x509_certificate(who.read_bytes())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if ExtendedKeyUsageOID.CODE_SIGNING not in usage:
        raise SignatureInvalid(f"signature of {record}", "is by a certificate that may not sign code", _NEXT)
    return certificate.subject.rfc4514_string()


def _compare(path: Path, digest: str | None, thing: str) -> None:
    if not path.is_file():
        raise ImageUnusable(thing, "is missing", "Copy the whole folder that image sign made")
    if digest is None or sha256_file(path) != digest:
        raise ImageRefused(thing, "is not the file that was signed", _NEXT)


def verify_bundle(bundle: Path, keyring: Path, expected: dict[str, str], record: release.Release) -> int:
    """Check a bundle's signature and take it apart; returns how many files were compared.

    Args:
        bundle: the ``.raucb`` file.
        keyring: authorities and revocation lists.
        expected: file in the bundle → SHA-256.
        record: the signed record; the bundle's manifest must name the same board and version.

    Raises:
        SignatureInvalid: the signature does not verify, or the payload is not the signed one.
        ImageRefused: a file differs from the signed record.
        ImageUnusable: the bundle is missing.
    """
    require("rauc")
    if not bundle.is_file():
        raise ImageUnusable(str(bundle), "is missing", "Copy the whole folder that image sign made")
    with tempfile.TemporaryDirectory(dir=bundle.parent, prefix=".verify-") as scratch:
        strict = configuration(keyring, Path(scratch))
        content = Path(scratch) / "content"
        try:
            run(["rauc", f"--conf={strict}", "extract", bundle, content], thing=bundle.name)
        except ToolFailed as error:
            cause = _cause(error.cause)
            if not re.search(r"verif|revoked|certificate|self.signed|purpose", error.cause, re.IGNORECASE):
                cause = "cannot be taken apart: it is damaged or cut off"
            raise SignatureInvalid(f"bundle {bundle.name}", cause, _NEXT) from None
        for name, digest in expected.items():
            _compare(content / name, digest, f"{name} in {bundle.name}")
        manifest = (content / _MANIFEST).read_text(encoding="utf-8").splitlines()
        for line in (f"compatible={record.compatible}", f"version={record.version}"):
            if line not in manifest:
                raise ImageRefused(f"manifest of {bundle.name}", f"does not say {line}", _NEXT)
        extra = {p.name for p in content.iterdir()} - expected.keys() - {_MANIFEST}
        if extra:
            raise ImageRefused(bundle.name, f"holds what nobody signed for ({', '.join(sorted(extra))})", _NEXT)
    return len(expected)


def verify(folder: Path, keyring: Path) -> Verified:
    """Verify what ``image sign`` left in a folder: record, disk image, bill of materials, and the update's content.

    Raises:
        SignatureInvalid: not signed, by somebody the keyring does not trust, or no longer; exit code 3.
        ImageRefused: a file is not the one that was signed; exit code 3.
        ImageUnusable: something is missing; exit code 4.
    """
    require("openssl", "rauc")
    signer = _signed_by(folder, keyring)
    record = release.read(folder / release.RELEASE_FILE)
    count = 0
    inside: dict[str, str] = {}
    for name, digest in record.digests.items():
        if name.startswith("bundle/"):
            inside[name.removeprefix("bundle/")] = digest
        elif not name.startswith("partition/"):
            _compare(folder / name, digest, str(folder / name))
            count += 1
    inside.pop(_MANIFEST, None)  # RAUC keeps the manifest in the signature itself and adds to it
    count += verify_bundle(folder / bundle_name(record), keyring, inside, record)
    kernel = uki.check(folder / "disk.img", keyring, record.root_hash) if board(record.board).uefi else None
    return Verified(record, signer, count, kernel)
