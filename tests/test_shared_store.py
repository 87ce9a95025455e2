"""Several control rooms and one store in PostgreSQL: one queue, one decision, nothing to read for whoever keeps it."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from edge.alert.receipt import message_digest
from edge.controlroom import cases
from edge.controlroom.cases import Case, NotYours, State
from edge.controlroom.config import StoreSection, parse
from edge.controlroom.numbering import Verdict
from edge.controlroom.officers import SignInRefused
from edge.controlroom.recovery import open_room_store
from edge.controlroom.schema import KIND
from edge.controlroom.shared import SharedStore, connection_of
from edge.controlroom.store import AlertStore
from edge.errors import ConfigInvalid, EdgeError, KeyUnusable, StoreUnavailable, WatchlistUnreadable
from edge.officers import Officer, Role
from edge.records import AlertRef
from edge.trust.sealed import StoreConflict
from edge.trust.sealing import Sealer, Unsealed
from tests.broker import make_alert
from tests.postgres import Postgres, binary
from tests.sim.clock import HandClock

ROOT = Path(__file__).parents[1]
KEY = bytes(range(32))
NOW = datetime(2026, 11, 20, 13, tzinfo=UTC)
DIGEST = message_digest(b"the message")
SOON = NOW.date() + timedelta(days=400)
OPERATOR, OTHER = Officer("op-1", Role.OPERATOR, SOON), Officer("op-2", Role.OPERATOR, SOON)
PASSWORD = "correct horse battery"
PICTURE = bytes.fromhex("ffd8ffe0") + b"a picture that nobody else may see" * 40


class Rooms:
    """Two control rooms on one data base."""

    def __init__(self, server: Postgres, folder: Path, parts: ExitStack) -> None:
        self.server = server
        self.url = server.database()
        self.clock = HandClock(NOW)
        self._folder = folder
        self._parts = parts
        self.north, self.south = self.open("north"), self.open("south")

    def open(self, name: str, key: bytes = KEY) -> AlertStore:
        shared = self._parts.enter_context(SharedStore(self.url, key, KIND, name))
        return AlertStore(self._folder / f"{name}.db", key, clock=self.clock, shared=shared)

    def keeper(self, statement: str, *values: object) -> list[Any]:
        """What whoever keeps the data base does in it."""
        with psycopg.connect(self.url, autocommit=True) as db:
            done = db.execute(statement, values)  # type: ignore[call-overload]
            return done.fetchall() if done.description else []


@pytest.fixture
def rooms(postgres: Postgres, tmp_path: Path) -> Iterator[Rooms]:
    with ExitStack() as parts:
        yield Rooms(postgres, tmp_path, parts)


def seen(case: Case) -> Case:
    return cases.see(case, OPERATOR, NOW)


def decided_by(officer: Officer, *, engage: bool, was: str = "none") -> Any:
    def rule(case: Case) -> Case:
        cases.require_unchanged(case, was)
        return cases.decide(
            case, officer, engage=engage, reason="same person", looked=timedelta(9), minimum=timedelta(0), now=NOW
        )

    return rule


def nothing(_: Case) -> None:
    return None


class TestOneQueue:
    def test_what_one_room_takes_in_the_other_has_with_its_pictures_and_its_case(self, rooms: Rooms) -> None:
        alert = make_alert(probe_jpeg=PICTURE)
        assert rooms.north.accept(alert, DIGEST, NOW).verdict is Verdict.NEW
        found = rooms.south.alert(alert.ref)
        assert found is not None
        assert found.alert == alert
        assert [line.case.ref for line in rooms.south.summaries.lines()] == [alert.ref]

    def test_what_comes_to_both_rooms_is_stored_once_and_each_knows_whose_receipt_it_is(self, rooms: Rooms) -> None:
        alert = make_alert()
        assert not rooms.north.accept(alert, DIGEST, NOW).elsewhere
        twin = rooms.south.accept(alert, DIGEST, NOW)
        assert (twin.verdict, twin.elsewhere) == (Verdict.DUPLICATE, "north")
        again = rooms.north.accept(alert, DIGEST, NOW)
        assert (again.verdict, again.elsewhere) == (Verdict.DUPLICATE, "")
        assert len(rooms.south.came()) == 1

    def test_two_rooms_that_take_in_the_same_hundred_at_once_store_each_once(self, rooms: Rooms) -> None:
        alerts = [make_alert(number) for number in range(1, 101)]
        verdicts: dict[str, list[Verdict]] = {"north": [], "south": []}
        begin = threading.Barrier(2)

        def take(name: str, store: AlertStore) -> None:
            begin.wait(30)
            verdicts[name] = [store.accept(alert, DIGEST, NOW).verdict for alert in alerts]

        threads = [threading.Thread(target=take, args=each) for each in vars(rooms).items() if each[0] in verdicts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for pair in zip(*verdicts.values(), strict=True):
            assert sorted(pair) == [Verdict.DUPLICATE, Verdict.NEW]
        assert [number for _, number in rooms.north.came()] == list(range(1, 101))
        assert rooms.north.missing("van-1") == []

    def test_a_room_hears_within_a_moment_that_another_has_stored_something(self, rooms: Rooms) -> None:
        assert rooms.south.shared is not None
        ear = rooms.south.shared.ear()
        assert ear.wait(10), "what came before it listened is not known"
        rooms.south.seats.take("op-1", "::1", NOW)
        rooms.north.accept(make_alert(), DIGEST, NOW)
        assert ear.wait(30)
        assert not ear.wait(0.01), "its own are no news"
        ear.close()

    def test_a_room_knows_whether_another_is_there(self, rooms: Rooms) -> None:
        rooms.north.cases()
        assert rooms.south.alive("north")
        assert rooms.north.shared is not None
        rooms.north.shared.close()
        deadline = time.monotonic() + 30
        while rooms.south.alive("north"):
            assert time.monotonic() < deadline
        assert rooms.south.alive("south")
        assert not rooms.south.alive("west")

    def test_only_one_room_at_a_time_sends_to_the_vans(self, rooms: Rooms) -> None:
        with rooms.north.to_vans.sending() as first, rooms.south.to_vans.sending() as second:
            assert (first, second) == (True, False)
        with rooms.south.to_vans.sending() as second:
            assert second

    def test_a_room_that_starts_signs_nobody_out_elsewhere(self, rooms: Rooms) -> None:
        north, south = rooms.north.seats.take("op-1", "::1", NOW), rooms.south.seats.take("op-2", "::1", NOW)
        rooms.south.seats.clear()
        assert rooms.north.seats.taken() == {north}
        assert south not in rooms.south.seats.taken()

    def test_retention_in_one_room_erases_in_all_and_is_counted_once(self, rooms: Rooms) -> None:
        alert = make_alert()
        rooms.north.accept(alert, DIGEST, NOW)
        rooms.clock.advance(25 * 3600)
        assert rooms.south.alert(alert.ref) is None, "nobody reads it, erased or not"
        assert rooms.south.erase_due(rooms.clock.now()) == [alert.ref]
        assert rooms.north.erase_due(rooms.clock.now()) == []
        assert rooms.keeper("SELECT count(*) FROM alerts") == rooms.keeper("SELECT count(*) FROM summaries") == [(0,)]
        assert rooms.north.case(alert.ref) is not None


def _decides(url: str, ref: AlertRef, name: str, begin: Any, answers: Any) -> None:
    with SharedStore(url, KEY, KIND, name) as shared:
        store = AlertStore(Path(f"{name}.db"), KEY, shared=shared, clock=HandClock(NOW))
        begin.wait(60)
        try:
            store.change(ref, decided_by(Officer(name, Role.OPERATOR, SOON), engage=name == "north"), nothing)
            answers.put((name, ""))
        except EdgeError as error:
            answers.put((name, str(error)))


class TestOneDecision:
    def test_of_two_rooms_that_decide_at_once_one_does_and_the_other_is_told_by_whom(self, rooms: Rooms) -> None:
        spawn = multiprocessing.get_context("spawn")
        alert = make_alert()
        rooms.north.accept(alert, DIGEST, NOW)
        rooms.north.change(alert.ref, seen, nothing)
        begin, answers = spawn.Barrier(2), spawn.Queue()
        both = [spawn.Process(target=_decides, args=(rooms.url, alert.ref, name, begin, answers))
                for name in ("north", "south")]  # fmt: skip
        for process in both:
            process.start()
        found = dict(answers.get(timeout=90) for _ in both)
        for process in both:
            process.join(30)
        (winner,) = (name for name, error in found.items() if not error)
        (refusal,) = filter(None, found.values())
        assert f"was decided meanwhile by {winner}" in refusal
        case = rooms.south.case(alert.ref)
        assert case is not None
        assert (case.decided_by, case.state is State.ENGAGE) == (winner, winner == "north")

    def test_a_decision_waits_for_the_one_that_is_being_stored(self, rooms: Rooms) -> None:
        alert = make_alert()
        rooms.north.accept(alert, DIGEST, NOW)
        rooms.north.change(alert.ref, seen, nothing)
        refused: list[EdgeError] = []

        def second() -> None:
            try:
                rooms.south.change(alert.ref, decided_by(OTHER, engage=False), nothing)
            except EdgeError as error:
                refused.append(error)

        thread = threading.Thread(target=second)
        with rooms.north.writing():
            rooms.north.change(alert.ref, decided_by(OPERATOR, engage=True), nothing)
            thread.start()
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while rooms.keeper(waiting) == [(0,)]:
                assert thread.is_alive(), "the second did not wait"
        thread.join(30)
        assert isinstance(refused[0], NotYours)

    def test_a_room_that_dies_in_the_middle_of_a_decision_leaves_nothing_of_it(self, rooms: Rooms) -> None:
        alert = make_alert()
        rooms.north.accept(alert, DIGEST, NOW)
        rooms.north.change(alert.ref, seen, nothing)

        def half(_: Case) -> tuple[str, bytes]:
            rooms.keeper("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'UPDATE cases%%'")
            return "topic", b"said"

        with pytest.raises(StoreUnavailable):
            rooms.north.change(alert.ref, decided_by(OPERATOR, engage=True), half)
        case = rooms.south.case(alert.ref)
        assert case is not None
        assert case.state is State.SEEN
        assert rooms.south.to_vans.outgoing() == []
        rooms.north.change(alert.ref, decided_by(OPERATOR, engage=True), lambda _: ("topic", b"said"))
        assert [payload for _, _, payload in rooms.south.to_vans.outgoing()] == [b"said"]


class TestAway:
    def test_while_the_server_is_away_it_says_so_and_afterwards_it_goes_on_by_itself(self, tmp_path: Path) -> None:
        server = Postgres()
        try:
            clock = HandClock(NOW)
            with SharedStore(server.database(), KEY, KIND, "north", clock=clock) as shared:
                store = AlertStore(tmp_path / "n.db", KEY, shared=shared, clock=clock)
                alert, second = make_alert(), make_alert(2)
                store.accept(alert, DIGEST, NOW)
                server.stop("immediate")
                for refused in (store.cases, lambda: store.accept(second, DIGEST, NOW)):
                    with pytest.raises(StoreUnavailable, match="does not answer"):
                        refused()
                server.start()
                clock.advance(2)
                assert store.accept(second, DIGEST, NOW).verdict is Verdict.NEW
                assert [case.ref for case in store.cases()] == [alert.ref, second.ref]
        finally:
            server.remove()

    def test_a_broken_connection_is_made_anew_without_anybody_noticing(self, rooms: Rooms) -> None:
        rooms.north.accept(make_alert(), DIGEST, NOW)
        rooms.keeper("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lfr-control' "
                     "OR query LIKE '%%known%%' AND pid != pg_backend_pid()")  # fmt: skip
        assert len(rooms.north.cases()) == 1


class TestWhoKeepsTheDataBase:
    def test_reads_no_picture_reference_password_or_reason(self, rooms: Rooms) -> None:
        alert = make_alert(probe_jpeg=PICTURE, reference="S-00420042")
        rooms.north.accept(alert, DIGEST, NOW)
        rooms.north.officers.enrol(OPERATOR, PASSWORD)
        rooms.north.change(alert.ref, seen, lambda _: ("topic", PICTURE))
        rooms.north.change(alert.ref, decided_by(OPERATOR, engage=True), nothing)
        tables = [row[0] for row in rooms.keeper("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        assert {"alerts", "cases", "officers", "outgoing", "secrets", "summaries"} <= set(tables)
        for table in tables:
            for row in rooms.keeper(f"SELECT * FROM {table}"):  # type: ignore[arg-type]
                for value in row:
                    content = value if isinstance(value, bytes) else str(value).encode()
                    for secret in (PICTURE[:16], b"S-00420042", b"argon2id", b"same person"):
                        assert secret not in content, (table, secret)

    def test_finds_no_picture_in_its_files_and_its_write_ahead_log(self, rooms: Rooms) -> None:
        alert = make_alert(probe_jpeg=PICTURE)
        rooms.north.accept(alert, DIGEST, NOW)
        rooms.clock.advance(25 * 3600)
        assert rooms.north.erase_due(rooms.clock.now()) == [alert.ref]
        rooms.keeper("CHECKPOINT")
        files = [path for path in (rooms.server.folder / "data").rglob("*") if path.is_file()]
        names = [path for path in files if str(alert.alert_id).encode() in path.read_bytes()]
        assert any("pg_wal" in path.parts for path in names), "it was looked in the right files"
        assert not [path for path in files if PICTURE[:24] in path.read_bytes()]

    def test_has_no_picture_in_a_backup_made_by_the_documented_command(self, rooms: Rooms) -> None:
        alert = make_alert(probe_jpeg=PICTURE)
        rooms.north.accept(alert, DIGEST, NOW)
        ((sealed,),) = rooms.keeper("SELECT body FROM alerts")
        text = (ROOT / "docs" / "control-room.md").read_text()
        (documented,) = re.findall(r"`(pg_dump [^`]*) URL`", text)
        for command, held in ((documented.split(), False), (["pg_dump"], True)):
            program = binary(command[0])
            done = subprocess.run([program, *command[1:], rooms.url], capture_output=True, text=True, check=True)
            assert str(alert.ref) in done.stdout, "cases are in it"
            assert (sealed.hex() in done.stdout) is held

    def test_puts_no_value_where_another_was(self, rooms: Rooms) -> None:
        first, second = make_alert(), make_alert(2)
        for alert in (first, second):
            rooms.north.accept(alert, DIGEST, NOW)
        rooms.keeper("UPDATE cases SET body = (SELECT body FROM cases WHERE alert_id = %s) WHERE alert_id = %s",
                     str(first.ref), str(second.ref))  # fmt: skip
        with pytest.raises(StoreUnavailable, match="not what a control room put there"):
            rooms.south.case(second.ref)
        assert rooms.south.case(first.ref) is not None

    @pytest.mark.parametrize(
        "change",
        ["role = 'engagement officer'", "trained_until = '2099-01-01'", "locked_at = NULL", "number = 'op-9'"],
    )
    def test_gives_no_officer_another_role_a_later_date_or_their_freedom(self, rooms: Rooms, change: str) -> None:
        rooms.north.officers.enrol(OPERATOR, PASSWORD)
        rooms.north.officers.renew_training("op-1", SOON + timedelta(days=1))
        assert rooms.south.officers.authenticate("op-1", PASSWORD)[0].trained_until == SOON + timedelta(days=1)
        rooms.north.officers.lock("op-1")
        rooms.keeper(f"UPDATE officers SET {change}")  # type: ignore[arg-type]
        number = "op-9" if "op-9" in change else "op-1"
        with pytest.raises(Unsealed):
            rooms.south.officers.authenticate(number, PASSWORD)

    def test_has_nobody_signed_in_who_was_not_on_the_list(self, rooms: Rooms) -> None:
        with pytest.raises(SignInRefused):
            rooms.north.officers.authenticate("op-1", PASSWORD)


class TestOpening:
    def test_a_room_with_another_key_is_refused_and_stores_nothing(self, rooms: Rooms) -> None:
        with pytest.raises(KeyUnusable, match="another key"):
            rooms.open("west", bytes(32))

    def test_a_store_of_a_later_version_is_refused(self, rooms: Rooms) -> None:
        rooms.keeper("INSERT INTO lfr_schema VALUES (99)")
        with pytest.raises(WatchlistUnreadable, match="later version"):
            rooms.open("west")

    def test_it_opens_again_with_what_it_held(self, rooms: Rooms) -> None:
        rooms.north.accept(make_alert(), DIGEST, NOW)
        assert len(rooms.open("west").cases()) == 1
        assert rooms.open("east").secret("browsers") == rooms.north.secret("browsers")

    def test_an_alert_that_breaks_a_rule_undoes_its_own_part_alone(self, rooms: Rooms) -> None:
        with rooms.north.writing() as db:
            rooms.north.accept(make_alert(), DIGEST, NOW)
            with pytest.raises(StoreConflict), rooms.north.writing():
                db.execute("INSERT INTO vans (van, last) VALUES ('van-1', 9)")
        assert len(rooms.south.cases()) == 1

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("postgresql:///rooms", "does not name the server"),
            ("postgresql://lfr@/rooms", "does not name the server"),
            ("postgresql://lfr@db.example/rooms?hostaddr=192.0.2.1", "does not name the server"),
            ("postgresql://lfr:secret@db.example/rooms", "holds a password"),
            ("postgresql://lfr@db.example/rooms?sslmode=require", "pose as the server"),
            ("postgresql://lfr@db.example/rooms?sslmode=disable", "pose as the server"),
            ("mysql://lfr@db.example/rooms", "is not an address"),
        ],
    )
    def test_an_address_on_which_somebody_could_listen_in_is_refused(self, url: str, words: str) -> None:
        with pytest.raises(ConfigInvalid, match=words):
            connection_of(StoreSection(url=url), Path())

    def test_over_the_network_the_server_shows_its_certificate_and_the_room_its_own(
        self, postgres: Postgres, tmp_path: Path
    ) -> None:
        name = postgres.database().split("/")[3].split("?")[0]
        url = f"postgresql://lfr@localhost:{postgres.port}/{name}"
        section = StoreSection(url=url, ca="ca.crt", certificate="lfr.crt", certificate_key="lfr.key")
        with SharedStore(connection_of(section, postgres.folder), KEY, KIND, "north") as shared:
            assert shared.read("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [
                (True, "TLSv1.3")
            ]
        for wrong in (
            replace_section(section, url=url.replace("localhost", "127.0.0.1")),
            replace_section(section, ca=""),
            replace_section(section, certificate="", certificate_key=""),
        ):
            with pytest.raises(StoreUnavailable):
                SharedStore(connection_of(wrong, postgres.folder), KEY, KIND, "north")

    def test_a_room_needs_a_name_and_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "control-store.key").write_text(KEY.hex())
        (tmp_path / "control-store.key").chmod(0o600)
        text = '[store]\nurl = "postgresql://lfr@/x?host=/nowhere"\n'
        with pytest.raises(ConfigInvalid, match=r"store\.room: is missing"):
            open_room_store(parse(text, base=str(tmp_path)))
        (tmp_path / "control-state").mkdir()
        (tmp_path / "control-state" / "control-room.db").touch()
        with pytest.raises(ConfigInvalid, match="of its own lies here"):
            open_room_store(parse(text + 'room = "north"\n', base=str(tmp_path)))


def replace_section(section: StoreSection, **changes: str) -> StoreSection:
    import msgspec

    return msgspec.structs.replace(section, **changes)


class TestSealing:
    def test_a_value_is_read_where_it_was_put_and_nowhere_else(self) -> None:
        sealer = Sealer(KEY)
        sealed = sealer.seal(b"a value", "cases", "van-1/1")
        assert sealer.unseal(sealed, "cases", "van-1/1") == b"a value"
        for place in (
            ("cases", "van-1/2"),
            ("alerts", "van-1/1"),
            ("cases",),
            ("casesvan-1/1",),
            ("cases", "van-1", "/1"),
        ):
            with pytest.raises(Unsealed):
                sealer.unseal(sealed, *place)

    @pytest.mark.parametrize("at", [0, 1, 13, -1])
    def test_a_value_with_one_bit_changed_or_cut_short_is_refused(self, at: int) -> None:
        sealer = Sealer(KEY)
        sealed = bytearray(sealer.seal(b"a value", "cases"))
        for broken in (bytes(sealed[:at]), bytes(sealed[:at]) + bytes([sealed[at] ^ 1]) + bytes(sealed[at:][1:])):
            with pytest.raises(Unsealed):
                sealer.unseal(broken, "cases")
