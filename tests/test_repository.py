"""Distribution: a real publisher, a real client, and one named case per attack."""

from __future__ import annotations

import contextlib
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge.errors import (
    BadInput,
    EdgeError,
    KeyUnusable,
    MetadataExpired,
    MetadataMixed,
    MetadataRolledBack,
    RepositoryInvalid,
    RepositoryUnavailable,
    TargetMissing,
    TargetTampered,
)
from edge.trust.repository import CHUNK, VanRepository
from provisioning.keyring import Keyring
from provisioning.repository import DELEGATED, Repository
from tests.repositories import LIST, Forger, World, now


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Making keys takes longer than using them: done once, copied for each test."""
    folder = tmp_path_factory.mktemp("begun")
    World(folder).begin()
    return folder


@pytest.fixture
def world(begun: Path, tmp_path: Path) -> World:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    made = World(tmp_path)
    made.copy()
    return made


def test_a_van_reads_what_was_published(world: World) -> None:
    van = world.van()
    van.refresh()
    assert van.read(LIST) == b"first list"
    found = van.find(LIST)
    assert (found.length, found.custom) == (10, {"vans": ["van-1"]})
    published = van.published_at()
    assert published is not None
    assert abs(now() - published) < timedelta(minutes=5)


def test_a_newer_state_is_taken_up(world: World) -> None:
    world.van().refresh()
    world.newer()
    world.copy()
    assert world.van().read(LIST) == b"second list"


def test_a_file_of_many_pieces_is_read_whole(world: World) -> None:
    content = bytes(range(256)) * (5 * CHUNK // 512)
    world.newer(content)
    world.copy()
    assert world.van().read(LIST) == content


def metadata(world: World, role: str) -> Path:
    """The newest metadata file of a role on the stick."""
    found = list((world.stick / "metadata").glob(f"*{role}.json"))
    return max(found, key=lambda path: int(path.name.split(".")[0]) if path.name[0].isdigit() else 0)


def edited(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    raw = json.loads(path.read_bytes())
    change(raw["signed"])
    path.write_text(json.dumps(raw))


def stale(world: World) -> None:
    """Take a newer state up, then offer the older one again."""
    old = world.folder / "old"
    shutil.copytree(world.stick, old)
    world.newer()
    world.copy()
    world.van().refresh()
    shutil.rmtree(world.stick)
    old.rename(world.stick)


def frozen(world: World) -> None:
    world.repository.publish(now() - timedelta(hours=24, minutes=1))
    world.copy()


def role_out_of_date(world: World) -> None:
    world.repository.add(LIST, b"old", now() - timedelta(days=8))
    world.repository.publish(now())
    world.copy()


def root_out_of_date(world: World) -> None:
    world.repository.rotate("timestamp", now() - timedelta(days=366))
    world.repository.publish(now())
    world.copy()


def timestamp_altered(world: World) -> None:
    edited(metadata(world, "timestamp"), lambda signed: signed.update(version=99))


def snapshot_altered(world: World) -> None:
    edited(metadata(world, "snapshot"), lambda signed: signed.update(spec_version="1.0.30"))


def list_of_files_altered(world: World) -> None:
    edited(metadata(world, "watchlists"), lambda signed: signed.update(targets={}))


def not_json(world: World) -> None:
    metadata(world, "timestamp").write_bytes(b"{")


def signatures_removed(world: World) -> None:
    path = metadata(world, "timestamp")
    raw = json.loads(path.read_bytes())
    path.write_text(json.dumps({**raw, "signatures": []}))


def of_somebody_else(world: World) -> None:
    """A whole repository, flawless, by other keys."""
    other = World(world.folder / "other")
    other.begin()
    other.newer()
    other.copy()
    shutil.rmtree(world.stick)
    shutil.copytree(other.stick, world.stick)


def mixed(world: World) -> None:
    """The newest timestamp and snapshot with a list of files of the state before."""
    old = metadata(world, "watchlists").read_bytes()
    world.newer()
    world.copy()
    metadata(world, "watchlists").write_bytes(old)


def snapshot_of_before(world: World) -> None:
    old = metadata(world, "snapshot").read_bytes()
    world.newer()
    world.copy()
    metadata(world, "snapshot").write_bytes(old)


def half_copied(world: World) -> None:
    metadata(world, "watchlists").unlink()


def one_root_key(world: World) -> None:
    """A new root signed by one of the old keys instead of two."""
    world.repository.rotate("root", now())
    world.copy()
    path = world.stick / "metadata" / "2.root.json"
    raw = json.loads(path.read_bytes())
    old = set(json.loads(world.root)["signed"]["roles"]["root"]["keyids"])
    kept = [s for s in raw["signatures"] if s["keyid"] not in old]
    one = next(s for s in raw["signatures"] if s["keyid"] in old)
    path.write_text(json.dumps({**raw, "signatures": [*kept, one]}))


def skipped_root(world: World) -> None:
    world.repository.rotate("root", now())
    world.repository.rotate("root", now())
    world.copy()
    (world.stick / "metadata" / "3.root.json").replace(world.stick / "metadata" / "2.root.json")


def another_role_s_key(world: World) -> None:
    """The models' key signs the list of watchlists."""
    keyring = world.repository.keys
    keyring.use("watchlists", keyring.keys("models"))
    world.repository = Forger(world.repository.folder, keyring)
    world.newer()
    world.copy()


def content_altered(world: World) -> None:
    (file,) = (world.stick / "targets" / "watchlists").iterdir()
    file.write_bytes(b"First list")


def content_longer(world: World) -> None:
    (file,) = (world.stick / "targets" / "watchlists").iterdir()
    file.write_bytes(b"first list and more")


def content_missing(world: World) -> None:
    shutil.rmtree(world.stick / "targets")


def no_stick(world: World) -> None:
    shutil.rmtree(world.stick)


def stick_fails(world: World) -> None:
    (content,) = (world.stick / "targets" / "watchlists").iterdir()
    content.unlink()
    content.symlink_to("/proc/self/mem")  # opens, and answers the first read with an input/output error


ATTACKS: dict[str, tuple[Callable[[World], None], type[EdgeError], str]] = {
    "rollback": (stale, MetadataRolledBack, "is older than what this van has already seen"),
    "freeze": (frozen, MetadataExpired, r"is out of date \(timestamp\)"),
    "a role that went quiet": (role_out_of_date, MetadataExpired, r"is out of date \(watchlists\)"),
    "an expired root": (root_out_of_date, MetadataExpired, r"is out of date \(root\)"),
    "timestamp tampered": (
        timestamp_altered,
        RepositoryInvalid,
        r"whom this van trusts \(timestamp\)",
    ),
    "snapshot tampered": (snapshot_altered, MetadataMixed, "mixes parts of different versions"),
    "file list tampered": (list_of_files_altered, MetadataMixed, "mixes parts of different versions"),
    "not metadata at all": (not_json, RepositoryInvalid, "cannot be trusted|cannot be read"),
    "unsigned": (
        signatures_removed,
        RepositoryInvalid,
        r"whom this van trusts \(timestamp\)",
    ),
    "somebody else's repository": (
        of_somebody_else,
        RepositoryInvalid,
        r"whom this van trusts \(timestamp\)",
    ),
    "mix and match of roles": (mixed, MetadataMixed, "mixes parts of different versions"),
    "mix and match of snapshots": (snapshot_of_before, MetadataMixed, "mixes parts of different versions"),
    "metadata missing": (half_copied, TargetMissing, "is missing from the stick or server"),
    "a root by one key of three": (
        one_root_key,
        RepositoryInvalid,
        r"whom this van trusts \(root\)",
    ),
    "a root that skips a version": (skipped_root, EdgeError, "root|mixes|older"),
    "a role signing for another": (
        another_role_s_key,
        RepositoryInvalid,
        r"whom this van trusts \(watchlists\)",
    ),
    "content tampered": (content_altered, TargetTampered, "is not the file that was signed"),
    "content made longer": (content_longer, TargetTampered, "is not the file that was signed"),
    "content missing": (content_missing, TargetMissing, "is missing from the stick or server"),
    "no stick": (no_stick, RepositoryUnavailable, "holds no lists and authorities"),
    "a stick that fails while it is read": (stick_fails, RepositoryUnavailable, "cannot be read"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_must_not_be_believed_is_refused_by_its_own_error(name: str, world: World) -> None:
    attack, error, message = ATTACKS[name]
    attack(world)
    with pytest.raises(error, match=message) as caught:
        world.van().read(LIST)
    assert caught.value.exit_code in {3, 5}


ON_THE_STICK_ONLY = (
    "timestamp tampered",
    "snapshot tampered",
    "file list tampered",
    "not metadata at all",
    "unsigned",
    "somebody else's repository",
    "metadata missing",
    "content tampered",
    "content made longer",
    "content missing",
    "no stick",
)


@pytest.mark.parametrize("name", ON_THE_STICK_ONLY)
def test_an_attack_leaves_what_the_van_believed_before(name: str, world: World) -> None:
    world.van().refresh()
    good = world.folder / "good"
    shutil.copytree(world.stick, good)
    ATTACKS[name][0](world)
    with contextlib.suppress(EdgeError):  # what is in the van's own trusted state is not asked for again
        assert world.van().read(LIST) == b"first list"
    shutil.rmtree(world.stick, ignore_errors=True)
    good.rename(world.stick)
    assert world.van().read(LIST) == b"first list"


def test_a_file_that_nobody_signed_is_not_found(world: World) -> None:
    (world.stick / "targets" / "watchlists" / "extra.age").write_bytes(b"x")
    with pytest.raises(TargetMissing, match="has not been published"):
        world.van().find("watchlists/extra.age")


def test_root_keys_can_be_rotated_and_the_old_ones_are_worth_nothing_then(world: World) -> None:
    stolen = world.folder / "stolen"
    shutil.copytree(world.folder / "keys", stolen / "keys")
    shutil.copytree(world.repository.folder, stolen / "repository")
    world.repository.rotate("root", now())
    world.copy()
    world.van().refresh()
    # Somebody with all three old keys goes their own way from the first root.
    forged = Repository(stolen / "repository", Keyring(stolen / "keys"))
    forged.rotate("root", now())
    forged.rotate("root", now())
    shutil.rmtree(world.stick)
    shutil.copytree(forged.folder, world.stick)
    with pytest.raises(RepositoryInvalid, match=r"whom this van trusts \(root\)"):
        world.van().refresh()


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp", *DELEGATED])
def test_every_other_key_can_be_rotated_and_the_old_one_is_worth_nothing_then(role: str, world: World) -> None:
    old = Keyring(world.folder / "keys").keys(role)
    world.van().refresh()
    world.repository.rotate(role, now())
    world.newer()
    world.copy()
    assert world.van().read(LIST) == b"second list"
    keyring = world.repository.keys
    assert not {key.public.keyid for key in keyring.keys(role)} & {key.public.keyid for key in old}
    # The old key signs something newer: the van does not believe it.
    keyring.use(role, old)
    forger = Forger(world.repository.folder, keyring)
    if role in DELEGATED:
        forger.add(f"{role}/other.bin", b"forged", now())
    elif role == "targets":
        forger.rotate("models", now())
    forger.publish(now())
    world.copy()
    with pytest.raises(RepositoryInvalid, match="whom this van trusts"):
        world.van().read(f"{role}/other.bin" if role in DELEGATED else LIST)


def test_a_van_that_slept_through_many_root_rotations_catches_up(world: World) -> None:
    world.van().refresh()
    for _ in range(5):
        world.repository.rotate("root", now())
    world.copy()
    assert world.van().read(LIST) == b"first list"


def test_one_root_key_holder_alone_cannot_rotate(world: World) -> None:
    for held in world.repository.keys.keys("root")[1:]:
        (world.folder / "keys" / held.uri.removeprefix("file2:")).unlink()
    with pytest.raises(RepositoryInvalid, match="has 1 of the 2 signatures it needs"):
        world.repository.rotate("snapshot", now())


def test_a_key_that_others_may_read_is_refused(world: World) -> None:
    (held,) = world.repository.keys.keys("watchlists")
    (world.folder / "keys" / held.uri.removeprefix("file2:")).chmod(0o644)
    with pytest.raises(KeyUnusable, match="can be read by others"):
        world.newer()


@pytest.mark.parametrize("name", ["other/x", "watchlists", "watchlists/", "watchlists/a/b", "../x", "watchlists/.x"])
def test_only_the_four_roles_hold_files(name: str, world: World) -> None:
    with pytest.raises(BadInput, match="is not a name such as"):
        world.repository.add(name, b"", now())


def test_a_repository_is_never_made_over_another(world: World) -> None:
    with pytest.raises(BadInput, match="holds a repository already"):
        world.repository.init(now())


@pytest.fixture
def served(world: World) -> Iterator[tuple[str, Path]]:
    """The stick, served over HTTPS on loopback with a certificate of its own."""
    key, certificate = world.folder / "server.key", world.folder / "server.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    handler = partial(SimpleHTTPRequestHandler, directory=str(world.stick))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}", certificate
    server.shutdown()
    server.server_close()


def test_the_same_client_reads_over_https(served: tuple[str, Path], world: World) -> None:
    address, certificate = served
    van = VanRepository(world.folder / "van", address, world.root, ca=certificate)
    assert van.read(LIST) == b"first list"
    content_altered(world)
    with pytest.raises(TargetTampered):
        van.read(LIST)


def test_a_server_with_a_strange_certificate_is_not_read(served: tuple[str, Path], world: World) -> None:
    with pytest.raises(RepositoryUnavailable, match="cannot be re"):
        VanRepository(world.folder / "van", served[0], world.root).refresh()
