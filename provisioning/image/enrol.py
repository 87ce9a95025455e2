"""Answer a van's request: the bench's half of enrolment. The van's private keys were made on it and stay there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

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
    sites.check_name(van)
    try:
        asked = x509.load_pem_x509_csr((request / "van.csr").read_bytes())
        signing = msgspec.json.decode((request / "van-signing.jwk").read_bytes(), type=dict[str, str])
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise BadInput(
            str(request), f"does not hold a van's enrolment request ({error})", "Copy enrol/ from the van's medium"
        ) from None
    public = asked.public_key()
    if not asked.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
        raise BadInput(str(request / "van.csr"), "is not signed by its own P-256 key", "Let the van make it again")
    believed = {k: v for k, v in signing.items() if k in {"kty", "crv", "x", "y", "kid", "use", "alg"}} | {"owner": van}
    KnownSigners.of([believed], "the van's signing key")
    authority = sites.load_authority(site)
    certificate = sites.certify(authority, van, public, sites.VAN_LIFE)
    out.mkdir(parents=True, exist_ok=True)
    (out / "van.crt").write_bytes(sites.pem(certificate))
    (out / "ca.crt").write_bytes(sites.pem(authority[0]))
    for name in ("control-room.jwks", "control-signing.jwks"):
        (out / name).write_bytes((site / "public" / name).read_bytes())
    for name, path in (("root.json", root), ("revokers.jwks", revokers)):
        try:
            (out / name).write_bytes(path.read_bytes())
        except OSError as error:
            raise KeyUnusable(str(path), f"cannot be read ({error.strerror})", "Fetch it from the publisher") from None
    others = [k for k in sites.van_keys(site) if k.get("kid") != believed.get("kid")]
    write_public(site / sites.CONTROL_ROOM / "vans.jwks", {"keys": [*others, believed]})
    (site / "vans").mkdir(exist_ok=True)
    (site / "vans" / f"{van}-{certificate.serial_number:x}.crt").write_bytes(sites.pem(certificate))
    os.sync()
    return Answer(van, f"{certificate.serial_number:x}", certificate.not_valid_after_utc, believed.get("kid", ""))
