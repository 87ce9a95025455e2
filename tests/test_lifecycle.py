"""The life of a list on the van, power cuts included."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyrage
import pytest

import edge.watchlist.destruction
import edge.watchlist.lifecycle
from edge.errors import (
    AuditBroken,
    AuthorityEnded,
    BundleRefused,
    EdgeError,
    EntryNotFound,
    KeyUnusable,
    ListTooOld,
    ModelNotNamed,
    ModelRejected,
    StoreDamaged,
    VanNotNamed,
    WatchlistGone,
    WatchlistNotNamed,
)
from edge.trust.audit import AuditLog, verify
from edge.trust.events import Event
from edge.trust.history import was_listed
from edge.watchlist.bundle import MAGIC, PADDING, identity_of
from edge.watchlist.destruction import destroy_everything
from edge.watchlist.lifecycle import ListLifecycle
from tests.lists import MODEL, START, Site, damage_unnoticed, entry, events, import_into

PEOPLE = ("R-1", "R-2", "R-3")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.enrol_van()
    return made


@pytest.fixture
def audit(site: Site) -> Iterator[AuditLog]:
    with site.audit() as log:
        yield log


@pytest.fixture
def keeper(site: Site, audit: AuditLog) -> Iterator[ListLifecycle]:
    made = site.keeper(audit)
    yield made
    made.close()


def test_an_imported_list_is_what_was_built(keeper: ListLifecycle, site: Site, audit: AuditLog) -> None:
    built = site.build([entry(name) for name in PEOPLE])
    import_into(keeper, site, built)
    store = keeper.open(model=MODEL)
    store.verify()
    assert store.references() == PEOPLE
    assert store.entry("R-2").reference_jpeg == entry("R-2").reference_jpeg
    assert (store.entry("R-2").templates == entry("R-2").templates).all()
    assert store.digest == msgspec.json.decode(built[1])["watchlist"]
    audit.checkpoint()
    (imported,) = events(site, Event.LIST_IMPORTED)
    assert imported["references"] == list(PEOPLE)


def test_a_bundle_shows_nothing_of_what_it_holds(site: Site) -> None:
    # Long references: three letters turn up by chance in one encrypted bundle of eighty.
    people = [entry(f"R-to-look-for-{number}") for number in range(3)]
    bundle, manifest = site.build(people)
    for content in (bundle.read_bytes(), manifest):
        assert not any(person.reference.encode() in content for person in people)
        assert not any(person.templates.tobytes()[:32] in content for person in people)
        assert not any(person.reference_jpeg[:32] in content for person in people)


def changed_bundle(change: Callable[[bytes], bytes]) -> Callable[[Site, tuple[Path, bytes]], dict[str, Any]]:
    def apply(site: Site, built: tuple[Path, bytes]) -> dict[str, Any]:
        built[0].write_bytes(change(built[0].read_bytes()))
        return {}

    return apply


def resealed(change: Callable[[bytes], bytes]) -> Callable[[Site, tuple[Path, bytes]], dict[str, Any]]:
    """A bundle whose plain content was changed and encrypted again: what somebody with the van's public key can do."""

    def apply(site: Site, built: tuple[Path, bytes]) -> dict[str, Any]:
        plain = pyrage.decrypt(built[0].read_bytes(), [site.identity()])
        key = pyrage.x25519.Recipient.from_str(site.public["van-1"])
        built[0].write_bytes(pyrage.encrypt(change(plain), [key]))
        return {}

    return apply


def remanifested(**changes: Any) -> Callable[[Site, tuple[Path, bytes]], dict[str, Any]]:
    def apply(site: Site, built: tuple[Path, bytes]) -> dict[str, Any]:
        manifest = msgspec.json.encode({**msgspec.json.decode(built[1]), **changes})
        return {"manifest": manifest, "authority": site.authority(manifest)}

    return apply


def authorised(**changes: Any) -> Callable[[Site, tuple[Path, bytes]], dict[str, Any]]:
    return lambda site, built: {"authority": site.authority(built[1], **changes)}


def at(offset: timedelta) -> Callable[[Site, tuple[Path, bytes]], dict[str, Any]]:
    def apply(site: Site, built: tuple[Path, bytes]) -> dict[str, Any]:
        site.clock.at = START + offset
        return {}

    return apply


PAD = 4 + len(PADDING)
COUNT = 4 + 1


def parts(plain: bytes) -> tuple[bytes, bytes, bytes]:
    """A bundle's content: up to the last entry, the frame with the count, the frame of zeros."""
    return plain[: -PAD - COUNT], plain[-PAD - COUNT : -PAD], plain[-PAD:]


def counted(plain: bytes, count: int) -> bytes:
    body, end, padding = parts(plain)
    return body + end[:-1] + bytes([count]) + padding


def without_an_entry(plain: bytes) -> bytes:
    """One entry less, by its own frame, and everything else as it was."""
    body, end, padding = parts(plain)
    at = body.index(entry("R-2").reference_jpeg)
    start = body.rindex(b"\x9d\xa3R-2", 0, at) - 4
    length = int.from_bytes(body[start : start + 4], "big")
    return body[:start] + body[start + 4 + length :] + end + padding


Prepare = Callable[[Site, tuple[Path, bytes]], dict[str, Any]]
REFUSALS: dict[str, tuple[Prepare, type[EdgeError], str]] = {
    "for another van": (remanifested(vans=["van-9"]), VanNotNamed, "is for van-9 and not for van-1"),
    "authority for another van": (authorised(vans=("van-8",)), VanNotNamed, "is for van-8 and not for van-1"),
    "for another deployment": (
        authorised(deployment="D-2"),
        BundleRefused,
        r"is for another deployment than the authority \(D-2\)",
    ),
    "another list than authorised": (
        authorised(watchlist="sha256:" + "0" * 64),
        WatchlistNotNamed,
        "the authority names 000000000000",
    ),
    "templates of another model": (
        remanifested(model="b" * 64),
        ModelNotNamed,
        "holds templates of model bbbbbbbbbbbb, this van runs aaaaaaaaaaaa",
    ),
    "imported two days early": (at(timedelta(hours=-25)), ListTooOld, "would be 25 hours old at the start; 24 are"),
    "imported after the end": (at(timedelta(hours=6)), AuthorityEnded, "is over"),
    "built in the future": (
        remanifested(built="2026-03-01T10:06:00Z"),
        ListTooOld,
        "has a date in the future",
    ),
    "not our key": (
        lambda site, _: {"identity": pyrage.x25519.Identity.generate()},
        BundleRefused,
        "is not encrypted for this van",
    ),
    "one bit flipped": (
        changed_bundle(lambda content: content[:-900] + bytes([content[-900] ^ 1]) + content[-899:]),
        BundleRefused,
        "is altered or cut off",
    ),
    "cut off": (changed_bundle(lambda content: content[:-1000]), BundleRefused, "is altered or cut off"),
    "empty": (changed_bundle(lambda _: b""), BundleRefused, "is not a watchlist bundle|altered or cut off"),
    "not age": (changed_bundle(lambda _: b"hello" * 99), BundleRefused, "is not a watchlist bundle"),
    "something else inside": (resealed(lambda _: b"x" * 900), BundleRefused, "is not a watchlist bundle"),
    "nothing inside": (resealed(lambda _: MAGIC), BundleRefused, "is cut off"),
    "an entry left out": (
        resealed(without_an_entry),
        BundleRefused,
        "holds 2 entries instead of 3",
    ),
    "an entry left out and the count changed": (
        resealed(lambda plain: counted(without_an_entry(plain), 2)),
        BundleRefused,
        "holds 2 entries instead of 3",
    ),
    "the end left out": (resealed(lambda plain: parts(plain)[0]), BundleRefused, "is cut off"),
    "more after the end": (
        resealed(lambda plain: plain + plain[-PAD:]),
        BundleRefused,
        "goes on after its end",
    ),
    "something else for the zeros": (
        resealed(lambda plain: plain[:-1] + b"x"),
        BundleRefused,
        "goes on after its end",
    ),
    "a picture exchanged": (
        resealed(lambda plain: plain.replace(entry("R-1").reference_jpeg, entry("R-9").reference_jpeg)),
        BundleRefused,
        "holds another list than its manifest names",
    ),
    "a template of another length": (
        resealed(lambda plain: plain.replace(b"\x01\xc5\x03\x00", b"\x02\xc5\x03\x00", 1)),
        EdgeError,
        "templates of another size",
    ),
    "a frame of any length": (
        resealed(lambda plain: MAGIC + b"\xff\xff\xff\xff" + plain[len(MAGIC) + 4 :]),
        BundleRefused,
        "holds a frame that is too long",
    ),
    "another manifest inside": (
        remanifested(entries=4),
        BundleRefused,
        "is not the one that the manifest describes",
    ),
    "a manifest with a field more": (
        lambda site, built: {"manifest": b'{"schema":1,"extra":1}'},
        BundleRefused,
        "is not a field that is known here",
    ),
    "the file is gone": (lambda site, built: {"bundle": site.folder / "none.age"}, BundleRefused, "is missing"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_list_that_must_not_be_imported_leaves_the_one_before(
    name: str, keeper: ListLifecycle, site: Site, audit: AuditLog
) -> None:
    import_into(keeper, site, site.build([entry("R-old")], name="before"))
    before = keeper.open().digest
    prepare, error, message = REFUSALS[name]
    built = site.build([entry(person) for person in PEOPLE])
    with pytest.raises(error, match=message):
        import_into(keeper, site, built, **prepare(site, built))
    assert keeper.open().digest == before
    assert keeper.open().references() == ("R-old",)
    assert len(list((site.folder / "lists").glob("list-*"))) == 1
    audit.checkpoint()
    assert len(events(site, Event.LIST_IMPORTED)) == 1


def test_a_new_list_takes_the_old_one_s_place_and_the_old_one_is_destroyed(
    keeper: ListLifecycle, site: Site, audit: AuditLog
) -> None:
    import_into(keeper, site, site.build([entry("R-old")], name="before"))
    old = keeper.open().digest
    import_into(keeper, site, site.build([entry(name) for name in PEOPLE]))
    assert keeper.open().references() == PEOPLE
    assert len(list((site.folder / "lists").glob("list-*"))) == 1
    audit.checkpoint()
    (destroyed,) = events(site, Event.LIST_DESTROYED)
    assert (destroyed["list"], destroyed["cause"], destroyed["entries"]) == (old, "replaced by another list", 1)
    assert destroyed["files"][0] == "watchlist.key"


def test_an_entry_past_its_date_never_comes_into_force(keeper: ListLifecycle, site: Site, audit: AuditLog) -> None:
    import_into(keeper, site, site.build([entry("R-1"), entry("R-2", delete_by="2026-02-28")]))
    assert keeper.open().references() == ("R-1",)
    audit.checkpoint()
    (removed,) = events(site, Event.ENTRY_REMOVED)
    assert (removed["reference"], removed["cause"]) == ("R-2", "its date is over")


def test_entries_expire_by_themselves_while_the_van_is_out(site: Site, audit: AuditLog) -> None:
    told: list[str] = []
    keeper = site.keeper(audit)
    keeper.on_removed(told.append)
    import_into(keeper, site, site.build([entry("R-1"), entry("R-2", review_by="2026-03-01")]))
    assert keeper.expire() == ()
    site.clock.at = START + timedelta(hours=14, minutes=1)  # past midnight, UTC
    assert keeper.expire() == ("R-2",)
    assert told == ["R-2"]
    assert keeper.open().references() == ("R-1",)
    keeper.close()


def test_a_removed_entry_leaves_the_store_and_the_index_is_told(site: Site, audit: AuditLog) -> None:
    told: list[str] = []
    keeper = site.keeper(audit)
    keeper.on_removed(told.append)
    import_into(keeper, site, site.build([entry(name) for name in PEOPLE]))
    keeper.remove("R-2", "revoked")
    assert told == ["R-2"]
    assert keeper.open().matrix().references == ("R-1", "R-3")
    with pytest.raises(EntryNotFound, match=r"R-2: is not on this list"):
        keeper.remove("R-2", "revoked")
    keeper.close()


def test_somebody_who_was_never_on_the_list_cannot_leave_it_in_silence(site: Site, audit: AuditLog) -> None:
    keeper = site.keeper(audit)
    import_into(keeper, site, site.build([entry(name) for name in PEOPLE]))
    keeper.remove("R-2", "revoked")
    for reference in ("R-2", "R-99", "R-99"):
        with pytest.raises(EntryNotFound):
            keeper.remove(reference, "revoked: by mistake")
    keeper.close()
    audit.checkpoint()
    (absent,) = events(site, Event.ENTRY_ABSENT)
    assert (absent["reference"], absent["cause"]) == ("R-99", "revoked: by mistake")


def test_the_end_leaves_a_receipt_the_references_and_no_file(
    keeper: ListLifecycle, site: Site, audit: AuditLog
) -> None:
    import_into(keeper, site, site.build([entry(name) for name in PEOPLE]))
    digest = keeper.open().digest
    receipt = keeper.destroy("end of the deployment")
    assert receipt is not None
    assert (receipt.digest, receipt.references) == (digest, PEOPLE)
    assert list((site.folder / "lists").iterdir()) == []
    with pytest.raises(WatchlistGone):
        keeper.open()
    assert keeper.destroy("again") is None
    found = verify(site.log, site.signers)
    assert found.signed_to == len(found.entries)
    (listing,) = was_listed(found.entries, "R-2")
    assert (listing.deployment, listing.cause) == ("D-1", "end of the deployment")


def test_a_copied_disk_without_the_machine_s_secret_opens_nothing(site: Site, audit: AuditLog) -> None:
    bound = site.keeper(audit, device_secret=b"tpm" * 11)
    import_into(bound, site, site.build([entry("R-1")]))
    bound.close()
    with pytest.raises(KeyUnusable):
        site.keeper(audit).open()
    again = site.keeper(audit, device_secret=b"tpm" * 11)
    assert again.open().references() == ("R-1",)
    again.close()


def test_a_list_that_does_not_open_can_be_destroyed_all_the_same(site: Site, audit: AuditLog) -> None:
    bound = site.keeper(audit, device_secret=b"tpm" * 11)
    import_into(bound, site, site.build([entry("R-1")]))
    bound.close()
    other = site.keeper(audit)
    other.recover()
    receipt = other.destroy("by hand")
    assert receipt is not None
    assert receipt.references == ("R-1",)
    assert list((site.folder / "lists").iterdir()) == []


def test_a_damaged_list_is_destroyed_at_the_next_start(site: Site, audit: AuditLog) -> None:
    first = site.keeper(audit)
    import_into(first, site, site.build([entry(name) for name in PEOPLE]))
    path = first.open().path
    first.close()
    content = bytearray(path.read_bytes())
    for at in range(4096, len(content), 512):
        content[at] ^= 1
    path.write_bytes(content)
    again = site.keeper(audit)
    again.recover()
    with pytest.raises(WatchlistGone):
        again.open()
    audit.checkpoint()
    (destroyed,) = events(site, Event.LIST_DESTROYED)
    assert destroyed["cause"] == "it is damaged"


def test_who_is_to_leave_a_damaged_list_is_not_searched_any_more(site: Site, audit: AuditLog) -> None:
    told: list[str] = []
    keeper = site.keeper(audit)
    keeper.on_removed(told.append)
    import_into(keeper, site, site.build([entry(name) for name in PEOPLE]))
    damage_unnoticed(keeper)
    with pytest.raises(StoreDamaged, match="the watchlist is damaged on the disk"):
        keeper.remove("R-2", "revoked")
    assert told == ["R-2"]
    keeper.close()


def test_a_list_that_was_opened_for_no_embedder_in_particular_is_refused_to_another(
    site: Site, audit: AuditLog
) -> None:
    first = site.keeper(audit)
    import_into(first, site, site.build([entry("R-1")]))
    first.close()
    again = site.keeper(audit)
    again.recover()
    with pytest.raises(ModelRejected, match="built for another embedder"):
        again.open(model="b" * 64)
    again.close()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"AGE-SECRET-KEY-1XX", b"\xff\xff"])
def test_a_broken_age_key_is_one_clear_error(content: bytes) -> None:
    with pytest.raises(KeyUnusable, match=r"van.key: is not a key that opens lists"):
        identity_of(content, "van.key")


def test_a_full_disk_does_not_keep_a_list_alive(
    keeper: ListLifecycle, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    import_into(keeper, site, site.build([entry("R-1")]))
    monkeypatch.setattr(edge.watchlist.destruction, "replace_file", full)
    receipt = keeper.destroy("the authority ended")
    assert receipt is not None
    assert list((site.folder / "lists").iterdir()) == []


def test_a_tampered_log_destroys_the_list_at_the_next_start(site: Site) -> None:
    with site.audit() as log:
        first = site.keeper(log)
        import_into(first, site, site.build([entry(name) for name in PEOPLE]))
        first.remove("R-3", "revoked")
        first.close()
    site.log.write_bytes(site.log.read_bytes().replace(b'"R-1"', b'"R-7"'))
    with site.audit() as log:
        keeper = site.keeper(log)
        with pytest.raises(AuditBroken, match=r"entry 1 .* was altered"):
            keeper.recover()
        with pytest.raises(WatchlistGone):
            keeper.open()
    assert list((site.folder / "lists").iterdir()) == []


def test_a_list_can_be_destroyed_when_not_even_the_log_opens(keeper: ListLifecycle, site: Site) -> None:
    import_into(keeper, site, site.build([entry("R-1")]))
    keeper.close()
    destroy_everything(site.folder / "lists")
    assert list((site.folder / "lists").iterdir()) == []
    destroy_everything(site.folder / "lists")  # and again, without complaint
    destroy_everything(site.folder / "nothing")
