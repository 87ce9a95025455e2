"""Keys for a machine's firmware (UEFI Secure Boot): whom it lets change its keys, and whose kernel images it starts.

``PK`` owns the machine, ``KEK`` may change what it trusts, ``db`` signs kernel images. All are RSA with 2048 bits:
firmware is only held to know that (UEFI 2.10, 32.5.3). PK and KEK sign themselves, as firmware expects. The
release authority certifies db, so that whoever trusts the authority can judge a kernel image. PK and KEK stay offline
with the authority; db goes to the signing machine or into its token.
"""

from __future__ import annotations

import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from edge.errors import KeyUnusable
from edge.files import replace_file
from provisioning.image import keys
from provisioning.image.tools import require, run

__all__ = ["NAMES", "OWNER", "make"]

NAMES = ("PK", "KEK", "db")
OWNER = uuid.UUID("5a3c0d1e-1f2e-4ed6-8a11-0000000000dd")
"""Who put a key into the firmware, as the firmware lists it."""
LIFE = timedelta(days=20 * 365)
"""Firmware does not look at dates; the authority's own end is the end."""
_ATTRIBUTES = "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS,TIME_BASED_AUTHENTICATED_WRITE_ACCESS"
"""Signed with the content; sbvarsign would sign for an addition instead, which is not how a PK is set."""
_SIGNED_BY = {"PK": "PK", "KEK": "PK", "db": "KEK"}


def make(authority: Path, out: Path, *, passphrase: bytes | None = None) -> Path:
    """Make the three keys and the files that a machine's firmware takes.

    For each name ``out`` gets the certificate as ``.crt`` (PEM) and ``.cer`` (DER), the private key ``.key``, and
    ``.auth``: what firmware in setup mode takes.

    Args:
        authority: the release or development authority's folder.
        out: new folder.
        passphrase: of the authority's key; PK and KEK get the same. db's key is for the signing machine and has none.

    Raises:
        KeyUnusable: the folder holds such keys already, or the authority cannot be opened.
        ToolMissing, ToolFailed: see :func:`provisioning.image.tools.run`.
    """
    require("sbsiglist", "sbvarsign")
    if (out / "PK.key").exists():
        raise KeyUnusable(str(out), "holds firmware keys already", "Give a new folder; machines hold the old ones")
    issuer, own = keys.open_authority(authority, passphrase)
    kind: keys.Kind = "development" if keys.is_development(issuer) else "release"
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        scratch = Path(folder)
        for name in NAMES:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            subject = keys.name_of(kind, f"Secure Boot {name}")
            certificate = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(issuer.subject if name == "db" else subject)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(hours=1))
                .not_valid_after(min(now + LIFE, issuer.not_valid_after_utc))
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .sign(own if name == "db" else key, hashes.SHA256())
            )
            replace_file(scratch / f"{name}.key", _private(key, None), mode=0o600)
            replace_file(out / f"{name}.key", _private(key, None if name == "db" else passphrase), mode=0o600)
            replace_file(out / f"{name}.crt", certificate.public_bytes(Encoding.PEM), mode=0o644)
            replace_file(out / f"{name}.cer", certificate.public_bytes(Encoding.DER), mode=0o644)
        for name in NAMES:
            _sign_for_firmware(name, out, scratch)
    return out / "db.crt"


def _private(key: rsa.RSAPrivateKey, passphrase: bytes | None) -> bytes:
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        protection = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def _sign_for_firmware(name: str, out: Path, scratch: Path) -> None:
    listed, signer = scratch / f"{name}.esl", _SIGNED_BY[name]
    run(
        ["sbsiglist", "--owner", str(OWNER), "--type", "x509", "--output", listed, out / f"{name}.cer"],
        thing=listed.name,
    )
    run(
        [
            *("sbvarsign", "--key", scratch / f"{signer}.key", "--cert", out / f"{signer}.crt"),
            *("--attr", _ATTRIBUTES, "--output", out / f"{name}.auth", name, listed),
        ],
        thing=f"{name}.auth",
    )
