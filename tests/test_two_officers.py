"""Where a force asks for it, two officers sign an authority, each on their own, before a van sees it."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.errors import BadInput, KeyUnusable, RepositoryInvalid, TargetMissing
from provisioning.cli import app
from provisioning.keyring import Keyring
from provisioning.repository import Pending, Repository
from tests.lists import Site, entry
from tests.repositories import LIST, Forger, World, now

AUTHORITY = "authorities/D-1.json"


class Officers(World):
    """A repository in which two of three officers must sign an authority, and each one's own folder of keys."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.repository.init(now(), officers=3, signatures=2)
        self.repository.add(LIST, b"first list", now())
        self.repository.publish(now())
        shared = Keyring(folder / "keys").keys("authorities")
        for number, own in enumerate(shared):
            shutil.copytree(folder / "keys", folder / f"officer-{number}")
            for other in shared:
                if other is not own:
                    (folder / f"officer-{number}" / other.uri.removeprefix("file2:")).unlink()
        for held in shared:
            (folder / "keys" / held.uri.removeprefix("file2:")).unlink()

    def officer(self, number: int) -> Repository:
        return Repository(self.repository.folder, Keyring(self.folder / f"officer-{number}"))

    def seen(self) -> bytes | None:
        self.repository.publish(now())
        self.copy()
        try:
            return self.van().read(AUTHORITY)
        except TargetMissing:
            return None


@pytest.fixture
def officers(tmp_path: Path) -> Officers:
    return Officers(tmp_path)


def test_what_one_of_two_officers_signed_is_not_published_and_everything_else_is(officers: Officers) -> None:
    officers.officer(0).add(AUTHORITY, b"allowed", now())
    assert officers.repository.pending("authorities") == Pending((AUTHORITY,), 1, 2)
    officers.newer(b"a newer list")
    assert officers.seen() is None
    assert officers.van().read(LIST) == b"a newer list"


def test_a_second_officer_sees_what_waits_and_with_their_signature_vans_do(officers: Officers) -> None:
    officers.officer(0).add(AUTHORITY, b"allowed", now())
    second = officers.officer(2)
    assert second.content(AUTHORITY) == b"allowed"
    assert second.countersign("authorities") == 2
    assert officers.repository.pending("authorities") is None
    assert officers.seen() == b"allowed"


def test_nobody_signs_twice_and_nothing_that_waits_cannot_be_signed(officers: Officers) -> None:
    with pytest.raises(BadInput, match="nothing that waits"):
        officers.officer(0).countersign("authorities")
    officers.officer(0).add(AUTHORITY, b"allowed", now())
    with pytest.raises(KeyUnusable, match="cannot sign"):
        officers.officer(0).countersign("authorities")
    assert officers.seen() is None


def test_whoever_holds_two_keys_still_signs_one_at_a_time(officers: Officers) -> None:
    for number in (0, 1):
        for key in (officers.folder / f"officer-{number}").glob("authorities-*.pem"):
            shutil.copy2(key, officers.folder / "keys")
    officers.repository.add(AUTHORITY, b"allowed", now())
    assert officers.repository.pending("authorities") == Pending((AUTHORITY,), 1, 2)
    assert officers.seen() is None
    assert officers.repository.countersign("authorities") == 2
    assert officers.seen() == b"allowed"


def test_what_was_changed_after_the_first_signature_needs_both_again(officers: Officers) -> None:
    officers.officer(0).add(AUTHORITY, b"allowed", now())
    (file,) = (officers.repository.folder / "targets" / "authorities").iterdir()
    file.write_bytes(b"changed")
    with pytest.raises(RepositoryInvalid, match="is not what was signed"):
        officers.officer(1).content(AUTHORITY)
    officers.officer(1).add(AUTHORITY, b"changed", now())
    assert officers.repository.pending("authorities") == Pending((AUTHORITY,), 1, 2)
    assert officers.seen() is None


def test_an_authority_that_both_signed_stays_published_while_its_successor_waits(officers: Officers) -> None:
    officers.officer(0).add(AUTHORITY, b"allowed", now())
    officers.officer(1).countersign("authorities")
    assert officers.seen() == b"allowed"
    officers.officer(1).add(AUTHORITY, b"allowed for longer", now())
    assert officers.seen() == b"allowed"


def test_a_publisher_alone_cannot_put_one_officers_authority_into_a_van(officers: Officers) -> None:
    officers.officer(0).add(AUTHORITY, b"allowed", now())
    Forger(officers.repository.folder, officers.repository.keys).publish(now())
    officers.copy()
    with pytest.raises(RepositoryInvalid, match=r"whom this van trusts \(authorities\)"):
        officers.van().read(AUTHORITY)


def test_a_force_that_has_one_officer_may_ask_for_two_later_and_not_while_something_waits(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.begin()
    world.repository.rotate("authorities", now(), officers=3, signatures=2)
    assert world.repository.needed("authorities") == 2
    assert len(world.repository.keys.keys("authorities")) == 3
    world.repository.add(AUTHORITY, b"allowed", now())
    with pytest.raises(BadInput, match="waits for another signature"):
        world.repository.rotate("authorities", now())
    with pytest.raises(BadInput, match="needs one signature"):
        world.repository.rotate("watchlists", now(), signatures=2)


@pytest.mark.parametrize(("count", "need"), [(1, 2), (0, 0), (10, 2)])
def test_numbers_of_officers_that_cannot_be_are_refused(tmp_path: Path, count: int, need: int) -> None:
    with pytest.raises(BadInput, match="cannot be"):
        World(tmp_path).repository.init(now(), officers=count, signatures=need)
    assert not (tmp_path / "repository").exists()


PAPER = """
deployment = "D-1"
purpose = "To find people who are wanted on warrant for violence"
legal_basis = "Common law; the force's policy"
authorised_by = "Superintendent"
starts = {starts}
ends = {ends}
vans = ["van-1"]
threshold_floor = 0.45
budget_one_in = 6000
[place]
name = "High Street"
centre = [51.5, -0.12]
radius_m = 300
[grounds]
use_case = "People wanted on warrant"
necessity = "Visits found nobody"
why_here = "They were seen there"
seriousness = "Five years or more"
rank = "Superintendent"
"""


def test_both_officers_see_the_whole_authority_and_sign_with_their_own_keys_by_the_commands(
    officers: Officers, tmp_path: Path
) -> None:
    def run(*arguments: object, code: int = 0, answer: str = "") -> str:
        done = CliRunner().invoke(app, [str(each) for each in arguments], input=answer)
        assert done.exit_code == code, f"{done.output}{done.exception!r}"
        return done.output

    site = Site(tmp_path)
    site.enrol_van()
    (tmp_path / "manifest.json").write_bytes(site.build([entry("R-1")])[1])
    times = {"starts": (now() + timedelta(hours=1)).isoformat(), "ends": (now() + timedelta(hours=5)).isoformat()}
    (tmp_path / "authority.toml").write_text(PAPER.format(**times))
    repository = ("--repository", officers.repository.folder)
    first, second = (("--keys", tmp_path / f"officer-{number}") for number in (0, 1))
    paper = (tmp_path / "authority.toml", "--manifest", tmp_path / "manifest.json")
    said = run("authority", "sign", *paper, *repository, *first, "--yes")
    assert "Now 1 more must sign: lfr-provision authority countersign D-1" in said
    said = run("publish", *repository, "--keys", tmp_path / "keys")
    assert f"Not published yet: {AUTHORITY} has 1 of 2 signatures." in said
    seen = run("authority", "countersign", "D-1", *repository, *second, answer="n\n", code=130)
    for words in ("wanted on warrant for violence", "High Street", "Necessary because Visits found nobody"):
        assert words in seen
    assert officers.seen() is None, "who says no has not signed"
    assert "Vans see it" in run("authority", "countersign", "D-1", *repository, *second, answer="y\n")
    assert officers.seen() is not None
    refused = run("authority", "countersign", "D-1", *repository, *second, code=4)
    assert "does not wait for a signature" in refused
