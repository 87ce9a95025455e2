"""Opening a sealed store, and reading what is left of a damaged one: rights, kinds, words, and which rows are tried."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2

from edge.errors import StoreDamaged, StoreUnavailable, WatchlistUnreadable
from edge.trust.salvage import Salvage
from edge.trust.sealed import DamagedReader, SealedStore, StoreKind

KEY = bytes(range(32))
PAGE = 4096
THINGS = StoreKind(
    "a store of things", 0x5448, ("CREATE TABLE thing (number INTEGER PRIMARY KEY AUTOINCREMENT, content BLOB);",)
)


def opened(path: Path, kind: StoreKind = THINGS, *, create: bool = False) -> SealedStore:
    return SealedStore(path, KEY, kind, create=create)


def fill(path: Path, count: int, size: int = 3000) -> None:
    with opened(path, create=True) as store:
        with store.writing() as db:
            db.executemany("INSERT INTO thing (content) VALUES (?)", [(bytes([n % 251]) * size,) for n in range(count)])
        store.fold()


def spoil(path: Path, *pages: int) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE + 200)
            file.write(bytes(300))


def held_open(path: Path) -> list[str]:
    """Files that this process has open, the store and its log among them: those alone."""
    links = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [str(link) for link in links if str(link).startswith(str(path))]


class TestOpening:
    def test_a_new_store_and_the_folders_above_it_are_its_owner_s_alone(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            opened(tmp_path / "a" / "b" / "things.db", create=True).close()
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "a" / "b" / "things.db").stat().st_mode) == 0o600

    def test_a_store_that_exists_is_opened_as_it_is(self, tmp_path: Path) -> None:
        fill(tmp_path / "things.db", 2)
        (tmp_path / "things.db").chmod(0o640)
        with opened(tmp_path / "things.db", create=True) as store:
            assert store.read("SELECT count(*) FROM thing") == [(2,)]
        assert stat.S_IMODE((tmp_path / "things.db").stat().st_mode) == 0o640

    def test_a_path_that_cannot_hold_a_store_is_named_with_the_reason(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreUnavailable, match=r"file/things\.db: (Not a directory|File exists)\."):
            opened(tmp_path / "file" / "things.db", create=True)
        (tmp_path / "folder").mkdir()
        with pytest.raises(StoreUnavailable, match="the file or the disk is read-only, or belongs to another user"):
            opened(tmp_path / "folder")

    def test_a_store_that_is_refused_is_let_go_of(self, tmp_path: Path) -> None:
        path = tmp_path / "things.db"
        fill(path, 3)
        other = StoreKind("a store of others", 0x4F54, THINGS.migrations)
        with pytest.raises(WatchlistUnreadable, match="is not a store of others") as refused:
            opened(path, other)
        assert refused.value
        assert held_open(path) == []

    def test_a_store_is_let_go_of_at_the_end_of_its_block(self, tmp_path: Path) -> None:
        path = tmp_path / "things.db"
        with opened(path, create=True):
            assert str(path) in held_open(path)
        assert held_open(path) == []

    def test_whether_the_disk_takes_something_is_found_out_by_writing_and_changes_nothing(self, tmp_path: Path) -> None:
        """Without a change of the file nothing would be written at all, and nothing found out."""
        log = tmp_path / "things.db-wal"
        fill(tmp_path / "things.db", 2)
        with opened(tmp_path / "things.db") as store:
            store.fold()
            before = store.read("SELECT * FROM thing"), store.read("PRAGMA user_version")
            assert log.stat().st_size == 0
            store.prove()
            assert log.stat().st_size >= PAGE
            assert (store.read("SELECT * FROM thing"), store.read("PRAGMA user_version")) == before
        with pytest.raises(StoreUnavailable, match="is closed"):
            store.prove()

    @pytest.mark.parametrize(("version", "taken"), [(0, True), (1, False)])
    def test_a_file_without_a_mark_is_taken_only_when_nothing_was_ever_made_in_it(
        self, tmp_path: Path, version: int, taken: bool
    ) -> None:
        """A power cut between the key and the first script leaves such a file."""
        path = tmp_path / "things.db"
        raw = dbapi2.connect(str(path), isolation_level=None)
        raw.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")
        raw.execute(f"PRAGMA user_version = {version}")
        raw.execute("CREATE TABLE another (number INTEGER)")
        raw.close()
        if taken:
            with opened(path) as store:
                assert store.read("PRAGMA application_id") == [(THINGS.application_id,)]
                assert store.read("SELECT * FROM thing") == []
        else:
            with pytest.raises(WatchlistUnreadable, match="an encrypted file of another kind"):
                opened(path)

    def test_the_structure_of_the_whole_is_walked_where_the_kind_asks_for_it_and_only_there(
        self, tmp_path: Path
    ) -> None:
        """Every page is what was written, and what was written contradicts itself."""
        path = tmp_path / "things.db"
        fill(path, 40)
        with opened(path) as store, store.writing() as db:
            db.execute("CREATE INDEX by_content ON thing (content)")
        with opened(path) as store:
            with store.reading() as db:
                db.execute("PRAGMA writable_schema = ON")
                db.execute("UPDATE sqlite_master SET rootpage = 2 WHERE name = 'by_content'")
            store.fold()
        with pytest.raises(StoreDamaged, match="a store of things is damaged on the disk"):
            opened(path)
        trusting = StoreKind(THINGS.name, THINGS.application_id, THINGS.migrations, structure=False)
        opened(path, trusting).close()


class TestUse:
    def test_a_transaction_keeps_other_writers_out_from_its_first_moment_and_so_does_the_next(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "things.db"
        with opened(path, create=True) as store:
            other = dbapi2.connect(str(path), isolation_level=None, timeout=0)
            other.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")
            for _ in range(3):
                with store.writing(), store.writing(), pytest.raises(dbapi2.OperationalError, match="locked"):
                    other.execute("BEGIN IMMEDIATE")
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
            other.close()

    def test_a_trouble_that_nobody_foresaw_is_told_in_the_library_s_words_and_an_unnamed_one_by_its_kind(
        self, tmp_path: Path
    ) -> None:
        with opened(tmp_path / "things.db", create=True) as store:
            with pytest.raises(StoreUnavailable, match="no such column: nonsense"):
                store.read("SELECT nonsense FROM thing")
            with pytest.raises(StoreUnavailable, match=r"things\.db: OperationalError\."), store.reading():
                raise dbapi2.OperationalError


class TestWhatIsLeft:
    def test_a_sound_store_is_read_and_not_touched(self, tmp_path: Path) -> None:
        path = tmp_path / "things.db"
        fill(path, 30)
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with DamagedReader(path, KEY) as reader:
            assert reader.read("SELECT count(*) FROM thing WHERE number > ?", (10,)) == [(20,)]
            assert reader.read("SELECT number FROM thing WHERE number < 3") == [(1,), (2,)]
            assert reader.read("DELETE FROM thing") is None, "it is open for reading only"
            assert held_open(path) == [], "after a failure it starts anew"
            assert reader.read("SELECT count(*) FROM thing") == [(30,)]
        assert held_open(path) == []
        reader.close()
        assert path.read_bytes() == before["things.db"]

    def test_another_key_reads_nothing(self, tmp_path: Path) -> None:
        fill(tmp_path / "things.db", 3)
        with DamagedReader(tmp_path / "things.db", bytes(32)) as reader:
            assert reader.read("SELECT count(*) FROM thing") is None

    def test_rows_on_damaged_pages_are_missing_and_all_others_are_there(self, tmp_path: Path) -> None:
        path = tmp_path / "things.db"
        fill(path, 300)
        spoil(path, 40, 41, 170)
        with Salvage(path, KEY) as salvage:
            found = dict(salvage.rows("thing", "number, content"))
            assert salvage.damaged == {"thing"}
        assert all(content == bytes([(number - 1) % 251]) * 3000 for number, content in found.items())
        assert 290 <= len(found) <= 298

    def test_a_value_that_ends_on_a_damaged_page_is_not_taken_for_what_was_written(self, tmp_path: Path) -> None:
        path = tmp_path / "things.db"
        fill(path, 1, size=3 * PAGE)
        spoil(path, path.stat().st_size // PAGE - 1)
        with DamagedReader(path, KEY) as reader:
            assert reader.read("SELECT content FROM thing") is None


class Asked(Salvage):
    """Counts what is asked of a table of ``last`` rows, some of which cannot be read."""

    columns: list[str] | None = ["number"]  # noqa: RUF012

    def __init__(self, last: int | None, bad: Sequence[int] = (), seq: int | None = None) -> None:
        super().__init__(Path("/nowhere"), KEY)
        self.asked_for: set[str] = set()
        self.last, self.bad, self.seq = last, bad, seq
        self.ranges: list[tuple[int, int]] = []

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any] | None:
        if query.startswith("SELECT max"):
            return None if self.last is None else [(self.last or None,)]
        if "sqlite_sequence" in query:
            return [] if self.seq is None else [(self.seq,)]
        if "pragma_table_info" in query:
            return None if self.columns is None else [(name,) for name in self.columns]
        self.asked_for.add(query.removeprefix("SELECT ").partition(" FROM ")[0])
        low, high = values
        self.ranges.append((low, high))
        return None if any(low <= each <= high for each in self.bad) else [(n,) for n in range(low, high + 1)]


class TestWhichRowsAreTried:
    def test_sixty_four_at_a_time_to_the_last(self) -> None:
        asked = Asked(130)
        assert [row[0] for row in asked.rows("thing", "number")] == list(range(1, 131))
        assert asked.ranges == [(1, 64), (65, 128), (129, 130)]
        assert asked.damaged == set()

    def test_columns_that_an_earlier_version_did_not_have_are_read_as_nothing(self) -> None:
        asked = Asked(3)
        list(asked.rows("thing", "number, later"))
        assert asked.asked_for == {"number, NULL"}

    def test_of_a_table_that_an_earlier_version_did_not_have_there_are_no_rows_and_no_damage(self) -> None:
        asked = Asked(3)
        asked.columns = []
        assert list(asked.rows("thing", "number")) == []
        assert (asked.ranges, asked.damaged) == ([], set())

    def test_where_the_columns_cannot_be_read_all_are_asked_for(self) -> None:
        asked = Asked(3)
        asked.columns = None
        list(asked.rows("thing", "number, later"))
        assert asked.asked_for == {"number, later"}

    def test_of_an_empty_table_none(self) -> None:
        asked = Asked(0)
        assert list(asked.rows("thing", "number")) == []
        assert asked.ranges == []

    def test_a_range_that_cannot_be_read_is_halved_after_the_wider_ones(self) -> None:
        asked = Asked(68, bad=[3])
        assert sorted(row[0] for row in asked.rows("thing", "number")) == [1, 2, *range(4, 69)]
        assert asked.ranges == [
            (1, 64), (65, 68), (1, 32), (33, 64), (1, 16), (17, 32), (1, 8), (9, 16), (1, 4), (5, 8), (1, 2), (3, 4),
            (3, 3), (4, 4),
        ]  # fmt: skip
        assert asked.damaged == {"thing"}

    def test_two_thousand_ranges_may_fail_and_no_more(self) -> None:
        asked = Asked(100_000, bad=range(1, 100_001))
        assert list(asked.rows("thing", "number")) == []
        assert len(asked.ranges) == 2000

    def test_where_the_table_cannot_say_its_length_what_was_counted_does(self) -> None:
        asked = Asked(None, seq=70)
        assert len(list(asked.rows("thing", "number"))) == 70
        assert asked.damaged == {"thing"}

    def test_where_nothing_says_its_length_many_are_tried(self) -> None:
        asked = Asked(None)
        assert sum(1 for _ in asked.rows("thing", "number")) == 262_144
