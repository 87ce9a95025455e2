"""Who may sign in on a van's page: the list that the office makes is the one that the page reads."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge.console.crew import Crew, PinRefused
from edge.errors import BadInput
from edge.officers import Officer, Role
from provisioning.crew import FILE, add_officer, add_page, add_tablet, remove
from provisioning.site import init_site

OFFICER = Officer("op-1", Role.OPERATOR, date(2027, 1, 31))


@pytest.fixture(autouse=True)
def enrolled(tmp_path: Path) -> None:
    """The folder is a van's."""
    (tmp_path / "van.crt").touch()


def test_an_officer_of_the_list_is_known_by_number_and_pin_and_after_a_new_pin_by_that_alone(tmp_path: Path) -> None:
    add_officer(tmp_path, OFFICER, "271828")
    crew = Crew(tmp_path / FILE)
    before = crew.authenticate("op-1", "271828")
    assert before.officer == OFFICER
    for number, pin in (("op-1", "271829"), ("op-2", "271828")):
        with pytest.raises(PinRefused):
            crew.authenticate(number, pin)
    add_officer(tmp_path, OFFICER, "314159")
    with pytest.raises(PinRefused):
        crew.authenticate("op-1", "271828")
    assert crew.authenticate("op-1", "314159").stamp != before.stamp
    assert b"314159" not in (tmp_path / FILE).read_bytes()
    remove(tmp_path, "op-1")
    assert crew.member("op-1") is None


@pytest.mark.parametrize("pin", ["12345", "111111", "121212", "abcdef", "１２３４５６", ""])
def test_a_pin_that_is_guessed_too_easily_is_refused(tmp_path: Path, pin: str) -> None:
    with pytest.raises(BadInput, match="guessed too easily"):
        add_officer(tmp_path, OFFICER, pin)
    assert not (tmp_path / FILE).exists()


def test_a_tablet_is_known_by_its_certificate_until_it_is_taken_off(tmp_path: Path) -> None:
    site, van = tmp_path / "site", tmp_path / "van"
    init_site(site)
    van.mkdir()
    (van / "van.crt").touch()
    add_page(van, ["127.0.0.1"], site)
    made = add_tablet(van, "tablet-1", site)
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes()).public_bytes(Encoding.DER)
    crew = Crew(van / FILE)
    assert crew.tablet(certificate) == "tablet-1"
    assert crew.tablet(certificate + b"\0") == ""
    with pytest.raises(BadInput, match="enrolled already"):
        add_tablet(van, "tablet-1", site)
    remove(van, "tablet-1")
    assert crew.tablet(certificate) == ""
    with pytest.raises(BadInput):
        remove(van, "tablet-1")


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[" * 100_000, b'{"officers": [{"number": "op-1"}]}', b"{}" + b" " * 300_000]
)
def test_a_list_that_cannot_be_read_lets_nobody_in_who_was_on_it_before(tmp_path: Path, content: bytes | None) -> None:
    add_officer(tmp_path, OFFICER, "271828")
    crew = Crew(tmp_path / FILE)
    assert crew.member("op-1") is not None
    (tmp_path / FILE).unlink()
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BadInput, match="onto this van"):
        crew.member("op-1")
    assert crew.tablet(b"any") == ""
