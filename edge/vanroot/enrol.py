"""The van makes its own keys, asks for its certificate, and takes it when it comes.

First start: the one-time secret that flashing left on the small open partition is taken to the encrypted volume, the
keys are made there, and a request (:data:`edge.vanroot.answer.REQUEST`, public, with a code under the secret) is left
on the partition. The engineer has it signed and puts the answer beside it. Next start: the answer is judged
(:mod:`edge.vanroot.answer` has the rules), taken in, and removed. Private keys never leave the volume.
"""

# ruff: noqa: PLC0415 - the service's packages are slow to import and most starts do not need them

from __future__ import annotations

import json
import os
import pwd
import shutil
import sys
from pathlib import Path

from . import OWNER, answer
from .files import erase, give, read_small, replace_file, write_new

__all__ = ["MINE", "main", "make_keys", "take_answer", "take_secret"]

EXCHANGE = Path("/cfg/enrol")
MINE = Path("/data/lfr")
SECRET = "enrolment.secret"  # noqa: S105 - the name of a file
LIMIT = 65_536
"""No key set, certificate or root of trust is longer, bytes."""


def _say(text: str) -> None:
    sys.stdout.write(f"LFR-ENROL {text}\n")
    sys.stdout.flush()


def take_secret(mine: Path, exchange: Path) -> bytes | None:
    """The van's one-time secret; None when there is none, or it was used up.

    The first that is found on the medium is the van's; none that comes later is looked at. What stands on the medium
    is overwritten.

    Raises:
        OSError: it cannot be kept.
    """
    offered = exchange / answer.SECRET
    if (mine / "van.crt").exists():
        erase(mine / SECRET)  # left by a power cut after the answer was taken in
    elif not (mine / SECRET).exists() and (found := _read(offered)) and len(found.strip()) >= 32:
        replace_file(mine / SECRET, found.strip())
    if offered.exists():
        erase(offered)
    return _read(mine / SECRET)


def _read(path: Path) -> bytes | None:
    try:
        return read_small(path, LIMIT)
    except OSError:
        return None


def make_keys(mine: Path, exchange: Path, name: str, secret: bytes) -> None:
    """Make what is missing of the van's keys, and leave the request with its code under the one-time secret."""
    import pyrage
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    from edge.trust.keys import SigningKey, write_private
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
    age = pyrage.x25519.Identity.from_str((mine / "van.age.key").read_text(encoding="utf-8").strip())
    content = {
        "van.csr": request.public_bytes(serialization.Encoding.PEM),
        "van-signing.jwk": json.dumps(signing.public_jwk(owner=name)).encode(),
        "van.age.pub": f"{age.to_public()}\n".encode(),
    }
    for file, text in content.items():
        write_new(exchange / file, text)
    write_new(exchange / answer.REQUEST_CODE, answer.request_code(secret, content).encode())


def take_answer(mine: Path, exchange: Path, secret: bytes | None) -> str | None:
    """Take an answer in, if one is there and may be believed; returns the van's name, None when there is none.

    Raises:
        ValueError: it may not be believed; says why. What the van has stays as it is.
        OSError: it cannot be kept.
    """
    from cryptography.hazmat.primitives import serialization

    if not (exchange / "van.crt").exists():
        return None
    names = (*answer.FILES, answer.ANSWER, answer.SIGNATURE, answer.CODE)
    offered = {name: found for name in names if (found := _read(exchange / name)) is not None}
    enrolled = (mine / "van.crt").exists()
    held = {name: found for name in names if enrolled and (found := _read(mine / name)) is not None}
    if not held or offered.get(answer.ANSWER) != held.get(answer.ANSWER):  # the same again: power was cut at its end
        key = serialization.load_pem_private_key((mine / "van.key").read_bytes(), password=None)
        answer.believe(offered, key.public_key(), secret=secret, held=held)
        for name in reversed(answer.FILES):  # the certificate last of them: with it the van is enrolled
            replace_file(mine / name, offered[name], mode=0o644)
        replace_file(mine / answer.ANSWER, offered[answer.ANSWER], mode=0o644)
    erase(mine / SECRET)
    shutil.rmtree(exchange)
    return answer.parse(read_small(mine / answer.ANSWER, LIMIT))[0].van


def main() -> int:
    """Run at every start; does nothing for a van that is enrolled and has no new answer."""
    refused = 0
    try:
        secret = take_secret(MINE, EXCHANGE)
        name = take_answer(MINE, EXCHANGE, secret)
        if name:
            _say(f"enrolled as {name}")
        elif not (MINE / "van.crt").exists():
            if secret is None:
                raise ValueError("this medium has no one-time secret; flash it again")
            wanted = (_read(EXCHANGE / "name") or b"van").decode("ascii", errors="replace").strip()[:64]
            make_keys(MINE, EXCHANGE, wanted or "van", secret)
            _say("keys made here; the request waits in enrol/ on the medium's first partition")
    except (ValueError, OSError) as error:
        _say(f"refused: {error}")
        refused = 3
    account = pwd.getpwnam(OWNER)
    for path in MINE.iterdir():
        give(path, account.pw_uid, account.pw_gid)
    os.sync()
    return refused


if __name__ == "__main__":
    sys.exit(main())
