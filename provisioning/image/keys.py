"""Who may sign images: a release authority kept offline, its signers, and a development authority that no van trusts.

Everything is ECDSA on P-256, as in the rest of LFR Edge. A signer's key is a file, or lives in a token (PKCS#11) and
is named by its URI; a signer's certificate may do nothing but sign code. The authority's revocation list travels in
the keyring, and RAUC and :mod:`provisioning.image.verify` both demand it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.errors import KeyUnusable
from edge.files import replace_file
from provisioning.image.tools import ImageRefused, run

__all__ = [
    "Kind",
    "check_keyring",
    "is_development",
    "is_protected",
    "issue_signer",
    "keyring",
    "make_authority",
    "name_of",
    "open_authority",
    "request_from_token",
    "revoke",
]

Kind = Literal["release", "development"]
AUTHORITY_LIFE = timedelta(days=20 * 365)
SIGNER_LIFE = timedelta(days=2 * 365)
CRL_LIFE = timedelta(days=10 * 365)
"""A van that stays in a garage must still take updates; revocation reaches it with the next image's keyring."""
SHORTEST_PASSPHRASE = 10
"""Somebody who has the medium can try as many as he likes."""
_BACKDATE = timedelta(hours=1)
_DEVELOPMENT = "LFR Edge development"
_RELEASE = "LFR Edge release"


def name_of(kind: Kind, common: str) -> x509.Name:
    """A certificate's subject; it says whether it is a development one."""
    organisation = _RELEASE if kind == "release" else _DEVELOPMENT
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None) -> bytes:
    if passphrase is None:
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    elif len(passphrase) < SHORTEST_PASSPHRASE:
        raise KeyUnusable(
            "the passphrase", f"has fewer than {SHORTEST_PASSPHRASE} characters", "Choose four or five words"
        )
    else:
        protection = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def is_protected(folder: Path) -> bool:
    """Whether an authority's key asks for a passphrase."""
    try:
        return b"ENCRYPTED" in (folder / "ca.key").read_bytes().partition(b"\n")[0]
    except OSError:
        return False


def make_authority(folder: Path, kind: Kind, *, common: str = "", passphrase: bytes | None = None) -> Path:
    """Make a new authority: ``ca.key``, ``ca.crt`` and an empty ``crl.pem``.

    Args:
        folder: new folder; for the release authority on a machine and a medium that are never on a network.
        kind: ``release`` or ``development``; stands in every certificate below.
        common: the authority's name; its year is a good one.
        passphrase: encrypts the key; the release authority should have one.

    Raises:
        KeyUnusable: the folder holds an authority already.
    """
    if (folder / "ca.key").exists():
        raise KeyUnusable(
            str(folder), "holds an authority already", "Give a new folder; an authority is never replaced"
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    name = name_of(
        kind, common or f"{_RELEASE if kind == 'release' else _DEVELOPMENT} authority {datetime.now(UTC):%Y}"
    )
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca.key", _private(key, passphrase), mode=0o600)
    _write(folder / "ca.crt", _pem(certificate))
    _write(folder / "crl.pem", _pem(_revocations(certificate, key, [])))
    return folder / "ca.crt"


def _write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content, mode=mode)


def open_authority(folder: Path, passphrase: bytes | None) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """An authority's certificate and private key.

    Raises:
        KeyUnusable: missing, damaged, of another kind, or a wrong passphrase.
    """
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=passphrase)
    except (OSError, ValueError, TypeError) as error:
        cause = getattr(error, "strerror", None) or "damaged, or a wrong passphrase"
        raise KeyUnusable(
            str(folder), f"holds no usable authority ({cause})", "Connect the disk or stick that holds it"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnusable(str(folder), "holds another kind of key", "Connect the right disk or stick")
    return certificate, key


def _revocations(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, serials: Sequence[int]
) -> x509.CertificateRevocationList:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(now - _BACKDATE)
        .next_update(now + CRL_LIFE)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - _BACKDATE)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hashes.SHA256())


def issue_signer(
    authority: Path,
    common: str,
    out: Path,
    *,
    request: bytes | None = None,
    passphrase: bytes | None = None,
    life: timedelta = SIGNER_LIFE,
) -> Path:
    """Certify a signer. With ``request`` its key stays where it is (a token); otherwise ``signer.key`` is made.

    Args:
        authority: the authority's folder.
        common: the signer's name: a role, not a person.
        out: folder for ``signer.crt`` and, without a request, ``signer.key``.
        request: a certificate request in PEM, from :func:`request_from_token`.
        passphrase: of the authority's key.
        life: how long the certificate holds.

    Raises:
        KeyUnusable: the authority cannot be opened, or the request is damaged or not signed by its own key.
    """
    certificate, key = open_authority(authority, passphrase)
    kind: Kind = "development" if is_development(certificate) else "release"
    public: ec.EllipticCurvePublicKey
    if request is None:
        own = ec.generate_private_key(ec.SECP256R1())
        public = own.public_key()
        _write(out / "signer.key", _private(own, None), mode=0o600)
    else:
        try:
            asked = x509.load_pem_x509_csr(request)
        except ValueError:
            raise KeyUnusable("certificate request", "is damaged", "Make it again on the token") from None
        public_key = asked.public_key()
        if not asked.is_signature_valid or not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise KeyUnusable("certificate request", "is not signed by its own P-256 key", "Make it again on the token")
        public = public_key
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name_of(kind, common))
        .issuer_name(certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(out / "signer.crt", _pem(signed))
    return out / "signer.crt"


def request_from_token(uri: str, common: str) -> bytes:
    """A certificate request for a key that lives in a token, signed inside it.

    Args:
        uri: PKCS#11 URI of the private key (RFC 7512).
        common: the signer's name.
    """
    words = ["openssl", "req", "-new", "-engine", "pkcs11", "-keyform", "engine", "-key", uri, "-subj", f"/CN={common}"]
    return run(
        words, thing=re.sub(r"pin-value=[^;&]*", "pin-value=…", uri), next_step="Check the token's module and PIN"
    ).encode()


def revoke(authority: Path, certificate: Path, *, passphrase: bytes | None = None) -> int:
    """Add a signer to its authority's revocation list; returns how many stand in it then."""
    issuer, key = open_authority(authority, passphrase)
    gone = x509.load_pem_x509_certificate(certificate.read_bytes())
    if gone.issuer != issuer.subject:
        raise KeyUnusable(str(certificate), "was not issued by this authority", "Give the authority that issued it")
    former = x509.load_pem_x509_crl((authority / "crl.pem").read_bytes())
    serials = sorted({gone.serial_number, *(entry.serial_number for entry in former)})
    _write(authority / "crl.pem", _pem(_revocations(issuer, key, serials)))
    return len(serials)


def keyring(authorities: Sequence[Path], out: Path, *, development: bool = False) -> None:
    """Write the keyring of an image: authorities and their revocation lists. Two authorities: the old and the new.

    Raises:
        ImageRefused: one of them is a development authority and ``development`` was not said.
    """
    parts = [(folder / name).read_bytes() for folder in authorities for name in ("ca.crt", "crl.pem")]
    content = b"".join(parts)
    _check(content, str(out), development=development)
    _write(out, content)


def is_development(certificate: x509.Certificate) -> bool:
    """Whether a certificate is of the development authority or below it."""
    return "development" in certificate.subject.rfc4514_string().lower()


def _check(content: bytes, thing: str, *, development: bool) -> None:
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError:
        raise KeyUnusable(thing, "holds no certificate", "Write it with: lfr-provision image key keyring") from None
    lists = re.findall(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", content, re.DOTALL)
    issuers = {x509.load_pem_x509_crl(entry).issuer for entry in lists}
    for certificate in certificates:
        if certificate.subject not in issuers:
            name = certificate.subject.rfc4514_string()
            raise KeyUnusable(
                thing, f"lacks the revocation list of {name}", "Write it with: lfr-provision image key keyring"
            )
        if is_development(certificate) and not development:
            raise ImageRefused(
                thing,
                "trusts a development authority",
                "Give the release authority's keyring, or say --development for an image that never leaves the bench",
            )


def check_keyring(path: Path, *, development: bool = False) -> None:
    """Check a keyring before it goes into an image.

    Raises:
        KeyUnusable: no certificate, or one without its revocation list.
        ImageRefused: it trusts a development authority and ``development`` was not said.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KeyUnusable(str(path), f"cannot be read ({error.strerror})", "Give the keyring file") from None
    _check(content, str(path), development=development)
