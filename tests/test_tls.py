"""TLS towards the broker: a real handshake on loopback, and every certificate that must not be taken."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.errors import KeyUnusable
from edge.trust.tls import client_context, common_name
from provisioning.site import Pair, issue, make_authority, pem

DAY = timedelta(days=1)
SITE, STRANGERS = make_authority(), make_authority()


def put(folder: Path, name: str, pair: Pair) -> None:
    certificate, key = pair
    (folder / f"{name}.crt").write_bytes(pem(certificate))
    (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / f"{name}.key").chmod(0o600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ca.crt").write_bytes(pem(SITE[0]))
    put(tmp_path, "van", issue(SITE, "van-1", DAY))
    return tmp_path


class Broker:
    """A server that shakes one hand."""

    def __init__(self, folder: Path, authority: Pair, host: str, *, highest: ssl.TLSVersion) -> None:
        put(folder, "broker", issue(authority, "broker", DAY, hosts=[host]))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = highest
        context.load_cert_chain(folder / "broker.crt", folder / "broker.key")
        context.load_verify_locations(folder / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self.port = self._listener.getsockname()[1]
        self.client: str | None = None
        """Whose certificate was shown."""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        raw, _ = self._listener.accept()
        raw.settimeout(20)
        try:
            with self._context.wrap_socket(raw, server_side=True) as connection:
                shown = connection.getpeercert(binary_form=True)
                self.client = x509.load_der_x509_certificate(shown or b"").subject.rfc4514_string()
                connection.sendall(b"!")
        except OSError:
            raw.close()

    def close(self) -> None:
        self._thread.join(20)
        self._listener.close()


def shake(context: ssl.SSLContext, broker: Broker) -> str | None:
    """The version that was agreed on, once the broker has answered."""
    with (
        socket.create_connection(("127.0.0.1", broker.port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        assert connection.recv(1) == b"!"
        return connection.version()


@pytest.fixture
def broker(request: pytest.FixtureRequest, folder: Path) -> Iterator[Broker]:
    authority, host, highest = getattr(request, "param", (SITE, "localhost", ssl.TLSVersion.TLSv1_3))
    server = Broker(folder, authority, host, highest=highest)
    yield server
    server.close()


def test_van_and_broker_show_each_other_who_they_are(folder: Path, broker: Broker) -> None:
    assert shake(client_context("ca.crt", "van.crt", "van.key", folder), broker) == "TLSv1.3"
    broker.close()
    assert broker.client == "CN=van-1"


@pytest.mark.parametrize(
    "broker",
    [
        (STRANGERS, "localhost", ssl.TLSVersion.TLSv1_3),
        (SITE, "elsewhere.example", ssl.TLSVersion.TLSv1_3),
        (SITE, "localhost", ssl.TLSVersion.TLSv1_2),
    ],
    indirect=True,
    ids=["signed by somebody else", "of another host", "that speaks an older version only"],
)
def test_a_broker_that_is_not_the_site_s_own_is_refused(folder: Path, broker: Broker) -> None:
    with pytest.raises(ssl.SSLError):
        shake(client_context("ca.crt", "van.crt", "van.key", folder), broker)


def test_a_key_may_come_from_systemd(folder: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = folder / "credentials"
    credentials.mkdir()
    for name in ("van.key", "van.crt", "ca.crt"):
        (folder / name).rename(credentials / name)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    context = client_context("credential:ca.crt", "credential:van.crt", "credential:van.key", folder)
    assert shake(context, broker) == "TLSv1.3"


@pytest.mark.parametrize("name", ["ca.crt", "van.crt", "van.key"])
@pytest.mark.parametrize("damage", ["missing", "no certificate"])
def test_a_file_that_is_missing_or_damaged_is_named(name: str, damage: str, folder: Path) -> None:
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_text("-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n")
    with pytest.raises(KeyUnusable, match=name):
        client_context("ca.crt", "van.crt", "van.key", folder)


def test_a_key_that_others_can_read_is_refused(folder: Path) -> None:
    (folder / "van.key").chmod(0o644)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        client_context("ca.crt", "van.crt", "van.key", folder)


def test_another_key_than_the_certificate_s_is_refused(folder: Path) -> None:
    put(folder, "other", issue(SITE, "van-2", DAY))
    with pytest.raises(KeyUnusable, match=r"van\.crt.*other\.key"):
        client_context("ca.crt", "van.crt", "other.key", folder)


def test_a_certificate_says_whose_it_is(folder: Path) -> None:
    assert common_name(folder / "van.crt") == "van-1"


def test_a_certificate_of_nobody_is_refused_by_its_path(folder: Path) -> None:
    key = SITE[1]
    now = SITE[0].not_valid_before_utc
    nobody = (
        x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + DAY).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "nobody.crt").write_bytes(pem(nobody))
    (folder / "junk.crt").write_text("hello")
    for name in ("nobody.crt", "junk.crt", "none.crt"):
        with pytest.raises(KeyUnusable, match=name):
            common_name(folder / name)
