"""What outlives nothing: a list without its authority, somebody who left, a withdrawal whose file is lost."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from edge.deployment.kept import end_what_is_over
from edge.errors import AuthorityMissing, AuthorityWithdrawn, DeploymentOver, TargetMissing
from edge.trust.events import Event
from edge.trust.revocation import REVOCATION, Revocation
from edge.watchlist.destruction import REPLACED
from provisioning.authority import publish_authority
from tests.lists import START
from tests.test_mandate import UNIT, Deployment, out, withdrawal

__all__ = ["out"]


@pytest.mark.parametrize("what", ["damaged", "replaced", "imported, and power was cut"])
def test_whoever_left_a_list_has_left_every_later_copy_of_it(out: Deployment, what: str) -> None:
    """Without a network nobody would say again that they are to be left alone."""
    mandate = out.mandate()
    mandate.start()
    said = Revocation(deployment="D-1", reference="R-2", cause="deletion was granted", issued_at=START)
    mandate.revoke(UNIT.sign(msgspec.json.encode(said), REVOCATION))
    (store,) = out.keeper.folder.glob("list-*/*.db")
    if what == "damaged":
        out.keeper.close()
        content = bytearray(store.read_bytes())
        content[9000:9100] = bytes(100)
        store.write_bytes(content)
    else:
        out.keeper.destroy(REPLACED)
    if what == "imported, and power was cut":
        out.restart()
        out.keeper._leave_again = lambda: None  # type: ignore[method-assign]
        assert "R-2" in out.mandate().start().references()
    out.restart()
    assert out.mandate().start().references() == ("R-1", "R-3")
    assert [data["cause"] for data in out.logged(Event.ENTRY_REMOVED)] == ["revoked: deletion was granted"] * 2


@pytest.mark.parametrize("damage", ["a bit", "all of it"])
def test_a_withdrawal_that_is_damaged_or_lost_on_the_van_brings_nothing_back(out: Deployment, damage: str) -> None:
    mandate = out.mandate()
    mandate.start()
    mandate.revoke(withdrawal(START))
    with pytest.raises(AuthorityWithdrawn):
        mandate.check()
    file = out.site.folder / "withdrawn.jws"
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content if damage == "a bit" else b"")
    out.restart()
    with pytest.raises(DeploymentOver, match="the authority was withdrawn"):
        out.mandate().start()
    assert out.keeper.sealed
    again = msgspec.structs.replace(out.authority, authorised_at=START + timedelta(seconds=1), purpose="Allowed anew")
    again = msgspec.structs.replace(again, starts=START + timedelta(seconds=1))
    publish_authority(out.repository, again, msgspec.json.encode(again), datetime.now(UTC))
    out.repository.publish(datetime.now(UTC))
    out.site.clock.advance(5)
    out.restart()
    with pytest.raises(DeploymentOver):  # another decision has another name: see decision 71
        out.mandate().start()
    assert out.keeper.sealed


def test_a_list_goes_when_the_authority_that_is_accepted_names_another_that_does_not_come(out: Deployment) -> None:
    """Its own authority is forgotten then: nobody could say when it has to end."""
    out.mandate().start()
    later = msgspec.structs.replace(
        out.authority, deployment="D-2", ends=START + timedelta(hours=23), watchlist=f"sha256:{'9' * 64}"
    )
    publish_authority(out.repository, later, msgspec.json.encode(later), datetime.now(UTC))
    out.repository.publish(datetime.now(UTC))
    out.restart()
    with pytest.raises(TargetMissing):
        out.mandate(deployment="D-2").start()
    assert out.keeper.sealed
    assert [data["cause"] for data in out.logged(Event.LIST_DESTROYED)] == ["no authority names it"]


@pytest.mark.parametrize("left", [None, b"", b"{torn"])
def test_a_list_whose_authority_is_not_on_the_van_any_more_goes_at_the_start(
    out: Deployment, left: bytes | None
) -> None:
    out.mandate().start()
    file = out.site.folder / "authority.json"
    file.unlink()
    if left is not None:
        file.write_bytes(left)
    shutil.rmtree(out.stick)
    out.restart()
    with pytest.raises(AuthorityMissing):
        out.mandate().start()
    assert out.keeper.sealed
    assert [data["cause"] for data in out.logged(Event.LIST_DESTROYED)] == ["no authority names it"]


def test_an_authority_that_cannot_be_read_at_the_moment_destroys_nothing(out: Deployment) -> None:
    out.mandate().start()
    file = out.site.folder / "authority.json"
    content = file.read_bytes()
    file.unlink()
    file.mkdir()  # as a disk that fails for a moment: reading is refused
    end_what_is_over(out.site.folder, out.keeper.folder, now=START, clock_confirmed=lambda: True)
    file.rmdir()
    file.write_bytes(content)
    assert not out.keeper.sealed
    out.restart()
    assert out.mandate().start().digest == out.authority.watchlist
