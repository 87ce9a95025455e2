"""Where a force asks for it, two officers sign an authority, each on their own, before a van sees it."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from edge.errors import AuthorityInvalid, BadInput, KeyUnusable, RepositoryInvalid, TargetMissing
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


def countersign(repository: Repository) -> int:
    """Somebody looks at what waits, and signs it."""
    return repository.countersign("authorities", repository.waits_as("authorities"))


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
    assert countersign(second) == 2
    assert officers.repository.pending("authorities") is None
    assert officers.seen() == b"allowed"


def test_nobody_signs_twice_and_nothing_that_waits_cannot_be_signed(officers: Officers) -> None:
    with pytest.raises(BadInput, match="nothing that waits"):
        countersign(officers.officer(0))
    officers.officer(0).add(AUTHORITY, b"allowed", now())
    with pytest.raises(KeyUnusable, match="cannot sign"):
        countersign(officers.officer(0))
    assert officers.seen() is None


def test_whoever_holds_two_keys_still_signs_one_at_a_time(officers: Officers) -> None:
    for number in (0, 1):
        for key in (officers.folder / f"officer-{number}").glob("authorities-*.pem"):
            shutil.copy2(key, officers.folder / "keys")
    officers.repository.add(AUTHORITY, b"allowed", now())
    assert officers.repository.pending("authorities") == Pending((AUTHORITY,), 1, 2)
    assert officers.seen() is None
    assert countersign(officers.repository) == 2
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
    countersign(officers.officer(1))
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


def test_what_is_changed_while_the_second_officer_looks_at_it_is_not_signed(
    officers: Officers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    site.enrol_van()
    paper = site.authority(site.build([entry("R-1")])[1])
    officers.officer(0).add(AUTHORITY, msgspec.json.encode(paper), now())

    def asked(*_: object, **__: object) -> bool:
        longer = msgspec.structs.replace(paper, retention_h=744)
        officers.officer(0).add(AUTHORITY, msgspec.json.encode(longer), now())
        return True

    monkeypatch.setattr(typer, "confirm", asked)
    command = ["authority", "countersign", "D-1", "--repository", str(officers.repository.folder)]
    done = CliRunner().invoke(app, [*command, "--keys", str(tmp_path / "officer-1")])
    assert done.exit_code == BadInput.exit_code
    assert "was changed while you looked at it: nothing is signed" in done.output
    assert officers.seen() is None


def test_what_is_dated_ahead_is_not_countersigned(officers: Officers, tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.enrol_van()
    paper = site.authority(site.build([entry("R-1")])[1])
    ahead = msgspec.structs.replace(
        paper,
        authorised_at=now() + timedelta(hours=1),
        starts=now() + timedelta(hours=1),
        ends=now() + timedelta(hours=3),
    )
    officers.officer(0).add(AUTHORITY, msgspec.json.encode(ahead), now())
    command = ["authority", "countersign", "D-1", "--repository", str(officers.repository.folder), "--yes"]
    done = CliRunner().invoke(app, [*command, "--keys", str(tmp_path / "officer-1")])
    assert done.exit_code == AuthorityInvalid.exit_code
    assert "lies ahead" in done.output
    assert officers.seen() is None


def test_an_officer_who_signs_one_authority_does_not_sign_another_that_waits(officers: Officers) -> None:
    officers.officer(0).add("authorities/D-9.json", b"nobody has looked at this", now())
    officers.officer(0).add("authorities/D-8.json", b"nor at this", now())
    with pytest.raises(BadInput, match=r"authorities/D-8.json: waits for another officer's signature"):
        officers.officer(1).add(AUTHORITY, b"allowed", now())
    countersign(officers.officer(1))
    officers.officer(1).add(AUTHORITY, b"allowed", now())
    assert countersign(officers.officer(0)) == 2
    assert officers.seen() == b"allowed"


def slipped_in(repository: Repository, role: str, name: str, content: bytes) -> None:
    """What somebody without any key can do to a folder, or to a stick that carries it."""
    newest = repository._path(role)
    metadata, digest = json.loads(newest.read_bytes()), hashlib.sha256(content).hexdigest()
    metadata["signed"]["targets"][name] = {"length": len(content), "hashes": {"sha256": digest}}
    newest.write_text(json.dumps(metadata))
    (repository.folder / "targets" / role).mkdir(parents=True, exist_ok=True)
    (repository.folder / "targets" / role / f"{digest}.{Path(name).name}").write_bytes(content)


@pytest.mark.parametrize("role", ["authorities", "watchlists", "revocations"])
def test_what_somebody_without_a_key_slips_into_the_folder_is_not_signed_along(tmp_path: Path, role: str) -> None:
    world = World(tmp_path)
    world.begin()
    slipped_in(world.repository, role, f"{role}/foreign.json", b"nobody's")
    for sign in (
        lambda: world.repository.add(f"{role}/D-1.json", b"genuine", now()),
        lambda: world.repository.remove(f"{role}/foreign.json", now()),
        lambda: world.repository.rotate(role, now()),
    ):
        with pytest.raises(RepositoryInvalid, match="was changed by somebody who does not sign it"):
            sign()


def test_delegations_that_somebody_changed_are_not_signed_by_a_rotation(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.begin()
    for role, sign in (
        ("targets", lambda: world.repository.rotate("watchlists", now())),
        ("root", lambda: world.repository.rotate("timestamp", now())),
    ):
        path = world.repository._path(role)
        before = path.read_bytes()
        changed = json.loads(before)
        changed["signed"]["expires"] = "2099-01-01T00:00:00Z"
        path.write_text(json.dumps(changed))
        with pytest.raises(RepositoryInvalid, match="was changed by somebody who does not sign it"):
            sign()
        path.write_bytes(before)


def test_an_older_list_is_not_passed_off_as_the_newest(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.begin()
    world.newer()
    newest = world.repository._path("watchlists")
    version = int(newest.name.split(".")[0])
    shutil.copy2(newest.with_name(f"{version - 1}.watchlists.json"), newest.with_name(f"{version + 1}.watchlists.json"))
    with pytest.raises(RepositoryInvalid, match="was changed by somebody who does not sign it"):
        world.newer()
