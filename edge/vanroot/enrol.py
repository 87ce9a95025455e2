"""The van makes its own keys, asks for its certificate, and takes it when it comes.

First start: the keys are made on the encrypted volume, and a request (``enrol/van.csr``, ``enrol/van-signing.jwk``,
both public) is left on the small open partition of the medium. The engineer has it signed and puts the answer beside
it. Next start: the answer is checked against the keys, taken in, and removed. Private keys never leave the volume.
"""

# ruff: noqa: PLC0415 - the service's packages are slow to import and most starts do not need them

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .files import replace_file

__all__ = ["ANSWER", "MINE", "main", "make_keys", "take_answer"]

EXCHANGE = Path("/cfg/enrol")
MINE = Path("/data/lfr")
ANSWER = ("van.crt", "ca.crt", "control-room.jwks", "control-signing.jwks", "root.json", "revokers.jwks")
"""Certificate, whom to talk to, who may answer; the root of trust for lists and authorities, and who may revoke."""
OWNER = "lfr"


def _say(text: str) -> None:
    sys.stdout.write(f"LFR-ENROL {text}\n")
    sys.stdout.flush()


def make_keys(mine: Path, exchange: Path, name: str) -> None:
    """Make what is missing of the van's keys, and leave the request."""
    import pyrage
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    from edge.trust.keys import SigningKey, write_private, write_public
    from edge.trust.secret import create_secret

    path = mine / "van.key"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        replace_file(path, key.private_bytes(*form))
    if not (mine / "van-signing.jwk").exists():
        write_private(mine / "van-signing.jwk", SigningKey.generate().private_jwk())
    if not (mine / "van.age.key").exists():
        identity = pyrage.x25519.Identity.generate()
        replace_file(mine / "van.age.key", f"{identity}\n".encode())
    if not (mine / "outbox.key").exists():
        create_secret(mine / "outbox.key")
    loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .sign(loaded, hashes.SHA256())
    )
    exchange.mkdir(exist_ok=True)
    signing = SigningKey.load("van-signing.jwk", mine)
    write_public(exchange / "van-signing.jwk", signing.public_jwk(owner=name))
    age = pyrage.x25519.Identity.from_str((mine / "van.age.key").read_text(encoding="utf-8").strip())
    (exchange / "van.age.pub").write_text(f"{age.to_public()}\n", encoding="utf-8")
    (exchange / "van.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))


def take_answer(mine: Path, exchange: Path) -> str | None:
    """Take the signed answer in, if it is there and is for these keys; returns the van's name.

    Raises:
        ValueError: the certificate is for another key, or the answer is incomplete.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import NameOID

    if not (exchange / "van.crt").exists():
        return None
    lacking = [name for name in ANSWER if not (exchange / name).is_file()]
    if lacking:
        raise ValueError(f"the answer lacks {', '.join(lacking)}")
    certificate = x509.load_pem_x509_certificate((exchange / "van.crt").read_bytes())
    key = serialization.load_pem_private_key((mine / "van.key").read_bytes(), password=None)
    if certificate.public_key() != key.public_key():
        raise ValueError("the certificate is for another van's key")
    for name in reversed(ANSWER):  # the certificate last: with it the van is enrolled
        replace_file(mine / name, (exchange / name).read_bytes(), mode=0o644)
    shutil.rmtree(exchange)
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def main() -> int:
    """Run at every start; does nothing for a van that is enrolled and has no new answer."""
    try:
        name = take_answer(MINE, EXCHANGE)
    except ValueError as error:
        _say(f"refused: {error}")
        return 3
    if name:
        _say(f"enrolled as {name}")
    elif not (MINE / "van.crt").exists():
        wanted = EXCHANGE / "name"
        make_keys(MINE, EXCHANGE, wanted.read_text(encoding="utf-8").strip() if wanted.exists() else "van")
        _say("keys made here; the request waits in enrol/ on the medium's first partition")
    for path in MINE.iterdir():
        shutil.chown(path, OWNER, OWNER)
    os.sync()
    return 0


if __name__ == "__main__":
    sys.exit(main())
