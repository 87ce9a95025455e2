"""From the first fetch to the receipt, as the appliance asks it: edge.deployment over the real stick, list and log."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from edge.config import CameraSection, Config, DecisionSection, DeploymentSection, ModelsSection, VanSection
from edge.deployment import Deployment
from edge.errors import (
    AuthorityEnded,
    AuthorityMissing,
    AuthorityNotYet,
    EdgeError,
    OutsidePlace,
    PlaceUnknown,
    RepositoryUnavailable,
    SignatureInvalid,
    TargetMissing,
    ThresholdTooLow,
    ThresholdUnsupported,
    WatchlistGone,
)
from edge.trust.audit import AuditLog, verify
from edge.trust.events import Event
from edge.trust.keys import SigningKey, write_public
from edge.trust.place import Position
from edge.trust.revocation import REVOCATION, Revocation
from provisioning.authority import publish_authority
from provisioning.keyring import Keyring
from provisioning.repository import Repository
from tests.lists import MODEL, START, Site, entry

UNIT = SigningKey.generate()
PEOPLE = ("R-1", "R-2", "R-3")
TAIL = f"""
model_sha256 = "{MODEL}"
detector_sha256 = "{MODEL}"
data = "made up for this test"
flipped = "enrol"
people = 500

[[tails]]
entries = 100
searches = 100000
start = 0.40
share = 0.01
scale = 0.02
shape = -0.1
replicates = [[0.01, 0.02, -0.1], [0.011, 0.021, -0.1]]
quantiles = [[1.0, 0.1], [0.01, 0.40]]
"""


class Here:
    """Where a test puts the van."""

    def __init__(self) -> None:
        self.at: tuple[float, float] | None = (51.5, -0.1)

    def position(self, now: datetime) -> Position | None:
        return Position(*self.at, 5.0, now) if self.at else None


class Van:
    """A van before its deployment, and a stick that has everything for it."""

    def __init__(self, folder: Path, *, threshold: float | None = 0.6) -> None:
        self.folder = folder
        self.site = Site(folder)
        self.site.enrol_van()
        self.stick = folder / "stick"
        repository = Repository(self.stick, Keyring(folder / "keys"))
        now = datetime.now(UTC)
        repository.init(now)
        bundle, manifest = self.site.build([entry("R-1"), entry("R-2"), entry("R-3", review_by="2026-03-01")])
        self.authority = self.site.authority(manifest, ends=START + timedelta(hours=20))
        repository.add("watchlists/D-1.json", manifest, now)
        repository.add("watchlists/D-1.age", bundle.read_bytes(), now)
        publish_authority(repository, self.authority, msgspec.json.encode(self.authority), now)
        repository.publish(now)
        (folder / "root.json").write_bytes(repository.root())
        (folder / "van.age.key").write_bytes((folder / "van-1.age.key").read_bytes())
        (folder / "van.age.key").chmod(0o600)
        write_public(folder / "revokers.jwks", {"keys": [UNIT.public_jwk(owner="intelligence-unit")]})
        tail = folder / "models" / "mobilefacenet" / "impostor-tail.toml"
        tail.parent.mkdir(parents=True)
        tail.write_text(TAIL)
        (folder / "state").mkdir()
        self.here = Here()
        self.threshold = threshold
        self.deployment = self.begin()

    def begin(self, deployment: str = "D-1") -> Deployment:
        config = Config(
            van=VanSection(id="van-1"),
            deployment=DeploymentSection(id=deployment),
            camera=CameraSection(source="none"),
            models=ModelsSection(directory="models"),
            decision=DecisionSection(threshold=self.threshold),
            base=str(self.folder),
        )
        self.audit = AuditLog(
            self.folder / "state" / "audit.jsonl", van="van-1", clock=self.site.clock, signer=self.site.signing
        )
        return Deployment(config, self.site.clock, self.audit, whereabouts=self.here, model=MODEL)

    def fetch(self) -> None:
        self.deployment.fetch(str(self.stick))

    def restart(self, deployment: str = "D-1") -> None:
        self.close()
        self.deployment = self.begin(deployment)

    def close(self) -> None:
        self.deployment.keeper.close()
        self.audit.close()

    def logged(self, kind: Event) -> list[dict[str, object]]:
        self.audit.checkpoint()
        found = verify(self.audit.path, self.site.signers).entries
        return [dict(entry.data) for entry in found if entry.event == kind]


@pytest.fixture
def van(tmp_path: Path) -> Iterator[Van]:
    made = Van(tmp_path)
    yield made
    made.close()


def test_a_van_with_everything_may_match_until_it_ends(van: Van) -> None:
    fetched = van.deployment.fetch(str(van.stick))
    assert (fetched.entries, fetched.authority.deployment) == (3, "D-1")
    assert van.deployment.take_up().references() == PEOPLE
    assert van.deployment.check().deployment == "D-1"
    receipt = van.deployment.end("end of the deployment")
    assert receipt is not None
    assert receipt.references == PEOPLE
    assert van.deployment.end("again") is None
    assert [data["cause"] for data in van.logged(Event.LIST_DESTROYED)] == ["end of the deployment"]
    assert [data["cause"] for data in van.logged(Event.AUTHORITY_ENDED)] == ["end of the deployment"]
    with pytest.raises(AuthorityMissing):
        van.deployment.check()
    with pytest.raises(AuthorityMissing, match="nobody has authorised it"):
        van.deployment.take_up()


def test_a_restart_needs_no_stick(van: Van) -> None:
    van.fetch()
    shutil.rmtree(van.stick)
    van.restart()
    assert van.deployment.take_up().references() == PEOPLE
    van.deployment.check()
    with pytest.raises(RepositoryUnavailable):
        van.fetch()


def test_fetching_twice_imports_once(van: Van) -> None:
    van.fetch()
    van.fetch()
    assert len(van.logged(Event.LIST_IMPORTED)) == 1


def test_an_authority_that_was_changed_on_the_van_is_not_taken_up(van: Van) -> None:
    van.fetch()
    kept = van.folder / "state" / "authority.json"
    later = {**msgspec.json.decode(kept.read_bytes()), "ends": "2026-03-02T09:59:00Z"}
    kept.write_bytes(msgspec.json.encode(later))
    van.restart()
    with pytest.raises(AuthorityMissing, match="is not the authority that this van accepted last"):
        van.deployment.take_up()


def test_an_authority_for_another_deployment_is_not_this_one_s(van: Van) -> None:
    van.fetch()
    van.restart("D-2")
    with pytest.raises(AuthorityMissing, match="the one on this van is for D-1"):
        van.deployment.take_up()
    with pytest.raises(TargetMissing, match=r"authorities/D-2.json"):
        van.fetch()


def in_time(van: Van, hours: float) -> None:
    van.site.clock.at = START + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("place", "error"),
    [((51.6, -0.1), OutsidePlace), (None, PlaceUnknown)],
    ids=["outside the place", "a place that is not known"],
)
def test_matching_stops_outside_the_place_and_goes_on_inside(
    place: tuple[float, float] | None, error: type[EdgeError], van: Van
) -> None:
    van.fetch()
    van.deployment.take_up()
    van.here.at = place
    with pytest.raises(error):
        van.deployment.check()
    van.here.at = (51.5, -0.1)
    van.deployment.check()


def test_matching_is_allowed_between_start_and_end_only(van: Van) -> None:
    in_time(van, -1)
    van.fetch()
    van.deployment.take_up()
    with pytest.raises(AuthorityNotYet):
        van.deployment.check()
    in_time(van, 0)
    van.deployment.check()
    in_time(van, 20)
    with pytest.raises(AuthorityEnded):
        van.deployment.check()


def test_entries_that_expired_while_the_van_was_off_are_gone_before_it_matches(van: Van) -> None:
    van.fetch()
    in_time(van, 14.5)  # past midnight, UTC; the authority still holds
    van.restart()
    assert van.deployment.take_up().references() == ("R-1", "R-2")
    van.deployment.check()
    assert [data["reference"] for data in van.logged(Event.ENTRY_REMOVED)] == ["R-3"]


def test_a_revocation_takes_somebody_off_and_a_forged_one_nobody(van: Van) -> None:
    van.fetch()
    store = van.deployment.take_up()
    word = Revocation(deployment="D-1", reference="R-2", cause="deletion was granted", issued_at=START)
    token = UNIT.sign(msgspec.json.encode(word), REVOCATION)
    assert van.deployment.revoke(token) == ("R-2",)
    assert van.deployment.revoke(token) == ()
    with pytest.raises(SignatureInvalid):
        van.deployment.revoke(SigningKey.generate().sign(msgspec.json.encode(word), REVOCATION))
    assert store.references() == ("R-1", "R-3")
    assert van.deployment.check().deployment == "D-1", "the list keeps the identity that the authority names"


@pytest.mark.parametrize(
    ("threshold", "error"), [(0.44, ThresholdTooLow), (0.46, ThresholdUnsupported)], ids=["the floor", "the budget"]
)
def test_a_configured_threshold_below_what_is_needed_is_refused(
    threshold: float, error: type[EdgeError], tmp_path: Path
) -> None:
    van = Van(tmp_path, threshold=threshold)
    van.fetch()
    van.deployment.take_up()
    with pytest.raises(error):
        van.deployment.check()
    van.close()


def test_without_a_configured_threshold_the_budget_sets_it(tmp_path: Path) -> None:
    van = Van(tmp_path, threshold=None)
    van.fetch()
    van.deployment.take_up()
    expected = 0.40 + 0.02 / 0.1 * (1 - 60**-0.1)  # the generalised Pareto tail of TAIL at a share of 1 in 6000
    assert van.deployment.threshold == pytest.approx(expected)
    van.deployment.check()
    van.close()


def test_a_list_that_is_gone_is_not_taken_up(van: Van) -> None:
    van.fetch()
    van.deployment.keeper.destroy("by hand")
    with pytest.raises(WatchlistGone):
        van.deployment.take_up()
