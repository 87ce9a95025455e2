"""A role's key in a hardware module: SoftHSM, through PKCS#11, as a token would be."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.errors import KeyUnusable
from edge.trust.repository import VanRepository
from provisioning.keyring import Keyring
from provisioning.repository import Repository

LIST = "watchlists/D-1.age"


def now() -> datetime:
    return datetime.now(UTC)


SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")


@pytest.mark.skipif(
    not SOFTHSM.exists() or shutil.which("softhsm2-util") is None, reason="softhsm2 is not installed here"
)
def test_a_role_s_key_may_live_in_a_hardware_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed here")
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    monkeypatch.setenv("PYKCS11LIB", str(SOFTHSM))
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", "lists", "--pin", "1234", "--so-pin", "5678"],
        check=True,
        capture_output=True,
        env=os.environ,
    )
    token = pkcs11.lib(str(SOFTHSM)).get_token(token_label="lists")
    with token.open(rw=True, user_pin="1234") as session:
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp256r1")},
            local=True,
        )
        parameters.generate_keypair(store=True, id=b"\x07", label="watchlists")
    keyring = Keyring(tmp_path / "keys", pin=lambda _: "1234")
    repository = Repository(tmp_path / "repository", keyring)
    repository.init(now())
    repository.rotate("watchlists", now(), keys=[keyring.from_token("lists", 7)])
    repository.add(LIST, b"signed in the token", now())
    repository.publish(now())
    assert not list((tmp_path / "keys").glob("watchlists-token*"))
    van = VanRepository(tmp_path / "van", str(repository.folder), repository.root())
    assert van.read(LIST) == b"signed in the token"
    with pytest.raises(KeyUnusable, match="gives no key 9"):
        keyring.from_token("lists", 9)
