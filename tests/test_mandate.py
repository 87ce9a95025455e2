"""From the start to the receipt: what the appliance asks, and when the list goes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.deployment.gate import Gate
from edge.deployment.mandate import Mandate, VanFacts
from edge.deployment.position import FixedSite
from edge.errors import (
    AuthorityEnded,
    AuthorityMissing,
    AuthorityNotYet,
    AuthorityWithdrawn,
    DeploymentOver,
    EdgeError,
    OutsidePlace,
    SignatureInvalid,
    StoreDamaged,
    TargetMissing,
    ThresholdUnsupported,
    WatchlistGone,
)
from edge.trust.audit import verify
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.place import Position
from edge.trust.repository import VanRepository
from edge.trust.revocation import EVERYBODY, REVOCATION, Revocation
from provisioning.authority import publish_authority
from provisioning.keyring import Keyring
from provisioning.repository import Repository
from tests.lists import DIMENSION, MODEL, START, Site, damage_unnoticed, entry

UNIT = SigningKey.generate()


class Measured:
    threshold = 0.47


class Calibration:
    def __init__(self) -> None:
        self.asked: list[tuple[int, bool]] = []

    scene_similarity = 0.3

    def threshold(self, fpir: float, entries: int, *, several: bool = False) -> Measured:
        self.asked.append((entries, several))
        return Measured()


class Elsewhere:
    """A position that a test moves."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.at: tuple[float, float] | None = (51.5, -0.1)

    def position(self) -> Position | None:
        return Position(*self.at, 5.0, self.site.clock.now()) if self.at else None


class Deployment:
    """A van before its deployment, with a stick that has everything."""

    def __init__(self, folder: Path, *, expiring: bool = False, pictures: int = 1) -> None:
        self.site = Site(folder)
        self.site.enrol_van()
        self.stick = folder / "stick"
        self.repository = repository = Repository(self.stick, Keyring(folder / "keys"))
        now = datetime.now(UTC)
        repository.init(now)
        rows = np.eye(DIMENSION, dtype=np.float32)[:pictures]
        people = [
            entry("R-1", templates=rows),
            entry("R-2"),
            entry("R-3", review_by="2026-03-01" if expiring else None),
        ]
        bundle, manifest = self.site.build(people)
        self.authority = self.site.authority(manifest)
        repository.add("watchlists/D-1.json", manifest, now)
        repository.add("watchlists/D-1.age", bundle.read_bytes(), now)
        publish_authority(repository, self.authority, msgspec.json.encode(self.authority), now)
        repository.publish(now)
        self.root = repository.root()
        self.place = Elsewhere(self.site)
        self.audit = self.site.audit()
        self.keeper = self.site.keeper(self.audit)

    def publish_revocations(self, tokens: bytes) -> None:
        now = datetime.now(UTC)
        self.repository.add("revocations/D-1.jws", tokens, now)
        self.repository.publish(now)

    def restart(self) -> None:
        self.keeper.close()
        self.audit.close()
        self.audit = self.site.audit()
        self.keeper = self.site.keeper(self.audit)

    def mandate(self, **changes: Any) -> Mandate:
        values: dict[str, Any] = {
            "folder": self.site.folder,
            "clock": self.site.clock,
            "audit": self.audit,
            "keeper": self.keeper,
            "gate": Gate("van-1", calibration=Calibration(), weaker_rules="", clock_floor=START - timedelta(days=2)),
            "positions": self.place,
            "repository": VanRepository(self.site.folder / "tuf", str(self.stick), self.root),
            "identity": self.site.identity(),
            "revokers": KnownSigners.of([UNIT.public_jwk(owner="intelligence-unit")]),
        }
        facts = changes.pop("facts", VanFacts("van-1", changes.pop("deployment", "D-1"), MODEL, 0.5))
        return Mandate(facts, **{**values, **changes})

    def logged(self, kind: Event) -> list[Any]:
        self.audit.checkpoint()
        return [found.data for found in verify(self.site.log, self.site.signers).entries if found.event == kind]


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    yield made
    made.keeper.close()
    made.audit.close()


def withdrawal(at: datetime, **changes: Any) -> bytes:
    said = {"deployment": "D-1", "reference": EVERYBODY, "cause": "the superintendent stands it down", "issued_at": at}
    return UNIT.sign(msgspec.json.encode(Revocation(**{**said, **changes})), REVOCATION)


class TestWithdrawn:
    def test_while_it_runs_the_next_check_destroys_the_list_and_says_why(self, out: Deployment) -> None:
        mandate = out.mandate()
        mandate.start()
        assert len(mandate.revoke(withdrawal(START) + b"\n" + withdrawal(START, deployment="D-2"))) == 1
        with pytest.raises(AuthorityWithdrawn, match="the superintendent stands it down"):
            mandate.check()
        assert out.keeper.held() is None
        assert not out.keeper.sealed or not list(out.site.folder.rglob("watchlist.key"))
        assert [data["cause"] for data in out.logged(Event.LIST_DESTROYED)] == ["the authority was withdrawn"]
        assert [data["cause"] for data in out.logged(Event.AUTHORITY_ENDED)] == ["the authority was withdrawn"]
        assert out.logged(Event.REFUSED)[-1]["error"] == "AuthorityWithdrawn"

    def test_the_stick_does_not_bring_it_back(self, out: Deployment) -> None:
        mandate = out.mandate()
        mandate.start()
        mandate.revoke(withdrawal(START))
        with pytest.raises(AuthorityWithdrawn):
            mandate.check()
        out.restart()
        with pytest.raises(DeploymentOver, match=r"was withdrawn at .*: the superintendent stands it down"):
            out.mandate().start()
        assert out.keeper.held() is None
        assert len(out.logged(Event.LIST_IMPORTED)) == 1, "nor was the list taken in for a moment"

    def test_an_authority_that_is_signed_afterwards_counts(self, out: Deployment) -> None:
        mandate = out.mandate()
        mandate.start()
        mandate.revoke(withdrawal(out.authority.authorised_at - timedelta(seconds=1)))
        assert mandate.check() == out.authority

    def test_on_the_stick_it_keeps_the_list_from_being_taken_in(self, out: Deployment) -> None:
        out.publish_revocations(withdrawal(START))
        with pytest.raises(AuthorityWithdrawn):
            out.mandate().start()
        assert out.logged(Event.LIST_IMPORTED) == []
        out.restart()
        with pytest.raises(DeploymentOver):
            out.mandate().start()

    def test_a_message_of_one_line_that_is_forged_does_not_hide_the_others(self, out: Deployment) -> None:
        mandate = out.mandate()
        mandate.start()
        with pytest.raises(SignatureInvalid):
            mandate.revoke(b"forged\n" + withdrawal(START, reference="R-2") + b"\n" + withdrawal(START))
        with pytest.raises(AuthorityWithdrawn):
            mandate.check()

    def test_what_the_broker_says_again_is_not_done_again(self, out: Deployment) -> None:
        mandate = out.mandate()
        mandate.start()
        message = b"\n".join([b"forged", withdrawal(START, reference="R-2"), withdrawal(START, reference="R-none")])
        with pytest.raises(SignatureInvalid):
            mandate.revoke(message)
        assert mandate.revoke(message) == ()
        assert [data["reference"] for data in out.logged(Event.ENTRY_REMOVED)] == ["R-2"]
        assert [data["reference"] for data in out.logged(Event.ENTRY_ABSENT)] == ["R-none"]

    def test_more_than_one_message_may_bring_is_refused(self, out: Deployment) -> None:
        mandate = out.mandate()
        mandate.start()
        with pytest.raises(SignatureInvalid, match="too long"):
            mandate.revoke((withdrawal(START) + b"\n") * 300)
        mandate.check()


def test_a_list_is_judged_by_its_people_and_by_whether_anybody_has_several_pictures(tmp_path: Path) -> None:
    out, calibration = Deployment(tmp_path, pictures=5), Calibration()
    gate = Gate("van-1", calibration=calibration, weaker_rules="", clock_floor=START - timedelta(days=2))
    out.mandate(gate=gate).start()
    assert set(calibration.asked) == {(3, True)}, "of whom one has five pictures"
    out.keeper.close()
    out.audit.close()


def test_a_van_with_everything_starts_and_goes_on(out: Deployment) -> None:
    mandate = out.mandate()
    assert mandate.start().references() == ("R-1", "R-2", "R-3")
    out.site.clock.at += timedelta(hours=1)
    assert mandate.check().deployment == "D-1"
    receipt = mandate.finish("end of the deployment")
    assert receipt is not None
    assert receipt.references == ("R-1", "R-2", "R-3")
    assert mandate.finish("again") is None
    assert [data["cause"] for data in out.logged(Event.LIST_DESTROYED)] == ["end of the deployment"]
    assert [data["cause"] for data in out.logged(Event.AUTHORITY_ENDED)] == ["end of the deployment"]


def test_a_list_that_was_damaged_on_the_disk_is_destroyed_and_fetched_again_at_the_next_start(out: Deployment) -> None:
    store = out.mandate().start()
    store.close()
    content = bytearray(store.path.read_bytes())
    content[2 * 4096 + 100 : 2 * 4096 + 300] = bytes(200)
    store.path.write_bytes(content)
    out.restart()
    again = out.mandate().start()
    assert again.path != store.path
    assert again.references() == ("R-1", "R-2", "R-3")
    assert not store.path.exists()
    assert not [*out.site.folder.rglob("*damaged*")], "nobody's templates are kept aside"
    assert [data["cause"] for data in out.logged(Event.LIST_DESTROYED)] == ["it is damaged"]


def test_a_list_that_is_damaged_while_the_van_runs_is_a_clear_refusal(out: Deployment) -> None:
    mandate = out.mandate()
    mandate.start()
    damage_unnoticed(out.keeper)
    with pytest.raises(StoreDamaged, match="the watchlist is damaged on the disk"):
        mandate.check()


def test_the_list_is_destroyed_the_moment_the_authority_is_found_to_be_over(out: Deployment) -> None:
    mandate = out.mandate()
    mandate.start()
    out.site.clock.at = out.authority.ends
    with pytest.raises(AuthorityEnded):
        mandate.check()
    with pytest.raises(WatchlistGone):
        out.keeper.open()
    assert list((out.site.folder / "lists").iterdir()) == []
    assert [data["cause"] for data in out.logged(Event.LIST_DESTROYED)] == ["the authority ended"]
    with pytest.raises(AuthorityMissing):
        mandate.check()


def test_a_list_left_over_from_a_deployment_that_is_over_goes_at_the_next_start(out: Deployment) -> None:
    out.mandate().start()
    out.restart()
    out.site.clock.at = out.authority.ends + timedelta(hours=3)
    with pytest.raises(AuthorityEnded):
        out.mandate().start()
    assert list((out.site.folder / "lists").iterdir()) == []


def test_a_list_left_over_goes_even_when_the_van_is_out_for_something_else(out: Deployment) -> None:
    out.mandate().start()
    out.restart()
    out.site.clock.at = out.authority.ends + timedelta(hours=3)
    with pytest.raises(TargetMissing):
        out.mandate(deployment="D-9").start()
    assert list((out.site.folder / "lists").iterdir()) == []


@pytest.mark.parametrize("with_stick", [True, False], ids=["with the stick", "without the stick"])
def test_a_restart_in_the_middle_goes_on(with_stick: bool, out: Deployment) -> None:
    out.mandate().start()
    out.restart()
    if not with_stick:
        shutil.rmtree(out.stick)
    assert out.mandate().start().references() == ("R-1", "R-2", "R-3")
    assert len(out.logged(Event.LIST_IMPORTED)) == 1


def test_an_authority_that_the_log_does_not_know_is_not_taken_up_again(out: Deployment) -> None:
    out.mandate().start()
    out.restart()
    shutil.rmtree(out.stick)
    kept = out.site.folder / "authority.json"
    later = msgspec.json.decode(kept.read_bytes())
    later["ends"] = "2026-03-02T09:00:00Z"
    kept.write_bytes(msgspec.json.encode(later))
    with pytest.raises(AuthorityMissing, match="was never accepted on this van"):
        out.mandate().start()


def test_a_van_without_stick_and_without_a_past_does_not_start(out: Deployment) -> None:
    shutil.rmtree(out.stick)
    with pytest.raises(AuthorityMissing, match="has no authority on this van"):
        out.mandate().start()


def test_a_deployment_that_nobody_authorised_does_not_start(out: Deployment) -> None:
    with pytest.raises(TargetMissing, match=r"authorities/D-9.json"):
        out.mandate(deployment="D-9").start()
    (refused,) = out.logged(Event.REFUSED)
    assert refused["error"] == "TargetMissing"


def test_before_its_time_the_list_is_in_and_nothing_is_matched(out: Deployment) -> None:
    out.site.clock.at = START - timedelta(minutes=30)
    mandate = out.mandate()
    with pytest.raises(AuthorityNotYet):
        mandate.start()
    out.site.clock.at = START
    mandate.check()
    assert out.keeper.open().references() == ("R-1", "R-2", "R-3")


def test_leaving_the_place_stops_matching_and_coming_back_lets_it_go_on(out: Deployment) -> None:
    told: list[EdgeError] = []
    mandate = out.mandate(on_refused=told.append)
    mandate.start()
    out.place.at = (51.6, -0.1)
    for _ in range(3):
        with pytest.raises(OutsidePlace):
            mandate.check()
    out.place.at = (51.5, -0.1)
    mandate.check()
    assert len(told) == 1, "asked every second, said once"
    assert [data["error"] for data in out.logged(Event.REFUSED)] == ["OutsidePlace"]


def test_a_fixed_site_needs_no_receiver(out: Deployment) -> None:
    out.mandate(positions=FixedSite(51.5, -0.1, out.site.clock)).start()


def test_a_revocation_over_mqtt_takes_somebody_off_and_a_forged_one_nobody(out: Deployment) -> None:
    mandate = out.mandate()
    store = mandate.start()
    word = Revocation(deployment="D-1", reference="R-2", cause="deletion was granted", issued_at=START)
    assert mandate.revoke(UNIT.sign(msgspec.json.encode(word), REVOCATION)) == (word,)
    assert store.references() == ("R-1", "R-3")
    assert mandate.revoke(UNIT.sign(msgspec.json.encode(word), REVOCATION)) == ()
    with pytest.raises(SignatureInvalid):
        mandate.revoke(SigningKey.generate().sign(msgspec.json.encode(word), REVOCATION))
    mandate.check()


def test_entries_expire_within_a_minute_of_midnight(tmp_path: Path) -> None:
    out = Deployment(tmp_path, expiring=True)
    out.site.clock.at = START
    mandate = out.mandate()
    assert "R-3" in mandate.start().references()
    out.keeper.close()
    # The authority is over by then; the entry goes first, or with it.
    out.site.clock.advance(14 * 3600)
    with pytest.raises(AuthorityEnded):
        mandate.check()
    assert "R-3" in {data["reference"] for data in out.logged(Event.ENTRY_REMOVED)}
    out.keeper.close()
    out.audit.close()


def test_a_configured_score_that_a_shorter_list_outgrows_gives_way_and_does_not_end_the_deployment(
    tmp_path: Path,
) -> None:
    class Shorter(Calibration):
        """Asks for more of a list that somebody has left."""

        def threshold(self, fpir: float, entries: int, *, several: bool = False) -> Measured:
            needed = Measured()
            needed.threshold = 0.5 if entries >= 3 else 0.6
            return needed

    out = Deployment(tmp_path)
    gate = Gate("van-1", calibration=Shorter(), weaker_rules="", clock_floor=START - timedelta(days=2))
    mandate = out.mandate(gate=gate)
    mandate.start()
    assert mandate.limits.score == 0.5
    assert mandate.limits_for(2, 2).score == 0.6
    out.keeper.remove("R-1", "revoked")
    assert mandate.check().deployment == "D-1"
    assert mandate.limits.score == 0.6


def test_a_configured_score_that_was_never_allowed_does_not_give_way(tmp_path: Path) -> None:
    out = Deployment(tmp_path)
    gate = Gate("van-1", calibration=Calibration(), weaker_rules="", clock_floor=START - timedelta(days=2))
    mandate = out.mandate(gate=gate, facts=VanFacts("van-1", "D-1", MODEL, 0.3))
    with pytest.raises(ThresholdUnsupported):
        mandate.start()
    assert mandate.limits.score == 0.3, "what was never allowed does not give way: it is refused"
