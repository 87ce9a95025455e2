"""The keys that a machine's firmware holds: whose they are, and that none is made twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography import x509

from edge.errors import KeyUnusable
from provisioning.image import firmware_keys, keys

pytestmark = pytest.mark.skipif(not shutil.which("sbvarsign"), reason="needs sbsigntool: scripts/setup-image")


PASSPHRASE = b"four words for a test"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("keys")
    keys.make_authority(place / "development", "development", passphrase=PASSPHRASE)
    firmware_keys.make(place / "development", place / "firmware", passphrase=PASSPHRASE)
    return place


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_key_that_signs_kernel_images_is_certified_by_the_authority_and_the_others_by_themselves(
    made: Path,
) -> None:
    authority = certificate(made / "development/ca.crt")
    certificate(made / "firmware/db.crt").verify_directly_issued_by(authority)
    for name in ("PK", "KEK"):
        own = certificate(made / f"firmware/{name}.crt")
        own.verify_directly_issued_by(own)


def test_development_keys_say_so_in_every_certificate(made: Path) -> None:
    for name in firmware_keys.NAMES:
        assert keys.is_development(certificate(made / f"firmware/{name}.crt"))


def test_private_keys_are_their_owners_alone(made: Path) -> None:
    assert {(made / f"firmware/{name}.key").stat().st_mode & 0o777 for name in firmware_keys.NAMES} == {0o600}


def test_the_keys_that_stay_with_the_authority_are_encrypted_as_it_is(made: Path) -> None:
    shut = {name: b"ENCRYPTED" in (made / f"firmware/{name}.key").read_bytes() for name in firmware_keys.NAMES}
    assert shut == {"PK": True, "KEK": True, "db": False}
    assert {path.suffix for path in (made / "firmware").iterdir()} == {".key", ".crt", ".cer", ".auth"}


def test_keys_that_machines_hold_are_never_overwritten(made: Path) -> None:
    before = (made / "firmware/PK.key").read_bytes()
    with pytest.raises(KeyUnusable, match="already"):
        firmware_keys.make(made / "development", made / "firmware", passphrase=PASSPHRASE)
    assert (made / "firmware/PK.key").read_bytes() == before


def test_an_authority_that_is_not_there_makes_no_keys(made: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable):
        firmware_keys.make(tmp_path / "none", tmp_path / "firmware")
    assert not (tmp_path / "firmware").exists()
