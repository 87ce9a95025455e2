"""Answer a van's request: the bench's half of enrolment. The van's private keys were made on it and stay there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.errors import BadInput, KeyUnusable
from edge.trust.keys import KnownSigners, write_public
from provisioning import site as sites

__all__ = ["Answer", "answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A van that may speak once it has taken its answer in.

    Attributes:
        van: its name.
        serial: of its certificate, hexadecimal.
        expires: end of its certificate.
        key_id: thumbprint of its signing key.
    """

    van: str
    serial: str
    expires: datetime
    key_id: str


def answer(van: str, request: Path, site: Path, out: Path, *, root: Path, revokers: Path) -> Answer:
    """Sign a van's request for 90 days, and make the control room believe its signing key.

    Args:
        van: the name it gets; what the request calls itself is not looked at.
        request: folder with ``van.csr`` and ``van-signing.jwk`` as the van left them.
        site: the site's folder, with its authority mounted.
        root: the root of trust for lists and authorities (``root.json`` of the repository).
        revokers: JWK Set of those who may revoke an entry.
        out: folder for the answer: copied into ``enrol/`` on the van's medium.

    Raises:
        BadInput: the name could not be a van's, or the request is damaged or not signed by its own key.
        KeyUnusable: the site's authority is not there.
    """
    if not sites.NAME.fullmatch(van) or van in {sites.CONTROL_ROOM, "broker"}:
        raise BadInput(
            f"van {van!r}", "cannot be a van's name", "Use letters, digits, . _ - ; not control-room or broker"
        )
    try:
        asked = x509.load_pem_x509_csr((request / "van.csr").read_bytes())
        signing = msgspec.json.decode((request / "van-signing.jwk").read_bytes(), type=dict[str, str])
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise BadInput(str(request), f"holds no van's request ({error})", "Copy enrol/ from the van's medium") from None
    public = asked.public_key()
    if not asked.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
        raise BadInput(str(request / "van.csr"), "is not signed by its own P-256 key", "Let the van make it again")
    believed = {k: v for k, v in signing.items() if k in {"kty", "crv", "x", "y", "kid", "use", "alg"}} | {"owner": van}
    KnownSigners.of([believed], "the van's signing key")
    issuer, key = sites._load_authority(site)  # noqa: SLF001 - the site's own reading of its own folder
    certificate = _certificate(van, issuer, key, public)
    out.mkdir(parents=True, exist_ok=True)
    (out / "van.crt").write_bytes(sites._pem(certificate))  # noqa: SLF001
    (out / "ca.crt").write_bytes(sites._pem(issuer))  # noqa: SLF001
    for name in ("control-room.jwks", "control-signing.jwks"):
        (out / name).write_bytes((site / "public" / name).read_bytes())
    for name, path in (("root.json", root), ("revokers.jwks", revokers)):
        try:
            (out / name).write_bytes(path.read_bytes())
        except OSError as error:
            raise KeyUnusable(str(path), f"cannot be read ({error.strerror})", "Fetch it from the publisher") from None
    others = [k for k in sites._van_keys(site) if k.get("kid") != believed.get("kid")]  # noqa: SLF001
    write_public(site / sites.CONTROL_ROOM / "vans.jwks", {"keys": [*others, believed]})
    (site / "vans").mkdir(exist_ok=True)
    (site / "vans" / f"{van}-{certificate.serial_number:x}.crt").write_bytes(sites._pem(certificate))  # noqa: SLF001
    os.sync()
    return Answer(van, f"{certificate.serial_number:x}", certificate.not_valid_after_utc, believed.get("kid", ""))


def _certificate(
    van: str, issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey
) -> x509.Certificate:
    now = datetime.now(UTC)
    if issuer.not_valid_after_utc < now + sites.VAN_LIFE:
        raise KeyUnusable(
            "the site's authority", "ends before the van's certificate would", "Make a new authority first"
        )
    return (
        x509.CertificateBuilder()
        .subject_name(sites._subject(van))  # noqa: SLF001
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - sites.BACKDATE)
        .not_valid_after(now + sites.VAN_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(sites._usage(sign=False), critical=True)  # noqa: SLF001
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
