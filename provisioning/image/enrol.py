"""Answer a van's request: the bench's half of enrolment. The van's private keys were made on it and stay there.

Flashing left a one-time secret on the medium and in the ledger. A request without its code was not made by the van of
that medium and is refused; the first answer carries its code, and every answer the signature of the site's authority
(:mod:`edge.vanroot.answer`).
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import BadInput, KeyUnusable
from edge.files import replace_file
from edge.parsing import DecodeError, json_as
from edge.trust.keys import KnownSigners, write_public
from edge.vanroot import answer as form
from provisioning import site as sites
from provisioning.image import ledger as ledgers

__all__ = ["Answer", "answer", "secret_of"]


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


def secret_of(van: str, ledger: Path) -> bytes:
    """The one-time secret of the medium that was last flashed for a van, from the engineer's ledger.

    Raises:
        BadInput: the ledger cannot be read, or names no medium for this van.
    """
    if not ledger.is_file():
        raise BadInput(str(ledger), "is not there", "Give the ledger that flash wrote")
    found = [str(line["secret"]) for line in ledgers.read(ledger) if line.get("van") == van and line.get("secret")]
    if not found:
        raise BadInput(
            str(ledger), f"names no medium that was flashed for {van}", f"Flash it with --van {van}, and start it once"
        )
    return found[-1].encode("ascii")


def answer(
    settings: form.Settings, request: Path, site: Path, out: Path, *, root: Path, revokers: Path, secret: bytes
) -> Answer:
    """Sign a van's request for 90 days, and make the control room believe its signing key.

    Args:
        settings: the name it gets (what the request calls itself is not looked at), its broker, and its position.
        request: folder with the request as the van left it.
        site: the site's folder, with its authority mounted.
        root: the root of trust for lists and authorities (``root.json`` of the repository).
        revokers: JWK Set of those who may revoke an entry.
        out: folder for the answer: copied into ``enrol/`` on the van's medium.
        secret: the medium's one-time secret, see :func:`secret_of`.

    Raises:
        BadInput: the name could not be a van's, a setting is none, or the request is damaged, was not made by the van
            of this medium, or is not signed by its own key.
        KeyUnusable: the site's authority is not there.
    """
    van = settings.van
    sites.check_name(van)
    if flaw := settings.flaw():
        raise BadInput(f"the answer for {van}", f"would name {flaw}", "Give --broker, and one of --fixed and --gpsd")
    asked, believed = _request(van, request, secret)
    public = asked.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    authority = sites.load_authority(site)
    certificate = sites.certify(authority, van, public, sites.VAN_LIFE)
    files = {"van.crt": sites.pem(certificate), "ca.crt": sites.pem(authority[0])}
    for name, path in (
        ("control-room.jwks", site / "public" / "control-room.jwks"),
        ("control-signing.jwks", site / "public" / "control-signing.jwks"),
        ("root.json", root),
        ("revokers.jwks", revokers),
    ):
        try:
            files[name] = path.read_bytes()
        except OSError as error:
            raise KeyUnusable(str(path), f"cannot be read ({error.strerror})", "Fetch it from the publisher") from None
    content = form.describe(settings, datetime.now(UTC), files)
    files |= {
        form.ANSWER: content,
        form.SIGNATURE: form.sign(content, authority[1]),
        form.CODE: form.code_of(secret, content).encode(),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        replace_file(out / name, text, mode=0o644)
    others = [k for k in sites.van_keys(site) if k.get("kid") != believed.get("kid")]
    write_public(site / sites.CONTROL_ROOM / "vans.jwks", {"keys": [*others, believed]})
    (site / "vans").mkdir(exist_ok=True)
    (site / "vans" / f"{van}-{certificate.serial_number:x}.crt").write_bytes(sites.pem(certificate))
    os.sync()
    return Answer(van, f"{certificate.serial_number:x}", certificate.not_valid_after_utc, believed.get("kid", ""))


def _request(van: str, request: Path, secret: bytes) -> tuple[x509.CertificateSigningRequest, dict[str, str]]:
    """The certificate request, and the signing key as it will be believed."""
    try:
        files = {name: (request / name).read_bytes() for name in form.REQUEST}
        given = (request / form.REQUEST_CODE).read_bytes().strip()
    except OSError as error:
        raise BadInput(str(request), f"holds no van's request ({error})", "Copy enrol/ from the van's medium") from None
    if not hmac.compare_digest(given, form.request_code(secret, files).encode()):
        raise BadInput(
            str(request),
            "was not made by the van whose medium the ledger names",
            "Find out who had the medium; then flash it again",
        )
    try:
        asked = x509.load_pem_x509_csr(files["van.csr"])
        signing = json_as(files["van-signing.jwk"], dict[str, str])
    except (ValueError, DecodeError) as error:
        raise BadInput(str(request), f"holds no van's request ({error})", "Copy enrol/ from the van's medium") from None
    if not asked.is_signature_valid or not isinstance(asked.public_key(), ec.EllipticCurvePublicKey):
        raise BadInput(str(request / "van.csr"), "is not signed by its own P-256 key", "Let the van make it again")
    believed = {k: v for k, v in signing.items() if k in {"kty", "crv", "x", "y", "kid", "use", "alg"}} | {"owner": van}
    KnownSigners.of([believed], "the van's signing key")
    return asked, believed
