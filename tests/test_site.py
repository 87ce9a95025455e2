"""A site and its vans: what is made, for whom, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.config import AlertSection, StoreSection
from edge.controlroom import config
from edge.errors import BadInput, ConfigInvalid, KeyUnusable
from edge.trust.keys import DecryptionKeys, KnownSigners, Recipients, SigningKey
from edge.trust.secret import read_secret
from edge.trust.tls import client_context, common_name
from provisioning.site import enrol_van, init_site, revoke_van


@pytest.fixture
def site(tmp_path: Path) -> Path:
    init_site(tmp_path / "site", ("broker.example", "192.0.2.7"), 8884)
    return tmp_path / "site"


def test_a_van_gets_every_file_that_its_configuration_names_by_default(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "van"
    enrol_van("van-1", site, out)
    alert, store = AlertSection(), StoreSection()
    client_context(alert.ca, alert.certificate, alert.certificate_key, out)
    SigningKey.load(alert.signing_key, out)
    Recipients.load(out / alert.recipients)
    assert len(read_secret(store.key, out)) == 32
    assert common_name(out / alert.certificate) == "van-1"


def test_a_vans_certificate_is_a_clients_and_ends_within_90_days(site: Path, tmp_path: Path) -> None:
    enrol_van("van-1", site, tmp_path / "van")
    certificate = x509.load_pem_x509_certificate((tmp_path / "van" / "van.crt").read_bytes())
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.not_valid_after_utc - datetime.now(UTC) < timedelta(days=90)


def test_the_control_room_believes_a_van_from_its_enrolment_to_its_revocation(site: Path, tmp_path: Path) -> None:
    enrol_van("van-1", site, tmp_path / "van")
    token = SigningKey.load("van-signing.jwk", tmp_path / "van").sign(b"x", "t")
    vans = site / "control-room" / "vans.jwks"
    assert KnownSigners.load(vans).verify(token, "t").signer == "van-1"
    revoke_van("van-1", site)
    with pytest.raises(Exception, match="revoked"):
        KnownSigners.load(vans).verify(token, "t")


def test_a_second_revocation_keeps_the_first(site: Path, tmp_path: Path) -> None:
    for van in ("van-1", "van-2"):
        enrol_van(van, site, tmp_path / van)
        revoke_van(van, site)
    assert len(list(x509.load_pem_x509_crl((site / "broker" / "crl.pem").read_bytes()))) == 2


def test_every_private_file_is_for_its_owner_only(site: Path, tmp_path: Path) -> None:
    enrol_van("van-1", site, tmp_path / "van")
    private = [*site.rglob("*.key"), *site.rglob("control-decryption.jwks"), *(tmp_path / "van").glob("*.key")]
    private += [site / "control-room" / "control-signing.jwk", tmp_path / "van" / "van-signing.jwk"]
    assert len(private) >= 8
    for path in private:
        assert path.stat().st_mode & 0o077 == 0, path


def test_what_a_van_is_given_holds_no_key_of_the_control_room(site: Path, tmp_path: Path) -> None:
    enrol_van("van-1", site, tmp_path / "van")
    for path in (tmp_path / "van").glob("control-*.jwks"):
        assert all("d" not in key for key in json.loads(path.read_text())["keys"])
    DecryptionKeys.load("control-decryption.jwks", site / "control-room")


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "control-room", "broker", "-x", "a" * 65, "ü"])
def test_a_name_that_could_reach_anothers_topic_is_refused(site: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        enrol_van(name, site, tmp_path / "van")


def test_an_authority_and_a_vans_keys_are_never_overwritten(site: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not empty"):
        init_site(site)
    enrol_van("van-1", site, tmp_path / "van")
    with pytest.raises(KeyUnusable, match="exists already"):
        enrol_van("van-1", site, tmp_path / "van")


def test_without_the_authoritys_medium_nobody_is_enrolled(site: Path, tmp_path: Path) -> None:
    (site / "ca" / "ca.key").unlink()
    with pytest.raises(KeyUnusable, match="Connect the disk or stick"):
        enrol_van("van-1", site, tmp_path / "van")


def test_the_control_rooms_file_says_where_the_broker_is(site: Path) -> None:
    settings = config.load(site / "control-room" / "control.toml")
    assert (settings.broker.host, settings.broker.port) == ("broker.example", 8884)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[broker]\nhots = 'x'", r"key broker\.hots is unknown|key broker.hots: is unknown"),
        ("[store]\nretention_h = 745", r"key store\.retention_h.*744"),
        ("[broker", "not valid TOML"),
    ],
)
def test_a_wrong_key_of_the_control_rooms_file_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        config.parse(text)


def test_bad_input_on_the_command_line_is_one_line_and_code_4(tmp_path: Path) -> None:
    for module, arguments in (
        ("provisioning.cli", ["van", "enrol", "van-1", "--site", tmp_path / "none", "--out", tmp_path / "x"]),
        ("edge.controlroom.cli", ["watch", "--config", tmp_path / "none.toml"]),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 4
        assert ended.stderr.count("\n") == 1
        assert "Traceback" not in ended.stderr


def test_init_enrol_and_broker_work_from_the_command_line(tmp_path: Path) -> None:
    site, van = tmp_path / "site", tmp_path / "van"
    for arguments in (
        ["init", site, "--host", "localhost", "--port", "18883"],
        ["van", "enrol", "van-1", "--site", site, "--out", van],
        ["broker", site, "--port", "18883", "--address", "127.0.0.1", "--user", "root"],
    ):
        subprocess.run([sys.executable, "-m", "provisioning.cli", *map(str, arguments)], check=True, timeout=60)
    assert (van / "van.crt").exists()
    assert "require_certificate true" in (site / "broker" / "mosquitto.conf").read_text()
