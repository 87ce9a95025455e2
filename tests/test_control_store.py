"""The control room's store: an alert and its case together, nothing twice, nothing kept too long, damage survived."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from edge.alert.receipt import message_digest
from edge.controlroom import recovery
from edge.controlroom.cases import State
from edge.controlroom.numbering import Verdict
from edge.controlroom.recovery import erase_kept, erase_unused, former_casebook, former_inbox, open_store
from edge.controlroom.schema import KIND
from edge.controlroom.shared import SharedStore
from edge.controlroom.store import AlertStore
from edge.errors import StoreDamaged, StoreUnavailable
from edge.records import AlertRef
from edge.trust.sealed import companions, damaged_files
from tests.broker import JPEG, make_alert
from tests.postgres import Postgres
from tests.sealedpages import PAGE, decrypted_pages
from tests.sim.clock import HandClock

KEY = bytes(range(32))
NOW = datetime(2026, 11, 20, 13, tzinfo=UTC)
DAY = timedelta(hours=24)
DIGEST = message_digest(b"the message")
FORMER = Path(__file__).parent / "stores" / "control-room-0.1"


class Clock:
    def now(self) -> datetime:
        return NOW

    def monotonic_ns(self) -> int:
        return 0


@pytest.fixture(params=["file", "postgresql"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[AlertStore]:
    shared = None
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        shared = SharedStore(server.database(), KEY, KIND, "north", clock=Clock())
    with AlertStore(tmp_path / "store.db", KEY, clock=Clock(), shared=shared) as made:
        yield made


class TestAlerts:
    def test_an_alert_is_new_once_and_has_its_case_at_once(self, store: AlertStore) -> None:
        alert = make_alert()
        assert store.accept(alert, DIGEST, NOW).verdict is Verdict.NEW
        case = store.case(alert.ref)
        assert case is not None
        assert (case.state, case.received_at) == (State.NEW, NOW)
        assert store.accept(alert, DIGEST, NOW).verdict is Verdict.DUPLICATE

    def test_an_alert_without_its_case_is_not_stored_either(self, tmp_path: Path) -> None:
        with AlertStore(tmp_path / "store.db", KEY, clock=Clock()) as store:
            alert = make_alert()
            with store.writing() as db:
                db.execute("CREATE TRIGGER no_case BEFORE INSERT ON cases BEGIN SELECT RAISE(FAIL, 'no'); END")
            with pytest.raises(Exception, match="IntegrityError"):
                store.accept(alert, DIGEST, NOW)
            assert store.alerts() == []
            with store.writing() as db:
                db.execute("DROP TRIGGER no_case")
            assert store.accept(alert, DIGEST, NOW).verdict is Verdict.NEW

    def test_what_was_accepted_survives_a_restart_with_its_pictures(self, tmp_path: Path) -> None:
        alert = make_alert()
        with AlertStore(tmp_path / "i.db", KEY, opens_cases=False, clock=Clock()) as first:
            first.accept(alert, DIGEST, NOW)
        with AlertStore(tmp_path / "i.db", KEY, opens_cases=False, clock=Clock()) as second:
            (left,) = second.unshown()
            assert left.alert == alert
            assert left.alert.probe_jpeg == alert.probe_jpeg
            second.forget_shown(alert.ref)
            assert second.unshown() == []
            assert second.alerts() == [], "who only shows it keeps nothing of it"
            assert second.cases() == []
            assert second.accept(alert, DIGEST, NOW).verdict is Verdict.DUPLICATE

    def test_gaps_are_listed_per_van_until_they_close(self, store: AlertStore) -> None:
        for van, number in (("van-1", 5), ("van-1", 8), ("van-2", 1), ("van-1", 7)):
            store.accept(make_alert(number, van), DIGEST, NOW)
        assert store.missing("van-1") == [6]
        assert store.missing("van-2") == []

    def test_a_van_that_counts_from_1_again_is_noticed_and_followed(self, store: AlertStore) -> None:
        store.accept(make_alert(40), DIGEST, NOW)
        assert store.accept(make_alert(1), DIGEST, NOW).verdict is Verdict.RESTARTED
        assert store.accept(make_alert(2), DIGEST, NOW).verdict is Verdict.NEW

    def test_a_huge_jump_of_numbers_does_not_fill_the_disk(self, store: AlertStore) -> None:
        store.accept(make_alert(1), DIGEST, NOW)
        assert store.accept(make_alert(2**53 - 1), DIGEST, NOW).missing == (2, 2**53 - 2)
        assert 0 < len(store.missing("van-1")) <= 1000

    def test_two_vans_may_use_one_identifier_and_each_has_its_alert_and_its_case(self, store: AlertStore) -> None:
        first, second = make_alert(), make_alert(van="van-2", reference="S-0077")
        second = replace(second, alert_id=first.alert_id)
        assert store.accept(second, message_digest(b"van-2"), NOW).verdict is Verdict.NEW
        assert store.accept(first, DIGEST, NOW).verdict is Verdict.NEW
        assert [stored.alert for stored in store.alerts()] == [second, first]
        for alert in (first, second):
            found, case = store.alert(alert.ref), store.case(alert.ref)
            assert found is not None
            assert case is not None
            assert (found.alert.reference, case.van) == (alert.reference, alert.van)

    def test_another_alert_under_an_identifier_of_the_same_van_contradicts_it(self, store: AlertStore) -> None:
        alert = make_alert()
        store.accept(alert, DIGEST, NOW)
        assert store.accept(alert, message_digest(b"another"), NOW).verdict is Verdict.CONTRADICTION
        assert store.accept(alert, DIGEST, NOW).verdict is Verdict.DUPLICATE

    def test_an_alert_is_kept_no_longer_than_its_van_said(self, store: AlertStore) -> None:
        soon, late = make_alert(erase_at=NOW + timedelta(hours=2)), make_alert(2, erase_at=NOW + timedelta(days=30))
        for alert in (soon, late):
            store.accept(alert, DIGEST, NOW)
        assert store.erase_due(NOW + timedelta(hours=1, minutes=59)) == []
        assert store.erase_due(NOW + timedelta(hours=2)) == [soon.ref]
        assert store.erase_due(NOW + DAY) == [late.ref], "and no longer than the control room keeps any"

    def test_what_must_be_erased_is_not_read_although_nothing_has_erased_it(self, tmp_path: Path) -> None:
        clock = HandClock(NOW)
        with AlertStore(tmp_path / "store.db", KEY, clock=clock, opens_cases=False) as store:
            alert = make_alert(erase_at=NOW + timedelta(hours=2))
            store.accept(alert, DIGEST, NOW)
            clock.advance(7199)
            assert store.alert(alert.ref) is not None
            clock.advance(1)
            assert (store.alert(alert.ref), store.alerts(), store.unshown()) == (None, [], [])

    def test_pictures_go_after_their_retention_and_the_identifier_and_the_case_stay(self, store: AlertStore) -> None:
        alert = make_alert(expires_at=NOW + timedelta(hours=4))
        store.accept(alert, DIGEST, NOW)
        assert store.erase_due(NOW + timedelta(hours=23)) == []
        assert store.erase_due(NOW + DAY) == [alert.ref]
        assert store.alert(alert.ref) is None
        assert store.case(alert.ref) is not None
        assert store.accept(alert, DIGEST, NOW + DAY).verdict is Verdict.DUPLICATE


class TestStoresOfWatches:
    def test_one_that_no_watch_has_used_for_as_long_as_alerts_are_kept_is_erased_whole(self, tmp_path: Path) -> None:
        used, unused = tmp_path / "a.watch.db", tmp_path / "b.watch.db"
        room, aside = tmp_path / "control-room.db", tmp_path / "a.watch.db.damaged-20261101T000000Z"
        for path in (used, unused, room, aside):
            with AlertStore(path, KEY, opens_cases=False, clock=Clock()) as store:
                store.accept(make_alert(), DIGEST, NOW)
        for path, age in ((used, 23), (unused, 24), (room, 99), (aside, 99)):
            os.utime(path, ((NOW - timedelta(hours=age)).timestamp(),) * 2)
        assert erase_unused(tmp_path, NOW, DAY) == [aside.name, unused.name]
        assert sorted(path.name for path in tmp_path.iterdir()) == [used.name, room.name]
        assert erase_unused(tmp_path, NOW, DAY) == []


def take_over(folder: Path) -> AlertStore:
    former = (former_inbox(folder / "console.db"), former_casebook(folder / "casebook.db"))
    return open_store(folder / "control-room.db", KEY, former=former, clock=Clock())


def check_taken_over(folder: Path, store: AlertStore) -> None:
    assert [stored.alert.sequence for stored in store.alerts()] == [1, 2, 4, 5]
    assert all(stored.alert.probe_jpeg == JPEG + b"probe" for stored in store.alerts())
    assert [(case.sequence, str(case.state)) for case in store.cases()] == [
        (1, "engage"), (2, "new"), (4, "new"), (5, "new"),
    ]  # fmt: skip
    decided = store.case(AlertRef("van-1", UUID(int=1)))
    assert decided is not None
    assert (decided.decided_by, decided.reason) == ("op-1", "same person")
    assert [payload for _, _, payload in store.to_vans.outgoing()] == [b"signed seen", b"signed engage"]
    assert [*store.officers.everybody()] == ["eo-1", "op-1"]
    assert store.officers.authenticate("op-1", "correct horse battery")[0].number == "op-1"
    assert store.missing("van-1") == [3]
    assert store.accept(make_alert(5, alert_id=UUID(int=5)), DIGEST, NOW).verdict is Verdict.DUPLICATE
    assert sorted(file.name for file in folder.glob("*.db*") if "-" not in file.suffix) == ["control-room.db"]


class TestTakingOver:
    """Stores that version 0.1 wrote: see the README beside them."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(FORMER, tmp_path / "state", ignore=shutil.ignore_patterns("*watch*", "*.md")))

    def test_alerts_and_cases_of_the_former_stores_become_one_and_what_was_never_shown_gets_its_case(
        self, folder: Path
    ) -> None:
        with take_over(folder) as store:
            assert store.damages() == []
            check_taken_over(folder, store)
        with take_over(folder) as store:
            check_taken_over(folder, store)

    def test_what_is_interrupted_before_it_is_complete_leaves_the_former_stores_as_they_were(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dies(*_: object) -> bool:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(AlertStore, "add_case", dies)
            with pytest.raises(KeyboardInterrupt):
                take_over(folder)
        assert (folder / "console.db").exists()
        assert (folder / "casebook.db").exists()
        with AlertStore(folder / "control-room.db", KEY) as store:
            assert store.alerts() == []
        with take_over(folder) as store:
            check_taken_over(folder, store)

    def test_what_is_interrupted_before_the_former_stores_are_gone_takes_nothing_over_twice(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuses(path: Path) -> None:
            raise StoreUnavailable(str(path), "cannot be removed", "Check the disk")

        with monkeypatch.context() as patch:
            patch.setattr(recovery, "_destroy", refuses)
            with pytest.raises(StoreUnavailable):
                take_over(folder)
        with take_over(folder) as store:
            check_taken_over(folder, store)

    def test_a_damaged_former_store_is_kept_aside_and_the_rest_of_it_taken_over(self, folder: Path) -> None:
        damage(folder / "casebook.db", page_of(folder / "casebook.db", b"argon2id"))
        with take_over(folder) as store:
            assert len(store.cases()) == 4
            (found,) = store.damages()
            assert found.store == "casebook.db"
            assert "officers may be missing" in found.lost
            assert not (folder / "console.db").exists()
            assert erase_kept(store, NOW + DAY, DAY) == [found]
        assert sorted(file.name for file in folder.glob("*.db*")) == ["control-room.db"]

    def test_a_watch_goes_on_with_its_own_store_and_opens_no_cases(self, tmp_path: Path) -> None:
        shutil.copy2(FORMER / "control-room-watch.db", tmp_path)
        former = [former_inbox(tmp_path / "control-room-watch.db")]
        with open_store(tmp_path / "new.db", KEY, opens_cases=False, former=former, clock=Clock()) as store:
            assert [stored.alert.sequence for stored in store.alerts()] == [1, 2]
            assert [stored.alert.sequence for stored in store.unshown()] == [2]
            assert store.cases() == []
        assert not (tmp_path / "control-room-watch.db").exists()


def page_of(path: Path, *content: bytes, key: bytes = KEY) -> int:
    """The number of a page that holds one of ``content``, counting from 0."""
    pages = decrypted_pages(path, key)
    size = PAGE - 80
    for number in range(1, len(pages) // size):
        page = pages[number * size - 16 : (number + 1) * size - 16]
        if any(words in page for words in content):
            return number
    raise AssertionError(f"{path} holds none of {content}")


def damage(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE + 1000)
        file.write(bytes(200))


class TestDamage:
    """200 zeroed bytes in the middle of a real store."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A store of twelve alerts, each with pictures that fill pages of their own."""
        path = tmp_path / "control-room.db"
        with AlertStore(path, KEY, clock=Clock()) as store:
            for number in range(1, 13):
                alert = make_alert(number, alert_id=UUID(int=number), reference_jpeg=JPEG + b"%04d" % number * 3000)
                store.accept(alert, DIGEST, NOW)
        return path

    def test_what_can_be_read_is_carried_over_and_what_cannot_is_said(self, path: Path) -> None:
        damage(path, page_of(path, b"0007" * 100))
        with pytest.raises(StoreDamaged):
            AlertStore(path, KEY)
        with open_store(path, KEY, clock=Clock()) as store:
            (found,) = store.unaudited_damages()
            assert found.lost == "the pictures of alert no. 7 of van-1"
            assert found.carried == 12 + 11 + 1 + 12, "known, alerts, the van, cases"
            assert [stored.alert.sequence for stored in store.alerts()] == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12]
            assert len(store.cases()) == 12
            assert damaged_files(path)[0].name == found.kept
            store.mark_audited(found)
        with open_store(path, KEY, clock=Clock()) as store:
            assert store.damages() == [found]
            assert store.unaudited_damages() == []

    def test_an_alert_that_is_lost_altogether_is_named_and_taken_in_when_it_comes_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with AlertStore(path, KEY) as store, store.writing() as db:
            db.execute("DELETE FROM cases WHERE alert_id = ?", (str(AlertRef("van-1", UUID(int=7))),))
        damage(path, page_of(path, b"0007" * 100))
        with open_store(path, KEY, clock=Clock()) as store:
            (found,) = store.damages()
            assert found.lost == "alert no. 7 of van-1"
            assert store.missing("van-1") == [7]
            assert store.accept(make_alert(7, alert_id=UUID(int=7)), DIGEST, NOW).verdict is Verdict.LATE

    def test_a_repair_that_is_interrupted_is_begun_anew(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        damage(path, page_of(path, b"0007" * 100))

        def dies(*_: object, **__: object) -> list[str]:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(recovery, "_complete", dies)
            with pytest.raises(KeyboardInterrupt):
                open_store(path, KEY, clock=Clock())
        assert not path.exists()
        with pytest.raises(StoreDamaged, match="is kept as"):
            open_store(path, KEY, repair=False, clock=Clock())
        with open_store(path, KEY, clock=Clock()) as store:
            assert len(store.alerts()) == 11
            assert [found.lost for found in store.damages()] == ["the pictures of alert no. 7 of van-1"]

    def test_only_the_control_room_itself_repairs_its_store(self, path: Path) -> None:
        damage(path, page_of(path, b"0007" * 100))
        before = path.read_bytes()
        with pytest.raises(StoreDamaged):
            open_store(path, KEY, repair=False, clock=Clock())
        assert path.read_bytes() == before

    def test_a_file_that_was_kept_aside_goes_when_everything_in_it_is_due(self, path: Path) -> None:
        damage(path, page_of(path, b"0007" * 100))
        with open_store(path, KEY, clock=Clock()) as store:
            (found,) = store.damages()
            kept = path.with_name(found.kept)
            assert erase_kept(store, NOW + DAY - timedelta(seconds=1), DAY) == []
            assert kept.exists()
            assert erase_kept(store, NOW + DAY, DAY) == [found]
            assert not any(file.exists() for file in companions(kept))
            assert store.damages() == []
