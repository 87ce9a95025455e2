"""A site: the authority that names brokers, vans and control rooms, and the folder that each of them is given.

The authority's key stands in ``ca/`` and is needed only to enrol: keep that folder on a medium that is put
away. Everything is P-256. What is made::

    DIR/ca/                ca.key ca.crt crl.pem        stays offline
    DIR/broker/            broker.key broker.crt ca.crt crl.pem (mosquitto.conf acl: see broker.py)
    DIR/control-room/      control-room.key control-room.crt ca.crt      its way to the broker
                           control-decryption.jwks control-signing.jwk   what it reads and signs with
                           control-room-watch.key control-room-watch.crt  the same of lfr-control watch
                           vans.jwks                                     whose alerts it believes
                           control-store.key control.toml
    DIR/public/            control-room.jwks control-signing.jwks        what every van is given
    DIR/vans/<van>.crt     a copy of each van's certificate, for revocation
    DIR/rooms/<name>.crt   a copy of each further control room's certificate (see rooms.py)
    DIR/watchers/<name>.crt  a copy of each watcher's certificate, for the broker's access rules
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.errors import BadInput, EnvironmentFault, KeyUnusable
from edge.files import replace_file
from edge.names import NAME
from edge.parsing import json_as
from edge.trust.keys import DecryptionKeys, SigningKey, write_private, write_public
from edge.trust.secret import create_secret

__all__ = [
    "CONTROL_ROOM",
    "HOME_ASSISTANT",
    "VAN_LIFE",
    "WATCH",
    "Enrolment",
    "add_watcher",
    "certify",
    "check_name",
    "enrol_van",
    "init_home_assistant",
    "init_site",
    "issue",
    "load_authority",
    "pair_files",
    "pem",
    "revoke_certificates",
    "revoke_van",
    "room_names",
    "van_keys",
    "watcher_names",
]

CONTROL_ROOM = "control-room"
"""The name of the control room's certificate, and of its folder."""
WATCH = f"{CONTROL_ROOM}-watch"
"""The first watcher's name. Every watcher's begins with the control room's, and no van's does."""
HOME_ASSISTANT = "home-assistant"
"""The same of a Home Assistant that shows the vans' counters."""
CA_LIFE = timedelta(days=3650)
BROKER_LIFE = timedelta(days=397)
CONTROL_LIFE = timedelta(days=397)
VAN_LIFE = timedelta(days=90)
CRL_LIFE = timedelta(days=397)
"""Mosquitto refuses everybody when its list of revocations has lapsed: as long as the broker's certificate."""
BACKDATE = timedelta(minutes=5)
"""A van's clock may be a little behind the enrolment's."""

Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A van that may now speak.

    Attributes:
        van: its name.
        folder: where its files are.
        key_id: thumbprint of its signing key.
        expires: when its certificate ends.
    """

    van: str
    folder: Path
    key_id: str
    expires: datetime


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content, mode=mode)


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as the text that every program reads."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, life: timedelta) -> Any:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def make_authority() -> Pair:
    """A new authority that may sign certificates of clients and brokers, and nothing below them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("LFR Edge site authority")
    certificate = (
        _builder(name, name, key.public_key(), CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def issue(authority: Pair, name: str, life: timedelta, *, hosts: Sequence[str] = ()) -> Pair:
    """A key and its certificate of ``name``: a server's when it has ``hosts``, otherwise a client's."""
    key = ec.generate_private_key(ec.SECP256R1())
    return certify(authority, name, key.public_key(), life, hosts=hosts), key


def certify(
    authority: Pair, name: str, public: ec.EllipticCurvePublicKey, life: timedelta, *, hosts: Sequence[str] = ()
) -> x509.Certificate:
    """A certificate for a key that was made elsewhere, and of which only the public half came here.

    Raises:
        KeyUnusable: the authority would end before the certificate.
    """
    issuer, issuer_key = authority
    if issuer.not_valid_after_utc < datetime.now(UTC) + life:
        raise KeyUnusable(
            "the site's certificate authority",
            f"ends before the certificate of {name} would",
            "Make a new authority first",
        )
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(_subject(name), issuer.subject, public, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    certificate: x509.Certificate = builder.sign(issuer_key, hashes.SHA256())
    return certificate


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _revocations(authority: Pair, serials: Sequence[int]) -> bytes:
    certificate, key = authority
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(now - BACKDATE)
        .next_update(now + CRL_LIFE)
    )
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - BACKDATE).build()
        )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def load_authority(site: Path) -> Pair:
    """The site's authority, where its medium is mounted.

    Raises:
        KeyUnusable: it is not there, or is damaged.
    """
    try:
        certificate = x509.load_pem_x509_certificate((site / "ca" / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((site / "ca" / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        cause = getattr(error, "strerror", None) or "damaged key or certificate"
        raise KeyUnusable(
            str(site / "ca"),
            f"holds no usable certificate authority ({cause})",
            "Connect the disk or stick that holds it",
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnusable(str(site / "ca"), "holds another kind of key", "Connect the right disk or stick")
    return certificate, key


def init_site(site: Path, hosts: Sequence[str] = ("localhost", "127.0.0.1"), port: int = 8883) -> None:
    """Make a new site in an empty or missing folder.

    Args:
        site: the folder.
        hosts: names and addresses under which the broker is reached; the first goes into ``control.toml``.
        port: the broker's TCP port, likewise.

    Raises:
        BadInput: the folder is not empty: an authority is never replaced by accident.
        EnvironmentFault: the folder cannot be written.
    """
    try:
        site.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(site.iterdir()):
            raise BadInput(str(site), "is not empty", "Give a new folder; an authority is never replaced")
        authority = make_authority()
        _write(site / "ca" / "ca.crt", pem(authority[0]))
        _write(site / "ca" / "ca.key", _key_pem(authority[1]), 0o600)
        _publish_revocations(site, authority, [])
        _write(site / "broker" / "ca.crt", pem(authority[0]))
        pair_files(site / "broker", "broker", issue(authority, "broker", BROKER_LIFE, hosts=hosts))
        _init_control_room(site, authority, hosts[0], port)
    except OSError as error:
        raise EnvironmentFault(str(site), f"cannot be written ({error.strerror})", "Choose another folder") from None


def pair_files(folder: Path, stem: str, pair: Pair) -> None:
    """Write a certificate and its key as ``STEM.crt`` and ``STEM.key``."""
    _write(folder / f"{stem}.crt", pem(pair[0]))
    _write(folder / f"{stem}.key", _key_pem(pair[1]), 0o600)


def _init_control_room(site: Path, authority: Pair, host: str, port: int) -> None:
    room = site / CONTROL_ROOM
    _write(room / "ca.crt", pem(authority[0]))
    pair_files(room, CONTROL_ROOM, issue(authority, CONTROL_ROOM, CONTROL_LIFE))
    _make_watcher(site, authority, WATCH)
    decryption, signing = DecryptionKeys.generate(), SigningKey.generate()
    write_private(room / "control-decryption.jwks", decryption.private_jwks())
    write_private(room / "control-signing.jwk", signing.private_jwk())
    write_public(room / "vans.jwks", {"keys": []})
    create_secret(room / "control-store.key")
    _write(room / "control.toml", f'[broker]\nhost = "{host}"\nport = {port}\n'.encode())
    write_public(site / "public" / "control-room.jwks", decryption.public_jwks())
    write_public(site / "public" / "control-signing.jwks", {"keys": [signing.public_jwk(owner=CONTROL_ROOM)]})


def _make_watcher(site: Path, authority: Pair, name: str) -> None:
    pair = issue(authority, name, CONTROL_LIFE)
    pair_files(site / CONTROL_ROOM, name, pair)
    _write(site / "watchers" / f"{name}.crt", pem(pair[0]))


def add_watcher(name: str, site: Path) -> Path:
    """Give one more ``lfr-control watch`` a certificate of its own; returns its path. The broker's rules come after it.

    Raises:
        BadInput: the name could not be a watcher's.
        KeyUnusable: the site's authority is not there, or there is one of this name.
        EnvironmentFault: the folder cannot be written.
    """
    if not re.fullmatch(NAME, name) or not name.startswith(f"{CONTROL_ROOM}-"):
        raise BadInput(f"watcher {name!r}", f"must begin with {CONTROL_ROOM}-", f"Call it {CONTROL_ROOM}-NAME")
    made = site / CONTROL_ROOM / f"{name}.crt"
    if made.exists() or name in room_names(site):
        raise KeyUnusable(str(made), "exists already", "Give another name")
    authority = load_authority(site)
    try:
        _make_watcher(site, authority, name)
    except OSError as error:
        raise EnvironmentFault(str(made), f"cannot be written ({error.strerror})", "Check who owns it") from None
    return made


def watcher_names(site: Path) -> list[str]:
    """The watchers of a site, as the broker knows them."""
    return sorted(path.stem for path in (site / "watchers").glob(f"{CONTROL_ROOM}-*.crt"))


def room_names(site: Path) -> list[str]:
    """The further control rooms of a site, by their certificates' names."""
    return sorted(path.stem for path in (site / "rooms").glob(f"{CONTROL_ROOM}-*.crt"))


def init_home_assistant(site: Path) -> Path:
    """Give a Home Assistant its certificate, unless it has one; returns its folder.

    Raises:
        KeyUnusable: the site's authority is not there.
        EnvironmentFault: the folder cannot be written.
    """
    folder = site / HOME_ASSISTANT
    if not (folder / f"{HOME_ASSISTANT}.key").exists():
        authority = load_authority(site)
        try:
            _write(folder / "ca.crt", pem(authority[0]))
            pair_files(folder, HOME_ASSISTANT, issue(authority, HOME_ASSISTANT, CONTROL_LIFE))
        except OSError as error:
            raise EnvironmentFault(str(folder), f"cannot be written ({error.strerror})", "Check who owns it") from None
    return folder


def van_keys(site: Path) -> list[dict[str, Any]]:
    """The signing keys of vans that the control room believes.

    Raises:
        KeyUnusable: the folder is no site's.
    """
    path = site / CONTROL_ROOM / "vans.jwks"
    try:
        keys = json_as(path.read_bytes(), dict[str, list[dict[str, Any]]])["keys"]
    except (OSError, msgspec.DecodeError, KeyError):
        raise KeyUnusable(
            str(path), "is not a key set (JSON Web Key Set)", "Run lfr-provision init in a new folder"
        ) from None
    return keys


def check_name(van: str) -> None:
    """Refuse what could not be a van's name, or is another party's.

    Raises:
        BadInput: it is one.
    """
    others = (HOME_ASSISTANT, "broker")
    if not re.fullmatch(NAME, van) or van in others or van.startswith(CONTROL_ROOM):
        raise BadInput(
            f"van {van!r}",
            "cannot be a van's name",
            f"Use letters, digits, . _ - ; not {', '.join(others)} or {CONTROL_ROOM}",
        )


def enrol_van(van: str, site: Path, out: Path, life: timedelta = VAN_LIFE) -> Enrolment:
    """Give a van its identity: files under the names that ``[alert]`` and ``[store]`` of its configuration expect.

    A van that is enrolled again gets new keys; its former signing keys stay believed until they are revoked, so
    that alerts under way can still be read.

    Raises:
        BadInput: the name could not be a van's, or is the control room's.
        KeyUnusable: the site's authority is not there, or ``out`` already holds keys.
        EnvironmentFault: a folder cannot be written.
    """
    check_name(van)
    authority = load_authority(site)
    keys = van_keys(site)
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (out / "van.key").exists():
            raise KeyUnusable(str(out / "van.key"), "exists already", "Give a new folder for the new keys")
        pair = issue(authority, van, life)
        signing = SigningKey.generate()
        _write(out / "ca.crt", pem(authority[0]))
        pair_files(out, "van", pair)
        pair_files(out, "bridge", issue(authority, "localhost", life, hosts=("localhost", "127.0.0.1")))
        write_private(out / "van-signing.jwk", signing.private_jwk())
        for name in ("control-room.jwks", "control-signing.jwks"):
            _write(out / name, (site / "public" / name).read_bytes())
        if not (out / "outbox.key").exists():
            create_secret(out / "outbox.key")
        write_public(site / CONTROL_ROOM / "vans.jwks", {"keys": [*keys, signing.public_jwk(owner=van)]})
        _write(site / "vans" / f"{van}-{pair[0].serial_number:x}.crt", pem(pair[0]))
    except OSError as error:
        raise EnvironmentFault(str(out), f"cannot be written ({error.strerror})", "Choose another folder") from None
    return Enrolment(van, out, signing.key_id, pair[0].not_valid_after_utc)


def revoke_van(van: str, site: Path) -> int:
    """Take a van's certificates and signing keys back; returns how many certificates were revoked.

    The broker needs a restart (or SIGHUP) with the new list, the control room reads its key set within a minute.

    Raises:
        BadInput: no such van was enrolled.
        KeyUnusable: the site's authority is not there.
    """
    load_authority(site)
    certificates = (site / "vans").glob("*.crt")
    mine = [c for c in certificates if x509.load_pem_x509_certificate(c.read_bytes()).subject == _subject(van)]
    if not mine:
        raise BadInput(f"van {van}", "was never enrolled at this site", "Check its name: ls vans/")
    revoke_certificates(site, mine)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    keys = [key if key.get("owner") != van else {"revoked": now, **key} for key in van_keys(site)]
    write_public(site / CONTROL_ROOM / "vans.jwks", {"keys": keys})
    return len(mine)


def revoke_certificates(site: Path, certificates: Sequence[Path]) -> None:
    """Add certificates to the site's list of revocations, for the authority and the broker.

    Raises:
        KeyUnusable: the site's authority is not there.
    """
    authority = load_authority(site)
    serials = [x509.load_pem_x509_certificate(path.read_bytes()).serial_number for path in certificates]
    former = x509.load_pem_x509_crl((site / "ca" / "crl.pem").read_bytes())
    _publish_revocations(site, authority, sorted({*serials, *(entry.serial_number for entry in former)}))


def _publish_revocations(site: Path, authority: Pair, serials: Sequence[int]) -> None:
    content = _revocations(authority, serials)
    for folder in ("ca", "broker"):
        _write(site / folder / "crl.pem", content)
