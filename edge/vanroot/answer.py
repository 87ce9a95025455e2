"""What goes between a van and the bench at its enrolment, and when a van believes it.

Everything travels over the small open partition of the medium, which anybody who has the medium can write. So:

* Flashing puts a **one-time secret** on it and into the engineer's ledger. The van takes it to its encrypted volume at
  its first start and overwrites it on the medium.
* The van's **request** carries a code under that secret: the bench signs no stranger's key.
* The **first answer** must carry a code under it, too: only who has the ledger can say whom the van is to believe.
  With the answer the secret is used up.
* Each **later answer** must be signed by the site's authority that the first one named, be newer than the last, and
  leave that authority and the root of trust for lists as they are: that root changes only through TUF, by its own keys.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = [
    "ANSWER",
    "CODE",
    "FILES",
    "REQUEST",
    "REQUEST_CODE",
    "SECRET",
    "SIGNATURE",
    "Settings",
    "believe",
    "code_of",
    "describe",
    "parse",
    "request_code",
    "sign",
]

FILES = ("van.crt", "ca.crt", "control-room.jwks", "control-signing.jwks", "root.json", "revokers.jwks")
"""Certificate, whom to talk to, who may answer; the root of trust for lists and authorities, and who may revoke."""
REQUEST = ("van.csr", "van-signing.jwk", "van.age.pub")
ANSWER, SIGNATURE, CODE = "answer.json", "answer.sig", "answer.code"
REQUEST_CODE = "request.code"
SECRET = "secret"  # noqa: S105 - the name of a file
FIXED_FOR_GOOD = ("ca.crt", "root.json")
"""What no later answer may change."""
_SIGNED_AS = b"LFR Edge enrolment answer 1\0"
_CODED_AS = b"LFR Edge enrolment answer code 1\0"
_REQUESTED_AS = b"LFR Edge enrolment request code 1\0"
LONGEST_HOST = 253


@dataclass(frozen=True, slots=True)
class Settings:
    """What an answer says besides its files: what a van is told by those who enrol it and by nobody else.

    Attributes:
        van: its name.
        host: name or address of the broker.
        port: its TCP port.
        fixed: latitude and longitude in degrees of a site that does not move; None for a van.
        gpsd: ``host:port`` of the satellite receiver's gpsd; empty without one.
    """

    van: str
    host: str
    port: int
    fixed: tuple[float, float] | None = None
    gpsd: str = ""

    def flaw(self) -> str:
        """Why these are no settings; empty when they are."""
        if not self.van or not self.host or len(self.host) > LONGEST_HOST or not 0 < self.port <= 65535:
            return "no van, or no broker"
        if self.fixed is not None and not (-90 <= self.fixed[0] <= 90 and -180 <= self.fixed[1] <= 180):
            return "a position that is not on Earth"
        return "two positions" if self.fixed is not None and self.gpsd else ""


def describe(settings: Settings, made: datetime, files: Mapping[str, bytes]) -> bytes:
    """The text that is signed: the settings, when it was made, and every file by its SHA-256."""
    content = {
        "van": settings.van,
        "made": made.isoformat(),
        "broker": {"host": settings.host, "port": settings.port},
        "position": {"fixed": list(settings.fixed) if settings.fixed else None, "gpsd": settings.gpsd},
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in FILES},
    }
    return json.dumps(content, sort_keys=True).encode()


def parse(content: bytes) -> tuple[Settings, datetime, dict[str, str]]:
    """Read such a text: the settings, when it was made, SHA-256 of each file.

    Raises:
        ValueError: it is none.
    """
    try:
        raw: dict[str, Any] = json.loads(content)
        fixed = raw["position"]["fixed"]
        settings = Settings(
            van=str(raw["van"]),
            host=str(raw["broker"]["host"]),
            port=int(raw["broker"]["port"]),
            fixed=(float(fixed[0]), float(fixed[1])) if fixed is not None else None,
            gpsd=str(raw["position"]["gpsd"]),
        )
        made = datetime.fromisoformat(raw["made"])
        files = {name: str(raw["files"][name]) for name in FILES}
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        raise ValueError(f"{ANSWER} is damaged") from None
    if made.tzinfo is None or settings.flaw():
        raise ValueError(f"{ANSWER} names {settings.flaw() or 'no time zone'}")
    return settings, made, files


def sign(content: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The site authority's signature of an answer."""
    return key.sign(_SIGNED_AS + content, ec.ECDSA(hashes.SHA256()))


def code_of(secret: bytes, content: bytes) -> str:
    """The code of a first answer, hexadecimal."""
    return hmac.new(secret, _CODED_AS + content, hashlib.sha256).hexdigest()


def request_code(secret: bytes, files: Mapping[str, bytes]) -> str:
    """The code of a request, hexadecimal.

    Args:
        secret: the one-time secret.
        files: content of each of :data:`REQUEST`.
    """
    digests = b"".join(hashlib.sha256(files[name]).digest() for name in REQUEST)
    return hmac.new(secret, _REQUESTED_AS + digests, hashlib.sha256).hexdigest()


def believe(
    offered: Mapping[str, bytes], public: object, *, secret: bytes | None, held: Mapping[str, bytes]
) -> Settings:
    """Judge an answer; return its settings when the van may take it in.

    Args:
        offered: the files on the medium, by name.
        public: the public key of the van's own certificate key.
        secret: the one-time secret; None when there is none or it was used up.
        held: the files of the answer before, by name; empty for a van that was never enrolled.

    Raises:
        ValueError: it may not; says why.
    """
    lacking = [name for name in (*FILES, ANSWER, SIGNATURE) if name not in offered]
    if lacking:
        raise ValueError(f"the answer lacks {', '.join(lacking)}")
    content = offered[ANSWER]
    if held:
        _judge_later(offered, held)
        authority, key = _authority(held["ca.crt"])
    else:
        _judge_first(offered, secret)
        authority, key = _authority(offered["ca.crt"])
    try:
        key.verify(offered[SIGNATURE], _SIGNED_AS + content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ValueError("the answer is not signed by this van's site authority") from None
    settings, made, files = parse(content)
    for name in FILES:
        if hashlib.sha256(offered[name]).hexdigest() != files[name]:
            raise ValueError(f"{name} is not the file that the answer names")
    if ANSWER in held:
        former, before, _ = parse(held[ANSWER])
        if former.van != settings.van:
            raise ValueError(f"the answer is for {settings.van}, this van is {former.van}")
        if made <= before:
            raise ValueError("the answer is not newer than the one that this van has")
    _judge_certificate(offered["van.crt"], authority, public, settings.van)
    return settings


def _judge_first(offered: Mapping[str, bytes], secret: bytes | None) -> None:
    if secret is None:
        raise ValueError("this van has no one-time secret; flash its medium again")
    given = offered.get(CODE, b"").strip()
    if not hmac.compare_digest(given, code_of(secret, offered[ANSWER]).encode()):
        raise ValueError("the answer does not carry this medium's one-time secret")


def _judge_later(offered: Mapping[str, bytes], held: Mapping[str, bytes]) -> None:
    for name in FIXED_FOR_GOOD:
        if offered[name] != held.get(name):
            raise ValueError(f"the answer would change {name} of an enrolled van")


def _authority(content: bytes) -> tuple[x509.Certificate, ec.EllipticCurvePublicKey]:
    certificate = _certificate(content, "ca.crt")
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return certificate, key
    raise ValueError("ca.crt is of another kind of key")


def _certificate(content: bytes, name: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError:
        raise ValueError(f"{name} is no certificate") from None


def _judge_certificate(content: bytes, authority: x509.Certificate, public: object, van: str) -> None:
    certificate = _certificate(content, "van.crt")
    if certificate.public_key() != public:
        raise ValueError("the certificate is for another van's key")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise ValueError("the certificate is not of the site's authority") from None
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [name.value for name in names] != [van]:
        raise ValueError("the certificate is in another name than the answer")
