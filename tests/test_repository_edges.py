"""The repository where the medium, an attacker or the van's own disk misbehaves. Real files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile, Snapshot, TargetFile, Targets, Timestamp

from edge.errors import (
    EdgeError,
    MetadataMixed,
    MetadataRolledBack,
    RepositoryInvalid,
    RepositoryUnavailable,
    StoreUnavailable,
    TargetMissing,
    TargetTampered,
)
from edge.trust.repository import PUBLISHED, VanRepository
from tests.test_repository import LIST, World, begun, metadata, now, world

__all__ = ["begun", "world"]


# -- what is read ----------------------------------------------------------------------------------------------------


def test_a_file_of_just_the_allowed_length_is_read_and_a_longer_one_is_not(world: World) -> None:
    van = world.van()
    assert van.read(LIST, limit=len(b"first list")) == b"first list"
    with pytest.raises(TargetTampered, match="9 bytes"):
        van.read(LIST, limit=9)


def test_a_file_of_more_than_four_megabytes_is_read_only_when_asked_for(world: World) -> None:
    world.newer(bytes(4_000_001))
    world.copy()
    with pytest.raises(TargetTampered, match="4000000 bytes"):
        world.van().read(LIST)
    assert len(world.van().read(LIST, limit=4_000_001)) == 4_000_001


def test_a_file_where_a_folder_should_be_is_a_file_that_is_missing(world: World) -> None:
    shutil.rmtree(world.stick / "targets")
    (world.stick / "targets").write_text("x")
    with pytest.raises(TargetMissing):
        world.van().read(LIST)


def test_nothing_that_was_read_stays_on_the_van(world: World) -> None:
    van = world.van()
    van.read(LIST)
    assert not (world.folder / "van" / "fetched").exists()
    (file,) = (world.stick / "targets" / "watchlists").iterdir()
    file.write_bytes(b"First list")
    with pytest.raises(TargetTampered):
        van.read(LIST)
    assert not (world.folder / "van" / "fetched").exists()


def test_a_download_lies_where_it_was_asked_for_and_says_so(world: World) -> None:
    into = world.folder / "list.age"
    assert world.van().download(LIST, into) == into
    assert into.read_bytes() == b"first list"


def test_a_large_file_is_read_whole_and_in_order(world: World) -> None:
    content = os.urandom((2 << 20) + 7)
    world.newer(content)
    world.copy()
    assert world.van().read(LIST) == content


def test_what_is_known_of_a_file_is_what_was_signed(world: World) -> None:
    found = world.van().find(LIST)
    assert found.name == LIST
    assert found.sha256 == hashlib.sha256(b"first list").hexdigest()


def test_what_a_role_says_besides_is_an_object_or_nothing(world: World) -> None:
    world.repository.add("models/x.tflite", b"x", now())
    world.repository.publish(now())
    world.copy()
    assert world.van().find("models/x.tflite").custom == {}


@pytest.mark.parametrize("name", ["a stick", "Stäbchen", "50%20off", "100%", "a+b", "x#y?z"])
def test_a_stick_may_have_any_name(name: str, world: World) -> None:
    stick = world.folder / name
    shutil.copytree(world.stick, stick)
    assert VanRepository(world.folder / "van-2", str(stick), world.root).read(LIST) == b"first list"


def test_a_stick_may_be_named_from_where_one_stands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder)
    assert VanRepository(world.folder / "van-2", "stick", world.root).read(LIST) == b"first list"


# -- the van's own state ---------------------------------------------------------------------------------------------


def test_after_a_refusal_the_state_of_before_is_not_gone_on_with(world: World) -> None:
    """The van asks anew each time; a stick that must not be believed must not be served from memory."""
    van = world.van()
    assert van.read(LIST) == b"first list"
    metadata(world, "timestamp").write_bytes(b"{")
    with pytest.raises(RepositoryInvalid):
        van.refresh()
    with pytest.raises(RepositoryInvalid):
        van.read(LIST)


def test_what_a_power_cut_left_of_a_write_is_removed(world: World) -> None:
    state = world.folder / "van"
    state.mkdir()
    for name in ("tmpabc123", "tmp_x"):
        (state / name).write_text("half a file")
    world.van().refresh()
    assert not list(state.glob("tmp*"))


def test_the_trusted_state_is_the_van_s_alone(world: World) -> None:
    before = os.umask(0)
    try:
        VanRepository(world.folder / "a" / "new" / "folder", str(world.stick), world.root).refresh()
    finally:
        os.umask(before)
    assert (world.folder / "a" / "new" / "folder").stat().st_mode & 0o777 == 0o700


def test_what_was_learned_is_on_the_device_before_anything_is_done_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that a power cut takes back could be rolled back by whoever has an older stick."""
    pushed: set[str] = set()
    fsync = os.fsync

    def noted(handle: int) -> None:
        pushed.add(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    van = world.van()
    van.refresh()
    assert {"1.root.json", "timestamp.json", "snapshot.json", "targets.json", "root_history", "van"} <= pushed
    pushed.clear()
    van.find(LIST)
    assert {"watchlists.json", "van"} <= pushed


def test_a_folder_that_cannot_be_written_is_one_clear_error(world: World) -> None:
    (world.folder / "file").write_text("x")
    van = VanRepository(world.folder / "file" / "van", str(world.stick), world.root)
    with pytest.raises(StoreUnavailable, match="van"):
        van.refresh()


def test_a_disk_that_fails_while_metadata_is_stored_is_one_clear_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: str, into: str) -> None:
        if str(into).endswith("snapshot.json"):
            raise OSError(28, "No space left on device")
        replace(source, into)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises((StoreUnavailable, RepositoryInvalid, RepositoryUnavailable)):
        world.van().refresh()


# -- when it was published -------------------------------------------------------------------------------------------


def test_before_the_first_state_nothing_is_certainly_past(world: World) -> None:
    assert world.van().published_at() is None


@pytest.mark.parametrize(
    "said", ["yesterday", 5, None, []], ids=["words", "a number", "nothing", "a list"]
)  # what the timestamp role signed is believed, whatever it is
def test_a_moment_that_is_none_is_not_taken_for_one(said: object, world: World) -> None:
    world.van().refresh()
    path = world.folder / "van" / "timestamp.json"
    raw = json.loads(path.read_bytes())
    raw["signed"][PUBLISHED] = said
    path.write_text(json.dumps(raw))
    assert world.van().published_at() is None


def test_a_state_that_says_no_moment_or_is_no_metadata_gives_none(world: World) -> None:
    world.van().refresh()
    path = world.folder / "van" / "timestamp.json"
    raw = json.loads(path.read_bytes())
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:00-14:00", "yesterday"):
        raw["signed"][PUBLISHED] = moment
        path.write_text(json.dumps(raw))
        assert world.van().published_at() is None
    del raw["signed"][PUBLISHED]
    path.write_text(json.dumps(raw))
    assert world.van().published_at() is None
    path.write_text("{")
    assert world.van().published_at() is None


def test_the_moment_is_told_in_utc(world: World) -> None:
    world.van().refresh()
    path = world.folder / "van" / "timestamp.json"
    raw = json.loads(path.read_bytes())
    raw["signed"][PUBLISHED] = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2))).isoformat()
    path.write_text(json.dumps(raw))
    found = world.van().published_at()
    assert found == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert found is not None
    assert found.utcoffset() == timedelta(0)


# -- what an attacker may leave out ----------------------------------------------------------------------------------


def test_a_snapshot_that_leaves_a_role_out_is_a_step_back(world: World) -> None:
    """Whoever stole the keys that sign daily drops a role that the van has seen."""
    world.van().find(LIST)
    repository = world.repository
    snapshot = repository._load("snapshot", Snapshot)
    del snapshot.meta["watchlists.json"]
    snapshot.version += 1
    repository._save("snapshot", snapshot, repository.keys.keys("snapshot"))
    timestamp = repository._load("timestamp", Timestamp)
    timestamp.version += 1
    timestamp.snapshot_meta = MetaFile.from_data(
        snapshot.version, repository._path("snapshot").read_bytes(), ["sha256"]
    )
    repository._save("timestamp", timestamp, repository.keys.keys("timestamp"))
    world.copy()
    with pytest.raises(MetadataRolledBack, match="had before"):
        world.van().read(LIST)


def vouch(world: World, version: int, content: bytes) -> None:
    """Whoever stole the key of the timestamp vouches for a snapshot of their own."""
    repository = world.repository
    timestamp = repository._load("timestamp", Timestamp)
    timestamp.version += 1
    timestamp.snapshot_meta = MetaFile.from_data(version, content, ["sha256"])
    repository._save("timestamp", timestamp, repository.keys.keys("timestamp"))
    (repository.folder / "metadata" / f"{version}.snapshot.json").write_bytes(content)
    world.copy()


def test_a_snapshot_under_the_number_of_another_is_a_mixture(world: World) -> None:
    vouch(world, 99, world.repository._path("snapshot").read_bytes())
    with pytest.raises(MetadataMixed):
        world.van().refresh()


def test_a_snapshot_that_is_no_metadata_is_not_believed_and_is_no_step_back(world: World) -> None:
    vouch(world, 99, b"{")
    with pytest.raises(RepositoryInvalid):
        world.van().refresh()


def test_a_trusted_state_that_the_disk_damaged_is_fetched_anew_or_refused_and_never_a_crash(world: World) -> None:
    van = world.van()
    van.find(LIST)
    names = [path.relative_to(world.folder / "van") for path in sorted((world.folder / "van").rglob("*.json"))]
    assert len(names) > 4
    for name in names:
        state = world.folder / f"damaged-{name.name}"
        shutil.copytree(world.folder / "van", state, symlinks=True)
        (state / name).write_bytes(b"{")
        with contextlib.suppress(EdgeError):
            assert VanRepository(state, str(world.stick), world.root).read(LIST) == b"first list"


def test_a_file_that_is_vouched_for_by_another_kind_of_digest_is_not_taken(world: World) -> None:
    signed = world.repository._load("watchlists", Targets)
    signed.targets[LIST] = TargetFile.from_data(LIST, b"first list", ["sha512"])
    world.repository._bump("watchlists", signed, now())
    world.repository.publish(now())
    world.copy()
    with pytest.raises(TargetMissing):
        world.van().find(LIST)


def test_what_a_role_says_besides_is_no_list(world: World) -> None:
    signed = world.repository._load("watchlists", Targets)
    signed.targets[LIST].unrecognized_fields["custom"] = ["x"]
    world.repository._bump("watchlists", signed, now())
    world.repository.publish(now())
    world.copy()
    assert world.van().find(LIST).custom == {}
