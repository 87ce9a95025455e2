"""The watchlist at rest."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edge.errors import (
    EntryNotFound,
    KeyUnusable,
    ModelRejected,
    RecordInvalid,
    StoreDamaged,
    WatchlistUnreadable,
)
from edge.records import WatchlistEntry
from edge.trust.secret import create_secret
from edge.watchlist.identity import ListMeta
from edge.watchlist.store import WatchlistStore, destroy_files
from tests.sealedpages import decrypted_pages

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
META = ListMeta(deployment="D-1", model="a" * 64, dimension=192, created=NOW)


def entry(reference: str = "R-1", *, rows: int = 1, seed: int = 0, **changes: object) -> WatchlistEntry:
    rng = np.random.default_rng([seed, *reference.encode()])
    vectors = rng.standard_normal((rows, 192)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values: dict[str, object] = {
        "reference": reference,
        "category": "wanted on warrant",
        "lawful_basis": "warrant",
        "image_source": "custody",
        "image_taken": "2024-05-06",
        "custody_image": True,
        "review_by": "2026-06-01",
        "delete_by": "2026-09-01",
        "age_band": "25-34",
        "templates": vectors,
        "reference_jpeg": b"\xff\xd8" + rng.bytes(3000) + b"\xff\xd9",
    }
    return WatchlistEntry(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def key() -> bytes:
    return secrets.token_bytes(32)


@pytest.fixture
def store(tmp_path: Path, key: bytes) -> WatchlistStore:
    return WatchlistStore.create(tmp_path / "list.db", key, META)


def test_what_was_added_is_read_back_after_reopening(store: WatchlistStore, key: bytes) -> None:
    first, second = entry("R-1"), entry("R-2", rows=3, image_taken=None, delete_by=None)
    assert store.add([second, first]) == 2
    store.close()
    with WatchlistStore.open(store.path, key, model=META.model) as again:
        assert again.meta == META
        assert again.references() == ("R-1", "R-2")
        assert list(again.stream()) == [first, second]
        np.testing.assert_array_equal(again.entry("R-2").templates, second.templates)
        assert again.entry("R-1").reference_jpeg == first.reference_jpeg
        matrix = again.matrix()
        assert matrix.references == ("R-2", "R-2", "R-2", "R-1")
        np.testing.assert_array_equal(matrix.vectors, np.vstack([second.templates, first.templates]))
        again.verify()


def test_who_looks_alike_is_read_back_in_its_order(store: WatchlistStore, key: bytes) -> None:
    store.add([entry("R-1", lookalikes=("R-9", "R-2")), entry("R-2")])
    store.close()
    with WatchlistStore.open(store.path, key) as again:
        assert again.entry("R-1").lookalikes == ("R-9", "R-2")
        assert again.entry("R-2").lookalikes == ()
        again.verify()


def test_whoever_leaves_the_list_is_named_by_nobody_on_it_any_more(store: WatchlistStore) -> None:
    store.add(
        [
            entry("R-1", lookalikes=("R-gone-for-good", "R-3")),
            entry("R-gone-for-good", lookalikes=("R-1",)),
            entry("R-3"),
        ]
    )
    whole, before = store.digest, store.content_digest()
    store.remove("R-gone-for-good")
    assert store.entry("R-1").lookalikes == ("R-3",)
    store.verify()
    assert store.digest == whole
    assert store.content_digest() != before
    for file in (store.path, Path(f"{store.path}-wal")):
        assert not file.exists() or b"R-gone-for-good" not in file.read_bytes()


def test_a_list_of_before_there_were_look_alikes_opens_and_keeps_its_identity(
    store: WatchlistStore, key: bytes
) -> None:
    store.add([entry("R-1")])
    identity = store.digest
    with store._sealed.writing() as db:  # as the former software left it
        db.execute("DROP TABLE lookalike")
        db.execute("PRAGMA user_version = 1")
    store.close()
    with WatchlistStore.open(store.path, key) as again:
        assert again.entry("R-1").lookalikes == ()
        assert again.digest == again.content_digest() == identity
        again.verify()


def test_an_entry_that_is_not_there_is_not_found(store: WatchlistStore) -> None:
    with pytest.raises(EntryNotFound, match="R-9: is not on this list"):
        store.entry("R-9")


def test_an_entry_may_leave_while_the_list_is_read_entry_by_entry(store: WatchlistStore) -> None:
    store.add([entry(f"R-{number}") for number in range(10, 60)])
    seen = []
    for read in store.stream():
        seen.append(read.reference)
        store.remove("R-50")
    assert seen == [f"R-{number}" for number in range(10, 60) if number != 50]


def test_the_same_content_has_the_same_identity_whatever_the_order(tmp_path: Path, key: bytes) -> None:
    later = ListMeta(META.deployment, META.model, META.dimension, datetime(2026, 3, 2, tzinfo=UTC))
    one = WatchlistStore.create(tmp_path / "one.db", key, META)
    two = WatchlistStore.create(tmp_path / "two.db", key, later)
    one.add([entry("R-1"), entry("R-2")])
    two.add([entry("R-2")])
    two.add([entry("R-1")])
    assert one.digest == two.digest
    assert one.digest.startswith("sha256:")


@pytest.mark.parametrize(
    "changed",
    [
        entry("R-1", category="missing person"),
        entry("R-1", delete_by=None),
        entry("R-1", seed=1),
        entry("R-1", reference_jpeg=b"other"),
        entry("R-2"),
        entry("R-1", lookalikes=("R-7",)),
    ],
    ids=["category", "delete-by", "template", "picture", "reference", "look-alike"],
)
def test_any_change_of_an_entry_changes_the_identity(tmp_path: Path, key: bytes, changed: WatchlistEntry) -> None:
    one = WatchlistStore.create(tmp_path / "one.db", key, META)
    two = WatchlistStore.create(tmp_path / "two.db", key, META)
    one.add([entry("R-1")])
    two.add([changed])
    assert one.digest != two.digest


def test_removing_an_entry_keeps_the_list_s_identity_and_changes_its_content(store: WatchlistStore) -> None:
    store.add([entry("R-1"), entry("R-2")])
    named = store.digest
    assert store.content_digest() == named
    assert store.remove("R-1")
    assert not store.remove("R-1")
    assert store.references() == ("R-2",)
    assert store.matrix().references == ("R-2",)
    assert store.digest == named
    assert store.content_digest() != named


def test_entries_whose_date_is_over_are_due(store: WatchlistStore) -> None:
    store.add(
        [
            entry("deleted", delete_by="2026-03-01", review_by=None),
            entry("reviewed", delete_by=None, review_by="2026-03-01"),
            entry("open", delete_by=None, review_by=None),
        ]
    )
    assert store.due("2026-03-01") == ()
    assert store.due("2026-03-02") == ("deleted", "reviewed")


def test_adding_is_all_or_nothing(store: WatchlistStore) -> None:
    store.add([entry("R-1")])
    before = store.digest
    with pytest.raises(RecordInvalid, match="R-1: is on the list already"):
        store.add([entry("R-2"), entry("R-1", seed=1)])
    assert store.references() == ("R-1",)
    assert store.digest == before


def test_templates_of_another_length_or_scale_are_refused(store: WatchlistStore) -> None:
    with pytest.raises(RecordInvalid, match="length 128, the list's are 192"):
        store.add([entry(templates=np.eye(1, 128, dtype=np.float32))])
    with pytest.raises(RecordInvalid, match="not of length 1"):
        store.add([entry(templates=np.ones((1, 192), np.float32))])


def test_a_wrong_key_is_refused_and_says_so(store: WatchlistStore) -> None:
    store.close()
    with pytest.raises(KeyUnusable, match="does not open with this key"):
        WatchlistStore.open(store.path, secrets.token_bytes(32))
    with pytest.raises(KeyUnusable, match="has 5 bytes, not 32"):
        WatchlistStore.open(store.path, b"short")


def test_a_list_for_another_embedder_is_refused(store: WatchlistStore, key: bytes) -> None:
    store.close()
    with pytest.raises(ModelRejected, match="built for another embedder"):
        WatchlistStore.open(store.path, key, model="b" * 64)


def test_a_missing_list_is_refused(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(WatchlistUnreadable, match="does not exist"):
        WatchlistStore.open(tmp_path / "nothing.db", key)
    assert not (tmp_path / "nothing.db").exists()


def test_a_list_is_never_made_over_another(store: WatchlistStore, key: bytes) -> None:
    with pytest.raises(WatchlistUnreadable, match="exists already"):
        WatchlistStore.create(store.path, key, META)


def test_a_damaged_file_is_refused_and_not_half_read(store: WatchlistStore, key: bytes) -> None:
    store.add([entry(f"R-{n}") for n in range(40)])
    store.close()
    content = bytearray(store.path.read_bytes())
    for at in range(5 * 4096 + 100, len(content), 4096):  # every page from the sixth on
        content[at] ^= 1
    store.path.write_bytes(content)
    with pytest.raises(StoreDamaged, match="the watchlist is damaged"):
        WatchlistStore.open(store.path, key)


def test_nothing_readable_is_ever_on_disk(store: WatchlistStore, tmp_path: Path) -> None:
    secret = entry("R-0815-secret", category="a-category-to-look-for")
    store.add([secret])
    needles = [b"R-0815-secret", b"a-category-to-look-for", secret.templates.tobytes()[:64], secret.reference_jpeg[:64]]
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert not any(needle in content for needle in needles), file.name
        assert not content.startswith(b"SQLite format 3")


def test_a_removed_entry_is_not_in_the_decrypted_pages(store: WatchlistStore, key: bytes) -> None:
    gone, kept = entry("R-gone-for-good"), entry("R-kept")
    needles = (b"R-gone-for-good", gone.templates.tobytes()[:64], gone.reference_jpeg[:64])
    store.add([gone, kept])
    store.close()
    before = decrypted_pages(store.path, key)
    assert all(needle in before for needle in needles)
    store = WatchlistStore.open(store.path, key)
    store.remove("R-gone-for-good")
    after = decrypted_pages(store.path, key)
    assert kept.templates.tobytes()[:64] in after
    assert not any(needle in after for needle in needles)
    assert store.path.with_name("list.db-wal").stat().st_size == 0


def test_destroying_overwrites_before_it_unlinks(tmp_path: Path) -> None:
    key_file = tmp_path / "list.key"
    key = create_secret(key_file)
    store = WatchlistStore.create(tmp_path / "list.db", key, META)
    store.add([entry("R-1")])
    store.close()
    before = (tmp_path / "list.db").read_bytes()
    for name in ("list.key", "list.db"):
        (tmp_path / f"held-{name}").hardlink_to(tmp_path / name)  # the same blocks under a second name
    assert destroy_files(store.path, key_file) == ("list.key", "list.db")
    after = (tmp_path / "held-list.db").read_bytes()
    assert len(after) == len(before)
    assert not any(after[at : at + 64] == before[at : at + 64] for at in range(0, len(before), 4096))
    assert key.hex().encode() not in (tmp_path / "held-list.key").read_bytes()


def test_a_damaged_list_can_still_be_destroyed(tmp_path: Path) -> None:
    (tmp_path / "list.db").write_bytes(b"damaged")
    (tmp_path / "list.key").write_bytes(b"00")
    assert destroy_files(tmp_path / "list.db", tmp_path / "list.key") == ("list.key", "list.db")
    assert destroy_files(tmp_path / "list.db", tmp_path / "list.key") == ()


def test_a_page_that_is_met_in_the_middle_of_a_write_and_cannot_be_read_is_damage_and_not_a_lack_of_memory(
    store: WatchlistStore, key: bytes
) -> None:
    """SQLCipher hands it out as noise, and the commit behind it fails with SQLITE_NOMEM: Python's MemoryError."""
    store.add([entry(f"R-{number}", reference_jpeg=secrets.token_bytes(9000)) for number in range(6)])
    store.close()
    whole, met = store.path.read_bytes(), 0
    for page in range(1, len(whole) // 4096):
        with WatchlistStore.open(store.path, key) as opened:
            with store.path.open("r+b") as file:
                file.seek(page * 4096 + 100)
                file.write(bytes(200))
            with opened._sealed.reading() as db:
                db.execute("PRAGMA shrink_memory")
            try:
                with opened._sealed.writing() as db:
                    db.execute("DELETE FROM entry WHERE reference = 'R-1'")
                    db.execute("SELECT reference FROM entry WHERE instr(picture, 'x') > 0").fetchall()
            except StoreDamaged:
                met += 1
        store.path.write_bytes(whole)
    assert met


def test_every_picture_of_everybody_counts(store: WatchlistStore) -> None:
    store.add([entry("R-1"), entry("R-2", rows=3)])
    assert (len(store), store.pictures()) == (2, 4)
    store.remove("R-2")
    assert (len(store), store.pictures()) == (1, 1)
