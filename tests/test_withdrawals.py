"""An authority that is withdrawn: which one, for how long, and what a disk that refuses leaves of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from edge.deployment.withdrawals import Withdrawals
from edge.errors import AuthorityEnded, AuthorityWithdrawn, StoreUnavailable
from edge.trust.authority import Authority
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.revocation import EVERYBODY, REVOCATION, Revocation
from tests.test_authority import AUTHORISED

UNIT = SigningKey.generate()
KNOWN = KnownSigners.of([UNIT.public_jwk(owner="unit")])
SIGNED = datetime(2026, 3, 1, 9, tzinfo=UTC)


def said(at: datetime = SIGNED, *, deployment: str = "D-1", who: str = EVERYBODY, key: SigningKey = UNIT) -> bytes:
    body = Revocation(deployment=deployment, reference=who, cause="stand down", issued_at=at)
    return key.sign(msgspec.json.encode(body), REVOCATION)


@pytest.fixture
def running() -> Authority:
    return msgspec.structs.replace(AUTHORISED, deployment="D-1", authorised_at=SIGNED)


def test_an_authority_that_was_signed_before_is_over_and_a_later_one_is_not(tmp_path: Path, running: Authority) -> None:
    withdrawals = Withdrawals(tmp_path, KNOWN, "D-1")
    withdrawals.judge(running)
    withdrawals.take([said(SIGNED - timedelta(seconds=1))])
    withdrawals.judge(running)
    withdrawals.take([said()])
    with pytest.raises(AuthorityWithdrawn, match="was withdrawn at 2026-03-01 09:00 UTC: stand down") as refusal:
        withdrawals.judge(running)
    assert isinstance(refusal.value, AuthorityEnded), "the list is destroyed, as at every end"
    withdrawals.judge(msgspec.structs.replace(running, authorised_at=SIGNED + timedelta(seconds=1)))


@pytest.mark.parametrize(
    "token",
    [said(deployment="D-2"), said(who="R-1"), said(key=SigningKey.generate()), b"", b"noise"],
    ids=["another deployment", "one person", "a stranger's key", "nothing", "noise"],
)
def test_what_is_no_withdrawal_of_this_deployment_ends_nothing(
    token: bytes, tmp_path: Path, running: Authority
) -> None:
    withdrawals = Withdrawals(tmp_path, KNOWN, "D-1")
    withdrawals.take([token])
    withdrawals.judge(running)
    assert list(tmp_path.iterdir()) == []


def test_one_for_every_deployment_is_for_this_one_too(tmp_path: Path, running: Authority) -> None:
    withdrawals = Withdrawals(tmp_path, KNOWN, "D-1")
    withdrawals.take([said(deployment="*")])
    assert withdrawals.end(running) is not None


def test_it_holds_after_a_restart_and_only_with_its_signature(tmp_path: Path, running: Authority) -> None:
    Withdrawals(tmp_path, KNOWN, "D-1").take([b"  ", said() + b"\r", said(who="R-1")])
    assert Withdrawals(tmp_path, KNOWN, "D-1").end(running) is not None
    stranger = KnownSigners.of([SigningKey.generate().public_jwk(owner="stranger")])
    assert Withdrawals(tmp_path, stranger, "D-1").end(running) is None


def test_those_that_were_known_stay_when_another_comes(tmp_path: Path, running: Authority) -> None:
    for hours in (0, 1):
        Withdrawals(tmp_path, KNOWN, "D-1").take([said(SIGNED + timedelta(hours=hours))])
    latest = Withdrawals(tmp_path, KNOWN, "D-1").end(running)
    assert latest is not None
    assert latest.issued_at == SIGNED + timedelta(hours=1)
    assert len((tmp_path / "withdrawn.jws").read_bytes().splitlines()) == 2


def test_a_disk_that_refuses_is_said_and_the_withdrawal_holds_nevertheless(tmp_path: Path, running: Authority) -> None:
    withdrawals = Withdrawals(tmp_path / "missing", KNOWN, "D-1")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        withdrawals.take([said()])
    assert withdrawals.end(running) is not None


def test_what_comes_again_is_not_written_again(tmp_path: Path) -> None:
    withdrawals = Withdrawals(tmp_path, KNOWN, "D-1")
    withdrawals.take([said()])
    token = (tmp_path / "withdrawn.jws").read_bytes().strip()
    (tmp_path / "withdrawn.jws").unlink()
    withdrawals.take([token])
    assert list(tmp_path.iterdir()) == []
